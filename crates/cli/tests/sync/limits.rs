//! What a user sets so that syncing disturbs nobody: limits and the background.

use std::fs;
use std::time::{Duration, Instant};

use ahoy_host::sync::limits::Caps;
use ahoy_logic::limit::Rate;

use crate::harness::{DEADLINE, Place, converged, text};

fn caps(up: u64, down: u64) -> Caps {
    Caps {
        up: Rate::new(up),
        down: Rate::new(down),
    }
}

fn noise(len: usize) -> Vec<u8> {
    // Cheap, and nothing that a program could make smaller.
    let mut state = 1_u64;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| byte()).collect()
}

#[test]
fn a_limited_share_takes_its_time_and_remembers_the_limit() {
    let place = Place::new();
    let a = place.folder("a");
    fs::write(a.join("one"), noise(600 << 10)).expect("a file");
    for n in 0..20 {
        fs::write(a.join(format!("small {n}")), noise(30 << 10)).expect("a file");
    }
    let device = place.device("left");
    let mut left = device.share(&a, &["--limit-up", "400K"]);
    let ticket = left.ticket();
    let began = Instant::now();
    let mut right = place.device("right").join(&ticket, &place.path("b"));
    converged(&mut [&mut left, &mut right]);
    // 1,200 KiB at 400 KiB/s; a message of records and some slack may come before the first wait.
    let took = began.elapsed();
    assert!(took > Duration::from_millis(2_000), "{took:?}");
    assert_eq!(left.status().limits, caps(400 << 10, 0));
    assert_eq!(right.status().limits, caps(0, 0));
    left.stop();

    let mut again = device.sync(&a);
    assert_eq!(again.status().limits, caps(400 << 10, 0), "remembered");
    let limit = |args: &[&str]| {
        let output = device.output(&[&["limit"], args].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let said = limit(&[text(&a), "--up", "1M", "--down", "2MiB/s"]);
    assert_eq!(said, "limited to 1.0 MiB/s up, 2.0 MiB/s down\n");
    assert_eq!(again.status().limits, caps(1 << 20, 2 << 20), "at once");
    let output = device.output(&["status", text(&a)]);
    let shown = String::from_utf8(output.stdout).expect("text");
    assert!(shown.contains("limited to 1.0 MiB/s up"), "{shown}");
    again.stop();
    let mut again = device.sync(&a);
    assert_eq!(again.status().limits, caps(1 << 20, 2 << 20), "remembered");
    assert_eq!(limit(&["--up", "0", "--down", "none"]), "no limits\n");
    assert_eq!(again.status().limits, caps(0, 0));
}

#[test]
fn the_folders_of_one_process_have_one_limit() {
    let place = Place::new();
    let device = place.device("left");
    let (a, b) = (place.folder("a"), place.folder("b"));
    for (dir, rate) in [(&a, "300K"), (&b, "200K")] {
        let mut run = device.share(dir, &["--limit-down", rate]);
        run.ticket();
        run.stop();
    }
    let mut both = device.sync_all(&[a.clone(), b.clone()]);
    // What neither folder may exceed, they may not together.
    assert_eq!(both.status().limits, caps(0, 200 << 10));
    // The other folder has to be up as well before both are told.
    let deadline = Instant::now() + DEADLINE;
    while device.status(&b).is_none() {
        assert!(Instant::now() < deadline, "never up");
    }
    let output = device.output(&["limit", text(&a), "--down", "100K"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    both.until("told", |it| it.limits == caps(0, 100 << 10));
    let other = device.status(&b).expect("it runs");
    assert_eq!(other.limits, caps(0, 100 << 10));
    both.stop();
    // Both remember it.
    let mut alone = device.sync(&b);
    assert_eq!(alone.status().limits, caps(0, 100 << 10));
}

#[test]
fn a_limit_that_makes_no_sense_is_misuse() {
    let place = Place::new();
    let (device, a) = (place.device("left"), place.folder("a"));
    for bad in ["fast", "-1K", "5"] {
        let output = device.output(&["share", text(&a), &format!("--limit-up={bad}")]);
        assert_eq!(output.status.code(), Some(2), "{bad}: {output:?}");
    }
}

#[test]
fn in_the_background_every_thread_steps_back() {
    let place = Place::new();
    let device = place.device("left");
    let mut quiet = device.share(&place.folder("a"), &["--background"]);
    quiet.ticket();
    assert_eq!(quiet.status().niceness, 19);
    let tasks = format!("/proc/{}/task", quiet.process());
    for task in fs::read_dir(tasks).expect("threads").flatten() {
        // A thread may be gone already.
        let Ok(stat) = fs::read_to_string(task.path().join("stat")) else {
            continue;
        };
        // The 19th field; the second is a name in brackets that may hold anything.
        let (name, rest) = stat.rsplit_once(") ").expect("a name");
        assert_eq!(rest.split(' ').nth(16), Some("19"), "{name}");
    }
    let output = device.output(&["status"]);
    let shown = String::from_utf8(output.stdout).expect("text");
    assert!(shown.contains("in the background"), "{shown}");
}
