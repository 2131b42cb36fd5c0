//! `kill -9` of either side, again and again: after the restarts all is the same, nothing is lost,
//! and no temporary file is left.
//!
//! The moments come from a seed and are told by what has arrived, not by a clock; the seed can be
//! set with `AHOY_TEST_SEED`.

use std::fs;
use std::path::Path;

use crate::harness::{Place, Run, converged, converged_to};
use crate::tree::{Node, Tree, litter, noise};

/// Kills in one test.
const CYCLES: u64 = 20;

/// Small files that one cycle adds.
const FILES: u64 = 30;

/// Length of the big file that one cycle adds.
const BIG_BYTES: usize = 3 << 20;

/// The moment of the next kill.
#[derive(Debug)]
enum Moment {
    AtOnce,
    Started,
    /// So many files have arrived since the last kill.
    Files(usize),
    /// So many bytes have come through the network since the last kill.
    Bytes(u64),
}

/// Picks moments and places; the same for the same seed.
struct Dice(u64);

impl Dice {
    fn new(salt: u64) -> Self {
        let seed = std::env::var("AHOY_TEST_SEED").map_or(1, |text| text.parse().expect("a seed"));
        eprintln!("AHOY_TEST_SEED={seed}");
        Self(seed * 1000 + salt)
    }

    /// 0 to `below` - 1.
    fn roll(&mut self, below: u64) -> u64 {
        let bytes = noise(self.0, 72);
        self.0 = u64::from_le_bytes(bytes[64..].try_into().expect("eight bytes"));
        self.0 % below
    }

    fn moment(&mut self) -> Moment {
        match self.roll(8) {
            0 => Moment::AtOnce,
            1 => Moment::Started,
            2..=4 => Moment::Files(1 + self.roll(FILES) as usize),
            _ => Moment::Bytes(1 + self.roll(BIG_BYTES as u64)),
        }
    }
}

/// New files, and changes of what came before: an edit, a rename of a directory, a delete.
fn work(root: &Path, cycle: u64) {
    let dir = root.join(format!("c{cycle}"));
    fs::create_dir(&dir).expect("a directory");
    fs::write(dir.join("big"), noise(cycle + 1, BIG_BYTES)).expect("a file");
    for n in 0..FILES {
        let content = noise(cycle * 100 + n + 1, 4096);
        fs::write(dir.join(format!("f{n}")), content).expect("a file");
    }
    if let Some(before) = cycle.checked_sub(1) {
        let edited = root.join(format!("c{before}/f3"));
        fs::write(edited, format!("edited in cycle {cycle}")).expect("a file");
    }
    if let Some(before) = cycle.checked_sub(2) {
        let (from, to) = (format!("c{before}"), format!("renamed{before}"));
        fs::rename(root.join(from), root.join(to)).expect("renamed");
    }
    if let Some(before) = cycle.checked_sub(3) {
        fs::remove_file(root.join(format!("renamed{before}/f4"))).expect("removed");
    }
}

/// Waits until so much has arrived at `receiver`, or all of this cycle has.
fn until(receiver: &mut Run, moment: &Moment, cycle: u64) {
    let dir = receiver.dir.join(format!("c{cycle}"));
    let all_there = || {
        let there = |n| dir.join(format!("f{n}")).exists();
        dir.join("big").exists() && (0..FILES).all(there)
    };
    match moment {
        Moment::AtOnce => {}
        Moment::Started => {
            receiver.event("start", |event| event["event"] == "started");
        }
        Moment::Files(count) => {
            let before = receiver.brought();
            receiver.wait("files to arrive", |run| {
                run.brought() >= before + count || all_there()
            });
        }
        Moment::Bytes(count) => {
            let before = receiver.status().traffic.received;
            receiver.until("on the way", |status| {
                status.traffic.received >= before + count || all_there()
            });
        }
    }
}

fn start_again(run: Run) -> Run {
    let (device, dir) = (run.device.clone(), run.dir.clone());
    run.kill();
    device.sync(&dir)
}

/// Times of directories are left out: whether a crash or the user has changed one last cannot be
/// told, and the later time counts.
fn without_directory_times(mut tree: Tree) -> Tree {
    for node in tree.0.values_mut() {
        if let Node::Dir { mtime, .. } = node {
            *mtime = (0, 0);
        }
    }
    tree
}

