//! `Sec-WebSocket-Extensions` (RFC 6455 section 9.1): what a peer offers, and what is agreed.
//!
//! The only extension is permessage-deflate (RFC 7692).

use http::HeaderMap;
use http::header::SEC_WEBSOCKET_EXTENSIONS;

use crate::deflate::Window;
use crate::token::is_token;

/// A header of extensions that does not follow the grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// What is agreed on permessage-deflate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    /// For what we compress.
    pub(crate) window: Window,
    /// The peer asked for it and must be told (RFC 7692 section 7.1.2.1).
    asked: bool,
}

impl Agreed {
    /// The header that says so.
    ///
    /// No context is ever taken over: `client_no_context_takeover` may be demanded of any client
    /// (RFC 7692 section 7.1.1.2), and `server_no_context_takeover` is ours to promise.
    pub(crate) fn answer(self) -> String {
        let mut answer =
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover".to_owned();
        if self.asked {
            answer.push_str("; server_max_window_bits=");
            answer.push_str(&self.window.bits().to_string());
        }
        answer
    }
}

/// What is agreed by the first offer of permessage-deflate that can be accepted (RFC 7692 section
/// 5.1); `None` when there is none.
///
/// # Errors
/// [`Malformed`], which fails the handshake (RFC 6455 section 9.1).
pub(crate) fn negotiate(headers: &HeaderMap) -> Result<Option<Agreed>, Malformed> {
    let mut agreed = None;
    for value in headers.get_all(SEC_WEBSOCKET_EXTENSIONS) {
        let mut rest = value.to_str().map_err(|_| Malformed)?;
        loop {
            let (offer, behind) = Offer::parse(rest)?;
            agreed = agreed.or_else(|| offer.accept());
            match behind {
                Some(behind) => rest = behind,
                None => break,
            }
        }
    }
    Ok(agreed)
}

/// One extension with its parameters.
struct Offer<'a> {
    name: &'a str,
    parameters: Vec<(&'a str, Option<&'a str>)>,
}

impl<'a> Offer<'a> {
    /// Parses the offer at the beginning of `text`; returns it and what comes behind its comma.
    fn parse(text: &'a str) -> Result<(Self, Option<&'a str>), Malformed> {
        let (name, mut rest) = token(text)?;
        let mut parameters = Vec::new();
        loop {
            rest = rest.trim_ascii_start();
            if rest.is_empty() {
                return Ok((Self { name, parameters }, None));
            }
            if let Some(behind) = rest.strip_prefix(',') {
                return Ok((Self { name, parameters }, Some(behind)));
            }
            let (parameter, behind) = token(rest.strip_prefix(';').ok_or(Malformed)?)?;
            let behind = behind.trim_ascii_start();
            match behind.strip_prefix('=') {
                None => {
                    parameters.push((parameter, None));
                    rest = behind;
                }
                Some(behind) => {
                    let (value, behind) = value(behind)?;
                    parameters.push((parameter, Some(value)));
                    rest = behind;
                }
            }
        }
    }

    /// What it leaves us; `None` for another extension, and for a permessage-deflate with a
    /// parameter that is unknown, repeated or wrong (RFC 7692 section 7.1).
    fn accept(&self) -> Option<Agreed> {
        if self.name != "permessage-deflate" {
            return None;
        }
        let mut agreed = Agreed { window: Window::new(Window::MAX_BITS)?, asked: false };
        for (index, (name, value)) in self.parameters.iter().enumerate() {
            if self.parameters[..index].iter().any(|(earlier, _)| earlier == name) {
                return None;
            }
            match (*name, *value) {
                ("server_no_context_takeover" | "client_no_context_takeover", None)
                | ("client_max_window_bits", None) => {}
                // We inflate with the largest window, so that any size of the client's is right.
                ("client_max_window_bits", Some(value)) => drop(bits(value)?),
                ("server_max_window_bits", Some(value)) => {
                    agreed = Agreed { window: Window::new(bits(value)?)?, asked: true };
                }
                _ => return None,
            }
        }
        Some(agreed)
    }
}

