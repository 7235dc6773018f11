//! The canonical form of a concrete path, the key that keeps paths apart.
//!
//! An upgrade and a push name a path in different spellings (`/u/josé` and `/u/jos%c3%a9`). Both go
//! through [`canonical`], so that equal text means the same path everywhere behind it.

use std::borrow::Cow;

/// Characters of a path that an error quotes; a peer chooses how long its path is.
const QUOTED_CHARS: usize = 100;

const HEX_UPPER: &[u8; 16] = b"0123456789ABCDEF";

/// Why a text is not a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Paths are absolute.
    #[error("the path {path:?} must start with \"/\"")]
    NoLeadingSlash {
        /// The text as given, shortened.
        path: String,
    },
    /// A `%` that is not an escape. A literal percent sign is written `%25`.
    #[error(
        "the path {path:?} has a \"%\" at character {position} that is not followed by two hex \
         digits (a literal percent sign is written \"%25\")"
    )]
    BadEscape {
        /// The text as given, shortened.
        path: String,
        /// Which character of the text it is, the first one being 1.
        position: usize,
    },
    /// The escapes of a parameter do not add up to text.
    #[error("the path segment {segment:?} is not valid UTF-8 once its escapes are decoded")]
    NotUtf8 {
        /// The segment as given, shortened.
        segment: String,
    },
}

/// Brings a concrete path into its one canonical form, without a copy where it is already in it.
///
/// - escapes of unreserved characters (RFC 3986, section 2.3: letters, digits, `-._~`) are decoded;
/// - every other escape stays and is written in upper case: `%2F` never becomes a `/` that would
///   split a segment, `%00` stays `%00`;
/// - what may not stand raw in a path is percent-encoded as UTF-8: non-ASCII, spaces, controls,
///   `"<>[\]^{|}` and the backtick.
///
/// The path has no query and no fragment: of a request target only the part before the `?` belongs
/// here ([`split_target`]). So a `?` or `#` can only come from a program that means the character,
/// and is encoded like the others: `/a?b` becomes `/a%3Fb`. Segments are left as they are: `//` is
/// an empty segment, `.` and `..` are names like any other.
///
/// Applying it twice is the same as applying it once.
///
/// # Errors
/// [`PathError::NoLeadingSlash`] and [`PathError::BadEscape`].
pub fn canonical(path: &str) -> Result<Cow<'_, str>, PathError> {
    if !path.starts_with('/') {
        return Err(PathError::NoLeadingSlash { path: quoted(path) });
    }
    let bytes = path.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'%' => {
                let value = escape_at(path, at)?;
                if is_unreserved(value) || bytes[at + 1..at + 3] != upper_hex(value) {
                    break;
                }
                at += 3;
            }
            byte if may_stand_raw(byte) => at += 1,
            _ => break,
        }
    }
    if at == bytes.len() {
        return Ok(Cow::Borrowed(path));
    }
    rewrite(path, at).map(Cow::Owned)
}

/// The canonical form of a path whose first `clean` bytes are in it already.
fn rewrite(path: &str, clean: usize) -> Result<String, PathError> {
    let bytes = path.as_bytes();
    let mut out = String::with_capacity(path.len() + 16);
    out.push_str(&path[..clean]);
    let mut at = clean;
    while at < bytes.len() {
        let byte = bytes[at];
        if byte == b'%' {
            let value = escape_at(path, at)?;
            if is_unreserved(value) {
                out.push(char::from(value));
            } else {
                push_escaped(&mut out, value);
            }
            at += 3;
            continue;
        }
        if may_stand_raw(byte) {
            out.push(char::from(byte));
        } else {
            push_escaped(&mut out, byte);
        }
        at += 1;
    }
    Ok(out)
}

/// Percent-decodes one segment into text. A `+` is a plus sign: only forms read it as a space.
///
/// # Errors
/// [`PathError::BadEscape`], and [`PathError::NotUtf8`] when the bytes are not text.
pub fn decode_segment(segment: &str) -> Result<String, PathError> {
    let Some(first) = segment.find('%') else {
        return Ok(segment.to_owned());
    };
    let bytes = segment.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    out.extend_from_slice(&bytes[..first]);
    let mut at = first;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            out.push(escape_at(segment, at)?);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(out).map_err(|_| PathError::NotUtf8 { segment: quoted(segment) })
}

/// Splits the target of a request (`/path?query`) into its path and its raw query.
///
/// The query is what follows the first `?`, without it; there is none (`""`) where there is no `?`.
pub fn split_target(target: &str) -> (&str, &str) {
    target.split_once('?').unwrap_or((target, ""))
}

/// The byte that the escape at `at` stands for.
fn escape_at(path: &str, at: usize) -> Result<u8, PathError> {
    let digit = |offset: usize| {
        let byte = *path.as_bytes().get(at + offset)?;
        char::from(byte).to_digit(16)
    };
    match (digit(1), digit(2)) {
        // Two hex digits make one byte.
        (Some(high), Some(low)) => Ok((high * 16 + low) as u8),
        _ => Err(PathError::BadEscape {
            path: quoted(path),
            position: path[..at].chars().count() + 1,
        }),
    }
}

fn upper_hex(value: u8) -> [u8; 2] {
    [HEX_UPPER[usize::from(value >> 4)], HEX_UPPER[usize::from(value & 15)]]
}

