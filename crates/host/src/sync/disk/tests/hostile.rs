//! Folders in which somebody works against us, or just at the same time.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use ahoy_logic::sync::Trouble;
use rustix::fs::{CWD, RenameFlags};

use super::super::beneath::Parents;
use super::super::publish::Publisher;
use super::super::{stage, world::World};
use super::*;

// sync-28.
#[test]
fn a_link_in_the_place_of_a_directory_leads_nowhere() {
    let outside = tempfile::tempdir().expect("a directory");
    fs::write(outside.path().join("victim"), b"outside").expect("written");
    let scene = Scene::new();
    fs::create_dir(scene.on_disk("d")).expect("made");
    scene.write("d/victim", b"inside");
    let expect = scene.print("d/victim");
    let outer = fs::metadata(outside.path().join("victim")).expect("there");
    fs::rename(scene.on_disk("d"), scene.on_disk("away")).expect("moved");
    symlink(outside.path(), scene.on_disk("d")).expect("made");
    let (at, meta) = (path("d/victim"), META);
    for act in [
        write_here("d/new", b"x", None),
        write_here("d/victim", b"x", Some(expect)),
        Act::Remove {
            at: at.clone(),
            expect,
        },
        Act::SetMeta {
            at: at.clone(),
            meta,
            expect,
        },
        Act::Move {
            from: at.clone(),
            to: path("taken"),
            expect,
        },
        Act::Move {
            from: path("away/victim"),
            to: path("d/moved"),
            expect,
        },
        Act::MakeDir {
            at: path("d/dir"),
            meta,
        },
        Act::Park {
            at: at.clone(),
            expect,
        },
        // What a link itself is called can be known, and it is still not what was expected.
        Act::SetMeta {
            at: path("d"),
            meta,
            expect,
        },
    ] {
        assert_eq!(scene.act(act), Err(Trouble::Changed));
    }
    assert!(scene.disk.root().open_for_serving(&at).is_err());
    scene.disk.read(at, expect);
    scene.until(|input| matches!(input, Input::Unread { .. }).then_some(()));
    let seen = scene.look_at_all();
    assert!(matches!(seen.get("d"), Some(Found::Link(..))) && seen.get("d/victim").is_none());
    let names: Vec<_> = fs::read_dir(outside.path()).expect("listed").collect();
    assert_eq!(names.len(), 1);
    let after = fs::metadata(outside.path().join("victim")).expect("there");
    assert_eq!(
        after.modified().expect("a time"),
        outer.modified().expect("a time")
    );
    assert_eq!(
        fs::read(outside.path().join("victim")).expect("read"),
        b"outside"
    );
}

/// Exchanges two names until told to stop.
fn flip(a: &Path, b: &Path, stop: &AtomicBool) {
    while !stop.load(Ordering::Acquire) {
        rustix::fs::renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).expect("exchanged");
    }
}

// sync-28.
#[test]
fn a_link_that_comes_and_goes_leads_nowhere() {
    let outside = tempfile::tempdir().expect("a directory");
    let scene = Scene::new();
    fs::create_dir_all(scene.on_disk("top/d/sub")).expect("made");
    fs::create_dir(outside.path().join("sub")).expect("made");
    symlink(outside.path(), scene.on_disk("link")).expect("made");
    let stop = AtomicBool::new(false);
    let (a, b) = (scene.on_disk("top/d"), scene.on_disk("link"));
    std::thread::scope(|scope| {
        scope.spawn(|| flip(&a, &b, &stop));
        for number in 0..500 {
            let at = format!("top/d/sub/{number}");
            match scene.act(write_here(&at, b"x", None)) {
                Ok(_) | Err(Trouble::Changed) => {}
                other => panic!("{other:?}"),
            }
        }
        stop.store(true, Ordering::Release);
    });
    let leaked = fs::read_dir(outside.path().join("sub"))
        .expect("listed")
        .count();
    assert_eq!(leaked, 0);
}

