//! Whether a page is in a script: what the engine says, and html5ever's tokenizer.

#![no_main]

use std::cell::{Cell, RefCell};

use html5ever::tendril::StrTendril;
use html5ever::tokenizer::states::{Rawtext, Rcdata, ScriptData};
use html5ever::tokenizer::{
    BufferQueue, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts,
};

/// Neither a name nor markup, so that it is text wherever text may be.
const PROBE: &str = "0probe0";

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(html) = std::str::from_utf8(data) else { return };
    // Not followed: browsers take it for the end of a line, html5ever waits for the next character.
    if html.ends_with('\r') {
        return;
    }
    engine::fuzzing::scripts(data);
    assert_eq!(engine::fuzzing::in_script(data), expected(html), "{html:?}");
});

fn expected(html: &str) -> bool {
    let input = BufferQueue::default();
    input.push_back(StrTendril::from_slice(html));
    input.push_back(StrTendril::from_slice(PROBE));
    let options = TokenizerOpts { discard_bom: false, ..TokenizerOpts::default() };
    let tokenizer = Tokenizer::new(Sink::default(), options);
    // The sink never asks it to wait.
    let _ = tokenizer.feed(&input);
    tokenizer.sink.in_script.get() && tokenizer.sink.text.borrow().ends_with(PROBE)
}

#[derive(Default)]
struct Sink {
    in_script: Cell<bool>,
    text: RefCell<String>,
}

impl TokenSink for Sink {
    type Handle = ();

    /// As a browser that runs scripts builds the tree, where no tag is dropped.
    fn process_token(&self, token: Token, _: u64) -> TokenSinkResult<()> {
        match token {
            Token::CharacterTokens(text) => self.text.borrow_mut().push_str(&text),
            Token::TagToken(tag) => {
                self.text.borrow_mut().clear();
                self.in_script.set(tag.kind == TagKind::StartTag && &*tag.name == "script");
                if tag.kind == TagKind::StartTag {
                    return match &*tag.name {
                        "script" => TokenSinkResult::RawData(ScriptData),
                        "title" | "textarea" => TokenSinkResult::RawData(Rcdata),
                        "style" | "xmp" | "iframe" | "noembed" | "noframes" | "noscript" => {
                            TokenSinkResult::RawData(Rawtext)
                        }
                        "plaintext" => TokenSinkResult::Plaintext,
                        _ => TokenSinkResult::Continue,
                    };
                }
            }
            // What stands between is not the probe.
            _ => self.text.borrow_mut().clear(),
        }
        TokenSinkResult::Continue
    }
}
