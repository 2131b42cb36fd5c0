//! Whole looks and watching.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

#[test]
fn a_whole_look_finds_everything_and_parents_first() {
    let scene = Scene::new();
    fs::create_dir_all(scene.on_disk("a/b/c")).expect("made");
    scene.write("a/b/c/f", b"abc");
    scene.write("top", b"");
    symlink("../nowhere", scene.on_disk("a/link")).expect("made");
    fs::create_dir_all(scene.on_disk("a/.ahoy/inner")).expect("made");
    scene.disk.look(Look::Below(RelPath::root()), Some(5));
    let mut order = Vec::new();
    let mut seen = Seen::default();
    scene.until(|input| {
        if let Input::Seen { sightings, .. } = &input {
            order.extend(
                sightings
                    .iter()
                    .map(|s| s.dir.join(&s.name).expect("short")),
            );
        }
        seen.take(input).then_some(())
    });
    assert!(seen.whole_tree);
    assert!(seen.asked.iter().all(|ask| *ask == 5) && !seen.asked.is_empty());
    assert!(matches!(seen.get("a/b/c/f"), Some(Found::File(print)) if print.size == 3));
    assert!(matches!(seen.get("a/link"), Some(Found::Link(_, t)) if t.as_bytes() == b"../nowhere"));
    assert_eq!(seen.found.len(), 6, "{:?}", seen.found.keys());
    seen.whole.sort();
    assert_eq!(seen.whole, ["", "a", "a/b", "a/b/c"].map(path));
    let at = |text: &str| order.iter().position(|p| *p == path(text)).expect("seen");
    assert!(at("a") < at("a/b") && at("a/b") < at("a/b/c") && at("a/b/c") < at("a/b/c/f"));
}

#[test]
fn a_look_that_is_asked_for_carries_the_number() {
    let scene = Scene::new();
    scene.look_at_all();
    scene.write("f", b"x");
    scene.settled();
    scene.disk.look(Look::At(path(""), name("f")), Some(7));
    scene.disk.look(Look::At(path(""), name("none")), Some(8));
    scene
        .disk
        .look(Look::At(path("no/such/dir"), name("f")), Some(9));
    let seen = scene.watch_until(|seen| seen.asked.contains(&9) && seen.settled);
    assert!(seen.has_file("f") && seen.is_gone("none"));
    assert!(
        seen.is_gone("no"),
        "the uppermost that is missing: {:?}",
        seen.found
    );
}

#[test]
fn a_file_is_seen_as_soon_as_it_is_closed() {
    let scene = Scene::new();
    fs::create_dir(scene.on_disk("d")).expect("made");
    scene.look_at_all();
    let mut times = Vec::new();
    for number in 0..50 {
        let at = format!("d/{number}");
        let file = fs::File::create(scene.on_disk(&at)).expect("made");
        std::io::Write::write_all(&mut &file, b"content").expect("written");
        let closed = Instant::now();
        drop(file);
        let seen = scene.watch_until(|seen| seen.get(&at).is_some());
        times.push(closed.elapsed());
        assert!(matches!(seen.get(&at), Some(Found::File(print)) if print.size == 7));
    }
    times.sort();
    println!(
        "close to Seen: median {:?}, worst {:?}",
        times[25], times[49]
    );
    // Far below the quiet time of files that are open; the machine may be busy.
    assert!(times[25] < Duration::from_millis(50), "{times:?}");
}

#[test]
fn a_file_that_stays_open_is_seen_after_it_was_quiet() {
    let scene = Scene::new();
    scene.look_at_all();
    let file = fs::File::create(scene.on_disk("log")).expect("made");
    std::io::Write::write_all(&mut &file, b"line").expect("written");
    let written = Instant::now();
    let seen = scene.watch_until(|seen| seen.has_file("log"));
    assert!(matches!(seen.get("log"), Some(Found::File(print)) if print.size == 4));
    assert!(written.elapsed() >= Duration::from_millis(290));
    drop(file);
}

