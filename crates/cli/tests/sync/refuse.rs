//! Input that makes no sense, each with its error and its hint, and nothing lost.

use std::fs;
use std::net::TcpListener;

use crate::harness::{Place, pair, text};
use crate::tree::{Tree, variety};

#[test]
fn bad_tickets() {
    let place = Place::new();
    let (mut left, right) = pair(&place, |root| {
        fs::write(root.join("x"), "x").expect("a file")
    });
    let ticket = left.ticket();
    right.stop();
    let device = place.device("third");
    let dir = place.path("c");
    let join = |ticket: &str, says: &str| device.refused(&["join", ticket, text(&dir)], 2, says);
    join("hello", "not a ticket");
    join("", "not a ticket");
    join(&ticket[..ticket.len() / 2], "cut short");
    join(&format!("{ticket}a"), "something follows");
    let middle = ticket.len() / 2;
    let other = if &ticket[middle..=middle] == "a" {
        "b"
    } else {
        "a"
    };
    let mut typo = ticket.clone();
    typo.replace_range(middle..=middle, other);
    join(&typo, "wrong or missing character");
    join(&ticket.replacen('1', "9", 1), "newer version");
    assert!(!dir.exists(), "a bad ticket made a folder");
    assert!(ticket.len() < 300, "{} characters", ticket.len());
    // White space and capitals do no harm; standard input does as well.
    let mut run = device.join(&format!("  {}\n", ticket.to_uppercase()), &dir);
    run.event("start", |event| event["event"] == "started");
}

#[test]
fn bad_folders() {
    let place = Place::new();
    let device = place.device("left");
    let file = place.path("file");
    fs::write(&file, "x").expect("a file");
    let missing = place.path("missing");
    device.refused(&["share", text(&missing)], 3, "does not exist");
    device.refused(&["share", text(&file)], 3, "is not a folder");
    device.refused(&["sync", text(&missing)], 3, "does not exist");
    device.refused(&["share", text(device.home())], 3, "ahoy's own state");
    device.refused(&["share", "/"], 3, "ahoy's own state");
    let plain = place.folder("plain");
    device.refused(&["sync", text(&plain)], 3, "is not shared");
    assert!(!missing.exists() && fs::read(&file).expect("a file") == b"x");
    let closed = place.folder("closed");
    let user = place.unprivileged("user", &[]);
    fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o555))
        .expect("mode");
    user.refused(&["share", text(&closed)], 3, "cannot be written to");
}

#[test]
fn a_port_in_use() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let device = place.device("left");
    let dir = place.folder("a");
    device.refused(
        &["share", text(&dir), "--listen", &address],
        3,
        "cannot listen on",
    );
}

#[test]
fn one_process_for_one_folder_and_none_for_folders_in_each_other() {
    let place = Place::new();
    let (mut left, right) = pair(&place, variety);
    let (device, dir) = (left.device.clone(), left.dir.clone());
    left.status();
    let process = format!("process {}", left.process());
    device.refused(&["sync", text(&dir)], 3, &process);
    device.refused(&["share", text(&dir)], 3, &process);
    device.refused(&["share", text(&dir.join("deep"))], 3, "lie in one another");
    device.refused(&["share", text(dir.parent().expect("a parent"))], 3, "");
    // Another device of this machine may not have the folder either.
    let ticket = left.ticket();
    right
        .device
        .refused(&["join", &ticket, text(&dir)], 3, &process);
    left.status();
}

#[test]
fn a_folder_of_another_share() {
    let place = Place::new();
    let (mut left, right) = pair(&place, variety);
    let ticket = left.ticket();
    let device = place.device("third");
    let other = place.folder("other");
    fs::write(other.join("mine"), "mine").expect("a file");
    let mut run = device.share(&other, &[]);
    run.status();
    run.stop();
    let before = Tree::read(&other);
    device.refused(
        &["join", &ticket, text(&other)],
        3,
        "belongs to another share",
    );
    assert_eq!(Tree::read(&other), before);
    // The same share is resumed.
    let (device, dir) = (right.device.clone(), right.dir.clone());
    right.stop();
    let mut again = device.join(&ticket, &dir);
    crate::harness::converged(&mut [&mut left, &mut again]);
}

#[test]
fn several_folders_at_once_and_one_of_them_is_missing() {
    let place = Place::new();
    let device = place.device("left");
    let (a, b) = (place.folder("a"), place.folder("b"));
    for dir in [&a, &b] {
        let mut run = device.share(dir, &[]);
        run.status();
        run.stop();
    }
    let missing = place.path("missing");
    let args = [
        "sync",
        text(&a),
        text(&missing),
        text(&b),
        "--json",
        "--listen",
        "127.0.0.1:0",
    ];
    let mut child = device
        .ahoy(&args)
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("ahoy");
    let deadline = std::time::Instant::now() + crate::harness::DEADLINE;
    while device.status(&a).is_none() || device.status(&b).is_none() {
        assert!(std::time::Instant::now() < deadline, "they do not run");
    }
    let pid = rustix::process::Pid::from_raw(child.id() as i32).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a signal");
    assert_eq!(child.wait().expect("a status").code(), Some(3));
}