/// 8 to 15, in decimal without leading zeros (RFC 7692 section 7.1.2).
fn bits(value: &str) -> Option<u8> {
    let bits = value.parse().ok().filter(|bits| (8..=15).contains(bits))?;
    (!value.starts_with(['0', '+'])).then_some(bits)
}

/// A token with blanks around it, and what comes behind it.
fn token(text: &str) -> Result<(&str, &str), Malformed> {
    let text = text.trim_ascii_start();
    let end = text.find([';', ',', '=', ' ', '\t']).unwrap_or(text.len());
    let (token, rest) = text.split_at(end);
    if is_token(token) { Ok((token, rest)) } else { Err(Malformed) }
}

/// A token, or one in quotes (RFC 6455 section 9.1: what is quoted must be a token too).
fn value(text: &str) -> Result<(&str, &str), Malformed> {
    let text = text.trim_ascii_start();
    let Some(quoted) = text.strip_prefix('"') else {
        return token(text);
    };
    let (value, rest) = quoted.split_once('"').ok_or(Malformed)?;
    if is_token(value) { Ok((value, rest)) } else { Err(Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreed(offers: &[&str]) -> Result<Option<Agreed>, Malformed> {
        let mut headers = HeaderMap::new();
        for offer in offers {
            headers.append(SEC_WEBSOCKET_EXTENSIONS, offer.parse().expect("a header value"));
        }
        negotiate(&headers)
    }

    fn negotiated(offers: &[&str]) -> Result<Option<u8>, Malformed> {
        agreed(offers).map(|agreed| agreed.map(|agreed| agreed.window.bits()))
    }

    #[test]
    fn an_offer_leaves_us_a_window() {
        for (offer, bits) in [
            ("permessage-deflate", 15),
            ("permessage-deflate; client_max_window_bits", 15),
            ("permessage-deflate;client_max_window_bits=8", 15),
            ("permessage-deflate; server_max_window_bits=10", 10),
            ("permessage-deflate; server_max_window_bits=\"9\"", 9),
            ("permessage-deflate ; server_no_context_takeover\t; client_no_context_takeover", 15),
        ] {
            assert_eq!(negotiated(&[offer]), Ok(Some(bits)), "{offer}");
        }
    }

    #[test]
    fn an_offer_that_cannot_be_kept_is_passed_over_for_the_next() {
        for offer in [
            "x-webkit-deflate-frame",
            "permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=09",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; client_no_context_takeover=1",
            "permessage-deflate; client_max_window_bits; client_max_window_bits",
            "permessage-deflate; unheard_of",
        ] {
            assert_eq!(negotiated(&[offer]), Ok(None), "{offer}");
            let both = format!("{offer}, permessage-deflate; server_max_window_bits=11");
            assert_eq!(negotiated(&[&both]), Ok(Some(11)), "{both}");
            let second = "permessage-deflate; server_max_window_bits=12";
            assert_eq!(negotiated(&[offer, second]), Ok(Some(12)), "in two headers");
        }
        assert_eq!(negotiated(&[]), Ok(None));
    }

    #[test]
    fn what_does_not_follow_the_grammar_fails_the_handshake() {
        for header in [
            "",
            ",permessage-deflate",
            "permessage-deflate,",
            "permessage-deflate;",
            "permessage-deflate; =1",
            "permessage-deflate; a=",
            "permessage-deflate; a=\"",
            "permessage-deflate; a=\"b c\"",
            "permessage-deflate; a=b c",
            "permessage deflate",
            "permessage/deflate",
        ] {
            assert_eq!(negotiated(&[header]), Err(Malformed), "{header:?}");
        }
    }

    #[test]
    fn the_answer_names_the_window_that_was_asked_for() {
        let answer = |offer: &str| agreed(&[offer]).ok().flatten().map(Agreed::answer);
        let always = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        assert_eq!(answer("permessage-deflate").as_deref(), Some(always));
        for bits in [10, 15] {
            assert_eq!(
                answer(&format!("permessage-deflate; server_max_window_bits={bits}")),
                Some(format!("{always}; server_max_window_bits={bits}"))
            );
        }
    }
}
