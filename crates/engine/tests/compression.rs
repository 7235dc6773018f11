//! permessage-deflate (RFC 7692) over the wire: who gets what compressed, and what a peer cannot
//! do with it.

use std::time::Duration;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

mod common;

use common::{
    App, Frame, Raw, Seen, Server, echo, frame, opcode, quiet, text_of, upgrade_request, within,
};

const RSV1: u8 = 0x40;
const OFFER: &str = "permessage-deflate";

/// What a client sends of `payload`: deflate without the empty block at its end.
fn deflated(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 100);
    let mut compress = Compress::new(Compression::new(9), false);
    compress.compress_vec(payload, &mut out, FlushCompress::Sync).expect("compressed");
    out.truncate(out.len() - 4);
    out
}

fn inflated(payload: &[u8], window: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 20);
    let whole = [payload, &[0, 0, 0xFF, 0xFF]].concat();
    let mut decompress = Decompress::new_with_window_bits(false, window);
    decompress.decompress_vec(&whole, &mut out, FlushDecompress::Sync).expect("inflated");
    out
}

fn compressed_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = frame(true, opcode, payload);
    frame[0] |= RSV1;
    frame
}

fn prose(length: usize) -> String {
    "one two three four five six ".chars().cycle().take(length).collect()
}

/// A server that compresses and echoes, and broadcasts what comes to `/room`.
fn server() -> App {
    App::new().with(|config| config.compression = true).websocket("/echo", echo).websocket(
        "/room",
        |peer, on| {
            if let common::On::Text(text) = on {
                peer.broadcast(text);
            }
        },
    )
}

/// Connects with an offer; returns what was answered to it, too.
async fn offering(server: &Server, path: &str, offer: &str) -> (Raw, Option<String>) {
    let mut raw = server.raw().await;
    let offer = format!("\r\nsec-websocket-extensions: {offer}\r\n\r\n");
    raw.write(upgrade_request(path).replacen("\r\n\r\n", &offer, 1)).await;
    let response = raw.response().await;
    assert_eq!(response.status, 101, "{response:?}");
    let answer = response.header("sec-websocket-extensions").map(str::to_owned);
    (raw, answer)
}

/// The next frame and whether it is compressed.
async fn next(raw: &mut Raw) -> (bool, Frame) {
    loop {
        if let Some((reserved, frame)) = raw.buffered_frame_with_bits() {
            assert_eq!(reserved & !RSV1, 0);
            return (reserved == RSV1, frame);
        }
        assert!(raw.more().await, "the stream ended");
    }
}