/// A program appends to a file again and again while new versions of it, which hold all that was
/// known when they were made, are put in its place. Nothing that was appended may be lost.
#[test]
fn what_a_program_writes_while_its_file_is_replaced_is_not_lost() {
    const ROUNDS: u64 = 2000;
    let scene = Scene::at(fast_dir(), Arc::new(Nobody), EyesOptions::default());
    scene.write("f", b"");
    let (round, at) = (AtomicU64::new(0), scene.on_disk("f"));
    let (mut replaced, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for line in 1..=ROUNDS {
                while round.load(Ordering::Acquire) < line {
                    std::thread::yield_now();
                }
                // A little later every time, to meet every moment of the replacement.
                for _ in 0..(line * 97) % 20_000 {
                    std::hint::spin_loop();
                }
                let file = fs::OpenOptions::new().append(true).open(&at);
                writeln!(file.expect("there is always a file"), "{line}").expect("written");
            }
        });
        for version in 1..=ROUNDS {
            let before = scene.print("f");
            let known = scene.read("f");
            let same = scene.print("f").same(&before);
            round.store(version, Ordering::Release);
            if !same {
                // What was read may not be what the print stands for.
                continue;
            }
            let new = [&known[..], format!("version {version}\n").as_bytes()].concat();
            match scene.act(write_here("f", &new, Some(before))) {
                Ok(_) => replaced += 1,
                Err(Trouble::Changed | Trouble::InUse) => refused += 1,
                other => panic!("{other:?}"),
            }
        }
    });
    println!("{replaced} times replaced, {refused} times refused");
    let litter = scene.litter();
    let mut lines: HashSet<u64> = HashSet::new();
    for at in fs::read_dir(scene.temp.path()).expect("listed") {
        let at = at.expect("an entry").path();
        if at.is_file() {
            let text = fs::read_to_string(at).expect("text");
            lines.extend(text.lines().filter_map(|line| line.parse::<u64>().ok()));
        }
    }
    let missing: Vec<u64> = (1..=ROUNDS).filter(|line| !lines.contains(line)).collect();
    assert!(missing.is_empty(), "lost: {missing:?}");
    assert!(replaced > 0);
    assert!(litter.is_empty(), "{litter:?}");
}

/// The way for file systems that cannot exchange two names.
#[test]
fn a_file_is_replaced_in_two_steps_where_it_must_be() {
    let scene = Scene::new();
    let ear: Arc<dyn Listener> = Arc::clone(&scene.ear) as Arc<dyn Listener>;
    let (world, root) = (World::new(ear), scene.disk.root());
    let replace = |at: &str, over: Print| {
        let bytes = b"ours";
        let mut staged =
            stage::from_bytes(root, bytes, (4, hash_of(bytes)), META, Some(&over)).expect("staged");
        staged.unsynced = None;
        let mut parents = Parents::default();
        world.change(|change| {
            let mut publisher = Publisher::new(root, change, &mut parents);
            publisher.put_without_exchange(NodeId([1; 16]), &path(at), &over, &mut staged)
        })
    };
    scene.write("f", b"old");
    let old = scene.print("f");
    replace("f", old).expect("replaced");
    assert_eq!(scene.read("f"), b"ours");
    assert_eq!(replace("f", old), Err(Trouble::Changed));
    scene.write("g", b"old");
    let old = scene.print("g");
    let writer = fs::OpenOptions::new()
        .append(true)
        .open(scene.on_disk("g"))
        .expect("opened");
    assert_eq!(replace("g", old), Err(Trouble::InUse));
    assert_eq!(scene.read("g"), b"old");
    drop(writer);
    assert!(scene.litter().is_empty(), "{:?}", scene.litter());
}

#[test]
fn odd_names_go_through_unharmed() {
    let scene = Scene::new();
    let odd: [&[u8]; 5] = [b"\xff\xfe", b"new\nline", b" ", b"...", &[b'x'; 255]];
    for bytes in odd {
        let at = RelPath::parse(bytes).expect("a path");
        let content = b"x";
        let act = Act::Write {
            at: at.clone(),
            meta: META,
            size: 1,
            hash: hash_of(content),
            over: None,
            source: Source::Here((*content).into()),
        };
        let print = scene.act(act).expect("written").expect("a print");
        scene.disk.read(at.clone(), print);
        let hashed = scene.until(|input| match input {
            Input::Hashed { path, .. } => Some(path),
            _ => None,
        });
        assert_eq!(hashed, at);
    }
    let seen = scene.look_at_all();
    assert_eq!(seen.found.len(), odd.len());
}
