//! Every numbered MUST of `spec/*.md` is cited where it is done and where it is tried.
//!
//! A requirement is defined where its number stands in bold at the beginning of a paragraph or list
//! item; it is a MUST if its text says so. "Cited" means that the number stands in the source: for
//! the doing, anywhere in a crate's `src` that is no test; for the trying, in a test or in a case
//! of `check`. Whether the citation is true is for the reader.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ahoy_check::case::Column;
use ahoy_check::{echo, enroll, hello, web};

use crate::{read, report, root, rust_files};

#[test]
fn every_must_is_done_and_tried_somewhere() {
    let (done, tried) = citations();
    let mut breaches = Vec::new();
    for (number, requirement) in requirements() {
        if !requirement.binding {
            continue;
        }
        if !done.contains(&number) {
            breaches.push(format!("{}: no code cites {number}", requirement.place));
        }
        if !tried.contains(&number) {
            breaches.push(format!(
                "{}: no test or check case cites {number}",
                requirement.place
            ));
        }
    }
    report(
        "each MUST is cited in code, and in a test or a check case",
        breaches,
    );
}

#[test]
fn no_number_is_cited_that_no_specification_gives() {
    let defined = requirements();
    let services: BTreeSet<&str> = defined.keys().map(|number| service(number)).collect();
    let mut breaches = Vec::new();
    for file in rust_files() {
        let source = read(&root().join(&file));
        for (line, text) in (1..).zip(source.lines()) {
            for number in numbers(text) {
                let known = services.contains(service(&number));
                if known && !defined.contains_key(&number) {
                    let place = file.display();
                    breaches.push(format!("{place}:{line}: {number} is in no spec/*.md"));
                }
            }
        }
    }
    report("a cited number exists", breaches);
}

/// A case that fails a MUST where the specification says SHOULD would refuse the innocent.
#[test]
fn the_cases_are_as_strict_as_the_specification() {
    let specified = requirements();
    let mut breaches = Vec::new();
    for case in columns().iter().flat_map(|column| &column.cases) {
        let (id, word) = (case.requirement.id, case.requirement.level.word());
        match specified.get(id) {
            None => breaches.push(format!("{}: in no spec/*.md", case.title())),
            Some(Requirement { place, text, .. }) if !words(text).any(|found| found == word) => {
                breaches.push(format!(
                    "{}: {word}, which {place} does not say",
                    case.title()
                ));
            }
            Some(_) => {}
        }
    }
    breaches.dedup();
    report("a case is as strict as its requirement", breaches);
}

/// Every case that there is, of servers and clients of every kind.
fn columns() -> Vec<Column> {
    let addr = SocketAddr::from(([127, 0, 0, 1], 1));
    let time = Some(Duration::from_secs(1));
    let enroll = |clients| {
        enroll::column(&enroll::Target {
            addr,
            clients,
            idle: time,
        })
    };
    vec![
        echo::column(&echo::Target {
            addr,
            tcp: true,
            udp: true,
            idle: time,
        }),
        hello::column(&hello::Target {
            addr,
            udp: true,
            tcp: true,
            lease: time,
            idle: time,
            protect: true,
        }),
        hello::client_column(&hello::Client {
            command: vec![],
            tcp: true,
            reply: time,
            timestamps: true,
        }),
        enroll(enroll::Clients::Many),
        enroll(enroll::Clients::One),
        enroll::client_column(&enroll::Client {
            command: vec![],
            wait: time,
        }),
        web::column(&web::Target {
            addr,
            path: "/".to_owned(),
            folder: None,
            request: time,
            idle: time,
        }),
    ]
}

struct Requirement {
    place: String,
    text: String,
    binding: bool,
}

/// Every requirement of every specification, by its number.
fn requirements() -> BTreeMap<String, Requirement> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(root().join("spec")).expect("spec/ is there") {
        let path = entry.expect("a readable directory").path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if !name.ends_with(".md") || name == "README.md" {
            continue;
        }
        let mut current: Option<String> = None;
        for (line, text) in (1..).zip(read(&path).lines()) {
            if let Some(number) = defined(text) {
                let place = format!("spec/{name}:{line}");
                let requirement = Requirement {
                    place,
                    text: String::new(),
                    binding: false,
                };
                let former = all.insert(number.clone(), requirement);
                assert!(
                    former.is_none(),
                    "spec/{name}:{line}: {number} is defined twice"
                );
                current = Some(number);
            } else if text.starts_with('#') || text.trim().is_empty() {
                current = None;
            }
            if let Some(number) = &current {
                let requirement = all.get_mut(number).expect("just inserted");
                requirement.binding |= words(text).any(|word| word == "MUST");
                requirement.text.push_str(text);
                requirement.text.push('\n');
            }
        }
    }
    all
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric())
}

/// The number that a line of a specification defines.
fn defined(line: &str) -> Option<String> {
    let line = line.trim_start().trim_start_matches("- ");
    let (number, _) = line.strip_prefix("**")?.split_once("**")?;
    let found = numbers(number);
    (found.len() == 1 && found[0] == number).then(|| number.to_owned())
}

/// The numbers cited by code that does something, and by code that tries it.
fn citations() -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut done, mut tried) = (BTreeSet::new(), BTreeSet::new());
    for file in rust_files() {
        let source = read(&root().join(&file));
        let (code, tests) = split(&file, &source);
        done.extend(numbers(code));
        tried.extend(numbers(tests));
    }
    (done, tried)
}

/// The part of a file that does, and the part that tries. Tests come last in a file.
fn split<'a>(file: &Path, source: &'a str) -> (&'a str, &'a str) {
    let is_test = |part: &std::ffi::OsStr| {
        let part = part.to_string_lossy();
        part == "tests" || part.ends_with("tests.rs") || part.ends_with("_test.rs")
    };
    let is_case = file.starts_with("crates/check");
    if is_case || file.starts_with("fuzz") || file.iter().any(is_test) {
        return ("", source);
    }
    source.split_at(source.find("#[cfg(test)]").unwrap_or(source.len()))
}

/// Everything in `text` that has the form of a requirement's number: `echo-3`.
fn numbers(text: &str) -> Vec<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let words = text.split(|c: char| !is_part(c));
    let shaped = words.filter(|word| {
        word.split_once('-').is_some_and(|(service, number)| {
            !service.is_empty()
                && service.chars().all(|c| c.is_ascii_lowercase())
                && !number.is_empty()
                && number.chars().all(|c| c.is_ascii_digit())
        })
    });
    shaped.map(str::to_owned).collect()
}

fn service(number: &str) -> &str {
    number
        .split_once('-')
        .map_or(number, |(service, _)| service)
}

#[test]
fn numbers_are_told_from_other_words() {
    assert_eq!(
        numbers("(echo-3, web-12): utf-8 x-1-2 Echo-4 a-b"),
        ["echo-3", "web-12", "utf-8"]
    );
    assert_eq!(
        defined("- **echo-3** A server MUST"),
        Some("echo-3".to_owned())
    );
    assert_eq!(defined("**echo-3** (MUST) It"), Some("echo-3".to_owned()));
    assert_eq!(defined("see **echo-3**"), None);
}
