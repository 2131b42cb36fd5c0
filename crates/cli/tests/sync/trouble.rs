//! When the world does not do its part: no tracker, unreadable files, a vanished folder, a full
//! disk.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::Instant;

use ahoy_host::sync::status::State;
use serde_json::Value;

use crate::harness::{DEADLINE, Place, converged, converged_to, json_lines, pair, text};
use crate::tree::{Tree, many, noise, variety};

#[test]
fn a_tracker_that_is_down_stops_nobody() {
    let place = Place::new();
    let a = place.folder("a");
    variety(&a);
    // A port that was free a moment ago, and where nobody listens now.
    let gone = TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .expect("a port");
    let mut left = place
        .device("left")
        .share(&a, &["--tracker", &gone.to_string()]);
    let ticket = left.ticket();
    let mut right = place.device("right").join(&ticket, &place.path("b"));
    converged(&mut [&mut left, &mut right]);
    let tracker = left.until("told", |s| s.trackers.iter().any(|t| t.reason.is_some()));
    assert!(!tracker.trackers[0].up && !tracker.trackers[0].embedded);
}

/// Others learn from the tracker how much a peer holds, now and when that changes.
#[test]
fn a_tracker_is_told_what_is_held() {
    let place = Place::new();
    let a = place.folder("a");
    many(&a, 20);
    let mut tracker = Tracker::start();
    let address = tracker.wait("it listens", |it| it["event"] == "listening")["address"].clone();
    let address = address.as_str().expect("an address");
    let _left = place.device("left").share(&a, &["--tracker", address]);
    let holds = |files: u64, bytes: u64| {
        move |it: &Value| it["event"] == "holds" && it["files"] == files && it["bytes"] == bytes
    };
    tracker.wait("it is told of 20 files", holds(20, 20 * 4096));
    fs::write(a.join("one more"), "of five").expect("a file");
    tracker.wait("it is told of one more", holds(21, 20 * 4096 + 7));
}

/// `ahoy tracker`, and what it prints.
struct Tracker {
    child: Child,
    lines: Receiver<Value>,
}

impl Tracker {
    fn start() -> Self {
        let args = ["tracker", "--json", "--verbose", "--listen", "127.0.0.1:0"];
        let mut child = Command::new(env!("CARGO_BIN_EXE_ahoy"))
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .expect("a tracker");
        let lines = json_lines(child.stdout.take().expect("piped"));
        Self { child, lines }
    }

    fn wait(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let said = self.lines.recv_timeout(left);
            let said = said.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(said.is_object(), "an object on each line: {said}");
            if wanted(&said) {
                return said;
            }
        }
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_unreadable_file_is_reported_and_the_rest_goes_on() {
    let place = Place::new();
    let a = place.folder("a");
    many(&a, 20);
    fs::write(a.join("secret"), "locked").expect("a file");
    fs::create_dir(a.join("vault")).expect("a directory");
    fs::write(a.join("vault/gold"), "bars").expect("a file");
    let device = place.unprivileged("left", &[&a]);
    for closed in ["secret", "vault"] {
        fs::set_permissions(a.join(closed), Permissions::from_mode(0o000)).expect("a mode");
    }
    let mut left = device.share(&a, &[]);
    let ticket = left.ticket();
    let mut right = place.device("right").join(&ticket, &place.path("b"));
    right.until("there", |status| status.files >= 20);
    let trouble = |name: &'static str| {
        move |event: &serde_json::Value| event["kind"] == "trouble" && event["path"] == name
    };
    left.event("notice", trouble("secret"));
    left.event("notice", trouble("vault"));
    assert!(!right.dir.join("secret").exists() && !right.dir.join("vault/gold").exists());
    fs::set_permissions(a.join("secret"), Permissions::from_mode(0o600)).expect("a mode");
    fs::set_permissions(a.join("vault"), Permissions::from_mode(0o700)).expect("a mode");
    let tree = converged_to(&mut [&mut left, &mut right], |tree| {
        tree.content("secret") == Some(b"locked") && tree.content("vault/gold") == Some(b"bars")
    });
    assert_eq!(tree.0.len(), 24);
}

