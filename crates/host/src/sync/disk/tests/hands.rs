//! Steps that go well, and steps that find the disk changed.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use ahoy_logic::sync::Trouble;
use ahoy_wire::sync::Target;

use super::*;

fn target(text: &str) -> Target {
    Target::new(text.as_bytes()).expect("a good target")
}

fn check_meta(scene: &Scene, at: &str, mode: u32) {
    let meta = fs::symlink_metadata(scene.on_disk(at)).expect("there");
    assert_eq!(meta.mode() & 0o7777, mode);
    assert_eq!(
        (meta.mtime(), meta.mtime_nsec()),
        (1_234_567_890, 123_456_789)
    );
}

// sync-26: a user has renamed the directory and made another one of its name.
#[test]
fn nothing_is_put_into_a_directory_that_only_has_the_name_of_the_one_that_was_meant() {
    let scene = Scene::new();
    fs::create_dir(scene.on_disk("d")).expect("made");
    let meant = scene.print("d");
    scene.write("f", b"a file");
    let file = scene.print("f");
    fs::rename(scene.on_disk("d"), scene.on_disk("e")).expect("renamed");
    fs::create_dir(scene.on_disk("d")).expect("made");
    let (from, to, expect) = (path("f"), path("d/f"), file);
    let acts = [
        write_here("d/f", b"content", None),
        Act::MakeDir {
            at: path("d/f"),
            meta: META,
        },
        Act::Move { from, to, expect },
    ];
    for act in acts {
        let job = scene.start_within(Some(meant), act.clone());
        assert_eq!(scene.outcome(job), Err(Trouble::Changed), "{act:?}");
    }
    let entries = |dir| fs::read_dir(scene.on_disk(dir)).expect("there").count();
    assert_eq!((entries("d"), entries("e")), (0, 0));
    assert_eq!(scene.read("f"), b"a file");
    // Where it is by now it may be put.
    let job = scene.start_within(Some(meant), write_here("e/f", b"content", None));
    assert!(scene.outcome(job).is_ok());
    assert_eq!(scene.read("e/f"), b"content");
}

#[test]
fn files_links_and_directories_are_made_with_their_metadata() {
    let scene = Scene::new();
    let dir_meta = Meta {
        mode: 0o2755,
        ..META
    };
    let (at, meta) = (path("d"), dir_meta);
    scene.act_and_check(Act::MakeDir { at, meta }, "d");
    check_meta(&scene, "d", 0o2755);
    scene.act_and_check(write_here("d/f", b"content", None), "d/f");
    assert_eq!(scene.read("d/f"), b"content");
    check_meta(&scene, "d/f", 0o640);
    let (at, mtime) = (path("d/l"), META.mtime);
    let link = Act::MakeLink {
        at,
        target: target("f"),
        mtime,
        over: None,
    };
    scene.act_and_check(link, "d/l");
    assert_eq!(
        fs::read_link(scene.on_disk("d/l")).expect("a link"),
        PathBuf::from("f")
    );
    check_meta(&scene, "d/l", 0o777);
    // What was made in the directory has not moved its mtime.
    check_meta(&scene, "d", 0o2755);
    let read_only = Meta {
        mode: 0o555,
        ..META
    };
    scene.act_and_check(
        Act::MakeDir {
            at: path("d/ro"),
            meta: read_only,
        },
        "d/ro",
    );
    check_meta(&scene, "d/ro", 0o555);
    assert!(scene.litter().is_empty(), "{:?}", scene.litter());
}

#[test]
fn a_taken_name_is_not_touched() {
    let scene = Scene::new();
    scene.write("f", b"the user's");
    fs::create_dir(scene.on_disk("d")).expect("made");
    for at in ["f", "d"] {
        assert_eq!(
            scene.act(write_here(at, b"ours", None)),
            Err(Trouble::Changed)
        );
        let dir = Act::MakeDir {
            at: path(at),
            meta: META,
        };
        assert_eq!(scene.act(dir), Err(Trouble::Changed));
    }
    assert_eq!(
        scene.act(write_here("none/f", b"ours", None)),
        Err(Trouble::Changed)
    );
    assert_eq!(scene.read("f"), b"the user's");
    assert!(scene.litter().is_empty());
}

