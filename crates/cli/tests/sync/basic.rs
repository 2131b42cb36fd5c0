//! Sharing and joining while everything goes well.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::{Place, converged, converged_to, pair, text};
use crate::tree::{Tree, litter, many, noise, variety};

#[test]
fn a_folder_arrives_identical() {
    let place = Place::new();
    let (left, right) = pair(&place, variety);
    let (a, b) = (left.dir.clone(), right.dir.clone());
    let tree = Tree::read(&b);
    assert_eq!(tree, Tree::read(&a));
    assert!(tree.0.len() > 25, "{tree:?}");
    left.stop();
    right.stop();
    assert_eq!(litter(&a), [] as [&Path; 0]);
    assert_eq!(litter(&b), [] as [&Path; 0]);
}

#[test]
fn changes_go_both_ways() {
    let place = Place::new();
    let (mut left, mut right) = pair(&place, variety);
    let (a, b) = (left.dir.clone(), right.dir.clone());
    fs::write(b.join("from the right"), "r").expect("a file");
    fs::write(b.join("deep/er/still/new"), noise(9, 200_000)).expect("a file");
    fs::remove_file(b.join("small")).expect("removed");
    fs::write(a.join("from the left"), "l").expect("a file");
    fs::remove_dir_all(a.join("closed")).expect("removed");
    let tree = converged_to(&mut [&mut left, &mut right], |tree| {
        tree.has("from the right") && tree.has("from the left") && tree.has("deep/er/still/new")
    });
    assert!(!tree.has("small") && !tree.has("closed"));
    // The same file, over and over, from either side.
    for round in 0..10 {
        let (dir, word) = if round % 2 == 0 {
            (&a, "even")
        } else {
            (&b, "odd")
        };
        let content = format!("{word} {round}");
        fs::write(dir.join("ball"), &content).expect("a file");
        converged_to(&mut [&mut left, &mut right], |tree| {
            tree.content("ball") == Some(content.as_bytes())
        });
    }
}

#[test]
fn only_metadata() {
    let place = Place::new();
    let (mut left, mut right) = pair(&place, variety);
    let before = fs::metadata(right.dir.join("deep/er/big")).expect("a file");
    crate::tree::set_mtime(&left.dir.join("deep/er/big"), 1_500_000_000, 5);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o4711);
    fs::set_permissions(left.dir.join("run"), mode).expect("a mode");
    crate::tree::set_mtime(&left.dir.join("dangling"), 1_400_000_000, 6);
    let run = left.dir.join("run");
    converged_to(&mut [&mut left, &mut right], |tree| {
        format!("{:?}", tree.0.get(Path::new("deep/er/big"))).contains("(1500000000, 5)")
            && format!("{:?}", tree.0.get(Path::new("run"))).contains("4711")
            && format!("{:?}", tree.0.get(Path::new("dangling"))).contains("(1400000000, 6)")
    });
    assert!(run.exists());
    // Three megabytes were not written anew for a date.
    let after = fs::metadata(right.dir.join("deep/er/big")).expect("a file");
    assert_eq!(after.ino(), before.ino());
}

#[test]
fn a_renamed_directory_is_renamed() {
    let place = Place::new();
    let (mut left, mut right) = pair(&place, |root| many(root, 300));
    let inode = |path: &str| fs::metadata(right.dir.join(path)).expect("a file").ino();
    let before: Vec<_> = (100..110)
        .map(|n| inode(&format!("d001/f{n:05}")))
        .collect();
    let received = right
        .device
        .status(&right.dir)
        .expect("a status")
        .traffic
        .received;
    fs::rename(left.dir.join("d001"), left.dir.join("renamed")).expect("renamed");
    converged_to(&mut [&mut left, &mut right], |tree| {
        tree.has("renamed/f00105")
    });
    assert!(!right.dir.join("d001").exists());
    let inode = |path: &str| fs::metadata(right.dir.join(path)).expect("a file").ino();
    let after: Vec<_> = (100..110)
        .map(|n| inode(&format!("renamed/f{n:05}")))
        .collect();
    assert_eq!(before, after);
    let more = right.status().traffic.received - received;
    assert!(more < 20_000, "{more} bytes for a rename");
    // A renamed file, into another directory, and two that change places.
    fs::rename(right.dir.join("d000/f00005"), right.dir.join("d002/moved")).expect("renamed");
    let (x, y) = (right.dir.join("d000/f00006"), right.dir.join("d000/f00007"));
    let (in_x, in_y) = (fs::read(&x).expect("a file"), fs::read(&y).expect("a file"));
    fs::rename(&x, right.dir.join("d000/t")).expect("renamed");
    fs::rename(&y, &x).expect("renamed");
    fs::rename(right.dir.join("d000/t"), &y).expect("renamed");
    let tree = converged_to(&mut [&mut left, &mut right], |tree| {
        tree.has("d002/moved") && tree.content("d000/f00006") == Some(&in_y[..])
    });
    assert_eq!(tree.content("d000/f00007"), Some(&in_x[..]));
    assert!(!tree.has("d000/f00005") && !tree.has("d000/t"));
}

