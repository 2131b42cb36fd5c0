//! `ahoy classic` and `ahoy tracker` in swarms with programs as students write them, in both
//! generations: everything arrives, exactly, whoever dies meanwhile.

mod examined;
mod holders;
mod hostile;
mod shared;
mod swarm;

use std::time::{Duration, Instant};

use swarm::{Folder, LARGE_BYTES, Program, SAMPLES, swarm_of};

/// Far more than anything takes; only a failing test waits so long.
const LIMIT: Duration = Duration::from_secs(60);

/// Waits until `done` says so; the world outside has no other way to tell.
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Our tracker, a student's peer of each generation, and two of ours: what anybody has, ours get,
/// and what ours have, everybody gets.
#[test]
fn our_tracker_with_peers_of_both_generations() {
    let mut tracker = Program::our_tracker(&["--classic-timeout", "20"]);
    let port = tracker.port();
    let folders = [(); 5].map(|()| Folder::new());
    let [lines, bare, ours, other, late] = &folders;
    lines.write_samples("lines ");
    bare.write_samples("bare ");
    ours.write_samples("ours ");
    let large = swarm::content(50, LARGE_BYTES);
    ours.write("large.bin", &large, 1_600_000_000);
    let _ours = Program::our_peer(port, ours, &[]);
    let _other = Program::our_peer(port, other, &[]);
    let mut student_lines = Program::student_peer("lines", port, lines, None);
    let mut student_bare = Program::student_peer("bare", port, bare, None);
    let all = SAMPLES.len() * 3 + 1;
    until("ours have everything", || {
        ours.shared() == all && other.shared() == all
    });
    until("students have what ours had", || {
        let folders = [lines, bare];
        folders.iter().all(|folder| folder.has_samples("ours "))
            && folders
                .iter()
                .all(|folder| folder.has("large.bin", &large, 1_600_000_000))
    });
    for folder in [ours, other] {
        for whose in ["lines ", "bare ", "ours "] {
            assert!(folder.has_samples(whose), "{whose}");
        }
        assert!(folder.has("large.bin", &large, 1_600_000_000));
        folder.assert_clean();
    }
    // Who had it first dies; what ours fetched from them is listed as ours.
    student_lines.kill();
    student_bare.kill();
    let _late = Program::student_peer("bare", port, late, None);
    until("a newcomer gets it all from ours", || late.shared() == all);
    assert!(late.has_samples("lines ") && late.has_samples("bare "));
    tracker.stop();
}

/// A student's tracker of each generation, with a student's peer and two of ours.
#[test]
fn students_trackers_with_our_peers() {
    for generation in ["lines", "bare"] {
        let mut tracker = Program::student_tracker(generation, 0);
        let port = tracker.port();
        let folders = [(); 3].map(|()| Folder::new());
        let [student, ours, other] = &folders;
        student.write_samples("student ");
        ours.write_samples("ours ");
        let _student = Program::student_peer(generation, port, student, None);
        let _ours = Program::our_peer(port, ours, &[]);
        let _other = Program::our_peer(port, other, &[]);
        until("all converge", || {
            swarm_of(&folders, &["student ", "ours "])
        });
        ours.assert_clean();
        other.assert_clean();
        // A newer version replaces an older one, everywhere (classic-31, classic-34).
        ours.write("ours a note.txt", b"a newer note", 1_800_000_000);
        until("the newer one is everywhere", || {
            folders
                .iter()
                .all(|folder| folder.has("ours a note.txt", b"a newer note", 1_800_000_000))
        });
        // The tracker dies and knows nobody when it is back.
        tracker.kill();
        ours.write("ours while it was away", b"x", 1_800_000_000);
        let _tracker = Program::student_tracker(generation, port);
        until("what came meanwhile is everywhere", || {
            folders
                .iter()
                .all(|folder| folder.has("ours while it was away", b"x", 1_800_000_000))
        });
    }
}