// sync-26.
#[test]
fn a_file_is_replaced_only_if_it_is_what_was_seen() {
    let scene = Scene::new();
    scene.write("f", b"old");
    let old = scene.print("f");
    let new = scene.act_and_check(write_here("f", b"newer", Some(old)), "f");
    assert_eq!(scene.read("f"), b"newer");
    scene.write("f", b"the user's");
    assert_eq!(
        scene.act(write_here("f", b"again", Some(new))),
        Err(Trouble::Changed)
    );
    assert_eq!(scene.read("f"), b"the user's");
    let now = scene.print("f");
    let link = Act::MakeLink {
        at: path("f"),
        target: target("x"),
        mtime: META.mtime,
        over: Some(now),
    };
    let link = scene.act_and_check(link, "f");
    scene.act_and_check(write_here("f", b"a file again", Some(link)), "f");
    let gone = scene.print("f");
    fs::remove_file(scene.on_disk("f")).expect("removed");
    assert_eq!(
        scene.act(write_here("f", b"x", Some(gone))),
        Err(Trouble::Changed)
    );
    assert!(!scene.on_disk("f").exists());
    assert!(scene.litter().is_empty(), "{:?}", scene.litter());
}

#[test]
fn a_file_that_a_program_has_open_for_writing_is_left_alone() {
    let scene = Scene::new();
    scene.write("f", b"old");
    let print = scene.print("f");
    let writer = fs::OpenOptions::new()
        .append(true)
        .open(scene.on_disk("f"))
        .expect("opened");
    let expect = print;
    for act in [
        write_here("f", b"ours", Some(print)),
        Act::Remove {
            at: path("f"),
            expect,
        },
        Act::SetMeta {
            at: path("f"),
            meta: META,
            expect,
        },
    ] {
        assert_eq!(scene.act(act), Err(Trouble::InUse));
    }
    assert!(
        scene.print("f").same(&print),
        "nothing at all has happened to it"
    );
    let reader = fs::File::open(scene.on_disk("f")).expect("opened");
    drop(writer);
    scene.act_and_check(write_here("f", b"ours", Some(print)), "f");
    drop(reader);
}

// sync-26.
#[test]
fn moves_and_removals_check_what_they_take() {
    let scene = Scene::new();
    fs::create_dir(scene.on_disk("d")).expect("made");
    scene.write("a", b"x");
    scene.write("taken", b"y");
    let expect = scene.print("a");
    let to_taken = Act::Move {
        from: path("a"),
        to: path("taken"),
        expect,
    };
    assert_eq!(scene.act(to_taken), Err(Trouble::Changed));
    let moved = Act::Move {
        from: path("a"),
        to: path("d/b"),
        expect,
    };
    let moved = scene.act_and_check(moved, "d/b");
    assert!(moved.same_but_ctime(&expect) && !scene.on_disk("a").exists());
    let dir = scene.print("d");
    let remove_dir = Act::Remove {
        at: path("d"),
        expect: dir,
    };
    assert_eq!(
        scene.act(remove_dir.clone()),
        Err(Trouble::Changed),
        "not empty"
    );
    let remove = Act::Remove {
        at: path("d/b"),
        expect: moved,
    };
    scene.write("d/b", b"the user's");
    assert_eq!(scene.act(remove), Err(Trouble::Changed));
    assert_eq!(scene.read("d/b"), b"the user's");
    let remove = Act::Remove {
        at: path("d/b"),
        expect: scene.print("d/b"),
    };
    assert_eq!(scene.act(remove), Ok(None));
    assert_eq!(scene.act(remove_dir), Ok(None));
    assert!(!scene.on_disk("d").exists());
    assert!(scene.litter().is_empty());
}

