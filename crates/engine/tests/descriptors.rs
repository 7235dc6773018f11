//! Out of file descriptors: nobody new is served for a while, and that is all.
#![cfg(unix)]

use std::net::UdpSocket;
use std::process::Command;
use std::time::{Duration, Instant};

mod common;

use common::{App, Raw, Seen, Server, answer};

/// Set in the process that may have few descriptors.
const FEW: &str = "TINA4_TEST_FEW_DESCRIPTORS";

/// Runs the test of this name again, in a process of its own which may open 64 files.
fn in_a_process_with_few(test: &str) {
    let binary = std::env::current_exe().expect("a path");
    let output = Command::new("sh")
        .args(["-c", "ulimit -n 64 && exec \"$@\"", "sh"])
        .arg(binary)
        .args(["--exact", test, "--nocapture"])
        .env(FEW, "1")
        .output()
        .expect("a shell");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complained}");
    assert!(said.contains("1 passed"), "{said}");
}

/// Opens sockets until the process can open no more.
fn take_all_descriptors() -> Vec<UdpSocket> {
    let mut taken = Vec::new();
    loop {
        match UdpSocket::bind("127.0.0.1:0") {
            Ok(socket) => taken.push(socket),
            Err(error) => {
                assert!(taken.len() < 64, "the limit is not in force");
                assert!(error.to_string().contains("Too many open files"), "{error}");
                return taken;
            }
        }
    }
}

fn complaints(seen: &[Seen]) -> usize {
    let wanted = "no socket could be accepted";
    seen.iter().filter(|one| matches!(one, Seen::Log(_, line) if line.contains(wanted))).count()
}

async fn served(raw: &mut Raw) {
    raw.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(raw.response().await.text(), "ok");
}

#[tokio::test]
async fn without_descriptors_the_acceptor_waits_and_complains_once_a_second_at_most() {
    if std::env::var_os(FEW).is_none() {
        let name = "without_descriptors_the_acceptor_waits_and_complains_once_a_second_at_most";
        let run = tokio::task::spawn_blocking(move || in_a_process_with_few(name));
        return run.await.expect("the other process passes");
    }
    let server: Server = App::new().request("GET", "/", |_| answer(200, "ok")).start();
    let mut early = server.raw().await;
    served(&mut early).await;

    let mut taken = take_all_descriptors();
    // The kernel completes connections that the server cannot accept.
    taken.pop();
    let mut late = server.raw().await;
    server.until("a complaint", |seen| (complaints(seen) >= 1).then_some(())).await;
    let first = Instant::now();
    server.until("a third complaint", |seen| (complaints(seen) >= 3).then_some(())).await;
    // Two intervals; one would do if the first line was seen late.
    assert!(first.elapsed() >= Duration::from_secs(1), "{:?}", first.elapsed());
    // Those who are in are served.
    served(&mut early).await;

    drop(taken);
    served(&mut late).await;
    served(&mut server.raw().await).await;
    served(&mut early).await;
}
