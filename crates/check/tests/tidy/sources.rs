//! Sizes and names: files, functions, lines, and what a file opens with.

use std::path::Path;

use crate::scan::functions;
use crate::{CRATES, read, report, root, rust_files};

/// Lines a file may have; aim at half of it.
const FILE_LINES_MAX: usize = 800;

/// Lines a function may have, from its first word to its last brace.
const FUNCTION_LINES_MAX: usize = 70;

/// Columns a line may have.
const COLUMNS_MAX: usize = 100;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 8] = [
    "util", "utils", "common", "helper", "helpers", "types", "misc", "stuff",
];

#[test]
fn files_functions_and_lines_have_their_limits() {
    let mut breaches = Vec::new();
    for file in rust_files() {
        let (place, source) = (file.display(), read(&root().join(&file)));
        let lines = source.lines().count();
        if lines > FILE_LINES_MAX {
            breaches.push(format!(
                "{place}:{lines}: split by decision; {FILE_LINES_MAX} lines"
            ));
        }
        for function in functions(&source) {
            let lines = function.last_line - function.first_line + 1;
            if lines > FUNCTION_LINES_MAX {
                let (line, name) = (function.first_line, &function.name);
                let limit = format!("{lines} lines; {FUNCTION_LINES_MAX} is the limit");
                breaches.push(format!("{place}:{line}: fn {name} has {limit}"));
            }
        }
        for (number, line) in (1..).zip(source.lines()) {
            // A table in a comment cannot be broken.
            let is_table = line.trim_start().starts_with("//! |");
            if line.chars().count() > COLUMNS_MAX && !is_table {
                breaches.push(format!(
                    "{place}:{number}: longer than {COLUMNS_MAX} columns"
                ));
            }
        }
    }
    report("sizes have limits", breaches);
}

#[test]
fn every_file_opens_by_saying_what_it_is() {
    let opens = |file: &&std::path::PathBuf| !read(&root().join(file)).starts_with("//! ");
    let breaches = rust_files()
        .iter()
        .filter(opens)
        .map(|file| {
            format!(
                "{}:1: begin with //! (what, why, and what not)",
                file.display()
            )
        })
        .collect();
    report("every file opens with //!", breaches);
}

#[test]
fn names_say_what_is_inside() {
    let breaches = rust_files()
        .iter()
        .filter(|file| has_empty_name(file))
        .map(|file| format!("{}: rename it after what it does", file.display()))
        .collect();
    report(
        "no module is called utils, common, helpers, types or misc",
        breaches,
    );
}

fn has_empty_name(file: &Path) -> bool {
    file.with_extension("")
        .components()
        .any(|part| EMPTY_NAMES.iter().any(|name| part.as_os_str() == *name))
}

/// Only `host` may contain unsafe code, and tests that measure memory.
#[test]
fn the_safe_floors_forbid_unsafe_code() {
    let breaches = CRATES
        .iter()
        .filter(|krate| !matches!(**krate, "host" | "cli"))
        .filter(|krate| {
            let lib = read(&root().join(format!("crates/{krate}/src/lib.rs")));
            !lib.contains("#![forbid(unsafe_code)]")
        })
        .map(|krate| format!("crates/{krate}/src/lib.rs: add #![forbid(unsafe_code)]"))
        .collect();
    report("forbid(unsafe_code) everywhere it can stand", breaches);
}
