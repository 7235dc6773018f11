//! What a route's path may look like.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::path::{self, PathError};

/// Bytes a pattern may have.
pub const MAX_PATTERN_BYTES: usize = 1_024;

/// Segments a pattern may have. A longer concrete path is still matched by a pattern that ends in
/// a `path` parameter.
pub const MAX_PATTERN_SEGMENTS: usize = 32;

/// Why a text is not a route pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Patterns are absolute, and their literal text has proper escapes.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Longer than [`MAX_PATTERN_BYTES`].
    #[error("the path is {0} bytes long, accepted are at most {MAX_PATTERN_BYTES}")]
    TooLong(usize),
    /// More than [`MAX_PATTERN_SEGMENTS`].
    #[error("the path {0:?} has {1} segments, accepted are at most {MAX_PATTERN_SEGMENTS}")]
    TooManySegments(String, usize),
    /// A `?` or `#`: a route is chosen by its path alone.
    #[error(
        "the path {0:?} contains a {1:?}: a route has no query and no fragment (a literal one is \
         written \"%3F\" or \"%23\")"
    )]
    QueryOrFragment(String, char),
    /// Braces that do not pair up.
    #[error(
        "the segment {1:?} of the path {0:?} has braces that do not pair up (a literal brace is \
         written \"%7B\" or \"%7D\")"
    )]
    UnbalancedBraces(String, String),
    /// Text beside a parameter, or two parameters in one segment.
    #[error(
        "the segment {1:?} of the path {0:?} has text beside its parameter: a parameter must \
         fill its whole segment"
    )]
    NotWholeSegment(String, String),
    /// `{}` or `{:int}`.
    #[error("the parameter {1:?} of the path {0:?} has no name")]
    EmptyName(String, String),
    /// A name that could not be a property written with a dot.
    #[error(
        "the parameter {1:?} of the path {0:?} has a bad name, accepted are the letters a to z, \
         digits and underscores, not beginning with a digit"
    )]
    BadName(String, String),
    /// The same name twice.
    #[error("the path {0:?} has two parameters with the name {1:?}")]
    DuplicateName(String, String),
    /// A type that does not exist.
    #[error(
        "the parameter {1:?} of the path {0:?} has the unknown type {2:?}, accepted are int, float \
         and path"
    )]
    UnknownType(String, String, String),
    /// A `path` parameter with more behind it.
    #[error("the parameter {1:?} of the path {0:?} must be the last segment")]
    RestNotLast(String, String),
}

/// A route's path with its parameters, checked.
///
/// | segment | matches |
/// |---|---|
/// | `chat`, `:id` | that text, in any spelling with the same canonical form; empty text too |
/// | `{name}` | one segment that is not empty |
/// | `{id:int}` | `-?[0-9]+`, at most 2^53 − 1 from zero |
/// | `{x:float}` | `-?[0-9]+(\.[0-9]+)?`, finite |
/// | `{rest:path}` | one or more segments that are not empty text; only as the last |
///
/// `/x` and `/x/` are two patterns: the second one ends in an empty segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    pub(super) segments: Box<[Segment]>,
    pub(super) names: Box<[Arc<str>]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    Literal(Box<str>),
    Int,
    Float,
    Text,
    Rest,
}

impl Pattern {
    /// Checks a pattern.
    ///
    /// # Errors
    /// One sentence that names the path, the part of it that is wrong and what is accepted.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.len() > MAX_PATTERN_BYTES {
            return Err(PatternError::TooLong(text.len()));
        }
        let whole = || text.to_owned();
        let Some(body) = text.strip_prefix('/') else {
            return Err(PathError::NoLeadingSlash { path: whole() }.into());
        };
        if let Some(found) = text.chars().find(|c| matches!(c, '?' | '#')) {
            return Err(PatternError::QueryOrFragment(whole(), found));
        }
        let count = body.split('/').count();
        if count > MAX_PATTERN_SEGMENTS {
            return Err(PatternError::TooManySegments(whole(), count));
        }
        // Of the whole text: an error then names the place in what was written.
        path::canonical(text)?;

        let mut segments = Vec::with_capacity(count);
        let mut names: Vec<Arc<str>> = Vec::new();
        for (index, part) in body.split('/').enumerate() {
            let Some((name, segment)) = parse_parameter(text, part)? else {
                let literal = path::canonical(&format!("/{part}"))?[1..].into();
                segments.push(Segment::Literal(literal));
                continue;
            };
            if names.iter().any(|known| **known == *name) {
                return Err(PatternError::DuplicateName(whole(), name.to_owned()));
            }
            if segment == Segment::Rest && index + 1 < count {
                return Err(PatternError::RestNotLast(whole(), part.to_owned()));
            }
            names.push(name.into());
            segments.push(segment);
        }
        Ok(Self { text: text.into(), segments: segments.into(), names: names.into() })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The name and kind of a segment that is a parameter, `None` for literal text.
