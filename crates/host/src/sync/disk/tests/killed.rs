//! A process that is killed at any moment loses nothing and leaves nothing behind.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::*;

const FOLDER: &str = "AHOY_TEST_KILLED_FOLDER";

/// What file `number` holds in version `version`.
fn content(number: usize, version: usize) -> Vec<u8> {
    format!("{number} {version} ")
        .repeat(1 + number * 37 % 1000)
        .into_bytes()
}

/// Not a test of its own: what the process that is killed does. It makes, replaces, moves and
/// removes files for as long as it lives, and says a word for every hundred.
#[test]
fn the_process_to_be_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let temp = tempfile::Builder::new()
        .disable_cleanup(true)
        .tempdir_in(&folder)
        .expect("made");
    println!("at {}", temp.path().display());
    let scene = Scene::at(temp, Arc::new(Nobody), EyesOptions::default());
    for version in 0.. {
        let mut jobs = HashSet::new();
        for number in 0..300 {
            let at = format!("f{number}");
            let over = (version > 0).then(|| scene.print(&at));
            jobs.insert(scene.start(write_here(&at, &content(number, version), over)));
            let gone = format!("g{number}");
            if version % 2 == 0 {
                jobs.insert(scene.start(write_here(&gone, &content(number, 0), None)));
            } else {
                let (at, expect) = (path(&gone), scene.print(&gone));
                jobs.insert(scene.start(Act::Remove { at, expect }));
            }
        }
        while !jobs.is_empty() {
            if let Input::Finished(outcomes) = scene.next_input(Instant::now() + DEADLINE) {
                for outcome in outcomes {
                    outcome.result.expect("nobody else is here");
                    jobs.remove(&outcome.job);
                    if jobs.len() % 100 == 0 {
                        println!("went on");
                    }
                }
            }
        }
    }
}

// sync-27.
#[test]
fn a_kill_at_any_moment_leaves_whole_files_and_no_litter() {
    let temp = fast_dir();
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe().expect("known"))
            .args([
                "--exact",
                "sync::disk::tests::killed::the_process_to_be_killed",
            ])
            .args(["--nocapture"])
            .env(FOLDER, temp.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut lines = lines.map(|line| line.expect("text"));
        let mut folder = None;
        let mut words = 0;
        for line in lines.by_ref() {
            if let Some((_, at)) = line.split_once("at /") {
                folder = Some(PathBuf::from(format!("/{at}")));
            }
            words += usize::from(line.contains("went on"));
            if words > round {
                break;
            }
        }
        // More of its work goes on while we get round to it.
        child.kill().expect("killed");
        child.wait().expect("ended");
        check(&folder.expect("it has said where"));
    }
}

/// Everything that is visible is one whole version; nothing else is there after a start.
fn check(folder: &std::path::Path) {
    let root = Root::open(folder).expect("opened again");
    assert!(root.leftovers().is_empty(), "nobody else has written here");
    assert!(root.parked().is_empty());
    let litter = fs::read_dir(folder.join(".ahoy/tmp"))
        .expect("listed")
        .count();
    assert_eq!(litter, 0);
    let mut files = 0;
    for entry in fs::read_dir(folder).expect("listed") {
        let entry = entry.expect("an entry");
        let at = entry.file_name().into_string().expect("our names are text");
        if at == ".ahoy" {
            continue;
        }
        let number: usize = at[1..].parse().expect("only our names");
        let bytes = fs::read(entry.path()).expect("read");
        let text = String::from_utf8(bytes).expect("text");
        let version = text
            .split(' ')
            .nth(1)
            .expect("two numbers")
            .parse()
            .expect("a version");
        assert!(text.as_bytes() == content(number, version), "{at} is torn");
        files += 1;
    }
    assert!(files >= 100, "{files} files");
}