#[test]
fn a_change_inside_a_big_file_does_not_send_it_all() {
    let place = Place::new();
    let (mut left, mut right) = pair(&place, |root| {
        fs::write(root.join("big"), noise(3, 16 << 20)).expect("a file");
    });
    let received = right.status().traffic.received;
    let mut content = noise(3, 16 << 20);
    content.splice(1000..1000, *b"inserted near the front");
    fs::write(left.dir.join("big"), &content).expect("a file");
    converged_to(&mut [&mut left, &mut right], |tree| {
        tree.content("big") == Some(&content[..])
    });
    let more = right.status().traffic.received - received;
    assert!(more < 4 << 20, "{more} bytes for an insert");
}

#[test]
fn three_peers_converge_though_two_never_met() {
    let place = Place::new();
    let (mut left, mut middle) = pair(&place, |root| many(root, 50));
    fs::write(left.dir.join("news"), "from the left").expect("a file");
    converged_to(&mut [&mut left, &mut middle], |tree| tree.has("news"));
    let a = left.dir.clone();
    let (device, before) = (left.device.clone(), Tree::read(&a));
    left.stop();
    let ticket = middle.device.output(&["ticket", text(&middle.dir)]).stdout;
    let ticket = String::from_utf8(ticket).expect("UTF-8");
    let mut right = place.device("third").join(ticket.trim(), &place.path("c"));
    let two = converged_to(&mut [&mut middle, &mut right], |tree| tree.has("news"));
    assert_eq!(two, before);
    fs::write(right.dir.join("reply"), "from the right").expect("a file");
    fs::remove_file(right.dir.join("d000/f00001")).expect("removed");
    converged_to(&mut [&mut middle, &mut right], |tree| tree.has("reply"));
    right.stop();
    let mut left = device.sync(&a);
    let tree = converged_to(&mut [&mut left, &mut middle], |tree| tree.has("reply"));
    assert!(!tree.has("d000/f00001"));
}

#[test]
fn many_small_files() {
    let place = Place::new();
    let (mut left, mut right) = pair(&place, |root| many(root, 3000));
    let status = right.status();
    assert_eq!((status.files, status.directories), (3000, 30));
    assert_eq!(status.bytes, 3000 * 4096);
    fs::remove_dir_all(right.dir.join("d007")).expect("removed");
    let tree = converged_to(&mut [&mut left, &mut right], |tree| !tree.has("d007"));
    assert_eq!(tree.0.len(), 2900 + 29);
}

#[test]
fn a_reader_gets_everything_and_changes_nothing() {
    let place = Place::new();
    let a = place.folder("a");
    variety(&a);
    let mut left = place.device("left").share(&a, &["--read-only-ticket"]);
    let ticket = left.ticket();
    let mut right = place.device("right").join(&ticket, &place.path("b"));
    converged(&mut [&mut left, &mut right]);
    assert!(!right.status().may_write && left.status().may_write);
    let before = Tree::read(&a);
    fs::write(right.dir.join("mine"), "not sent").expect("a file");
    fs::write(right.dir.join("small"), "not sent either").expect("a file");
    right.event("notice", |event| {
        event["kind"] == "not_sent" && event["path"] == "mine"
    });
    fs::write(a.join("more"), "sent").expect("a file");
    right.until("told", |status| {
        status.state != ahoy_host::sync::status::State::Starting
    });
    let deadline = Instant::now() + Duration::from_secs(60);
    while !right.dir.join("more").exists() {
        assert!(Instant::now() < deadline, "the reader gets nothing more");
        right.status();
    }
    fs::remove_file(a.join("more")).expect("removed");
    left.until("quiet", |status| status.todo.files == 0);
    assert_eq!(Tree::read(&a), before);
    assert!(Tree::read(&right.dir).holds(b"not sent either"));
}

#[test]
fn other_terminals_can_ask() {
    let place = Place::new();
    let (left, right) = pair(&place, variety);
    let say = |args: &[&str]| {
        let output = left.device.output(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let status = say(&["status"]);
    assert!(
        status.contains("in sync") && status.contains(text(&left.dir)),
        "{status}"
    );
    let peers = say(&["peers"]);
    assert!(
        peers.contains("right") && peers.contains("has everything"),
        "{peers}"
    );
    let ls = say(&["ls"]);
    assert!(ls.contains("new\\nline") && ls.contains("deep/") && ls.contains("link -> small"));
    let ls = say(&["ls", text(&left.dir.join("deep/er"))]);
    assert_eq!(ls.lines().count(), 3, "{ls}");
    let missing = left.device.output(&["ls", text(&left.dir.join("missing"))]);
    assert_eq!(missing.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_str(&say(&["status", "--json"])).expect("JSON");
    assert_eq!(json["shares"][0]["state"], "in_sync");
    assert_eq!(json["shares"][0]["peers"][0]["label"], "right");
    right.stop();
    left.stop();
}
