//! Where in an HTML document the next character lands: in a script, or anywhere else.
//!
//! A [`HtmlContext`] reads the page as it is written and follows the tokenizer of the HTML
//! standard closely enough to know when a browser would be inside a `<script>` element: attributes
//! and their quotes, comments, elements whose content is not markup (`<title>`, `<style>`, …) and
//! the escaped states of script data (`<script><!-- <script>`) are told apart, so that a
//! `<script>` that is only text does not count.

/// Elements whose content is text up to their own end tag.
const TEXT_ELEMENTS: [&[u8]; 8] =
    [b"title", b"textarea", b"style", b"xmp", b"iframe", b"noembed", b"noframes", b"noscript"];

/// Longest thing to compare with: `</noframes`, `</noscript`, `</textarea`, and one more byte to
/// tell a longer name.
const NAME_CAPACITY: usize = 11;

/// A lower-case tag name being read. Longer than any name of interest is one byte too long.
#[derive(Debug, Default)]
struct Name {
    bytes: [u8; NAME_CAPACITY],
    len: usize,
}

impl Name {
    fn clear(&mut self) {
        self.len = 0;
    }

    fn push(&mut self, byte: u8) {
        if self.len < NAME_CAPACITY {
            self.bytes[self.len] = byte.to_ascii_lowercase();
            self.len += 1;
        }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn is_end_tag_of(&self, element: &[u8]) -> bool {
        self.as_bytes().strip_prefix(b"</") == Some(element)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Text,
    /// After `<`.
    TagOpen,
    /// After `</`.
    EndTagOpen,
    TagName,
    /// In a tag, where an attribute name may begin.
    BeforeAttribute,
    AttributeName,
    AfterAttributeName,
    /// After `=`.
    BeforeValue,
    /// In a value quoted by this byte.
    QuotedValue(u8),
    UnquotedValue,
    /// After `<!`.
    Declaration,
    /// After `<!-`.
    DeclarationDash,
    Comment {
        /// Nothing but dashes came yet: `<!-->` and `<!--->` are whole comments.
        start: bool,
        dashes: u8,
        /// After `--!`.
        bang: bool,
    },
    /// `<!doctype`, `<?`, `</ `: up to the next `>`.
    UntilAngle,
    /// In a text element, the index of its name; `None` is `<plaintext>`, which nothing ends.
    TextElement(Option<usize>),
    Script {
        escaped: Escaped,
        dashes: u8,
    },
}

/// The states of script data after `<!--`, kept by browsers for very old pages: within them a
/// nested `<script>` must be closed first.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Escaped {
    No,
    Once,
    Twice,
}

/// Follows the HTML written so far.
#[derive(Debug)]
pub(crate) struct HtmlContext {
    state: State,
    name: Name,
    end_tag: bool,
}

impl HtmlContext {
    /// The context at the start of a document.
    pub(crate) fn new() -> HtmlContext {
        HtmlContext { state: State::Text, name: Name::default(), end_tag: false }
    }

    /// Whether what is written next is script text.
    pub(crate) fn in_script(&self) -> bool {
        matches!(self.state, State::Script { .. })
    }

    /// Follows the next bytes of the document.
    pub(crate) fn advance(&mut self, text: &[u8]) {
        let mut rest = text;
        loop {
            // Most of a page is text, where only the next tag matters.
            if self.state == State::Text {
                let Some(tag) = rest.iter().position(|&byte| byte == b'<') else {
                    return;
                };
                rest = &rest[tag..];
            }
            let Some((&byte, after)) = rest.split_first() else {
                return;
            };
            self.step(byte);
            rest = after;
        }
    }

