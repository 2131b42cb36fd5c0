//! What is in a folder changes its kind, points out of it, or is none of ahoy's business.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Place, converged_to, pair, text};
use crate::tree::{Tree, litter, many, noise, variety};

#[test]
fn rsync_finds_nothing_to_do() {
    let place = Place::new();
    let (left, right) = pair(&place, variety);
    let compare = Command::new("rsync")
        .args(["-ain", "--delete", "--checksum", "--exclude=.ahoy"])
        .args([
            &format!("{}/", text(&left.dir)),
            &format!("{}/", text(&right.dir)),
        ])
        .output();
    let Ok(compare) = compare else {
        eprintln!("skipped: there is no rsync here");
        return;
    };
    assert!(compare.status.success(), "{compare:?}");
    let found = String::from_utf8_lossy(&compare.stdout).into_owned();
    // The folder itself is each user's own: neither its mode nor its time is sent.
    let found: Vec<_> = found
        .lines()
        .filter(|line| !line.ends_with(" ./"))
        .collect();
    assert_eq!(found, [""; 0]);
}

#[test]
fn files_of_all_lengths() {
    let place = Place::new();
    let lens: Vec<usize> = [0, 1, 4095, 4096, 65_536, 262_144, 1 << 20, 5 << 20]
        .iter()
        .flat_map(|len: &usize| [len.saturating_sub(1), *len, len + 1])
        .collect();
    let (left, right) = pair(&place, |root| {
        for (n, len) in lens.iter().enumerate() {
            fs::write(root.join(len.to_string()), noise(n as u64, *len)).expect("a file");
        }
        // Nothing but a hole at the end, and one in the middle.
        let holes = fs::File::create(root.join("holes")).expect("a file");
        std::os::unix::fs::FileExt::write_at(&holes, b"middle", 10 << 20).expect("written");
        holes.set_len(20 << 20).expect("a length");
    });
    let tree = Tree::read(&right.dir);
    assert_eq!(tree.differences(&Tree::read(&left.dir)), [""; 0]);
    let name = |len: &usize| tree.content(&len.to_string()).map(<[u8]>::len);
    assert!(lens.iter().all(|len| name(len) == Some(*len)));
}

#[test]
fn one_kind_becomes_another() {
    let place = Place::new();
    let (mut left, mut right) = pair(&place, |root| {
        for dir in ["dir to file", "dir to link"] {
            fs::create_dir_all(root.join(dir).join("below")).expect("a directory");
            fs::write(root.join(dir).join("below/x"), noise(1, 100_000)).expect("a file");
        }
        fs::write(root.join("file to dir"), "f").expect("a file");
        fs::write(root.join("file to link"), "f").expect("a file");
        symlink("f", root.join("link to file")).expect("a link");
        symlink("d", root.join("link to dir")).expect("a link");
    });
    let (a, b) = (left.dir.clone(), right.dir.clone());
    for name in ["dir to file", "dir to link"] {
        fs::remove_dir_all(a.join(name)).expect("removed");
    }
    for name in ["file to dir", "file to link", "link to file", "link to dir"] {
        fs::remove_file(b.join(name)).expect("removed");
    }
    fs::write(a.join("dir to file"), noise(2, 70_000)).expect("a file");
    symlink("file to dir", a.join("dir to link")).expect("a link");
    fs::write(b.join("link to file"), "now a file").expect("a file");
    symlink("/dev/null", b.join("file to link")).expect("a link");
    for name in ["file to dir", "link to dir"] {
        fs::create_dir(b.join(name)).expect("a directory");
        fs::write(b.join(name).join("inside"), "i").expect("a file");
    }
    let tree = converged_to(&mut [&mut left, &mut right], |tree| {
        tree.has("link to dir/inside")
            && tree.has("file to dir/inside")
            && tree.content("dir to file") == Some(&noise(2, 70_000)[..])
            && tree.content("link to file") == Some(b"now a file")
            && tree.target("dir to link") == Some(Path::new("file to dir"))
            && tree.target("file to link") == Some(Path::new("/dev/null"))
    });
    assert_eq!(tree.0.len(), 8, "{tree:?}");
}

