//! Trackers and peers that want to do harm: what they get of ours is a closed connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, socket};

use crate::holders::{self, Holder, Manner};
use crate::swarm::{Folder, Program};
use crate::{LIMIT, until};

/// Nothing outside the folder, nothing excluded, nothing in the place of what is no file
/// (classic-6, classic-33).
#[test]
fn a_hostile_tracker_writes_nothing_it_should_not() {
    let folder = Folder::new();
    let own = folder.path();
    folder.write("mine.py", b"mine", 1_000_000_000);
    folder.write("mine.key", b"mine", 1_000_000_000);
    std::fs::create_dir(own.join("a folder")).expect("made");
    let outside = own.parent().expect("it has one").join("outside");
    std::os::unix::fs::symlink(&outside, own.join("a link")).expect("linked");
    let holder = Holder::start(Manner::Right);
    let absolute = outside.to_str().expect("ours is UTF-8");
    let names = [
        "../outside",
        absolute,
        "a folder/b",
        "a folder",
        "a link",
        "mine.py",
        "mine.key",
        ".ahoy",
        "..",
        ".",
        "",
        "a\\\\b",
        "a\\nb",
        "a\\u0000b",
        "good",
    ];
    let tracker = holders::tracker(holder.addr, &names);
    let _peer = Program::our_peer(tracker.port(), &folder, &["--exclude", ".key"]);
    until("what is good arrives", || own.join("good").exists());
    assert_eq!(holder.asked(), ["good"]);
    for name in ["mine.py", "mine.key"] {
        assert_eq!(std::fs::read(own.join(name)).expect("there"), b"mine");
    }
    assert!(!outside.exists());
    assert!(own.join("a folder").is_dir() && own.join("a link").is_symlink());
    assert_eq!(folder.names(), ["good", "mine.key", "mine.py"]);
    folder.assert_clean();
}

/// It is left, and tried again as one that is gone; in the end it is a right one (classic-40).
#[test]
fn a_tracker_that_floods_or_babbles_is_left_and_tried_again() {
    let folder = Folder::new();
    let ways: Vec<holders::Answering> = vec![
        // A directory without an end.
        |mut stream| {
            let piece = [b' '; 65_536];
            let mut sent = stream.write_all(b"{");
            while sent.is_ok() {
                sent = stream.write_all(&piece);
            }
        },
        // A list without an end.
        |mut stream| {
            let mut sent = stream.write_all(b"{\"a\": [");
            while sent.is_ok() {
                sent = stream.write_all(&[b'['; 65_536]);
            }
        },
        // Directories that nobody asked for.
        |mut stream| while stream.write_all(b"{}\n").is_ok() {},
        // No directory, and no JSON.
        |mut stream| drop(stream.write_all(b"[1, 2]\n")),
        |mut stream| drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
        // In the end it answers as it should.
        |mut stream| {
            let mut bytes = [0; 65_536];
            while stream.write_all(b"{}\n").is_ok() {
                if !stream.read(&mut bytes).is_ok_and(|len| len > 0) {
                    return;
                }
            }
        },
    ];
    let times = ways.len() - 1;
    let tracker = holders::changing_tracker(ways);
    let mut peer = Program::our_peer(tracker.port(), &folder, &["--json"]);
    for _ in 0..times {
        peer.wait_for("\"tracker-down\"");
    }
    peer.wait_for("\"tracker-up\"");
    let most = peer.memory_peak_kib();
    assert!(most < 256 * 1024, "it took {most} KiB");
    peer.stop();
}

/// No more connections in a second than the owner allows, whatever is listed (classic-38).
#[test]
fn a_tracker_cannot_make_a_peer_connect_faster_than_allowed() {
    let folder = Folder::new();
    let holder = Holder::start(Manner::Right);
    let names: Vec<String> = (0..300).map(|number| format!("file {number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let tracker = holders::tracker(holder.addr, &names);
    let rate = ["--connections-per-second", "20"];
    let began = Instant::now();
    let mut peer = Program::our_peer(tracker.port(), &folder, &rate);
    until("it goes on", || holder.requests() >= 61);
    // Between the first and the last of n connections lie n - 1 intervals.
    let intervals = u32::try_from(holder.requests() - 1).expect("few");
    let least = Duration::from_secs(1) / 20 * intervals;
    let took = began.elapsed();
    assert!(took >= least, "{intervals} more connections in {took:?}");
    peer.stop();
}

/// Peers that send garbage, half of something, nothing or no end of it, from another address:
/// those that behave go on (classic-8, classic-16, classic-17, classic-56).
#[test]
fn hostile_peers_do_not_stop_the_swarm() {
    let mut tracker = Program::our_tracker(&[]);
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, tracker.port()));
    let (one, two) = (Folder::new(), Folder::new());
    let mut first = Program::our_peer(at.port(), &one, &[]);
    let _second = Program::our_peer(at.port(), &two, &[]);
    let serving = SocketAddr::from((Ipv4Addr::LOCALHOST, first.port()));
    let mut held = Vec::new();
    // More than one address may hold, of the tracker and of a peer; the rest is turned away.
    for addr in [at, serving] {
        for _ in 0..150 {
            held.extend(connect(addr));
        }
    }
    let half: &[&[u8]] = &[
        b"{\"port\": 8000, \"files\": [",
        b"{\"port\": 80",
        b"\n\n\n",
    ];
    for stream in &mut held {
        let _ = stream.write_all(half[0]);
    }
    one.write("during the siege", b"content", 1_771_289_241);
    until("a file gets through", || {
        two.has("during the siege", b"content", 1_771_289_241)
    });
    let mut silent = held.swap_remove(0);
    // The tracker waits 10 s for the whole of a first message, the peer 5 s for a request.
    silent.set_read_timeout(Some(LIMIT)).expect("a limit");
    let end = silent.read(&mut [0; 16]);
    let is_cut = match &end {
        Ok(len) => *len == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    };
    assert!(is_cut, "{end:?}");
    drop(held);
    endless(at);
    for garbage in [
        &b"{\"port\": []}"[..],
        b"\n[[[[",
        b"{\"port\": 1e999}",
        b" \xff\xfe",
    ] {
        if let Some(mut stream) = connect(at) {
            let _ = stream.write_all(garbage);
        }
    }
    two.write("after it", b"content", 1_771_289_241);
    until("and another one", || {
        one.has("after it", b"content", 1_771_289_241)
    });
    assert_eq!(one.names(), ["after it", "during the siege"]);
    first.stop();
    tracker.stop();
}

/// Sends a message that never ends, until the tracker has enough of it (classic-9).
fn endless(tracker: SocketAddr) {
    let mut stream = connect(tracker).expect("there is room again");
    stream.set_write_timeout(Some(LIMIT)).expect("a limit");
    stream
        .write_all(b"{\"port\": 7, \"x\": \"")
        .expect("it listens");
    let mut sent = 0;
    loop {
        match stream.write(&[b'x'; 65_536]) {
            Ok(len) => sent += len,
            Err(error) => {
                assert_ne!(error.kind(), ErrorKind::WouldBlock, "it must close");
                break;
            }
        }
        assert!(sent < 64 * 1024 * 1024, "it took {sent} bytes");
    }
}

/// A connection from an address that nobody else here has; None if it is turned away at once.
fn connect(to: SocketAddr) -> Option<TcpStream> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    let from = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), 0));
    rustix::net::bind(&socket, &from).expect("all of 127/8 is ours");
    rustix::net::connect(&socket, &to).ok()?;
    Some(socket.into())
}
