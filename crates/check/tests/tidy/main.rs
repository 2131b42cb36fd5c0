//! The rules of the house, as tests: what ARCHITECTURE.md promises is compared with what is there.
//!
//! Every test names the place (`file:line`) of each breach and what to do about it. A rule is
//! changed here and in ARCHITECTURE.md together, never by an exception for one file.

mod floors;
mod lints;
mod scan;
mod sources;
mod spec;

use std::fs;
use std::path::{Path, PathBuf};

/// The workspace.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here
        .ancestors()
        .nth(2)
        .expect("crates/check lies two below the root");
    root.to_path_buf()
}

/// The six crates, bottom first.
const CRATES: [&str; 6] = ["wire", "logic", "host", "sim", "check", "cli"];

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every Rust file of the workspace, relative to its root, in order.
fn rust_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for place in ["crates", "bench", "fuzz"] {
        collect(&root().join(place), &mut files);
    }
    files.sort();
    let root = root();
    files
        .iter()
        .map(|file| {
            file.strip_prefix(&root)
                .expect("found below the root")
                .to_path_buf()
        })
        .collect()
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries {
        let path = entry.expect("a readable directory").path();
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() {
            if name != "target" {
                collect(&path, files);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Fails with all of `breaches` that are not owned up to in `debts.txt`, and with every line of
/// that list that is paid: the list can only grow shorter. A debt names the rule's words without
/// the line number, so that it stands while lines move.
fn report(rule: &str, breaches: Vec<String>) {
    let owed = read(&root().join("crates/check/tests/tidy/debts.txt"));
    let owed: Vec<&str> = owed.lines().filter(|line| !line.is_empty()).collect();
    let fresh: Vec<&String> = breaches
        .iter()
        .filter(|breach| !owed.contains(&debt(rule, breach).as_str()))
        .collect();
    assert!(
        fresh.is_empty(),
        "{rule}\n{} breaches:\n  {fresh:#?}\n",
        fresh.len(),
    );
    let open: Vec<String> = breaches.iter().map(|breach| debt(rule, breach)).collect();
    let prefix = format!("{rule}: ");
    let paid: Vec<&&str> = owed
        .iter()
        .filter(|line| line.starts_with(&prefix) && !open.iter().any(|debt| debt == *line))
        .collect();
    assert!(paid.is_empty(), "paid; take it off the list: {paid:#?}");
}

/// A breach as the list has it: the rule, and the breach without its numbers.
fn debt(rule: &str, breach: &str) -> String {
    let (place, what) = breach.split_once(": ").unwrap_or((breach, ""));
    let file = place.split_once(':').map_or(place, |(file, _)| file);
    let what = what.split_once(" has ").map_or(what, |(name, _)| name);
    format!("{rule}: {file}: {what}")
}
