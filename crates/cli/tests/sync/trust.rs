//! What people rely on without thinking of it: deletes in great number wait, readers see whole
//! files, links lead nobody out of the folder, rot is looked for, the kernel holds the process. The
//! long runs of the same are in `trust/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ahoy_host::confine::Confinement;
use ahoy_host::sync::status::State;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::harness::{DEADLINE, Place, Run, converged, converged_to, pair, text};
use crate::tree::Tree;

/// A share of so many files, all but one of them in `d`.
fn files(root: &Path, count: usize) {
    fs::create_dir(root.join("d")).expect("a directory");
    fs::write(root.join("other"), "other").expect("a file");
    for n in 1..count {
        fs::write(root.join(format!("d/{n}")), format!("content {n}")).expect("a file");
    }
}

fn is_withheld(run: &mut Run) {
    let says =
        |state: &State| matches!(state, State::Halted { reason } if reason.contains("at once"));
    run.until("withheld", |status| says(&status.state));
}

// sync-35.
#[test]
fn a_great_part_of_a_share_is_deleted_at_the_users_word() {
    let place = Place::new();
    let (mut left, mut right) = pair(&place, |root| files(root, 150));
    let before = Tree::read(&left.dir);
    fs::remove_dir_all(left.dir.join("d")).expect("removed");
    is_withheld(&mut left);
    // What comes after it arrives, and what was withheld has not come before it.
    fs::write(left.dir.join("fresh"), "fresh").expect("a file");
    right.wait("news", |run| run.dir.join("fresh").exists());
    assert_eq!(Tree::read(&right.dir).0.len(), before.0.len() + 1);

    let output = left.device.output(&["confirm", text(&left.dir)]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let tree = converged_to(&mut [&mut left, &mut right], |tree| !tree.has("d"));
    assert_eq!(tree.0.len(), 2);
    let output = left.device.output(&["confirm", text(&left.dir)]);
    assert_eq!(output.status.code(), Some(1), "nothing waits: {output:?}");
}

// sync-35.
#[test]
fn what_is_put_back_was_never_gone() {
    let place = Place::new();
    let (mut left, mut right) = pair(&place, |root| files(root, 150));
    let before = Tree::read(&left.dir);
    let away = place.path("away");
    fs::rename(left.dir.join("d"), &away).expect("moved out");
    is_withheld(&mut left);
    fs::rename(&away, left.dir.join("d")).expect("moved back");
    let tree = converged(&mut [&mut left, &mut right]);
    assert_eq!(tree, before);
}

/// Content whose last line is the sum of the others, and its number.
fn sealed(number: u64) -> Vec<u8> {
    let lines = if number.is_multiple_of(7) {
        12_000
    } else {
        20 + number % 50
    };
    let body = format!("version {number}\n").repeat(lines as usize);
    let seal = blake3_hex(body.as_bytes());
    format!("{body}{seal}").into_bytes()
}

fn opened(data: &[u8]) -> Option<u64> {
    let (body, seal) = data.split_at_checked(data.len().checked_sub(16)?)?;
    let line = body.split(|b| *b == b'\n').next()?;
    let number = std::str::from_utf8(line).ok()?.strip_prefix("version ")?;
    (blake3_hex(body).as_bytes() == seal).then_some(number.parse().ok()?)
}

/// Sixteen digits that are others as soon as anything is.
fn blake3_hex(bytes: &[u8]) -> String {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold))
}

/// Rewrites in one run; `trust/reader.py` makes ten thousand.
const REWRITES: u64 = 300;

/// How long a rewrite may take to arrive before the next one is made.
const PATIENCE: Duration = Duration::from_millis(100);

// sync-27.
#[test]
fn a_reader_never_misses_a_file_that_is_being_rewritten_elsewhere() {
    let place = Place::new();
    let (left, mut right) = pair(&place, |root| {
        fs::write(root.join("note"), sealed(0)).expect("a file");
    });
    right.wait("the file", |run| run.dir.join("note").exists());
    let path = right.dir.join("note");
    let (seen, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let faults = std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut faults = Vec::new();
            while !done.load(Ordering::Relaxed) {
                match fs::read(&path).map(|data| opened(&data)) {
                    Ok(Some(number)) => drop(seen.fetch_max(number, Ordering::Relaxed)),
                    Ok(None) => faults.push("short or mixed".to_owned()),
                    Err(error) => faults.push(error.to_string()),
                }
            }
            faults
        });
        let fresh = place.path("fresh");
        for number in 1..=REWRITES {
            fs::write(&fresh, sealed(number)).expect("a file");
            fs::rename(&fresh, left.dir.join("note")).expect("replaced");
            // Most of them arrive, and some while the next is on its way.
            let enough = Instant::now() + PATIENCE;
            while seen.load(Ordering::Relaxed) < number && Instant::now() < enough {
                std::thread::yield_now();
            }
        }
        done.store(true, Ordering::Relaxed);
        reading.join().expect("no panic")
    });
    assert!(faults.is_empty(), "{}: {:?}", faults.len(), faults.first());
    assert!(seen.into_inner() > 0, "nothing arrives");
}