#[test]
fn renames_deletes_and_links_are_seen() {
    let scene = Scene::new();
    fs::create_dir(scene.on_disk("d")).expect("made");
    scene.write("d/old", b"x");
    let before = scene.look_at_all();
    fs::rename(scene.on_disk("d/old"), scene.on_disk("new")).expect("moved");
    let seen = scene.settled();
    assert!(seen.is_gone("d/old"));
    let (Some(Found::File(was)), Some(Found::File(is))) = (before.get("d/old"), seen.get("new"))
    else {
        panic!("{:?}", seen.found)
    };
    assert!(was.same_but_ctime(is));
    symlink("x", scene.on_disk("d/link")).expect("made");
    let seen = scene.settled();
    assert!(matches!(seen.get("d/link"), Some(Found::Link(..))));
    fs::remove_file(scene.on_disk("new")).expect("removed");
    assert!(scene.settled().is_gone("new"));
}

#[test]
fn a_new_tree_is_found_whole_and_watched() {
    let outside = tempfile::tempdir().expect("a directory");
    fs::create_dir_all(outside.path().join("tree/a/b")).expect("made");
    fs::write(outside.path().join("tree/a/b/f"), b"x").expect("written");
    let scene = Scene::new();
    scene.look_at_all();
    fs::rename(outside.path().join("tree"), scene.on_disk("tree")).expect("moved");
    scene.watch_until(|seen| seen.has_file("tree/a/b/f") && seen.settled);
    scene.write("tree/a/b/g", b"y");
    scene.watch_until(|seen| seen.has_file("tree/a/b/g"));
    fs::create_dir_all(scene.on_disk("one/two/three")).expect("made");
    scene.write("one/two/three/f", b"x");
    scene.watch_until(|seen| seen.has_file("one/two/three/f"));
}

#[test]
fn a_renamed_directory_keeps_its_watches() {
    let scene = Scene::new();
    fs::create_dir_all(scene.on_disk("a/b")).expect("made");
    fs::create_dir(scene.on_disk("z")).expect("made");
    scene.write("a/b/f", b"x");
    scene.look_at_all();
    fs::rename(scene.on_disk("a"), scene.on_disk("z/y")).expect("moved");
    let seen = scene.settled();
    assert!(seen.is_gone("a"));
    assert!(matches!(seen.get("z/y"), Some(Found::Dir(_))));
    assert!(
        seen.get("z/y/b").is_none(),
        "nothing below needs to be looked at"
    );
    scene.write("z/y/b/f", b"changed");
    let seen = scene.watch_until(|seen| seen.has_file("z/y/b/f"));
    assert!(seen.get("a/b/f").is_none());
}

#[test]
fn a_directory_that_leaves_the_share_is_no_longer_watched() {
    let outside = tempfile::tempdir().expect("a directory");
    let scene = Scene::new();
    fs::create_dir_all(scene.on_disk("a/b")).expect("made");
    scene.look_at_all();
    fs::rename(scene.on_disk("a"), outside.path().join("a")).expect("moved");
    assert!(scene.settled().is_gone("a"));
    fs::write(outside.path().join("a/b/secret"), b"x").expect("written");
    fs::create_dir(scene.on_disk("a")).expect("made");
    scene.write("a/f", b"x");
    let seen = scene.watch_until(|seen| seen.has_file("a/f"));
    assert!(
        !seen
            .found
            .keys()
            .any(|path| path.as_bytes().ends_with(b"secret"))
    );
    fs::rename(outside.path().join("a"), scene.on_disk("back")).expect("moved");
    scene.watch_until(|seen| seen.has_file("back/b/secret"));
    scene.write("back/b/more", b"x");
    scene.watch_until(|seen| seen.has_file("back/b/more"));
}