/// Waits for something that no event tells of.
async fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    within(what, async {
        while !happened() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

async fn closed_with(raw: &mut Raw) -> u16 {
    loop {
        let (_, frame) = next(raw).await;
        if frame.opcode == opcode::CLOSE {
            return frame.close().0;
        }
    }
}

#[tokio::test]
async fn where_both_agree_messages_are_compressed_both_ways() {
    let server = server().start();
    let (mut raw, answer) = offering(&server, "/echo", OFFER).await;
    let promised = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    assert_eq!(answer.as_deref(), Some(promised));
    let text = prose(50_000);
    // Twice: nothing is carried over from one message to the next.
    for _ in 0..2 {
        raw.write(compressed_frame(opcode::TEXT, &deflated(text.as_bytes()))).await;
        let (compressed, frame) = next(&mut raw).await;
        assert!(compressed && frame.payload.len() < 5_000, "{} bytes", frame.payload.len());
        assert_eq!(text_of(&inflated(&frame.payload, 15)), text);
    }
    raw.write(frame(true, opcode::TEXT, text.as_bytes())).await;
    let (compressed, frame) = next(&mut raw).await;
    assert!(compressed, "also the answer to a message that was not");
    assert_eq!(text_of(&inflated(&frame.payload, 15)), text);
}

#[tokio::test]
async fn nothing_is_compressed_unless_it_is_switched_on_and_offered() {
    let off = App::new().websocket("/echo", echo).start();
    assert_eq!(offering(&off, "/echo", OFFER).await.1, None, "off by default");
    let server = server().options(|route| route.compress = Some(false)).start();
    assert_eq!(offering(&server, "/room", OFFER).await.1, None, "the route says no");
    let mut plain = server.raw_websocket("/echo").await;
    let text = prose(50_000);
    plain.write(frame(true, opcode::TEXT, text.as_bytes())).await;
    assert_eq!(plain.frame().await.payload, text.as_bytes(), "not offered");
    plain.write(compressed_frame(opcode::TEXT, &deflated(b"x"))).await;
    assert_eq!(plain.frame().await.close().0, 1002);
    let on = App::new().websocket("/echo", echo).options(|route| route.compress = Some(true));
    assert!(offering(&on.start(), "/echo", OFFER).await.1.is_some(), "the route says yes");
}

#[tokio::test]
async fn small_messages_and_those_that_get_no_smaller_are_sent_as_they_are_and_in_order() {
    let server = server()
        .websocket("/many", |peer, on| {
            if let common::On::Text(text) = on {
                peer.send("small");
                peer.send(text);
                peer.broadcast("small again");
                peer.broadcast(text);
                peer.send_binary(&(0..2_000_u32).flat_map(noise).collect::<Vec<_>>());
                peer.send("the end");
            }
        })
        .start();
    let (mut raw, _) = offering(&server, "/many", OFFER).await;
    let text = prose(1_024);
    raw.write(frame(true, opcode::TEXT, text.as_bytes())).await;
    let mut got = Vec::new();
    for _ in 0..6 {
        let (compressed, frame) = next(&mut raw).await;
        let payload = if compressed { inflated(&frame.payload, 15) } else { frame.payload.clone() };
        got.push((compressed, payload.len()));
    }
    let noisy = (0..2_000_u32).flat_map(noise).count();
    assert_eq!(
        got,
        [(false, 5), (true, 1_024), (false, 11), (true, 1_024), (false, noisy), (false, 7)]
    );
}

fn noise(n: u32) -> [u8; 4] {
    n.wrapping_mul(2_654_435_761).rotate_left(n % 31).wrapping_mul(2_246_822_519).to_ne_bytes()
}

#[tokio::test]
async fn a_broadcast_reaches_each_member_in_the_form_it_agreed_on() {
    let server = server().with(|config| config.io_threads = 2).start();
    let mut members = Vec::new();
    for offer in [OFFER, "permessage-deflate; server_max_window_bits=9", OFFER, "unheard-of"] {
        members.push(offering(&server, "/room", offer).await);
    }
    let answers: Vec<_> = members.iter().map(|(_, answer)| answer.is_some()).collect();
    assert_eq!(answers, [true, true, true, false]);
    let narrow = members[1].1.as_deref().unwrap_or_default();
    assert!(narrow.ends_with("; server_max_window_bits=9"), "{narrow}");
    server.opened("/room", 4).await;
    // Repeats itself beyond the smaller window, within the larger one.
    let block: String = (0..300_u32).map(|n| format!("{:08x}", noise(n)[0])).collect();
    let text = [block.as_str(), &prose(2_000), block.as_str()].concat();
    members[3].0.write(frame(true, opcode::TEXT, text.as_bytes())).await;
    let mut sizes = Vec::new();
    for ((raw, _), (compresses, window)) in
        members.iter_mut().zip([(true, 15), (true, 9), (true, 15), (false, 15)])
    {
        let (compressed, frame) = next(raw).await;
        assert_eq!(compressed, compresses);
        sizes.push(frame.payload.len());
        let payload = if compressed { inflated(&frame.payload, window) } else { frame.payload };
        assert_eq!(text_of(&payload), text);
    }
    assert_eq!(sizes[0], sizes[2]);
    assert!(sizes[0] < sizes[1], "the smaller window was kept to: {sizes:?}");
}

#[tokio::test]
async fn a_bomb_is_close_1009_and_leaves_nothing_behind() {
    let server = server().start();
    let (mut raw, _) = offering(&server, "/echo", OFFER).await;
    let bomb = deflated(&vec![b'a'; 64 << 20]);
    assert!(bomb.len() < 300_000, "{} bytes that would be 64 MiB", bomb.len());
    raw.write(compressed_frame(opcode::TEXT, &bomb)).await;
    assert_eq!(closed_with(&mut raw).await, 1009);
    drop(raw);
    eventually("nothing held", || server.buffered() == 0).await;
}

#[tokio::test]
async fn a_read_of_messages_that_inflate_to_much_is_taken_no_faster_than_the_handlers_are() {
    let server = server().with(|config| config.max_backlog = 64 << 20).start();
    let (mut raw, _) = offering(&server, "/echo", OFFER).await;
    let handle = server.opened("/echo", 1).await[0];
    let blocked = server.block();
    let (count, size) = (150, 256 << 10);
    let one = compressed_frame(opcode::TEXT, &deflated(&vec![b'a'; size]));
    let all = one.repeat(count);
    assert!(all.len() < 64 << 10, "{} bytes fit one read", all.len());
    raw.write(&all).await;
    eventually("a message held", || server.buffered() >= size).await;
    let mut other = server.raw_websocket("/echo").await;
    other.write(frame(true, opcode::PING, b"")).await;
    assert_eq!(other.frame().await.opcode, opcode::PONG, "the shard has had its turns");
    let held = server.buffered();
    assert!(held < 2 * size + all.len(), "{held} bytes of {} held", count * size);
    drop(blocked);
    let wanted =
        |seen: &Seen| matches!(seen, Seen::Text(one, text) if *one == handle && text.len() == size);
    server
        .until("all messages", |seen| {
            (seen.iter().filter(|one| wanted(one)).count() == count).then_some(())
        })
        .await;
}

#[tokio::test]
async fn what_cannot_be_inflated_is_close_1007() {
    let server = server().start();
    let (mut raw, _) = offering(&server, "/echo", OFFER).await;
    raw.write(compressed_frame(opcode::BINARY, &[0xFF; 30])).await;
    assert_eq!(closed_with(&mut raw).await, 1007);
    // Another connection of the shard uses the same state.
    let (mut raw, _) = offering(&server, "/echo", OFFER).await;
    raw.write(compressed_frame(opcode::TEXT, &deflated(b"well"))).await;
    assert_eq!(next(&mut raw).await.1.payload, b"well");
}

#[tokio::test]
async fn what_is_buffered_falls_to_nothing_though_it_was_counted_before_it_was_compressed() {
    let server = server().start();
    let (mut raw, _) = offering(&server, "/echo", OFFER).await;
    let handle = server.opened("/echo", 1).await[0];
    let text = prose(100_000);
    for _ in 0..5 {
        raw.write(compressed_frame(opcode::TEXT, &deflated(text.as_bytes()))).await;
        assert!(next(&mut raw).await.0);
    }
    let buffered = || server.with(|engine| engine.publisher().buffered(handle));
    eventually("nothing buffered", || buffered() == 0).await;
}

#[tokio::test]
async fn an_offer_that_does_not_follow_the_grammar_is_refused() {
    let server = server().start();
    let mut raw = server.raw().await;
    let offer = "\r\nsec-websocket-extensions: permessage-deflate; ;\r\n\r\n";
    raw.write(upgrade_request("/echo").replacen("\r\n\r\n", offer, 1)).await;
    let response = raw.response().await;
    assert_eq!(response.status, 400);
    assert!(response.text().contains("Sec-WebSocket-Extensions"), "{response:?}");
}

#[tokio::test]
async fn the_subprotocol_is_one_that_both_speak() {
    let protocols = ["chat.v2", "chat.v1"].map(Into::into);
    let server = App::new()
        .websocket("/ws", quiet)
        .options(|route| route.protocols = protocols.into_iter().collect())
        .start();
    for (offer, agreed) in [
        ("other, chat.v1, chat.v2", Some("chat.v1")),
        ("other", None),
        ("bearer, abc.def", Some("bearer")),
    ] {
        let mut raw = server.raw().await;
        let header = format!("\r\nsec-websocket-protocol: {offer}\r\n\r\n");
        raw.write(upgrade_request("/ws").replacen("\r\n\r\n", &header, 1)).await;
        let response = raw.response().await;
        assert_eq!(response.status, 101);
        assert_eq!(response.header("sec-websocket-protocol"), agreed, "{offer}");
        let told = |seen: &Seen| matches!(seen, Seen::Open(_, info) if info.protocol == agreed.unwrap_or_default());
        server.event("open with the protocol", told).await;
    }
}