/// Both have what is in `left`'s folder, and nothing besides.
fn check(mut left: Run, mut right: Run) {
    let wanted = without_directory_times(Tree::read(&left.dir));
    let tree = converged_to(&mut [&mut left, &mut right], |tree| {
        tree.0.len() == wanted.0.len()
    });
    assert_eq!(
        wanted.differences(&without_directory_times(tree)),
        [""; 0],
        "what was sent, and what is there"
    );
    check_clean(left);
    check_clean(right);
}

fn check_clean(run: Run) {
    let dir = run.dir.clone();
    run.stop();
    assert_eq!(litter(&dir), [] as [&Path; 0]);
}

#[test]
fn the_receiver_is_killed_again_and_again() {
    let place = Place::new();
    let mut dice = Dice::new(1);
    let a = place.folder("a");
    work(&a, 0);
    let mut left = place.device("left").share(&a, &[]);
    let ticket = left.ticket();
    let mut right = place.device("right").join(&ticket, &place.path("b"));
    for cycle in 1..=CYCLES {
        work(&a, cycle);
        let moment = dice.moment();
        eprintln!("cycle {cycle}: {moment:?}");
        until(&mut right, &moment, cycle);
        let (device, dir) = (right.device.clone(), right.dir.clone());
        right.kill();
        // Before anything of it was kept, it has to be joined once more.
        right = if dir.join(".ahoy/share").exists() {
            device.sync(&dir)
        } else {
            device.join(&ticket, &dir)
        };
    }
    check(left, right);
}

#[test]
fn the_sender_is_killed_again_and_again() {
    let place = Place::new();
    let mut dice = Dice::new(2);
    let a = place.folder("a");
    work(&a, 0);
    let mut left = place.device("left").share(&a, &[]);
    let ticket = left.ticket();
    let mut right = place.device("right").join(&ticket, &place.path("b"));
    for cycle in 1..=CYCLES {
        work(&a, cycle);
        let moment = dice.moment();
        eprintln!("cycle {cycle}: {moment:?}");
        until(&mut right, &moment, cycle);
        left = start_again(left);
    }
    check(left, right);
}

#[test]
fn both_are_killed_while_both_edit() {
    let place = Place::new();
    let mut dice = Dice::new(3);
    let a = place.folder("a");
    work(&a, 0);
    let mut left = place.device("left").share(&a, &[]);
    let ticket = left.ticket();
    let mut right = place.device("right").join(&ticket, &place.path("b"));
    converged(&mut [&mut left, &mut right]);
    let b = right.dir.clone();
    for cycle in 1..=CYCLES {
        work(&a, cycle);
        for n in 0..FILES {
            let content = format!("right {cycle} {n}");
            fs::write(b.join(format!("right-{cycle}-{n}")), &content).expect("a file");
        }
        // A file that both write to all the time.
        fs::write(a.join("both"), format!("left {cycle}")).expect("a file");
        fs::write(b.join("both"), format!("right {cycle}")).expect("a file");
        let moment = dice.moment();
        let who = dice.roll(3);
        eprintln!("cycle {cycle}: {moment:?}, {who}");
        until(&mut right, &moment, cycle);
        if who != 1 {
            left = start_again(left);
        }
        if who != 0 {
            right = start_again(right);
        }
    }
    let last = format!("right-{CYCLES}-0");
    let tree = converged_to(&mut [&mut left, &mut right], |tree| {
        tree.has(&last) && tree.has(&format!("c{CYCLES}/big"))
    });
    for cycle in 1..=CYCLES {
        for n in 0..FILES {
            let content = format!("right {cycle} {n}");
            let name = format!("right-{cycle}-{n}");
            assert_eq!(tree.content(&name), Some(content.as_bytes()), "{name}");
        }
        assert!(
            tree.holds(&noise(cycle + 1, BIG_BYTES)),
            "the big file of cycle {cycle} is lost"
        );
    }
    // Of the last two edits both are there, whichever has won.
    for side in ["left", "right"] {
        let content = format!("{side} {CYCLES}");
        assert!(tree.holds(content.as_bytes()), "{content} is lost");
    }
    check_clean(left);
    check_clean(right);
}