#[test]
fn a_directory_that_holds_only_what_is_not_synced_cannot_be_removed_and_says_so() {
    let scene = Scene::new();
    fs::create_dir_all(scene.on_disk("d/.ahoy")).expect("made");
    let remove = Act::Remove {
        at: path("d"),
        expect: scene.print("d"),
    };
    assert_eq!(scene.act(remove), Err(Trouble::Inhabited));
}

#[test]
fn directories_move_with_all_they_hold_and_can_be_parked() {
    let scene = Scene::new();
    fs::create_dir_all(scene.on_disk("a/b")).expect("made");
    scene.write("a/b/f", b"x");
    let expect = scene.print("a");
    scene.act_and_check(
        Act::Move {
            from: path("a"),
            to: path("z"),
            expect,
        },
        "z",
    );
    assert_eq!(scene.read("z/b/f"), b"x");
    let into_itself = Act::Move {
        from: path("z"),
        to: path("z/b/z"),
        expect,
    };
    assert_eq!(scene.act(into_itself), Err(Trouble::Changed));
    let parked = scene
        .act(Act::Park {
            at: path("z"),
            expect,
        })
        .expect("done")
        .expect("a print");
    assert!(parked.same_file(&expect) && !scene.on_disk("z").exists());
    let [(node, there)] = scene.disk.root().parked()[..] else {
        panic!("one is parked")
    };
    assert!(node == NodeId([7; 16]) && there.same(&parked));
    scene.act_and_check(Act::Unpark { to: path("back") }, "back");
    assert_eq!(scene.read("back/b/f"), b"x");
    assert!(scene.litter().is_empty());
}

#[test]
fn metadata_is_set_on_files_directories_and_links() {
    let scene = Scene::new();
    scene.write("f", b"x");
    fs::create_dir(scene.on_disk("d")).expect("made");
    symlink("f", scene.on_disk("l")).expect("made");
    for (at, mode) in [("f", 0o640), ("d", 0o640), ("l", 0o777)] {
        let (meta, expect) = (META, scene.print(at));
        scene.act_and_check(
            Act::SetMeta {
                at: path(at),
                meta,
                expect,
            },
            at,
        );
        check_meta(&scene, at, mode);
    }
    let before = scene.print("f");
    scene.write("f", b"the user's");
    let act = Act::SetMeta {
        at: path("f"),
        meta: META,
        expect: before,
    };
    assert_eq!(scene.act(act), Err(Trouble::Changed));
    let unreadable = Meta {
        mode: 0o000,
        ..META
    };
    let act = Act::SetMeta {
        at: path("f"),
        meta: unreadable,
        expect: scene.print("f"),
    };
    let print = scene.act_and_check(act, "f");
    let act = Act::SetMeta {
        at: path("f"),
        meta: META,
        expect: print,
    };
    scene.act_and_check(act, "f");
}

// sync-27.
#[test]
fn wrong_bytes_are_refused() {
    let scene = Scene::new();
    let act = |size: u64, hash: Hash| Act::Write {
        at: path("f"),
        meta: META,
        size,
        hash,
        over: None,
        source: Source::Here((*b"bytes").into()),
    };
    assert_eq!(scene.act(act(5, hash_of(b"other"))), Err(Trouble::Corrupt));
    assert_eq!(scene.act(act(6, hash_of(b"bytes"))), Err(Trouble::Corrupt));
    assert!(!scene.on_disk("f").exists() && scene.litter().is_empty());
}

#[test]
fn a_local_copy_is_verified() {
    let scene = Scene::new();
    for len in [10, 200_000, 3_000_000] {
        let bytes: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
        scene.write("from", &bytes);
        let act = |at: &str, hash: Hash, expect: Print| Act::Write {
            at: path(at),
            meta: META,
            size: len,
            hash,
            over: None,
            source: Source::Local {
                from: path("from"),
                expect,
            },
        };
        let print = scene.print("from");
        let at = format!("to{len}");
        scene.act_and_check(act(&at, hash_of(&bytes), print), &at);
        assert_eq!(scene.read(&at), bytes);
        let wrong = scene.act(act("wrong", hash_of(b"other"), print));
        assert_eq!(wrong, Err(Trouble::NoSource));
        let stale = Print {
            ctime: print.ctime - 1,
            ..print
        };
        assert_eq!(
            scene.act(act("stale", hash_of(&bytes), stale)),
            Err(Trouble::NoSource)
        );
    }
    assert!(scene.litter().is_empty());
}

