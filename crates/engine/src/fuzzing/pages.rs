//! Pages: a printed value stays a value wherever it lands.

use std::io::Write as _;

use crate::html_context::HtmlContext;
use crate::template_escape::{self, PageWriter};

/// Places that a value is printed at, so that a page stays small.
const MAX_PRINTS: usize = 50;

/// Whether what is written after `html` is script text.
pub fn in_script(html: &[u8]) -> bool {
    let mut context = HtmlContext::new();
    context.advance(html);
    context.in_script()
}

/// A page, however it is cut. What it says is compared with html5ever where that is at hand.
pub fn scripts(data: &[u8]) {
    let mut context = HtmlContext::new();
    for byte in data.chunks(1) {
        context.advance(byte);
    }
    assert_eq!(context.in_script(), in_script(data));
}

/// The first line is a value; the rest is a page, in which each U+0001 is where it is printed.
pub fn pages(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (value, page) = text.split_once('\n').unwrap_or((text, ""));
    let clean = |text: &str| text.replace(template_escape::is_reserved, "\u{fffd}");
    let (value, page) = (clean(value), clean(page));
    let marked = template_escape::marked(&value.as_str().into());
    let mut writer = PageWriter::new(usize::MAX);
    let mut expected = String::new();
    // Where the page leads, told without the writer.
    let mut context = HtmlContext::new();
    for (index, part) in page.splitn(MAX_PRINTS, '\u{1}').enumerate() {
        let mut from = expected.len();
        if index > 0 {
            writer.write_all(marked.as_bytes()).expect("written");
            for character in value.chars() {
                push_escaped(&mut expected, character, context.in_script());
                context.advance(&expected.as_bytes()[from..]);
                from = expected.len();
            }
        }
        writer.write_all(part.as_bytes()).expect("written");
        expected.push_str(part);
        context.advance(&expected.as_bytes()[from..]);
    }
    let written = writer.into_page();
    assert_eq!(written, expected);
    scripts(written.as_bytes());
}

fn push_escaped(page: &mut String, character: char, in_script: bool) {
    let special = "\"$&'<>\\`\u{7f}\u{2028}\u{2029}\u{85}";
    let is_special = character < ' ' || special.contains(character);
    match character {
        _ if in_script && is_special => page.push_str(&format!("\\u{:04x}", character as u32)),
        '&' if !in_script => page.push_str("&amp;"),
        '<' if !in_script => page.push_str("&lt;"),
        '>' if !in_script => page.push_str("&gt;"),
        '"' if !in_script => page.push_str("&quot;"),
        '\'' if !in_script => page.push_str("&#x27;"),
        _ => page.push(character),
    }
}