#[test]
fn a_folder_that_vanishes_deletes_nothing() {
    let place = Place::new();
    let (mut left, mut right) = pair(&place, |root| many(root, 100));
    let before = Tree::read(&left.dir);
    let away = place.path("away");
    fs::rename(&right.dir, &away).expect("moved");
    right.until("halted", |status| {
        matches!(status.state, State::Halted { .. })
    });
    // Something else is mounted there.
    fs::create_dir(&right.dir).expect("a directory");
    fs::write(left.dir.join("meanwhile"), "x").expect("a file");
    left.until("waiting", |status| status.state != State::Scanning);
    assert!(
        !right.dir.join("meanwhile").exists(),
        "wrote into another folder"
    );
    fs::remove_dir(&right.dir).expect("nothing was put there");
    fs::rename(&away, &right.dir).expect("moved back");
    let tree = converged_to(&mut [&mut left, &mut right], |tree| tree.has("meanwhile"));
    assert_eq!(tree.0.len(), before.0.len() + 1);
}

#[test]
fn a_folder_that_was_not_there_at_the_start_deletes_nothing() {
    let place = Place::new();
    let (mut left, right) = pair(&place, |root| many(root, 100));
    let before = Tree::read(&left.dir);
    let (device, dir) = (right.device.clone(), right.dir.clone());
    right.stop();
    fs::rename(&dir, place.path("away")).expect("moved");
    fs::create_dir(&dir).expect("an empty mount point");
    device.refused(
        &["sync", text(&dir)],
        3,
        "its marker .ahoy/share is missing",
    );
    device.refused(
        &["share", text(&dir)],
        3,
        "its marker .ahoy/share is missing",
    );
    left.until("quiet", |status| status.state == State::WaitingForPeers);
    assert_eq!(Tree::read(&left.dir), before);
}

#[test]
fn an_emptied_folder_deletes_nothing() {
    let place = Place::new();
    let (mut left, right) = pair(&place, |root| many(root, 100));
    let before = Tree::read(&left.dir);
    let (device, dir) = (right.device.clone(), right.dir.clone());
    right.stop();
    for entry in fs::read_dir(&dir).expect("names").flatten() {
        if entry.file_name() != ".ahoy" {
            fs::remove_dir_all(entry.path()).expect("removed");
        }
    }
    let mut right = device.sync(&dir);
    right.event("notice", |event| event["kind"] == "emptied");
    left.until("connected", |status| {
        status.peers.iter().any(|peer| peer.connected)
    });
    assert_eq!(Tree::read(&left.dir), before);
}

#[test]
fn a_full_disk_is_told_and_waited_for() {
    let place = Place::new();
    let b = place.folder("b");
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=4m", "none", text(&b)])
        .stderr(std::process::Stdio::null())
        .status();
    if !mount.is_ok_and(|status| status.success()) {
        eprintln!("skipped: mounting a small disk takes privileges");
        return;
    }
    let _unmount = Unmount(text(&b).to_owned());
    let a = place.folder("a");
    fs::write(a.join("small"), "fits").expect("a file");
    fs::write(a.join("big"), noise(5, 6 << 20)).expect("a file");
    let mut left = place.device("left").share(&a, &[]);
    let ticket = left.ticket();
    let mut right = place.device("right").join(&ticket, &b);
    right.until("told", |status| {
        matches!(status.state, State::Halted { .. })
            || status
                .notices
                .iter()
                .any(|notice| notice.text.contains("full"))
    });
    assert!(!b.join("big").exists());
    fs::write(a.join("big"), noise(6, 1 << 20)).expect("a smaller file");
    converged_to(&mut [&mut left, &mut right], |tree| {
        tree.has("small") && tree.has("big")
    });
    right.stop();
}

struct Unmount(String);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
