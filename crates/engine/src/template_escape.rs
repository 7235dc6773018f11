//! Escaping of template values by where they land in the finished page.
//!
//! While a template runs nobody knows where a printed value will end up: a block, an include, a
//! macro or a `{% set %}` body may be placed in a `<script>` element by somebody else. So printing
//! does not escape; it *marks*. Each character that means something in HTML or in a JavaScript
//! string is written as a stand-in, one of Unicode's noncharacters ("reserved for internal use"),
//! and the [`PageWriter`], which sees the page in its final order and follows it with
//! [`HtmlContext`], replaces each stand-in by the entity or the `\uXXXX` that fits the place.
//!
//! A stand-in is one character, so that filters that cut, reverse or measure captured output
//! cannot tear an escape apart. It never becomes the bare character where that would be markup:
//! whatever happens in between, a marked `<` can only come out as `&lt;` or `\u003c`.
//! Noncharacters in the data become U+FFFD before rendering and are refused in template sources,
//! so a stand-in in the output is always one of ours.

use std::fmt::{self, Write as _};
use std::io;

use minijinja::value::{Value, ValueKind};

use crate::html_context::HtmlContext;

/// The marked characters beyond U+0000–U+001F, in the order of their stand-ins.
const MARKED: [char; 12] =
    ['\u{7f}', '"', '$', '&', '\'', '<', '>', '\\', '`', '\u{2028}', '\u{2029}', '\u{85}'];

/// The `index`th of the 66 noncharacters: U+FDD0–U+FDEF, then the last two of each plane.
fn noncharacter(index: u32) -> char {
    let code = match index {
        0..32 => 0xfdd0 + index,
        _ => ((index - 32) / 2) * 0x1_0000 + 0xfffe + (index & 1),
    };
    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The place of a noncharacter among the 66.
fn noncharacter_index(c: char) -> Option<u32> {
    let code = c as u32;
    if code & 0xfffe == 0xfffe {
        Some(32 + (code >> 16) * 2 + (code & 1))
    } else if (0xfdd0..=0xfdef).contains(&code) {
        Some(code - 0xfdd0)
    } else {
        None
    }
}

/// Whether `c` is set aside for stand-ins.
pub(crate) fn is_reserved(c: char) -> bool {
    noncharacter_index(c).is_some()
}

/// The stand-in of a character that needs escaping somewhere.
pub(crate) fn mark(c: char) -> Option<char> {
    match c {
        '\0'..='\u{1f}' => Some(noncharacter(c as u32)),
        _ => {
            let index = MARKED.iter().position(|&marked| marked == c)?;
            Some(noncharacter(32 + index as u32))
        }
    }
}

/// The character a stand-in stands for.
fn unmark(c: char) -> Option<char> {
    match noncharacter_index(c)? {
        index @ 0..32 => char::from_u32(index),
        index => MARKED.get(index as usize - 32).copied(),
    }
}

/// What a character prints as in HTML text and attribute values.
fn html_escape(c: char) -> Option<&'static str> {
    Some(match c {
        '&' => "&amp;",
        '<' => "&lt;",
        '>' => "&gt;",
        '"' => "&quot;",
        '\'' => "&#x27;",
        _ => return None,
    })
}

/// Writes `text` with stand-ins for every character that needs escaping somewhere.
fn write_marked(out: &mut impl fmt::Write, text: &str) -> fmt::Result {
    let mut plain = 0;
    for (at, c) in text.char_indices() {
        if let Some(marked) = mark(c) {
            out.write_str(&text[plain..at])?;
            out.write_char(marked)?;
            plain = at + c.len_utf8();
        }
    }
    out.write_str(&text[plain..])
}

/// Writes a template value as `{{ value }}` prints it.
///
/// Undefined and none print nothing, booleans the words `true` and `false`, lists and mappings JSON
/// text. That text is marked like any string: in a script it is safe inside quotes whatever the
/// value is (a query parameter given twice is a list), and `|tojson` is the way to a JavaScript
/// value.
pub(crate) fn write_value(out: &mut impl fmt::Write, value: &Value) -> fmt::Result {
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => Ok(()),
        ValueKind::Bool => out.write_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::String if value.is_safe() => out.write_str(value.as_str().unwrap_or_default()),
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => match serde_json::to_string(value)
        {
            Ok(json) => write_marked(out, &json),
            Err(_) => write_marked(out, &value.to_string()),
        },
        _ => match value.as_str() {
            Some(text) => write_marked(out, text),
            None => write_marked(out, &value.to_string()),
        },
    }
}

/// The marked form of a value as a string that prints as it is.
pub(crate) fn marked(value: &Value) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = write_value(&mut text, value);
    text
}

/// JSON text in which stand-ins are the entities they would be in HTML, so that markup that was
/// captured and handed to a script as JSON is still escaped as markup.
pub(crate) fn json_with_entities(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        let plain = match unmark(c) {
            None if c == '\u{2028}' || c == '\u{2029}' => c,
            None => {
                text.push(c);
                continue;
            }
            Some(original) => original,
        };
        match html_escape(plain) {
            // The ampersand itself must not be one in the page.
            Some(entity) => {
                text.push_str("\\u0026");
                text.push_str(&entity[1..]);
            }
            None => push_unicode_escape(&mut text, plain),
        }
    }
    text
}

