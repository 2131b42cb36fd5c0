//! Hashing files.

use std::fs;
use std::io::Write;

use super::*;

#[test]
fn a_file_that_does_not_change_is_hashed() {
    let scene = Scene::new();
    let big: Vec<u8> = (0..3_000_000u32).map(|n| (n / 7) as u8).collect();
    for (at, bytes) in [("empty", &b""[..]), ("small", b"abc"), ("big", &big)] {
        scene.write(at, bytes);
        let print = scene.print(at);
        scene.disk.read(path(at), print);
        let (hashed, hash) = scene.until(|input| match input {
            Input::Hashed {
                path: p,
                print,
                hash,
            } if p == path(at) => Some((print, hash)),
            _ => None,
        });
        assert!(hashed.same(&print));
        assert_eq!(hash, hash_of(bytes));
    }
}

#[test]
fn a_file_that_is_not_what_was_seen_is_answered_at_once_and_looked_at_again() {
    let scene = Scene::new();
    scene.look_at_all();
    scene.write("f", b"one");
    let print = scene.print("f");
    scene.write("f", b"changed");
    scene.disk.read(path("f"), print);
    let answer = scene.until(|input| match input {
        Input::Unread { path, changing, .. } => Some((path, changing)),
        _ => None,
    });
    assert_eq!(answer, (path("f"), true));
    // A look between the two writes finds what was there then.
    let is_new = |found: Option<&Found>| matches!(found, Some(Found::File(p)) if p.size == 7);
    scene.watch_until(|seen| is_new(seen.get("f")));
}

#[test]
fn what_is_gone_or_is_no_file_any_more_is_answered_too() {
    let scene = Scene::new();
    scene.write("f", b"one");
    let print = scene.print("f");
    fs::remove_file(scene.on_disk("f")).expect("removed");
    scene.disk.read(path("f"), print);
    let unread = |input| matches!(input, Input::Unread { changing: true, .. }).then_some(());
    scene.until(unread);
    std::os::unix::fs::symlink("/etc/passwd", scene.on_disk("f")).expect("made");
    scene.disk.read(path("f"), print);
    scene.until(unread);
}

#[test]
fn a_file_that_keeps_changing_is_hashed_in_the_end() {
    let scene = Scene::new();
    scene.look_at_all();
    let mut file = fs::File::create(scene.on_disk("log")).expect("made");
    let mut lines = 0;
    let deadline = Instant::now() + DEADLINE;
    loop {
        if lines < 400 {
            file.write_all(b"a line\n").expect("written");
            lines += 1;
        }
        let Ok(input) = scene.heard.recv_timeout(Duration::from_millis(1)) else {
            assert!(Instant::now() < deadline, "never hashed");
            continue;
        };
        match input {
            Input::Seen { sightings, .. } => {
                for sighting in sightings {
                    if let Found::File(print) = sighting.found {
                        scene.disk.read(path("log"), print);
                    }
                }
            }
            Input::Hashed { hash, print, .. } if print.size == 2800 => {
                assert_eq!(hash, hash_of(&b"a line\n".repeat(400)));
                return;
            }
            _ => {}
        }
    }
}

#[test]
fn an_unreadable_file_is_told() {
    if rustix::process::geteuid().is_root() {
        println!("skipped: root can read everything");
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let scene = Scene::new();
    scene.write("f", b"x");
    fs::set_permissions(scene.on_disk("f"), fs::Permissions::from_mode(0o000)).expect("set");
    scene.disk.read(path("f"), scene.print("f"));
    let (changing, reason) = scene.until(|input| match input {
        Input::Unread {
            changing, reason, ..
        } => Some((changing, reason)),
        _ => None,
    });
    assert!(!changing, "{reason}");
}
