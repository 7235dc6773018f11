//! The floors of the engine: a file imports from the files above it in `lib.rs`, never from below.

use std::fs;
use std::path::{Path, PathBuf};

/// Every file at the top of `src`, in the order of the layout in `lib.rs`: each may use those before
/// it. A folder counts as the file it belongs to.
const FLOORS: &[&str] = &[
    // plain data
    "config",
    "close",
    "path",
    "slots",
    "clock",
    "alarm",
    "token",
    "message",
    // machines
    "router",
    "deflate",
    "codec",
    "lines",
    "keepalive",
    "outbox",
    "topics",
    "html_context",
    "template_escape",
    "template_filters",
    "template",
    "static_files",
    // the border
    "shared",
    "event",
    "event_queue",
    "command",
    "lease",
    "to_shard",
    "outgoing",
    "driving",
    "backplane",
    "publisher",
    "routes",
    // sockets
    "extension",
    "subprotocol",
    "upgrade",
    "socket",
    "traffic",
    "wire",
    "tasks",
    "context",
    "connection",
    "hub",
    "response",
    "opening",
    // requests
    "client_ip",
    "framing",
    "body",
    "held",
    "waiting",
    "http",
    // the engine
    "acceptor",
    "shard",
    "server",
    // random bytes
    "fuzzing",
];

/// What a file of tests may use is not said here.
fn is_tests(path: &Path) -> bool {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    stem == "tests" || stem.ends_with("_tests")
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_tests(&path) {
            found.push(path);
        }
    }
}

/// The module at the top of `src` that a file belongs to.
fn module(source: &Path, file: &Path) -> String {
    let relative = file.strip_prefix(source).expect("below src");
    let first = relative.iter().next().and_then(|name| name.to_str()).expect("a name");
    first.trim_end_matches(".rs").to_owned()
}

/// The code of a file, without comments and without its tests, which come last.
fn code(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        if line.trim() == "#[cfg(test)]" {
            break;
        }
        let line = line.split("//").next().unwrap_or_default();
        out.push_str(line);
        out.push('\n');
    }
    out
}

/// The modules that `crate::…` names, in `use crate::{a, b::c}` too.
fn imports(code: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let Some(list) = rest.strip_prefix('{') else {
            found.push(name(rest));
            continue;
        };
        let (mut depth, mut start) = (0, 0);
        for (index, character) in list.char_indices() {
            match character {
                '{' => depth += 1,
                '}' if depth == 0 => {
                    found.push(name(&list[start..index]));
                    break;
                }
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    found.push(name(&list[start..index]));
                    start = index + 1;
                }
                _ => {}
            }
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|one| *one == module)
}

#[test]
fn imports_run_from_each_floor_to_the_ones_before_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    assert!(files.len() > FLOORS.len(), "the files were found");
    let mut wrong = Vec::new();
    for file in files {
        let module = module(&source, &file);
        if module == "lib" {
            continue;
        }
        let Some(mine) = floor(&module) else {
            wrong.push(format!("{module} has no floor"));
            continue;
        };
        let text = fs::read_to_string(&file).expect("a file");
        for import in imports(&code(&text)) {
            match floor(&import) {
                Some(other) if other < mine || import == module => {}
                Some(_) => wrong.push(format!("{module} imports {import}, which is further down")),
                None => wrong.push(format!("{module} imports {import}, which has no floor")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_layout_names_every_floor_in_this_order() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lib = fs::read_to_string(source.join("lib.rs")).expect("lib.rs");
    let layout: String = lib.lines().take_while(|line| line.starts_with("//!")).collect();
    let mut last = 0;
    for floor in FLOORS {
        assert!(source.join(format!("{floor}.rs")).is_file(), "there is no {floor}.rs");
        // What only templates need is part of them.
        if floor.starts_with("template_") || *floor == "html_context" {
            continue;
        }
        let named = layout.find(&format!("`{floor}`"));
        let at = named.unwrap_or_else(|| panic!("lib.rs does not say what {floor} is for"));
        assert!(at > last, "lib.rs names {floor} too early");
        last = at;
    }
}

#[test]
fn the_check_sees_every_way_to_import() {
    let text = "//! [`crate::server`]\nuse crate::{close, path::{self, PathError}};\n\
                use crate::router::Params; // crate::http\nfn f() { crate::shard::run() }\n\
                #[cfg(test)]\nmod tests { use crate::hub; }\n";
    assert_eq!(imports(&code(text)), ["close", "path", "router", "shard"]);
}