/// The text with its stand-ins turned back, for uses that encode in a way of their own.
pub(crate) fn unmarked(text: &str) -> String {
    text.chars().map(|c| unmark(c).unwrap_or(c)).collect()
}

fn push_unicode_escape(text: &mut String, c: char) {
    // All marked characters are in the basic plane: one \uXXXX is enough.
    let _ = write!(text, "\\u{:04x}", c as u32);
}

/// Replaces noncharacters in the data by U+FFFD, in keys as well.
pub(crate) fn clean(data: &mut serde_json::Value) {
    use serde_json::Value as Json;
    match data {
        Json::String(text) => clean_text(text),
        Json::Array(items) => items.iter_mut().for_each(clean),
        Json::Object(entries) => {
            if entries.keys().any(|key| key.contains(is_reserved)) {
                *entries = std::mem::take(entries)
                    .into_iter()
                    .map(|(mut key, value)| {
                        clean_text(&mut key);
                        (key, value)
                    })
                    .collect();
            }
            entries.values_mut().for_each(clean);
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
}

fn clean_text(text: &mut String) {
    if text.contains(is_reserved) {
        *text = text.replace(is_reserved, "\u{fffd}");
    }
}

/// Takes the output of a template in its final order and writes the page.
#[derive(Debug)]
pub(crate) struct PageWriter {
    page: String,
    context: HtmlContext,
    limit: usize,
    /// The page would have grown past the limit.
    pub(crate) overflowed: bool,
}

impl PageWriter {
    /// A writer of pages of up to `limit` bytes.
    pub(crate) fn new(limit: usize) -> PageWriter {
        PageWriter { page: String::new(), context: HtmlContext::new(), limit, overflowed: false }
    }

    /// The page written.
    pub(crate) fn into_page(self) -> String {
        self.page
    }

    fn push(&mut self, text: &str) -> io::Result<()> {
        if self.page.len() + text.len() > self.limit {
            self.overflowed = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.context.advance(text.as_bytes());
        self.page.push_str(text);
        Ok(())
    }

    fn push_marked(&mut self, original: char) -> io::Result<()> {
        if self.context.in_script() {
            let mut escaped = String::with_capacity(6);
            push_unicode_escape(&mut escaped, original);
            self.push(&escaped)
        } else if let Some(entity) = html_escape(original) {
            self.push(entity)
        } else {
            self.push(original.encode_utf8(&mut [0; 4]))
        }
    }
}

impl io::Write for PageWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Whole strings are written, never a part of a character.
        let text = std::str::from_utf8(bytes).map_err(io::Error::other)?;
        let mut plain = 0;
        for (at, c) in text.char_indices() {
            if is_reserved(c) {
                self.push(&text[plain..at])?;
                plain = at + c.len_utf8();
                if let Some(original) = unmark(c) {
                    self.push_marked(original)?;
                }
            }
        }
        self.push(&text[plain..])?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn every_marked_character_has_a_stand_in_of_its_own() {
        let mut seen = std::collections::HashSet::new();
        for c in ('\0'..='\u{1f}').chain(MARKED) {
            let stand_in = mark(c).expect("marked");
            assert!(is_reserved(stand_in), "{c:?}");
            assert_eq!(unmark(stand_in), Some(c));
            assert!(seen.insert(stand_in), "{c:?} shares its stand-in");
        }
        for c in ['a', 'é', '😀', '/', '{', '\u{fffd}'] {
            assert_eq!(mark(c), None, "{c:?}");
            assert!(!is_reserved(c), "{c:?}");
        }
    }

    #[test]
    fn the_noncharacters_are_counted_without_gaps() {
        let all: Vec<char> = ('\0'..=char::MAX).filter(|&c| is_reserved(c)).collect();
        assert_eq!(all.len(), 66);
        let mut indexed: Vec<char> = (0..66).map(noncharacter).collect();
        indexed.sort_unstable();
        assert_eq!(indexed, all);
    }

    #[test]
    fn a_stand_in_follows_the_place_it_is_written_to() {
        let mut writer = PageWriter::new(1000);
        let value = marked(&Value::from("<\\"));
        for part in ["<p>", &value, "</p><script>'", &value, "'</script>", &value] {
            writer.write_all(part.as_bytes()).expect("written");
        }
        assert_eq!(writer.into_page(), r"<p>&lt;\</p><script>'\u003c\u005c'</script>&lt;\");
    }

    #[test]
    fn noncharacters_in_the_data_are_replaced_in_values_and_keys() {
        let mut data = serde_json::json!({"a\u{fdd0}": ["x\u{ffff}y", {"k": "\u{1fffe}"}], "b": 1});
        clean(&mut data);
        let expected = serde_json::json!({"a\u{fffd}": ["x\u{fffd}y", {"k": "\u{fffd}"}], "b": 1});
        assert_eq!(data, expected);
    }

    #[test]
    fn a_page_over_the_limit_is_refused() {
        let mut writer = PageWriter::new(4);
        writer.write_all(b"1234").expect("fits");
        assert!(writer.write_all(b"5").is_err());
        assert!(writer.overflowed);
        let mut writer = PageWriter::new(4);
        let value = marked(&Value::from("&"));
        assert!(writer.write_all(value.as_bytes()).is_err(), "what is counted is the entity");
        assert!(writer.overflowed);
    }
}
