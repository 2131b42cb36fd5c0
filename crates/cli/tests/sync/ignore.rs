//! `.ahoyignore`: what it names stays where it is, and goes nowhere.

use std::fs;
use std::path::Path;

use ahoy_host::sync::status::State;

use crate::harness::{Place, Run, pair};
use crate::tree::Tree;

fn paths(run: &Run) -> Vec<String> {
    let tree = Tree::read(&run.dir);
    let paths = tree.0.keys();
    paths
        .map(|path| path.to_string_lossy().into_owned())
        .collect()
}

/// Writes a file on one machine and waits until the other one has it: what was done before has
/// been seen, and has gone wherever it goes.
fn mark(from: &Run, to: &mut Run, name: &str) {
    fs::write(from.dir.join(name), name).expect("a file");
    to.wait(name, |run| run.dir.join(name).exists());
}

fn rules(root: &Path) {
    fs::write(root.join(".ahoyignore"), "# built\n*.o\ntarget/\n").expect("a file");
    fs::create_dir(root.join("d")).expect("a directory");
    fs::write(root.join("d/source"), "source").expect("a file");
}

// sync-15, sync-16.
#[test]
fn what_ahoyignore_names_stays_where_it_is() {
    let place = Place::new();
    let (mut left, mut right) = pair(&place, rules);
    fs::write(left.dir.join("d/x.o"), "left").expect("a file");
    fs::write(right.dir.join("d/x.o"), "right").expect("a file");
    fs::create_dir(left.dir.join("target")).expect("a directory");
    fs::write(left.dir.join("target/out"), "built").expect("a file");
    mark(&left, &mut right, "one");
    mark(&right, &mut left, "two");
    assert_eq!(
        paths(&right),
        [".ahoyignore", "d", "d/source", "d/x.o", "one", "two"]
    );
    let text = |run: &Run| fs::read_to_string(run.dir.join("d/x.o")).expect("a file");
    assert_eq!((text(&left), text(&right)), ("left".into(), "right".into()));

    // A rule goes, and what it named is shared; what others have beside it is kept.
    fs::remove_file(right.dir.join("d/x.o")).expect("removed");
    fs::write(right.dir.join(".ahoyignore"), "target/\n").expect("a file");
    right.wait("what is shared now", |run| run.dir.join("d/x.o").exists());
    assert_eq!(text(&right), "left");
    assert!(!right.dir.join("target").exists());
    right.stop();
    left.stop();
}

// sync-17.
#[test]
fn a_deleted_directory_stays_for_what_ahoyignore_names() {
    let place = Place::new();
    let (mut left, mut right) = pair(&place, rules);
    fs::write(right.dir.join("d/x.o"), "mine").expect("a file");
    mark(&right, &mut left, "one");
    fs::remove_dir_all(left.dir.join("d")).expect("removed");
    right.wait("the deletion", |run| !run.dir.join("d/source").exists());
    let status = right.until("in sync", |status| status.state == State::InSync);
    assert!(
        status
            .notices
            .iter()
            .any(|notice| notice.text.contains("it stays for what is not synced")),
        "{:?}",
        status.notices
    );
    assert_eq!(paths(&right), [".ahoyignore", "d", "d/x.o", "one"]);
    // Not even a new start tells the others of it.
    let (dir, device) = (right.dir.clone(), right.device.clone());
    right.stop();
    let mut right = device.sync(&dir);
    mark(&right, &mut left, "two");
    assert_eq!(paths(&left), [".ahoyignore", "one", "two"]);
    fs::remove_file(right.dir.join("d/x.o")).expect("removed");
    right.wait("the directory to go", |run| !run.dir.join("d").exists());
}
