//! Tokens: the words HTTP headers are made of (RFC 9110 section 5.6.2).

/// Whether `text` is one token.
pub(crate) fn is_token(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_part)
}