#[test]
fn directories_that_change_places_are_both_still_watched() {
    use rustix::fs::{CWD, RenameFlags};
    let scene = Scene::new();
    for at in ["a/inner", "b/deeper"] {
        fs::create_dir_all(scene.on_disk(at)).expect("made");
    }
    let before = scene.look_at_all();
    let (a, b) = (scene.on_disk("a"), scene.on_disk("b"));
    rustix::fs::renameat_with(CWD, &a, CWD, &b, RenameFlags::EXCHANGE).expect("exchanged");
    let seen = scene.watch_until(|seen| seen.get("a").is_some() && seen.settled);
    let (Some(Found::Dir(was)), Some(Found::Dir(is))) = (before.get("a"), seen.get("b")) else {
        panic!("{:?}", seen.found)
    };
    assert!(was.same_file(is));
    for at in ["a/deeper/f", "b/inner/f"] {
        scene.write(at, b"x");
        scene.watch_until(|seen| seen.has_file(at));
    }
}

#[test]
fn a_new_directory_in_the_place_of_one_that_left_is_watched() {
    let outside = tempfile::tempdir().expect("a directory");
    let scene = Scene::new();
    fs::create_dir(scene.on_disk("a")).expect("made");
    scene.look_at_all();
    for round in 0..20 {
        let away = outside.path().join(round.to_string());
        fs::rename(scene.on_disk("a"), away).expect("moved");
        fs::create_dir(scene.on_disk("a")).expect("made");
        let at = format!("a/{round}");
        scene.watch_until(|seen| seen.settled && seen.whole.contains(&path("a")));
        scene.write(&at, b"x");
        scene.watch_until(|seen| seen.has_file(&at) && seen.settled);
    }
}

#[test]
fn the_last_of_many_quick_changes_is_seen() {
    let scene = Scene::new();
    scene.look_at_all();
    for _ in 0..100 {
        let mut log = fs::OpenOptions::new();
        let log = log.create(true).append(true).open(scene.on_disk("log"));
        std::io::Write::write_all(&mut log.expect("opened"), b"x").expect("written");
        // Time for the eyes to take it for the last one.
        scene.disk.look(Look::At(path(""), name("other")), Some(1));
        scene.watch_until(|seen| seen.is_gone("other"));
    }
    let whole = |seen: &Seen| matches!(seen.get("log"), Some(Found::File(p)) if p.size == 100);
    scene.watch_until(whole);
}

// sync-25.
#[test]
fn a_root_that_vanishes_is_told_and_nothing_is_settled_until_it_is_back() {
    let scene = Scene::new();
    scene.write("f", b"x");
    scene.look_at_all();
    let marker = scene.on_disk(".ahoy/share");
    fs::rename(&marker, scene.on_disk(".ahoy/elsewhere")).expect("moved");
    scene.write("f", b"changed");
    let seen = scene.watch_until(|seen| seen.lost);
    assert!(!seen.settled);
    fs::remove_file(scene.on_disk("f")).expect("removed");
    fs::rename(scene.on_disk(".ahoy/elsewhere"), &marker).expect("moved");
    let seen = scene.watch_until(|seen| seen.back && seen.whole_tree);
    assert!(seen.whole.contains(&path("")) && !seen.has_file("f"));
    scene.write("g", b"x");
    scene.watch_until(|seen| seen.has_file("g") && seen.settled);
}

#[test]
fn without_watches_whole_looks_come_by_themselves() {
    let options = EyesOptions {
        watch: false,
        blind_look_every: Duration::from_millis(20),
        ..EyesOptions::default()
    };
    let scene = Scene::with(Arc::new(Nobody), options);
    scene.look_at_all();
    scene.write("f", b"x");
    scene.watch_until(|seen| seen.has_file("f") && seen.whole_tree);
}

