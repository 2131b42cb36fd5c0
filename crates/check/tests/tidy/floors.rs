//! Who may import whom: Cargo.toml against the two tables of ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::{CRATES, read, report, root};

/// The dependencies of one crate, without the `ahoy-` before our own.
#[derive(Default, Debug)]
struct Imports {
    normal: BTreeSet<String>,
    test: BTreeSet<String>,
}

#[test]
fn each_crate_imports_only_what_its_floor_allows() {
    let allowed = allowed_imports();
    let mut breaches = Vec::new();
    for (krate, imports) in actual_imports() {
        let Some(allowed) = allowed.get(&krate) else {
            breaches.push(format!(
                "crates/{krate}/Cargo.toml: no row in ARCHITECTURE.md"
            ));
            continue;
        };
        for import in imports.normal.difference(&allowed.normal) {
            breaches.push(format!(
                "crates/{krate}/Cargo.toml: {import} is not allowed there"
            ));
        }
        for import in imports.test.difference(&allowed.test) {
            if !allowed.normal.contains(import) {
                let place = format!("crates/{krate}/Cargo.toml");
                breaches.push(format!(
                    "{place}: {import} is not allowed there, not even in tests"
                ));
            }
        }
        for import in allowed.normal.difference(&imports.normal) {
            breaches.push(format!(
                "ARCHITECTURE.md: {krate} no longer imports {import}"
            ));
        }
        for import in allowed.test.difference(&imports.test) {
            breaches.push(format!(
                "ARCHITECTURE.md: {krate} no longer imports {import} in tests"
            ));
        }
    }
    report(
        "the table of floors in ARCHITECTURE.md is the law",
        breaches,
    );
}

/// The absences that everything else rests on; written out, so that a slip in the table shows.
#[test]
fn the_absences_hold() {
    let imports = actual_imports();
    let io = [
        "tokio", "rustix", "nix", "socket2", "libc", "rusqlite", "rustls", "mdns-sd",
    ];
    let mut breaches = Vec::new();
    let mut forbid = |krate: &str, names: &[&str]| {
        for name in names {
            if imports[krate].normal.contains(*name) {
                breaches.push(format!(
                    "crates/{krate}/Cargo.toml: {name} must never be there"
                ));
            }
        }
    };
    forbid("wire", &io);
    forbid("wire", &["logic", "host", "sim", "check", "tracing"]);
    forbid("logic", &io);
    forbid(
        "logic",
        &["host", "sim", "check", "rand_chacha", "getrandom", "rand"],
    );
    forbid("sim", &io);
    forbid("sim", &["host", "check"]);
    forbid("check", &io);
    forbid("check", &["logic", "host", "sim"]);
    forbid("host", &["sim", "check", "clap", "anyhow"]);
    report(
        "an examiner shares no beliefs, a decision does no IO, worlds do not meet",
        breaches,
    );
}

#[test]
fn every_outside_crate_has_its_reason() {
    let reasons = table(&["crate", "why"]);
    let given: BTreeSet<String> = reasons.iter().flat_map(|row| names(&row[0])).collect();
    let mut breaches = Vec::new();
    let manifest = read(&root().join("Cargo.toml"));
    let section = manifest
        .split("[workspace.dependencies]")
        .nth(1)
        .expect("it has one");
    let section = section.split("\n[").next().unwrap_or_default();
    let wanted: BTreeSet<String> = section
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name.trim().to_owned())
        .filter(|name| !name.starts_with('#') && !name.starts_with("ahoy-"))
        .collect();
    for name in wanted.difference(&given) {
        breaches.push(format!("ARCHITECTURE.md: say why {name} is there"));
    }
    for name in given.difference(&wanted) {
        breaches.push(format!(
            "ARCHITECTURE.md: {name} is explained but not a dependency"
        ));
    }
    report(
        "the reason for each outside crate stands in ARCHITECTURE.md",
        breaches,
    );
}

fn allowed_imports() -> BTreeMap<String, Imports> {
    let rows = table(&[
        "crate",
        "may use, ours",
        "may use, outside",
        "in tests also",
        "never",
    ]);
    let imports = |row: Vec<String>| {
        let krate = names(&row[0])
            .pop()
            .expect("the first cell names the crate");
        let normal = names(&row[1]).into_iter().chain(names(&row[2])).collect();
        let test = names(&row[3]).into_iter().collect();
        (krate, Imports { normal, test })
    };
    rows.into_iter().map(imports).collect()
}

fn actual_imports() -> BTreeMap<String, Imports> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--offline",
            "--no-deps",
            "--format-version",
            "1",
        ])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let mut all = BTreeMap::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("a name");
        let krate = name.strip_prefix("ahoy-").unwrap_or(name).to_owned();
        let mut imports = Imports::default();
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let name = dependency["name"].as_str().expect("a name");
            let name = name.strip_prefix("ahoy-").unwrap_or(name).to_owned();
            if dependency["kind"] == "dev" {
                imports.test.insert(name);
            } else {
                imports.normal.insert(name);
            }
        }
        all.insert(krate, imports);
    }
    let found: Vec<&str> = all.keys().map(String::as_str).collect();
    for krate in CRATES {
        assert!(
            found.contains(&krate),
            "crate {krate} is missing; there are {found:?}"
        );
    }
    all
}

/// The rows of the table in ARCHITECTURE.md whose head is `head`.
fn table(head: &[&str]) -> Vec<Vec<String>> {
    let text = read(&root().join("ARCHITECTURE.md"));
    let mut rows = text.lines().map(cells).skip_while(|row| row != head);
    rows.next()
        .unwrap_or_else(|| panic!("ARCHITECTURE.md has no table with the head {head:?}"));
    let rows: Vec<Vec<String>> = rows
        .skip(1)
        .take_while(|row| row.len() == head.len())
        .collect();
    assert!(
        !rows.is_empty(),
        "the table {head:?} of ARCHITECTURE.md is empty"
    );
    rows
}

fn cells(line: &str) -> Vec<String> {
    let inner = line
        .trim()
        .strip_prefix('|')
        .and_then(|line| line.strip_suffix('|'));
    let cells = inner.map(|inner| inner.split('|').map(|cell| cell.trim().to_owned()));
    cells.map(Iterator::collect).unwrap_or_default()
}

/// The names between backticks.
fn names(cell: &str) -> Vec<String> {
    cell.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}
