//! What `fuzz/` runs on random bytes, and `cargo test` on the bytes kept there: one function a
//! target, which panics where a promise does not hold. No other build has this.

mod deflated;
mod frames;
mod pages;
mod paths;
mod settings;
mod upgrades;

pub use crate::backplane::fuzzing::{envelopes, nodes};
pub use deflated::deflated;
pub use frames::frames;
pub use pages::{in_script, pages, scripts};
pub use paths::paths;
pub use settings::settings;
pub use upgrades::upgrades;

/// Where input is cut into reads: as its first bytes say.
#[derive(Clone, Copy)]
pub(crate) struct Cuts<'a>(&'a [u8]);

impl<'a> Cuts<'a> {
    /// Takes the cuts from the front of `data`: how many there are, at most seven, then the length of
    /// each read. They are repeated to the end of the input; a length of zero is all that is left.
    pub(crate) fn take(data: &'a [u8]) -> (Self, &'a [u8]) {
        let Some((&count, rest)) = data.split_first() else {
            return (Self(&[]), data);
        };
        let (cuts, rest) = rest.split_at(usize::from(count % 8).min(rest.len()));
        (Self(cuts), rest)
    }

    /// The lengths of the reads that `total` bytes come in.
    pub(crate) fn lengths(self, total: usize) -> Vec<usize> {
        let mut lengths = Vec::new();
        let mut left = total;
        let mut cuts = self.0.iter().cycle();
        while left > 0 {
            let length = match cuts.next() {
                None | Some(0) => left,
                Some(&length) => left.min(usize::from(length)),
            };
            lengths.push(length);
            left -= length;
        }
        lengths
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    /// A target reads one input.
    type Target = fn(&[u8]);

    const TARGETS: &[(&str, Target)] = &[
        ("frames", frames),
        ("deflated", deflated),
        ("upgrades", upgrades),
        ("paths", paths),
        ("envelopes", envelopes),
        ("nodes", nodes),
        ("pages", pages),
        ("scripts", scripts),
        ("settings", settings),
    ];

    fn folder(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz").join(name)
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder");
        let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        let mut names: Vec<String> = entries.map(|entry| name(entry.expect("an entry"))).collect();
        names.sort();
        names
    }

    #[test]
    fn what_fuzzing_has_found_and_what_it_begins_with_keeps_its_promises() {
        for (target, run) in TARGETS {
            for kind in ["seeds", "corpus"] {
                let folder = folder(kind).join(target);
                let inputs = names(&folder);
                assert!(!inputs.is_empty(), "there are no {kind} for {target}");
                for name in inputs {
                    let input = fs::read(folder.join(&name)).expect("an input");
                    let outcome = std::panic::catch_unwind(|| run(&input));
                    assert!(outcome.is_ok(), "{kind}/{target}/{name}");
                }
            }
        }
    }

    #[test]
    fn a_script_is_where_a_browser_sees_one() {
        let folder = folder("seeds").join("scripts");
        for name in names(&folder) {
            let html = fs::read(folder.join(&name)).expect("an input");
            assert_eq!(in_script(&html), name.starts_with("inside-"), "{name}");
        }
    }

    #[test]
    fn every_target_of_fuzz_is_run_here_too() {
        let mut known: Vec<String> = TARGETS.iter().map(|(name, _)| format!("{name}.rs")).collect();
        known.sort();
        assert_eq!(names(&folder("fuzz_targets")), known);
        let known: Vec<&str> = known.iter().map(|name| name.trim_end_matches(".rs")).collect();
        assert_eq!(names(&folder("seeds")), known);
        assert_eq!(names(&folder("corpus")), known);
    }

    #[test]
    fn cuts_add_up_to_the_input() {
        let (cuts, rest) = Cuts::take(&[2, 3, 1, b'x', b'y']);
        assert_eq!(rest, b"xy");
        assert_eq!(cuts.lengths(10), [3, 1, 3, 1, 2]);
        let (cuts, rest) = Cuts::take(&[2, 3, 0, b'x']);
        assert_eq!((cuts.lengths(10), rest), (vec![3, 7], &b"x"[..]));
        assert_eq!(Cuts::take(&[]).0.lengths(5), [5]);
    }
}
