//! `Sec-WebSocket-Protocol`: which of the subprotocols a peer offers is spoken (RFC 6455 section
//! 4.2.2, item 5).

use http::HeaderMap;
use http::header::SEC_WEBSOCKET_PROTOCOL;

use crate::token::is_token;

/// What a browser page offers before a token that it cannot put into a header of its own: it gets
/// the word back, or it would fail the connection.
const BEARER: &str = "bearer";

/// A header of subprotocols that does not follow the grammar, or names one twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The first of the offered subprotocols that is among the `spoken` ones. Without one the
/// connection opens without a subprotocol, and it is the peer's to object.
///
/// # Errors
/// [`Malformed`], for which the handshake fails.
pub(crate) fn negotiate<'a>(
    headers: &'a HeaderMap,
    spoken: &[Box<str>],
) -> Result<Option<&'a str>, Malformed> {
    let mut offered = Vec::new();
    for value in headers.get_all(SEC_WEBSOCKET_PROTOCOL) {
        for one in value.to_str().map_err(|_| Malformed)?.split(',') {
            let one = one.trim_ascii();
            if !is_token(one) || offered.contains(&one) {
                return Err(Malformed);
            }
            offered.push(one);
        }
    }
    let agreed = offered.iter().find(|one| spoken.iter().any(|spoken| **spoken == ***one));
    Ok(agreed.or_else(|| offered.first().filter(|first| **first == BEARER)).copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPOKEN: [&str; 2] = ["chat.v1", "chat.v2"];

    fn negotiated(offers: &[&str]) -> Result<Option<String>, Malformed> {
        let mut headers = HeaderMap::new();
        for offer in offers {
            headers.append(SEC_WEBSOCKET_PROTOCOL, offer.parse().expect("a header value"));
        }
        let agreed = negotiate(&headers, &SPOKEN.map(Into::into))?;
        Ok(agreed.map(str::to_owned))
    }

    #[test]
    fn the_first_that_both_speak_is_agreed() {
        let agreed = |name: &str| Ok(Some(name.to_owned()));
        assert_eq!(negotiated(&["chat.v1"]), agreed("chat.v1"));
        assert_eq!(negotiated(&["other, chat.v2 , chat.v1"]), agreed("chat.v2"));
        assert_eq!(negotiated(&["other", "chat.v1"]), agreed("chat.v1"), "in two headers");
        assert_eq!(negotiated(&["CHAT.V1"]), Ok(None), "the case counts");
        assert_eq!(negotiated(&["other"]), Ok(None));
        assert_eq!(negotiated(&[]), Ok(None));
    }

    #[test]
    fn bearer_in_front_of_a_token_is_given_back() {
        let agreed = |name: &str| Ok(Some(name.to_owned()));
        assert_eq!(negotiated(&["bearer, eyJh.eyJz.c2ln"]), agreed("bearer"));
        assert_eq!(negotiated(&["bearer, eyJh.eyJz.c2ln, chat.v1"]), agreed("chat.v1"));
        assert_eq!(negotiated(&["eyJh.eyJz.c2ln, bearer"]), Ok(None), "a token alone is secret");
    }

    #[test]
    fn what_does_not_follow_the_grammar_fails_the_handshake() {
        for header in ["", "chat.v1,", ",chat.v1", "chat v1", "chat/v1", "a, a", "a, \"b\""] {
            assert_eq!(negotiated(&[header]), Err(Malformed), "{header:?}");
        }
        assert_eq!(negotiated(&["a", "a"]), Err(Malformed), "in two headers");
    }
}
