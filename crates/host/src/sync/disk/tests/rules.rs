//! The file of rules: what is told of it, and what is not looked into because of it.

use std::fs;

use ahoy_logic::sync::{RULES_BYTES_MAX, RULES_FILE, Trouble};

use super::*;

fn with_pause(pause: Duration) -> Scene {
    let options = EyesOptions {
        rules_pause: pause,
        ..EyesOptions::default()
    };
    Scene::with(Arc::new(Nobody), options)
}

/// Whether the rules that were told last leave this file out.
fn is_out(seen: &Seen, at: &str) -> bool {
    seen.rules
        .last()
        .expect("rules were told")
        .ignores(&path(at), false)
}

#[test]
fn what_is_left_out_is_not_looked_into_unless_the_engine_asks() {
    let scene = Scene::new();
    scene.write(RULES_FILE, b"target/\n");
    fs::create_dir_all(scene.on_disk("target/deep")).expect("made");
    scene.write("target/deep/f", b"x");
    scene.disk.look(Look::Below(RelPath::root()), None);
    let mut seen = Seen::default();
    scene.until(|input| {
        let is_first = seen.found.is_empty();
        seen.take(input);
        assert!(
            !is_first || !seen.rules.is_empty(),
            "rules come before what is seen"
        );
        seen.whole_tree.then_some(())
    });
    assert!(is_out(&seen, "target/deep/f") && !is_out(&seen, "f"));
    assert!(matches!(seen.get("target"), Some(Found::Dir(_))));
    assert_eq!(seen.whole, [path("")]);
    // Nobody watches it either.
    scene.write("target/new", b"x");
    scene.write("f", b"x");
    let seen = scene.watch_until(|seen| seen.has_file("f") && seen.settled);
    assert!(seen.get("target/new").is_none());
    scene.disk.look(Look::Below(path("target")), Some(3));
    let seen = scene.watch_until(|seen| seen.has_file("target/deep/f"));
    assert!(seen.has_file("target/new"));
}

#[test]
fn rules_of_before_count_until_the_file_is_quiet() {
    let scene = with_pause(Duration::from_millis(50));
    scene.write(RULES_FILE, b"*.o\n");
    let seen = scene.look_at_all();
    assert!(is_out(&seen, "x.o") && !is_out(&seen, "x.a"));
    // It is written anew, and is empty for a moment.
    scene.write(RULES_FILE, b"");
    scene.write(RULES_FILE, b"*.a\n");
    let seen = scene.watch_until(|seen| {
        seen.rules
            .last()
            .is_some_and(|rules| rules.ignores(&path("x.a"), false))
    });
    assert!(
        seen.rules
            .iter()
            .all(|rules| rules.ignores(&path("x.o"), false))
    );
    let seen = scene.watch_until(|seen| seen.whole_tree);
    assert!(is_out(&seen, "x.a") && !is_out(&seen, "x.o"));
    fs::remove_file(scene.on_disk(RULES_FILE)).expect("removed");
    let seen = scene.watch_until(|seen| seen.whole_tree);
    assert!(!is_out(&seen, "x.a"));
}

#[test]
fn rules_that_cannot_be_read_let_nothing_new_in() {
    let scene = with_pause(Duration::from_millis(50));
    scene.write(RULES_FILE, &vec![b'\n'; RULES_BYTES_MAX + 1]);
    let seen = scene.look_at_all();
    assert!(is_out(&seen, "anything"));
    scene.write(RULES_FILE, b"*.o\n[b-a]\n[b-a]\n[b-a]\n[b-a]\n[b-a]\n");
    let seen = scene.watch_until(|seen| seen.whole_tree);
    assert!(!is_out(&seen, "anything") && is_out(&seen, "x.o"));
    scene.write(RULES_FILE, &vec![b'\n'; RULES_BYTES_MAX + 1]);
    scene.watch_until(|seen| seen.has_file(RULES_FILE) && seen.settled);
    let warnings = std::mem::take(&mut *scene.ear.warnings.lock().expect("no panic"));
    let [first, line, _, _, more, later] = &warnings[..] else {
        panic!("{warnings:?}")
    };
    assert!(
        first.contains("64 KiB") && first.contains("nothing new is shared"),
        "{first}"
    );
    assert!(line.contains("line 2"), "{line}");
    assert!(more.contains("2 more lines"), "{more}");
    assert!(later.contains("the rules of before count"), "{later}");
}

#[test]
fn a_directory_stays_for_what_is_left_out() {
    let scene = Scene::new();
    scene.write(RULES_FILE, b"*.o\n");
    fs::create_dir(scene.on_disk("d")).expect("made");
    scene.write("d/x.o", b"built");
    scene.look_at_all();
    let remove = || Act::Remove {
        at: path("d"),
        expect: scene.print("d"),
    };
    assert_eq!(scene.act(remove()), Err(Trouble::Inhabited));
    scene.write("d/x.c", b"source");
    assert_eq!(scene.act(remove()), Err(Trouble::Changed));
    fs::remove_file(scene.on_disk("d/x.c")).expect("removed");
    fs::remove_file(scene.on_disk("d/x.o")).expect("removed");
    assert_eq!(scene.act(remove()), Ok(None));
}
