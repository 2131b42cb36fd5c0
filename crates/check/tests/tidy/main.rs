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
    for place in ["crates", "fuzz"] {
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

/// Fails with all of `breaches`, or passes if there are none.
fn report(rule: &str, breaches: Vec<String>) {
    assert!(
        breaches.is_empty(),
        "{rule}\n{} breaches:\n  {}\n",
        breaches.len(),
        breaches.join("\n  ")
    );
}