#[test]
fn a_directory_that_cannot_be_listed_is_not_taken_for_empty() {
    if rustix::process::geteuid().is_root() {
        println!("skipped: root can list everything");
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let scene = Scene::new();
    fs::create_dir(scene.on_disk("d")).expect("made");
    fs::set_permissions(scene.on_disk("d"), fs::Permissions::from_mode(0o000)).expect("set");
    let seen = scene.look_at_all();
    assert!(
        matches!(seen.get("d"), Some(Found::Unreadable(_))),
        "{:?}",
        seen.found
    );
    assert_eq!(seen.whole, [path("")]);
    fs::set_permissions(scene.on_disk("d"), fs::Permissions::from_mode(0o700)).expect("set");
}

#[test]
fn a_burst_of_changes_is_seen_whole() {
    let scene = Scene::new();
    fs::create_dir(scene.on_disk("d")).expect("made");
    scene.look_at_all();
    for number in 0..5000 {
        scene.write(&format!("d/{number}"), b"x");
    }
    for number in 0..2500 {
        fs::remove_file(scene.on_disk(&format!("d/{number}"))).expect("removed");
    }
    scene.watch_until(|seen| {
        seen.settled
            && (0..2500).all(|n| !seen.has_file(&format!("d/{n}")))
            && (2500..5000).all(|n| seen.has_file(&format!("d/{n}")))
    });
}

const FEW_WATCHES: &str = "AHOY_TEST_FEW_WATCHES";

/// Not a test of its own: what happens in a namespace where watches are scarce.
#[test]
fn the_process_with_few_watches() {
    let Some(expected) = std::env::var_os(FEW_WATCHES) else {
        return;
    };
    let options = EyesOptions {
        blind_look_every: Duration::from_millis(20),
        ..EyesOptions::default()
    };
    let scene = Scene::with(Arc::new(Nobody), options);
    for number in 0..20 {
        fs::create_dir(scene.on_disk(&format!("d{number}"))).expect("made");
    }
    scene.look_at_all();
    for number in 0..20 {
        let at = format!("d{number}/f");
        scene.write(&at, b"x");
        scene.watch_until(|seen| seen.has_file(&at) && seen.settled);
    }
    let warnings = scene.ear.warnings.lock().expect("no panic");
    let [warning] = &warnings[..] else {
        panic!("told once: {warnings:?}")
    };
    assert!(
        warning.contains(expected.to_str().expect("text")),
        "{warning}"
    );
}

#[test]
fn where_watches_are_scarce_whole_looks_find_the_rest_and_the_user_is_told_once() {
    for (limit, sysctl) in [
        (
            "echo 5 > /proc/sys/user/max_inotify_watches",
            "max_user_watches",
        ),
        (
            "echo 0 > /proc/sys/user/max_inotify_instances",
            "max_user_instances",
        ),
    ] {
        let script = format!("{limit} || exit 77; exec \"$0\" \"$@\"");
        let child = std::process::Command::new("unshare")
            .args(["--user", "--map-root-user", "sh", "-c", &script])
            .arg(std::env::current_exe().expect("known"))
            .args([
                "--exact",
                "sync::disk::tests::looks::the_process_with_few_watches",
            ])
            .env(FEW_WATCHES, sysctl)
            .output();
        match child {
            Ok(output) if output.status.success() => {}
            Ok(output) if output.status.code() != Some(101) => {
                println!("skipped: no user namespaces here");
            }
            Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stdout)),
            Err(error) => println!("skipped: {error}"),
        }
    }
}

#[test]
fn a_file_that_comes_just_before_its_directory_is_renamed_is_seen_there_if_not_before() {
    let scene = Scene::new();
    fs::create_dir(scene.on_disk("d0")).expect("made");
    scene.look_at_all();
    for round in 0..200 {
        let content = vec![b'x'; round + 1];
        let (from, to) = (format!("d{round}"), format!("d{}", round + 1));
        scene.write("new", &content);
        let new = scene.on_disk(&format!("{from}/f{round}"));
        fs::rename(scene.on_disk("new"), new).expect("renamed");
        fs::rename(scene.on_disk(&from), scene.on_disk(&to)).expect("renamed");
        let places = [from, to].map(|dir| path(&format!("{dir}/f{round}")));
        let wanted = content.len() as u64;
        let whole = |found: &Found| matches!(found, Found::File(print) if print.size == wanted);
        scene.watch_until(|seen| {
            let mut found = places.iter().filter_map(|at| seen.found.get(at));
            found.any(whole)
        });
    }
}