    fn step(&mut self, byte: u8) {
        let space = matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0c);
        self.state = match self.state {
            State::Text if byte == b'<' => State::TagOpen,
            State::Text => State::Text,
            State::TagOpen => match byte {
                b'!' => State::Declaration,
                b'/' => State::EndTagOpen,
                b'?' => State::UntilAngle,
                b'<' => State::TagOpen,
                _ if byte.is_ascii_alphabetic() => self.begin_tag(byte, false),
                _ => State::Text,
            },
            State::EndTagOpen => match byte {
                b'>' => State::Text,
                _ if byte.is_ascii_alphabetic() => self.begin_tag(byte, true),
                _ => State::UntilAngle,
            },
            State::TagName if byte == b'>' => self.end_of_tag(),
            State::TagName if space || byte == b'/' => State::BeforeAttribute,
            State::TagName => {
                self.name.push(byte);
                State::TagName
            }
            State::BeforeAttribute => match byte {
                b'>' => self.end_of_tag(),
                b'/' => State::BeforeAttribute,
                _ if space => State::BeforeAttribute,
                _ => State::AttributeName,
            },
            State::AttributeName | State::AfterAttributeName => match byte {
                b'>' => self.end_of_tag(),
                b'/' => State::BeforeAttribute,
                b'=' => State::BeforeValue,
                _ if space => State::AfterAttributeName,
                _ => State::AttributeName,
            },
            State::BeforeValue => match byte {
                b'>' => self.end_of_tag(),
                b'"' | b'\'' => State::QuotedValue(byte),
                _ if space => State::BeforeValue,
                _ => State::UnquotedValue,
            },
            State::QuotedValue(quote) if byte == quote => State::BeforeAttribute,
            State::QuotedValue(quote) => State::QuotedValue(quote),
            State::UnquotedValue if byte == b'>' => self.end_of_tag(),
            State::UnquotedValue if space => State::BeforeAttribute,
            State::UnquotedValue => State::UnquotedValue,
            State::Declaration if byte == b'-' => State::DeclarationDash,
            State::DeclarationDash if byte == b'-' => {
                State::Comment { start: true, dashes: 0, bang: false }
            }
            State::Declaration | State::DeclarationDash | State::UntilAngle if byte == b'>' => {
                State::Text
            }
            State::Declaration | State::DeclarationDash | State::UntilAngle => State::UntilAngle,
            State::Comment { start, dashes, bang } => match byte {
                b'>' if start || dashes >= 2 || bang => State::Text,
                b'-' => State::Comment { start, dashes: dashes.saturating_add(1), bang: false },
                _ => State::Comment { start: false, dashes: 0, bang: byte == b'!' && dashes >= 2 },
            },
            State::TextElement(element) => self.text_element_step(element, byte, space),
            State::Script { escaped, dashes } => self.script_step(escaped, dashes, byte, space),
        };
    }

    fn begin_tag(&mut self, byte: u8, end_tag: bool) -> State {
        self.name.clear();
        self.name.push(byte);
        self.end_tag = end_tag;
        State::TagName
    }

    fn end_of_tag(&mut self) -> State {
        let name = self.name.as_bytes();
        let state = if self.end_tag {
            State::Text
        } else if name == b"script" {
            State::Script { escaped: Escaped::No, dashes: 0 }
        } else if name == b"plaintext" {
            State::TextElement(None)
        } else if let Some(element) = TEXT_ELEMENTS.iter().position(|known| *known == name) {
            State::TextElement(Some(element))
        } else {
            State::Text
        };
        self.name.clear();
        state
    }

    /// Where an end tag that closes a text or script element leads.
    fn close_element(&mut self, byte: u8) -> State {
        self.name.clear();
        self.end_tag = true;
        if byte == b'>' { State::Text } else { State::BeforeAttribute }
    }

    /// Collects what follows a `<` until it can no longer be the start of a tag.
    fn collect_tag(&mut self, byte: u8) {
        if byte == b'<' {
            self.name.clear();
            self.name.push(byte);
        } else if self.name.len > 0 {
            self.name.push(byte);
        }
    }

    fn text_element_step(&mut self, element: Option<usize>, byte: u8, space: bool) -> State {
        if let Some(index) = element
            && (space || matches!(byte, b'/' | b'>'))
            && self.name.is_end_tag_of(TEXT_ELEMENTS[index])
        {
            return self.close_element(byte);
        }
        self.collect_tag(byte);
        State::TextElement(element)
    }