fn parse_parameter<'a>(
    text: &str,
    part: &'a str,
) -> Result<Option<(&'a str, Segment)>, PatternError> {
    if !part.contains(['{', '}']) {
        return Ok(None);
    }
    let whole = || text.to_owned();
    if !braces_pair_up(part) {
        return Err(PatternError::UnbalancedBraces(whole(), part.to_owned()));
    }
    let inner = part.strip_prefix('{').and_then(|inner| inner.strip_suffix('}'));
    let Some(inner) = inner.filter(|inner| !inner.contains(['{', '}'])) else {
        return Err(PatternError::NotWholeSegment(whole(), part.to_owned()));
    };
    let (name, kind) = match inner.split_once(':') {
        Some((name, kind)) => (name, Some(kind)),
        None => (inner, None),
    };
    if name.is_empty() {
        return Err(PatternError::EmptyName(whole(), part.to_owned()));
    }
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !name.chars().all(word) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(PatternError::BadName(whole(), part.to_owned()));
    }
    let segment = match kind {
        None => Segment::Text,
        Some("int") => Segment::Int,
        Some("float") => Segment::Float,
        Some("path") => Segment::Rest,
        Some(other) => {
            return Err(PatternError::UnknownType(whole(), part.to_owned(), other.to_owned()));
        }
    };
    Ok(Some((name, segment)))
}

/// Whether every `{` is closed before the next one opens.
fn braces_pair_up(part: &str) -> bool {
    let mut open = false;
    for c in part.chars() {
        match c {
            '{' | '}' if open == (c == '{') => return false,
            '{' => open = true,
            '}' => open = false,
            _ => {}
        }
    }
    !open
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_pattern_is_refused_with_one_sentence() {
        let long = format!("/{}", "a".repeat(MAX_PATTERN_BYTES));
        let deep = "/a".repeat(MAX_PATTERN_SEGMENTS + 1);
        let deep_error = format!("the path \"{deep}\" has 33 segments, accepted are at most 32");
        for (text, sentence) in [
            ("ws/chat", r#"the path "ws/chat" must start with "/""#),
            ("", r#"the path "" must start with "/""#),
            ("{rest:path}", r#"the path "{rest:path}" must start with "/""#),
            (
                "/x/{id:uuid}",
                r#"the parameter "{id:uuid}" of the path "/x/{id:uuid}" has the unknown type "uuid", accepted are int, float and path"#,
            ),
            (
                "/{id:}",
                r#"the parameter "{id:}" of the path "/{id:}" has the unknown type "", accepted are int, float and path"#,
            ),
            (
                "/{id:Int}",
                r#"the parameter "{id:Int}" of the path "/{id:Int}" has the unknown type "Int", accepted are int, float and path"#,
            ),
            (
                "/room-{id}",
                r#"the segment "room-{id}" of the path "/room-{id}" has text beside its parameter: a parameter must fill its whole segment"#,
            ),
            (
                "/{a}{b}",
                r#"the segment "{a}{b}" of the path "/{a}{b}" has text beside its parameter: a parameter must fill its whole segment"#,
            ),
            (
                "/{rest:path}/x",
                r#"the parameter "{rest:path}" of the path "/{rest:path}/x" must be the last segment"#,
            ),
            (
                "/{rest:path}/",
                r#"the parameter "{rest:path}" of the path "/{rest:path}/" must be the last segment"#,
            ),
            ("/{a}/{a:int}", r#"the path "/{a}/{a:int}" has two parameters with the name "a""#),
            ("/{}", r#"the parameter "{}" of the path "/{}" has no name"#),
            ("/{:int}", r#"the parameter "{:int}" of the path "/{:int}" has no name"#),
            (
                "/{1a}",
                r#"the parameter "{1a}" of the path "/{1a}" has a bad name, accepted are the letters a to z, digits and underscores, not beginning with a digit"#,
            ),
            (
                "/{a",
                r#"the segment "{a" of the path "/{a" has braces that do not pair up (a literal brace is written "%7B" or "%7D")"#,
            ),
            (
                "/a?x=1",
                r#"the path "/a?x=1" contains a '?': a route has no query and no fragment (a literal one is written "%3F" or "%23")"#,
            ),
            (
                "/a%zz/{b}",
                r#"the path "/a%zz/{b}" has a "%" at character 3 that is not followed by two hex digits (a literal percent sign is written "%25")"#,
            ),
            (&long, "the path is 1025 bytes long, accepted are at most 1024"),
            (&deep, &deep_error),
        ] {
            assert_eq!(Pattern::parse(text).unwrap_err().to_string(), sentence);
        }
        for text in ["/a}", "/}a{", "/{{a}}", "/{a}}", "/{a/b}", "/x{"] {
            let error = Pattern::parse(text).unwrap_err();
            assert!(matches!(error, PatternError::UnbalancedBraces(..)), "{text}: {error}");
        }
        for text in
            ["/{a b}", "/{ a}", "/{a-b}", "/{a.b}", "/{größe}", "/{*a}", "/{...a}", "/{a\0}"]
        {
            let error = Pattern::parse(text).unwrap_err();
            assert!(matches!(error, PatternError::BadName(..)), "{text}: {error}");
        }
        assert!(matches!(Pattern::parse("/a#b"), Err(PatternError::QueryOrFragment(_, '#'))));
    }

    #[test]
    fn a_pattern_at_its_limits_is_accepted_and_prints_as_written() {
        let longest = format!("/{}", "a".repeat(MAX_PATTERN_BYTES - 1));
        let deepest = "/a".repeat(MAX_PATTERN_SEGMENTS);
        for text in ["/", "//", "/ws/chat/{room}", "/:id", "/café/", &longest, &deepest] {
            let pattern: Pattern = text.parse().unwrap();
            assert_eq!(pattern.to_string(), text);
            assert_eq!(pattern.as_str(), text);
        }
    }
}