/// Swaps in one run; `trust/swaps.py` makes a million.
const SWAPS: u64 = 30_000;

// sync-28.
#[test]
fn a_directory_that_is_swapped_with_a_link_leads_nowhere() {
    let place = Place::new();
    // From the other machine's folder the link leads nowhere, so that its user's own writing does
    // not go there either.
    let outside = place.folder("deep/outside");
    fs::write(outside.join("f0"), "not yours").expect("a file");
    let a = place.folder("a");
    fs::create_dir(a.join("d")).expect("a directory");
    let mut left = place.device("left").share(&a, &[]);
    let ticket = left.ticket();
    let mut right = place.device("right").join(&ticket, &place.path("deep/b"));
    right.wait("the directory", |run| run.dir.join("d").exists());
    let bait = right.dir.join("link");
    std::os::unix::fs::symlink("../outside", &bait).expect("a link");
    let (d, done) = (right.dir.join("d"), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0u64.. {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                // The directory may be somewhere else just now, or be a link.
                let _ = fs::write(left.dir.join(format!("d/f{}", n % 10)), format!("mine {n}"));
                std::thread::yield_now();
            }
        });
        for _ in 0..SWAPS {
            let _ = renameat_with(CWD, &d, CWD, &bait, RenameFlags::EXCHANGE);
        }
        done.store(true, Ordering::Relaxed);
    });
    let there: Vec<PathBuf> = names(&outside);
    assert_eq!(there, [outside.join("f0")], "written outside");
    assert_eq!(fs::read(outside.join("f0")).expect("there"), b"not yours");
    for dir in [&left.dir, &right.dir] {
        assert!(!Tree::read(dir).holds(b"not yours"), "read outside");
    }
}

fn names(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("names").flatten();
    entries.map(|entry| entry.path()).collect()
}

// sync-36.
#[test]
fn a_folder_that_is_whole_is_read_again_and_found_whole() {
    let place = Place::new();
    let (mut left, mut right) = pair(&place, |root| files(root, 50));
    converged(&mut [&mut left, &mut right]);
    let (device, dir) = (right.device.clone(), right.dir.clone());
    let scrub = |more: &[&str]| {
        let args = [&["scrub", text(&dir)], more].concat();
        let output = device.output(&args);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    assert!(scrub(&["--rate", "0"]).contains(": 50 files read"));
    let json = scrub(&["--json"]);
    let said: serde_json::Value = serde_json::from_str(&json).expect("an object");
    assert_eq!((&said["files"], &said["rotten"]), (&50.into(), &0.into()));
    // The pace is kept: 300 KiB at 1 MiB/s take more than a quarter of a second.
    // Also a file that was written here a moment ago is read.
    fs::write(dir.join("big"), vec![7; 300 << 10]).expect("a file");
    let deadline = Instant::now() + DEADLINE;
    while !scrub(&["--rate", "0"]).contains(": 51 files read") {
        assert!(Instant::now() < deadline, "never read");
    }
    let start = Instant::now();
    assert!(scrub(&["--rate", "1"]).contains(": 51 files read"));
    assert!(start.elapsed() > Duration::from_millis(250));
}

// sync-37.
#[test]
fn the_kernel_holds_the_process_where_it_can_and_status_says_so() {
    let place = Place::new();
    let device = place.device("left");
    let (a, b) = (place.folder("a"), place.folder("b"));
    let mut held = device.share(&a, &[]);
    let mut open = device.share(&b, &["--no-landlock"]);
    held.ticket();
    open.ticket();
    match held.status().confinement {
        Confinement::On { version } => assert!(version >= 2),
        // A kernel without it, which is to be said.
        Confinement::Off { reason } => assert!(reason.contains("kernel"), "{reason}"),
    }
    let off = open.status().confinement;
    assert!(matches!(off, Confinement::Off { .. }), "{off:?}");
    let output = device.output(&["status", text(&a)]);
    let said = String::from_utf8(output.stdout).expect("text");
    assert!(
        said.lines().any(|line| line.trim().starts_with("confined")),
        "{said}"
    );
}