#[test]
fn links_are_never_followed() {
    let place = Place::new();
    let outside = place.folder("outside");
    fs::write(outside.join("private"), "mine").expect("a file");
    let (mut left, right) = pair(&place, |root| {
        many(root, 10);
        symlink("../outside", root.join("way out")).expect("a link");
    });
    let b = right.dir.clone();
    // A directory of the share is replaced by a link out of it, while the other side fills it.
    let device = right.device.clone();
    right.stop();
    fs::rename(b.join("d000"), place.path("saved")).expect("moved");
    symlink(&outside, b.join("d000")).expect("a link");
    for n in 0..10 {
        fs::write(left.dir.join(format!("d000/f{n:05}")), "through the link").expect("a file");
        fs::write(left.dir.join(format!("d000/new{n}")), "through the link").expect("a file");
    }
    let mut right = device.sync(&b);
    let tree = converged_to(&mut [&mut left, &mut right], |tree| {
        tree.holds(b"through the link")
    });
    for n in 0..10 {
        let there = |(path, _): (&PathBuf, _)| path.ends_with(format!("new{n}"));
        assert!(tree.0.iter().any(there), "new{n} is lost: {tree:?}");
    }
    // Deleting the link deletes the link.
    fs::remove_file(left.dir.join("way out")).expect("removed");
    converged_to(&mut [&mut left, &mut right], |tree| !tree.has("way out"));
    assert!(!tree.holds(b"mine"), "what is outside was sent");
    let left_outside = Tree::read(&outside);
    assert_eq!(left_outside.0.len(), 1, "{left_outside:?}");
    assert_eq!(left_outside.content("private"), Some(&b"mine"[..]));
    right.stop();
    assert_eq!(litter(&b), [] as [&Path; 0]);
}

#[test]
fn what_is_named_ahoy_is_not_sent() {
    let place = Place::new();
    let (mut left, mut right) = pair(&place, |root| {
        many(root, 10);
        fs::create_dir_all(root.join("d000/.ahoy")).expect("a directory");
        fs::write(root.join("d000/.ahoy/deep"), "private").expect("a file");
    });
    fs::write(left.dir.join(".ahoy/note"), "private").expect("a file");
    fs::write(left.dir.join("after"), "a").expect("a file");
    converged_to(&mut [&mut left, &mut right], |tree| tree.has("after"));
    assert!(!right.dir.join(".ahoy/note").exists());
    assert!(!right.dir.join("d000/.ahoy").exists());
    // A directory that holds one goes for the others, and stays where its own bytes are.
    fs::remove_dir_all(right.dir.join("d000")).expect("removed");
    fs::write(right.dir.join("later"), "l").expect("a file");
    left.wait("the delete", |run| {
        run.dir.join("later").exists() && !run.dir.join("d000/f00001").exists()
    });
    let kept = fs::read(left.dir.join("d000/.ahoy/deep"));
    assert_eq!(kept.expect("not deleted"), b"private");
    right.until("told", |status| status.files > 0);
}

#[test]
fn what_is_neither_file_nor_directory_nor_link_stays_at_home() {
    let place = Place::new();
    let fill = |root: &Path| {
        many(root, 3);
        let pipe = Command::new("mkfifo").arg(root.join("pipe")).status();
        assert!(pipe.is_ok_and(|status| status.success()), "mkfifo");
        std::os::unix::net::UnixListener::bind(root.join("socket")).expect("a socket");
    };
    let a = place.folder("a");
    fill(&a);
    let mut left = place.device("left").share(&a, &[]);
    let ticket = left.ticket();
    let mut right = place.device("right").join(&ticket, &place.path("b"));
    right.until("in sync", |status| status.files == 3);
    fs::write(a.join("after"), "a").expect("a file");
    right.wait("the file", |run| run.dir.join("after").exists());
    assert!(!right.dir.join("pipe").exists() && !right.dir.join("socket").exists());
    assert!(a.join("pipe").exists() && a.join("socket").exists());
}