#[test]
fn twenty_thousand_files_arrive_and_directories_keep_their_mtimes() {
    const FILES: u64 = 20_000;
    let scene = Scene::at(fast_dir(), Arc::new(Nobody), EyesOptions::default());
    for dir in 0..20 {
        let meta = Meta {
            mode: 0o755,
            ..META
        };
        scene
            .act(Act::MakeDir {
                at: path(&format!("d{dir}")),
                meta,
            })
            .expect("made");
    }
    let started = Instant::now();
    for number in 0..FILES {
        let at = format!("d{}/f{number}", number % 20);
        scene.start(write_here(&at, number.to_string().as_bytes(), None));
    }
    let (mut done, mut last_dirs) = (0, HashMap::new());
    let mut take = |input| {
        match input {
            Input::Finished(outcomes) => {
                assert!(outcomes.iter().all(|outcome| outcome.result.is_ok()));
                done += outcomes.len() as u64;
            }
            Input::Seen { sightings, .. } => {
                for sighting in sightings {
                    if let Found::Dir(print) = sighting.found {
                        last_dirs.insert(sighting.name, print);
                    }
                }
            }
            _ => {}
        }
        done == FILES
    };
    scene.until(|input| take(input).then_some(()));
    println!("{FILES} files in {:?}", started.elapsed());
    assert!(scene.disk.unsynced().load(Ordering::Acquire));
    scene.disk.barrier().sync().expect("synced");
    assert!(!scene.disk.unsynced().load(Ordering::Acquire));
    for number in 0..FILES {
        let at = format!("d{}/f{number}", number % 20);
        assert_eq!(scene.read(&at), number.to_string().as_bytes());
    }
    // The last report of the directories comes after that of the files.
    let names: Vec<String> = (0..20).map(|dir| format!("d{dir}")).collect();
    let told = |dirs: &HashMap<Name, Print>, at: &String| {
        dirs.get(&name(at))
            .is_some_and(|told| told.same(&scene.print(at)))
    };
    while !names.iter().all(|at| told(&last_dirs, at)) {
        let Input::Seen { sightings, .. } = scene.next_input(Instant::now() + DEADLINE) else {
            continue;
        };
        for sighting in sightings {
            if let Found::Dir(print) = sighting.found {
                last_dirs.insert(sighting.name, print);
            }
        }
    }
    for at in &names {
        check_meta(&scene, at, 0o755);
    }
    assert!(scene.litter().is_empty());
}

#[test]
fn a_read_only_directory_of_ours_is_written_to_all_the_same() {
    if rustix::process::geteuid().is_root() {
        println!("skipped: nothing is read-only for root");
        return;
    }
    let scene = Scene::new();
    fs::create_dir(scene.on_disk("d")).expect("made");
    scene.write("d/f", b"old");
    fs::create_dir(scene.on_disk("d/sub")).expect("made");
    let closed = fs::Permissions::from_mode(0o555);
    fs::set_permissions(scene.on_disk("d/sub"), closed.clone()).expect("set");
    fs::set_permissions(scene.on_disk("d"), closed).expect("set");
    scene.act_and_check(write_here("d/new", b"x", None), "d/new");
    scene.act_and_check(write_here("d/f", b"y", Some(scene.print("d/f"))), "d/f");
    let remove = Act::Remove {
        at: path("d/new"),
        expect: scene.print("d/new"),
    };
    assert_eq!(scene.act(remove), Ok(None));
    let expect = scene.print("d/sub");
    scene.act_and_check(
        Act::Move {
            from: path("d/sub"),
            to: path("sub"),
            expect,
        },
        "sub",
    );
    for at in ["d", "sub"] {
        let mode = fs::metadata(scene.on_disk(at)).expect("there").mode();
        assert_eq!(mode & 0o7777, 0o555);
    }
    assert!(scene.litter().is_empty());
}