    fn script_step(&mut self, escaped: Escaped, dashes: u8, byte: u8, space: bool) -> State {
        if space || matches!(byte, b'/' | b'>') {
            if self.name.is_end_tag_of(b"script") {
                if escaped != Escaped::Twice {
                    return self.close_element(byte);
                }
                self.name.clear();
                return State::Script { escaped: Escaped::Once, dashes: 0 };
            }
            if escaped == Escaped::Once && self.name.as_bytes() == b"<script" {
                self.name.clear();
                return State::Script { escaped: Escaped::Twice, dashes: 0 };
            }
        }
        if byte == b'>' && dashes >= 2 {
            self.name.clear();
            return State::Script { escaped: Escaped::No, dashes: 0 };
        }
        self.collect_tag(byte);
        let dashes = if byte == b'-' { dashes.saturating_add(1) } else { 0 };
        if escaped == Escaped::No && self.name.as_bytes() == b"<!--" {
            self.name.clear();
            return State::Script { escaped: Escaped::Once, dashes: 2 };
        }
        State::Script { escaped, dashes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_script_after(html: &str) -> bool {
        let mut context = HtmlContext::new();
        context.advance(html.as_bytes());
        context.in_script()
    }

    #[test]
    fn a_script_element_is_entered_and_left() {
        for html in [
            "<script>",
            "<SCRIPT type=module>",
            "<script\n>",
            "<script type=\"text/javascript\" data-x='>'>",
            "<script/>",
            "<script src=/a.js></script><script>",
            "<p>a < b</p><<script>",
            "<script>if (a < b) x = '</scripty>' + \"</scrip\"",
        ] {
            assert!(in_script_after(html), "{html}");
        }
        for html in [
            "",
            "<script",
            "<script>x</script>",
            "<script>x</SCRIPT >",
            "<script>x</script/",
            "<script>x</script foo=\"<script>\">",
            "<scripts>",
            "<script-x>",
            "</script>",
            "< script>",
            "<script src='a'></script>",
        ] {
            assert!(!in_script_after(html), "{html}");
        }
    }

    #[test]
    fn script_as_text_does_not_count() {
        for html in [
            "<!-- <script> -->",
            "<!-- <script>",
            "<!--!> <script>",
            "<!-- -- > <script>",
            "<!doctype <script>",
            "<?xml <script>",
            "</ <script>",
            "<a title=\"<script>\">",
            "<a title='<script>",
            "<a title=<script",
            "<a title = \"a>b\" <script>",
            "<title><script>",
            "<title><script></title>",
            "<textarea></text><script>",
            "<style><script></style >",
            "<noscript><script></noscript>",
            "<plaintext></plaintext><script>",
        ] {
            assert!(!in_script_after(html), "{html}");
        }
    }

    #[test]
    fn a_script_after_text_that_looks_unfinished_counts() {
        for html in [
            "<!--><script>",
            "<!---><script>",
            "<!----><script>",
            "<!-- a --!><script>",
            "<!-- a ---><script>",
            "<!><script>",
            "<!-><script>",
            "</><script>",
            "</ a><script>",
            "<title></title><script>",
            "<title></TITLE foo><script>",
            "<a b='\"' c=d\"><script>",
            "<a b=/><script>",
            "<a =\"><script>",
            "<a / b = 'x'/><script>",
        ] {
            assert!(in_script_after(html), "{html}");
        }
    }

    #[test]
    fn a_nested_script_in_an_escaped_script_must_be_closed_first() {
        for (html, expected) in [
            ("<script><!-- <script> </script>", true),
            ("<script><!-- <script> </script> </script>", false),
            ("<script><!-- </script>", false),
            ("<script><!-- <script> --> </script>", false),
            ("<script><!--> <script> </script>", false),
            ("<script><!-- --> <script> </script>", false),
            ("<script><!-- <scripts> </script>", false),
            ("<script><!-<script> </script>", false),
        ] {
            assert_eq!(in_script_after(html), expected, "{html}");
        }
    }

    #[test]
    fn the_context_does_not_depend_on_how_the_page_is_cut() {
        let html = "<!-- <script> --><title><script></title><script>a</script x><script >b";
        let mut whole = HtmlContext::new();
        let mut cut = HtmlContext::new();
        whole.advance(html.as_bytes());
        for byte in html.as_bytes().chunks(1) {
            cut.advance(byte);
        }
        assert!(whole.in_script() && cut.in_script());
    }
}
