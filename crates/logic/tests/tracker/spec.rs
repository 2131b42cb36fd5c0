//! Every requirement of `spec/tracker.md` has a place in the code, and the code cites no other.

#![expect(clippy::disallowed_methods, reason = "the sources lie on the disk")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The numbers that follow `before` in a text.
fn numbers(text: &str, before: &str) -> BTreeSet<u32> {
    let digits = |rest: &str| {
        rest.chars()
            .take_while(char::is_ascii_digit)
            .collect::<String>()
    };
    text.split(before)
        .skip(1)
        .filter_map(|rest| digits(rest).parse().ok())
        .collect()
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("the sources can be read") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_requirement_is_cited_and_no_other() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let spec = include_str!("../../../../spec/tracker.md");
    let required = numbers(spec, "- **tracker-");
    assert!(required.len() > 30, "{required:?}");
    let mut paths = Vec::new();
    for floor in ["wire", "logic", "host", "cli"] {
        sources(&crates.join(floor).join("src"), &mut paths);
    }
    let cited: BTreeSet<u32> = paths
        .iter()
        .flat_map(|path| numbers(&fs::read_to_string(path).expect("text"), "tracker-"))
        .collect();
    let missing: Vec<_> = required.difference(&cited).collect();
    let unknown: Vec<_> = cited.difference(&required).collect();
    assert!(missing.is_empty(), "cited nowhere: {missing:?}");
    assert!(unknown.is_empty(), "not in the specification: {unknown:?}");
}
