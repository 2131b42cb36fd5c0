//! Every pair of things that two people can do to one folder while their machines do not see each
//! other, and what becomes of it: 12 times 12, as `spec/sync.md` has them.
//!
//! `pairs.txt` has a line for each ordered pair: what A does, what B does, the rule, the folder
//! afterwards. The same outcome must come of it on two machines and on three, in whatever order
//! they meet again, and whether ahoy was running while it was done or only found it later.

use std::collections::BTreeMap;

use crate::folder::Folder;
use crate::peers::{Peers, listing};

const TABLE: &str = include_str!("pairs.txt");
const SPEC: &str = include_str!("../../../../spec/sync.md");

/// What can be done, in the order of the specification.
const DEEDS: [&str; 12] = [
    "create",
    "edit",
    "append",
    "truncate",
    "delete",
    "rename",
    "move",
    "mkdir",
    "rmdir",
    "dir-rename",
    "chmod",
    "symlink",
];

/// What there is before: a file in a directory, and two directories to move it to.
fn base(folder: &mut Folder) {
    for dir in ["d", "x", "y"] {
        folder.mkdir(dir);
    }
    folder.write("d/f", b"base");
}

/// Does it, as `a` or as `b`; the names that a watcher would report.
fn deed(folder: &mut Folder, what: &str, who: &str) -> Vec<String> {
    let paths = |paths: &[&str]| paths.iter().map(|p| (*p).to_owned()).collect();
    match what {
        "create" => folder.write("d/n", format!("new-{who}").as_bytes()),
        "edit" => folder.write("d/f", format!("edit-{who}").as_bytes()),
        "append" => folder.change("d/f", |bytes| {
            bytes.extend(format!("+{who}").into_bytes());
        }),
        "truncate" => folder.change("d/f", Vec::clear),
        "delete" => folder.remove("d/f"),
        "chmod" => folder.chmod("d/f", if who == "a" { 0o600 } else { 0o640 }),
        "mkdir" => folder.mkdir("d/n"),
        "symlink" => folder.link("d/n", &format!("to-{who}")),
        "rmdir" => {
            folder.remove("d");
            return paths(&["d"]);
        }
        "rename" => {
            let to = format!("d/f-{who}");
            folder.rename("d/f", &to);
            return paths(&["d/f", &to]);
        }
        "move" => {
            let to = if who == "a" { "x/f" } else { "y/f" };
            folder.rename("d/f", to);
            return paths(&["d/f", to]);
        }
        "dir-rename" => {
            let to = format!("d-{who}");
            folder.rename("d", &to);
            return paths(&["d", &to]);
        }
        other => panic!("nobody can {other}"),
    }
    match what {
        "create" | "mkdir" | "symlink" => paths(&["d/n"]),
        _ => paths(&["d/f"]),
    }
}

/// How the machines meet again: pairs that are linked, one after the other.
type Meeting = &'static [(usize, usize)];

const MEETINGS: [(usize, Meeting); 6] = [
    (2, &[(0, 1)]),
    (2, &[(1, 0)]),
    (3, &[(0, 2), (2, 1)]),
    (3, &[(1, 2), (2, 0)]),
    (3, &[(0, 1), (1, 2), (2, 0)]),
    (3, &[(2, 1), (2, 0), (0, 1)]),
];

/// What comes of two deeds.
fn outcome(deeds: [&str; 2], (count, meeting): (usize, Meeting), is_live: bool) -> Vec<String> {
    let mut peers = Peers::new(count);
    base(&mut peers.all[0].folder);
    peers.scan(0);
    for other in 1..count {
        peers.link(0, other);
    }
    assert_eq!(peers.agreed().len(), 4);
    peers.part();
    for (index, (what, who)) in deeds.into_iter().zip(["a", "b"]).enumerate() {
        if !is_live {
            peers.stop(index);
        }
        let paths = deed(&mut peers.all[index].folder, what, who);
        let before = listing(&peers.all[index].folder);
        if is_live {
            let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
            peers.watch(index, &paths);
        } else {
            peers.start(index);
        }
        assert_eq!(listing(&peers.all[index].folder), before, "by himself");
    }
    for (a, b) in meeting {
        peers.link(*a, *b);
    }
    let agreed = peers.agreed();
    (0..count).for_each(|index| peers.scan(index));
    assert_eq!(peers.agreed(), agreed, "another look changes nothing");
    agreed
}

struct Line {
    rule: &'static str,
    folder: Vec<&'static str>,
}

fn table() -> BTreeMap<[&'static str; 2], Line> {
    let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
    let parse = |line: &'static str| {
        let mut words = line.split(" | ").map(str::trim);
        let mut next = || words.next().expect("a column");
        let deeds = [next(), next()];
        let rule = next();
        let folder = next().split("; ").collect();
        (deeds, Line { rule, folder })
    };
    lines.map(parse).collect()
}

fn check(count: usize) {
    let table = table();
    let mut faults = Vec::new();
    for a in DEEDS {
        for b in DEEDS {
            for meeting in MEETINGS.iter().filter(|(machines, _)| *machines == count) {
                for is_live in [true, false] {
                    let come = outcome([a, b], *meeting, is_live);
                    let line = table.get(&[a, b]);
                    if line.is_none_or(|line| line.folder != come) {
                        faults.push(format!("{a} | {b} | {}", come.join("; ")));
                    }
                }
            }
        }
    }
    faults.dedup();
    assert!(
        faults.is_empty(),
        "{} pairs:\n{}",
        faults.len(),
        faults.join("\n")
    );
}

// sync-24.
#[test]
fn on_two_machines_each_pair_comes_to_what_is_specified() {
    check(2);
}

// sync-24.
#[test]
fn on_three_machines_each_pair_comes_to_what_is_specified() {
    check(3);
}

/// The matrix of the specification and the table of this test say the same.
#[test]
fn the_specification_has_a_rule_for_each_pair() {
    let row = |deed: &str| {
        let start = format!("  | {deed} | ");
        let rows: Vec<&str> = SPEC.lines().filter(|l| l.starts_with(&start)).collect();
        let [row] = rows[..] else {
            panic!("{deed} has {} rows", rows.len());
        };
        let cells = row[start.len()..].trim_end_matches(" |").split(" | ");
        cells.collect::<Vec<_>>()
    };
    let table = table();
    assert_eq!(row("A \\ B"), DEEDS);
    assert_eq!(table.len(), DEEDS.len() * DEEDS.len());
    for a in DEEDS {
        let rules: Vec<&str> = DEEDS.iter().map(|b| table[&[a, *b]].rule).collect();
        assert_eq!(row(a), rules, "{a}");
        for b in DEEDS {
            assert_eq!(table[&[a, b]].rule, table[&[b, a]].rule, "{a} and {b}");
        }
    }
}