fn push_escaped(out: &mut String, value: u8) {
    out.push('%');
    out.extend(upper_hex(value).map(char::from));
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// `pchar` of RFC 3986 without the escapes, and the slash.
fn may_stand_raw(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(
            byte,
            b'/' | b':'
                | b'@'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
        )
}

/// What an error quotes of a text: its beginning.
fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(path: &str) -> String {
        canonical(path).unwrap().into_owned()
    }

    #[test]
    fn a_canonical_path_is_borrowed() {
        for path in [
            "/",
            "/ws/chat/general",
            "//",
            "/a/./..",
            "/a%2Fb",
            "/caf%C3%A9/%00",
            "/:id/!$&'()*+,;=@~_-.",
        ] {
            assert!(matches!(canonical(path), Ok(Cow::Borrowed(same)) if same == path), "{path}");
        }
    }

    #[test]
    fn unreserved_escapes_are_decoded_and_the_others_upper_cased() {
        assert_eq!(form("/%41%7a%30%2d%2E%5f%7E"), "/Az0-._~");
        assert_eq!(form("/a%2fb%3a%40%21%25"), "/a%2Fb%3A%40%21%25");
        assert_eq!(form("/%c3%a9"), "/%C3%A9");
        assert_eq!(form("/%00%0a%7f"), "/%00%0A%7F");
    }

    #[test]
    fn what_may_not_stand_raw_is_encoded() {
        assert_eq!(form("/ws/u/josé"), "/ws/u/jos%C3%A9");
        assert_eq!(form("/a b"), "/a%20b");
        assert_eq!(form("/\"<>[\\]^`{|}"), "/%22%3C%3E%5B%5C%5D%5E%60%7B%7C%7D");
        assert_eq!(form("/\0\u{7f}\n"), "/%00%7F%0A");
        assert_eq!(form("/😀"), "/%F0%9F%98%80");
        assert_eq!(form("/a?b#c"), "/a%3Fb%23c");
    }

    #[test]
    fn two_spellings_of_a_path_have_one_form_and_an_escaped_slash_is_another_path() {
        assert_eq!(form("/ws/u/josé"), form("/w%73/u/jos%c3%A9"));
        assert_ne!(form("/a%2Fb"), form("/a/b"));
        assert_ne!(form("/a"), form("/a/"));
        assert_ne!(form("/a//b"), form("/a/b"));
        // Decoding happens once: the result of an escape is never the beginning of another one.
        assert_eq!(form("/%2541"), "/%2541");
    }

    #[test]
    fn it_is_idempotent_for_every_byte_raw_and_escaped() {
        for byte in 0..=255u8 {
            let raw = format!("/x{}y", char::from(byte));
            for path in [raw, format!("/x%{byte:02x}y"), format!("/x%{byte:02X}y")] {
                let Ok(once) = canonical(&path) else {
                    assert_eq!(byte, b'%', "{path}");
                    continue;
                };
                assert!(
                    matches!(canonical(&once), Ok(Cow::Borrowed(same)) if same == once),
                    "{path}"
                );
                assert!(once.is_ascii());
            }
        }
    }

    #[test]
    fn a_path_without_a_leading_slash_is_an_error() {
        assert_eq!(
            canonical("ws/chat").unwrap_err().to_string(),
            r#"the path "ws/chat" must start with "/""#
        );
        assert!(canonical("").is_err());
        assert!(canonical("%2Fa").is_err());
        assert!(canonical("http://host/a").is_err());
    }

    #[test]
    fn a_bad_escape_is_an_error_that_names_the_place() {
        assert_eq!(
            canonical("/é/%zz").unwrap_err().to_string(),
            "the path \"/é/%zz\" has a \"%\" at character 4 that is not followed by two hex digits \
             (a literal percent sign is written \"%25\")"
        );
        for path in ["/%", "/%4", "/%4g", "/%g4", "/%%41", "/%+1", "/% 1", "/%é", "/a b%", "/100%"]
        {
            assert!(matches!(canonical(path), Err(PathError::BadEscape { .. })), "{path}");
        }
    }

    #[test]
    fn an_error_quotes_a_long_path_only_in_part() {
        let long = "é".repeat(100_000);
        assert!(canonical(&long).unwrap_err().to_string().len() < 500);
        assert!(
            canonical(&format!("/{long}%")).unwrap_err().to_string().contains("character 100002")
        );
    }

    #[test]
    fn a_segment_is_decoded_to_text() {
        assert_eq!(decode_segment("jos%C3%A9").unwrap(), "josé");
        assert_eq!(decode_segment("a%2Fb%2f").unwrap(), "a/b/");
        assert_eq!(decode_segment("a+b%20c%00").unwrap(), "a+b c\0");
        assert_eq!(decode_segment("josé").unwrap(), "josé");
        assert_eq!(decode_segment("").unwrap(), "");
        assert_eq!(decode_segment("%2541").unwrap(), "%41");
    }

    #[test]
    fn a_segment_that_is_no_text_is_an_error() {
        for segment in ["%FF", "a%C3", "%C0%AF", "%ED%A0%80", "%F8%88%80%80%80"] {
            assert!(matches!(decode_segment(segment), Err(PathError::NotUtf8 { .. })), "{segment}");
        }
        assert!(matches!(decode_segment("a%"), Err(PathError::BadEscape { position: 2, .. })));
        assert_eq!(
            decode_segment("%ff").unwrap_err().to_string(),
            "the path segment \"%ff\" is not valid UTF-8 once its escapes are decoded"
        );
    }

    #[test]
    fn a_target_is_split_at_its_first_question_mark() {
        assert_eq!(split_target("/a/b?x=1?y"), ("/a/b", "x=1?y"));
        assert_eq!(split_target("/a"), ("/a", ""));
        assert_eq!(split_target("/a?"), ("/a", ""));
        assert_eq!(split_target("?x"), ("", "x"));
        assert_eq!(split_target("/a%3Fb"), ("/a%3Fb", ""));
    }
}