/// The holder dies in the middle of a large file, and comes back (classic-58, classic-60).
#[test]
fn a_holder_killed_in_the_middle_leaves_nothing_behind() {
    for generation in ["lines", "bare"] {
        let mut tracker = Program::our_tracker(&[]);
        let port = tracker.port();
        let (holder, ours) = (Folder::new(), Folder::new());
        let content = swarm::content(7, 3_000_000);
        holder.write("large.bin", &content, 1_771_289_241);
        let mut slow = Program::student_peer(generation, port, &holder, Some(200_000));
        let mut peer = Program::our_peer(port, &ours, &["--json"]);
        peer.wait_for("\"progress\"");
        slow.kill();
        peer.wait_for("\"failed\"");
        assert_eq!(ours.shared(), 0, "{generation}");
        until("the draft is gone", || ours.drafts() == 0);
        let _again = Program::student_peer(generation, port, &holder, None);
        until("it arrives after all", || {
            ours.has("large.bin", &content, 1_771_289_241)
        });
        ours.assert_clean();
        tracker.stop();
    }
}

/// The fetching side is stopped in the middle: it clears away (classic-35).
#[test]
fn a_peer_that_is_stopped_or_killed_leaves_no_part_in_the_folder() {
    let mut tracker = Program::our_tracker(&[]);
    let port = tracker.port();
    let (holder, ours) = (Folder::new(), Folder::new());
    let content = swarm::content(9, 4_000_000);
    holder.write("large.bin", &content, 1_771_289_241);
    let _slow = Program::student_peer("lines", port, &holder, Some(400_000));
    let mut peer = Program::our_peer(port, &ours, &["--json"]);
    peer.wait_for("\"progress\"");
    peer.stop();
    assert_eq!((ours.shared(), ours.drafts()), (0, 0));
    let mut peer = Program::our_peer(port, &ours, &["--json"]);
    peer.wait_for("\"progress\"");
    peer.kill();
    assert_eq!(ours.shared(), 0);
    let _peer = Program::our_peer(port, &ours, &[]);
    until("it arrives after all", || {
        ours.has("large.bin", &content, 1_771_289_241)
    });
    until("and what the kill left is swept", || ours.drafts() == 0);
}

/// The tracker is killed and comes back knowing nobody (classic-39).
#[test]
fn a_tracker_that_comes_back_empty_learns_everything_again() {
    let mut tracker = Program::our_tracker(&[]);
    let port = tracker.port();
    let (one, two) = (Folder::new(), Folder::new());
    one.write("first", b"1", 1_700_000_000);
    let _one = Program::our_peer(port, &one, &[]);
    let mut second = Program::our_peer(port, &two, &["--json"]);
    until("the first file arrives", || {
        two.has("first", b"1", 1_700_000_000)
    });
    tracker.kill();
    second.wait_for("\"tracker-down\"");
    one.write("second", b"2", 1_700_000_001);
    let _tracker = Program::our_tracker_at(port);
    until("the second one too", || {
        two.has("second", b"2", 1_700_000_001)
    });
}

/// Holders that stall, send too little, too much, nothing, or garbage: one of them for each file,
/// and a good one for another file; then a good one takes over (classic-37, classic-58,
/// classic-62).
#[test]
fn bad_holders_cost_time_and_nothing_else() {
    for manner in [
        holders::Manner::Short,
        holders::Manner::Surplus,
        holders::Manner::Stalls,
        holders::Manner::Refuses,
        holders::Manner::Garbage,
    ] {
        let folder = Folder::new();
        let bad = holders::Holder::start(manner);
        let good = holders::Holder::start(holders::Manner::Right);
        let tracker = holders::tracker(bad.addr, &["wanted"]);
        tracker.also(good.addr, "other");
        let _peer = Program::our_peer(tracker.port(), &folder, &[]);
        until("the good holder's file arrives", || {
            folder.path().join("other").exists()
        });
        until("the bad one was asked", || !bad.asked().is_empty());
        assert!(!folder.path().join("wanted").exists(), "{manner:?}");
        tracker.also(good.addr, "wanted");
        until("the next holder has it", || {
            folder.path().join("wanted").exists()
        });
        let got = std::fs::read(folder.path().join("wanted")).expect("there");
        assert_eq!(got, holders::CONTENT, "{manner:?}");
        folder.assert_clean();
    }
}
