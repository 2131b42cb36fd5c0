//! What an engine believes of its folder, and what it does not.

use ahoy_logic::sync::merge::conflict_copy;
use ahoy_logic::sync::{
    Act, Effect, Found, Input, Look, Notice, Outcome, Print, Rights, Sighting, State, Trouble,
};
use ahoy_wire::sync::{Hash, NodeId, Record, RelPath, Value};

use crate::one::{
    LINK, ME, OTHER, One, directory, file, name, nothing, notices, path, print, records, sent,
    steps,
};

fn seen_nothing(one: &mut One, at: &str, asked: Option<u64>) -> Vec<Effect> {
    let mut effects = one.give(Input::Seen {
        sightings: vec![nothing(at)],
        whole: Vec::new(),
        asked,
    });
    effects.extend(one.give(Input::Settled { whole_tree: false }));
    effects
}

fn asked(effects: &[Effect]) -> Option<u64> {
    effects.iter().find_map(|effect| match effect {
        Effect::Look { ask, .. } => Some(*ask),
        Effect::Do(_)
        | Effect::Keep(_)
        | Effect::Say { .. }
        | Effect::Send { .. }
        | Effect::Accept { .. }
        | Effect::Hang { .. }
        | Effect::Read { .. }
        | Effect::Tell(_) => None,
    })
}

/// What a run keeps that has put a file in its place and ends before it hears of that; the next
/// has found a file there, and not read it yet.
fn a_run_cut_short(is_put_back: bool) -> (One, Vec<Outcome>) {
    let mut one = One::started(Rights::Writer);
    one.meet(LINK, OTHER);
    let made = one.hear(LINK, records([file("a", 1, 1)], 1));
    assert_eq!(steps(&made).count(), 1);
    let mut next = One::with_index(Rights::Writer, one.rows, 1 << 30, is_put_back);
    let mut effects = next.look(&[("a", print(1))]);
    effects.extend(next.meet(LINK, OTHER));
    (next, too_late(&effects))
}

/// What a run wants to do meanwhile finds something else than it expects.
fn too_late(effects: &[Effect]) -> Vec<Outcome> {
    let failed = steps(effects).map(|step| Outcome {
        job: step.job,
        result: Err(Trouble::Changed),
    });
    failed.collect()
}

/// The other machine has deleted it, as its `count`-th change.
fn deleted(was: Record, count: u64) -> Record {
    let mut gone = was.clone();
    gone.body.dot.count = count;
    gone.body.clock.add(gone.body.dot);
    gone.body.value = Value::Gone {
        was: Box::new(was.body.value),
        seen: was.place.clock,
    };
    gone
}

/// What is at `at` has been read, and what was to be put there fails.
fn read(one: &mut One, at: &str, print: Print, failed: Vec<Outcome>) -> Vec<Effect> {
    let hashed = || Input::Hashed {
        path: path(at),
        print,
        hash: Hash([1; 32]),
    };
    let mut effects = one.give(hashed());
    effects.extend(one.give(Input::Finished(failed)));
    let asked = asked(&effects);
    effects.extend(one.give(Input::Seen {
        sightings: vec![crate::one::sighting(at, print)],
        whole: Vec::new(),
        asked,
    }));
    effects.extend(one.give(Input::Settled { whole_tree: false }));
    effects.extend(one.give(hashed()));
    one.pass(1000);
    effects.extend(one.give(Input::Tick));
    effects
}

// sync-22, sync-27.
#[test]
fn what_was_put_in_place_and_not_noted_does_not_outlive_its_deletion() {
    let (mut one, failed) = a_run_cut_short(false);
    one.hear(LINK, records([deleted(file("a", 1, 1), 2)], 2));
    let effects = read(&mut one, "a", print(1), failed);
    assert!(sent(&effects, LINK).is_empty(), "{effects:?}");
    let removed = steps(&effects).any(|step| matches!(step.act, Act::Remove { .. }));
    assert!(removed, "{effects:?}");
}

// sync-22, sync-25: what a run puts in place itself is noted, and not taken for an earlier run's.
#[test]
fn what_comes_back_after_its_deletion_is_the_users() {
    let mut one = One::started(Rights::Writer);
    one.meet(LINK, OTHER);
    one.hear(LINK, records([file("a", 1, 1)], 1));
    let mut next = One::new(Rights::Writer, one.rows);
    let mut effects = next.look(&[]);
    effects.extend(next.meet(LINK, OTHER));
    assert_eq!(steps(&effects).count(), 1, "it is put there in this run");
    next.carry_out(&effects, Some(print(1)));
    let suspected = seen_nothing(&mut next, "a", None);
    let doubted = asked(&suspected).expect("it may be older than the step");
    let suspected = seen_nothing(&mut next, "a", Some(doubted));
    let ask = asked(&suspected).expect("it is looked for");
    let gone = seen_nothing(&mut next, "a", Some(ask));
    assert!(are_gone(&sent(&gone, LINK)), "{gone:?}");
    next.give(Input::Room { link: LINK });
    let back = next.write("a", 1);
    assert_eq!(steps(&back).count(), 0, "{back:?}");
    let told = sent(&back, LINK);
    assert!(!told.is_empty() && !are_gone(&told), "{back:?}");
}

// sync-21, sync-27.
#[test]
fn what_was_put_in_place_and_not_noted_is_no_edit_of_ours() {
    let (mut one, failed) = a_run_cut_short(false);
    let mut newer = file("a", 2, 2);
    newer.place = file("a", 1, 1).place;
    newer.body.clock.add(file("a", 1, 1).body.dot);
    one.hear(LINK, records([newer], 2));
    let effects = read(&mut one, "a", print(1), failed);
    assert!(sent(&effects, LINK).is_empty(), "{effects:?}");
    let replaced = steps(&effects)
        .any(|step| matches!(&step.act, Act::Write { over: Some(over), .. } if *over == print(1)));
    assert!(replaced, "{effects:?}");
}

/// The same file as another node, which its maker has put at `at` some seconds later.
fn heir(at: &str, count: u64) -> Record {
    let mut heir = file(at, 1, count);
    heir.id = NodeId::created(NodeId::ROOT, &name(at), heir.class, Some(heir.body.dot));
    if let Value::File { meta, .. } = &mut heir.body.value {
        meta.mtime.secs += 5;
    }
    heir
}

/// What a run keeps that was to make the file of `a` that of `heir`, and ended before it heard of
/// the step.
fn an_inheritance_cut_short(heir: Record) -> One {
    let mut one = One::started(Rights::Writer);
    one.meet(LINK, OTHER);
    let made = one.hear(LINK, records([file("a", 1, 1)], 1));
    one.carry_out(&made, Some(print(1)));
    let left = one.hear(LINK, records([deleted(file("a", 1, 1), 2), heir], 3));
    let acts = acts(&left);
    let is_taken_over = matches!(acts[..], [Act::Move { .. } | Act::SetMeta { .. }]);
    assert!(is_taken_over, "{acts:?}");
    One::with_index(Rights::Writer, one.rows, 1 << 30, false)
}

/// The run after that, which finds the file at this name; what it wants to do, at first and in the
/// end.
fn a_run_after_an_inheritance(at: &str, found: Print) -> (Vec<Act>, Vec<Act>) {
    let mut next = an_inheritance_cut_short(heir(at, 3));
    let first = next.look(&[(at, found)]);
    let last = read(&mut next, at, found, too_late(&first));
    let wanted = (acts(&first), acts(&last));
    tells_nothing_of_its_own(&mut next, last);
    wanted
}

fn tells_nothing_of_its_own(one: &mut One, mut effects: Vec<Effect>) {
    effects.extend(one.meet(LINK, OTHER));
    let is_ours = |record: &&Record| {
        let dots = [record.place.dot, record.body.dot];
        dots.iter().any(|dot| dot.replica != OTHER)
    };
    assert!(!sent(&effects, LINK).iter().any(is_ours), "{effects:?}");
}

fn acts(effects: &[Effect]) -> Vec<Act> {
    steps(effects).map(|step| step.act.clone()).collect()
}

// sync-27: it would come back as a change of ours, beside what the others have made of it.
#[test]
fn a_file_that_became_another_nodes_and_was_not_noted_is_no_move_of_ours() {
    let moved = Print {
        ctime: 99,
        ..print(1)
    };
    let (first, _) = a_run_after_an_inheritance("b", moved);
    assert!(matches!(first[..], [Act::SetMeta { .. }]), "{first:?}");
}

// sync-27.
#[test]
fn a_file_that_became_another_nodes_in_full_and_was_not_noted_is_no_change_of_ours() {
    let mtime = ahoy_wire::sync::Mtime {
        secs: print(1).mtime.secs + 5,
        ..print(1).mtime
    };
    let done = Print {
        ctime: 99,
        mtime,
        ..print(1)
    };
    for at in ["b", "a"] {
        let (_, last) = a_run_after_an_inheritance(at, done);
        assert!(last.is_empty(), "{at}: {last:?}");
    }
}

// sync-27: likewise where it had to be parked on the way.
#[test]
fn a_parked_file_that_became_another_nodes_and_was_not_noted_goes_where_it_was_to_go() {
    let mut next = an_inheritance_cut_short(heir("b", 3));
    let print = print(1);
    let node = heir("b", 3).id;
    let mut effects = next.give(Input::Parked { node, print });
    effects.extend(next.look(&[]));
    let acts = acts(&effects);
    assert!(
        matches!(&acts[..], [Act::Unpark { to }] if *to == path("b")),
        "{acts:?}"
    );
    tells_nothing_of_its_own(&mut next, effects);
}

// sync-39: the run that was cut short, and the backup made just then.
#[test]
fn what_was_put_in_place_and_not_noted_stays_if_a_lost_life_replaced_it() {
    let (mut one, failed) = a_run_cut_short(true);
    let was = file("a", 1, 1);
    let mut lost = file("a", 2, 2);
    lost.place = was.place.clone();
    lost.body.dot.replica = ME.in_run(777);
    lost.body.clock.add(lost.body.dot);
    one.hear(LINK, records([lost], 2));
    let effects = read(&mut one, "a", print(1), failed);
    let copy = conflict_copy(was.id, &was.place, &was.body);
    let is_over =
        |step: &ahoy_logic::sync::Step| matches!(&step.act, Act::Write { over: Some(_), .. });
    assert!(!steps(&effects).any(is_over), "first the copy: {effects:?}");
    assert!(
        steps(&effects).any(|step| step.node == copy.id),
        "{effects:?}"
    );
}

#[test]
fn what_was_brought_into_a_directory_that_was_removed_meanwhile_is_not_waited_for() {
    let mut one = One::started(Rights::Writer);
    one.meet(LINK, OTHER);
    let (dir, made) = (directory("d", 1), file("a", 1, 2));
    let heard = one.hear(LINK, records([dir.clone(), made.clone()], 2));
    assert_eq!(steps(&heard).count(), 2);
    one.carry_out(&heard, Some(print(1)));
    let mut moved = made.clone();
    moved.place.dot.count = 3;
    moved.place.clock.add(moved.place.dot);
    moved.place.parent = dir.id;
    let moving = one.hear(LINK, records([moved.clone()], 3));
    assert_eq!(steps(&moving).count(), 1);
    // Before the step is known to have been done, its user removes the directory with all in it.
    let (mut ask, mut told) = (None, Vec::new());
    for _ in 0..3 {
        told = seen_nothing(&mut one, "d", ask);
        ask = asked(&told);
    }
    let is_made = |step: &ahoy_logic::sync::Step| matches!(step.act, Act::MakeDir { .. });
    assert!(
        steps(&told).any(is_made),
        "for what is on its way: {told:?}"
    );
    let mut effects = one.carry_out(&moving, Some(print(1)));
    // Which fails, as he has put something else there.
    let failed = steps(&told).map(|step| Outcome {
        job: step.job,
        result: Err(Trouble::Changed),
    });
    let failed = failed.collect();
    effects.extend(one.give(Input::Finished(failed)));
    // And so does the other one.
    let mut gone = moved.clone();
    gone.body.dot.count = 4;
    gone.body.clock.add(gone.body.dot);
    gone.body.value = Value::Gone {
        was: Box::new(moved.body.value),
        seen: moved.place.clock,
    };
    effects.extend(one.hear(LINK, records([gone], 4)));
    for _ in 0..10 {
        one.pass(60_000);
        effects = one.carry_out(&effects, Some(print(7)));
        effects.extend(one.give(Input::Tick));
    }
    assert_eq!(one.engine.progress().nodes_left, 0);
}

#[test]
fn a_directory_under_the_inode_number_of_the_file_that_was_there_is_not_that_file() {
    let mut one = One::started(Rights::Writer);
    one.write("a", 1);
    let mut seen = crate::one::sighting("a", print(1));
    seen.found = Found::Dir(print(1));
    let effects = one.give(Input::Seen {
        sightings: vec![seen],
        whole: Vec::new(),
        asked: None,
    });
    assert!(asked(&effects).is_some(), "{effects:?}");
}

fn are_gone(records: &[&Record]) -> bool {
    !records.is_empty() && records.iter().all(|record| record.body.value.is_gone())
}

// sync-25.
#[test]
fn a_deletion_needs_a_witness() {
    let mut one = One::started(Rights::Writer);
    one.meet(LINK, OTHER);
    one.write("a", 1);
    let suspected = seen_nothing(&mut one, "a", None);
    assert!(sent(&suspected, LINK).is_empty(), "nothing is said yet");
    let ask = asked(&suspected).expect("it is looked for");
    let confirmed = seen_nothing(&mut one, "a", Some(ask));
    assert!(are_gone(&sent(&confirmed, LINK)), "{confirmed:?}");
}

// sync-25.
#[test]
fn what_turns_up_again_was_never_gone() {
    let mut one = One::started(Rights::Writer);
    one.meet(LINK, OTHER);
    one.write("a", 1);
    let suspected = seen_nothing(&mut one, "a", None);
    let ask = asked(&suspected).expect("it is looked for");
    let mut effects = one.give(Input::Seen {
        sightings: vec![crate::one::sighting("a", print(1))],
        whole: Vec::new(),
        asked: Some(ask),
    });
    effects.extend(one.give(Input::Settled { whole_tree: false }));
    assert!(sent(&effects, LINK).is_empty());
}

// sync-25.
#[test]
fn nothing_is_believed_and_nothing_done_while_the_root_is_away() {
    let mut one = One::started(Rights::Writer);
    one.meet(LINK, OTHER);
    one.write("a", 1);
    one.give(Input::RootLost);
    assert_eq!(one.engine.progress().state, State::RootLost);
    let looked = one.look(&[]);
    assert!(sent(&looked, LINK).is_empty());
    let heard = one.hear(LINK, records([file("b", 2, 1)], 1));
    assert_eq!(steps(&heard).count(), 0);
    one.give(Input::RootBack);
    let back = one.look(&[("a", print(1))]);
    assert_eq!(steps(&back).count(), 1, "what waited is done now");
}

// sync-25.
#[test]
fn an_emptied_folder_is_believed_only_when_the_user_says_so() {
    let mut before = One::started(Rights::Writer);
    for n in 1..=4 {
        before.write(&format!("f{n}"), n);
    }
    let mut one = One::new(Rights::Writer, before.rows);
    one.meet(LINK, OTHER);
    let looked = one.look(&[]);
    assert_eq!(one.engine.progress().state, State::Emptied);
    assert!(matches!(
        notices(&looked)[..],
        [Notice::Emptied { nodes: 4 }]
    ));
    assert!(!are_gone(&sent(&looked, LINK)));
    one.engine.accept_empty();
    let accepted = one.give(Input::Tick);
    assert_eq!(one.engine.progress().state, State::Running);
    let last = asked(&accepted).expect("they are looked for once more") + 3;
    let mut said = one.give(Input::Seen {
        sightings: (1..=4).map(|n| nothing(&format!("f{n}"))).collect(),
        whole: Vec::new(),
        asked: Some(last),
    });
    said.extend(one.give(Input::Settled { whole_tree: false }));
    said.extend(one.give(Input::Room { link: LINK }));
    let said = sent(&said, LINK);
    assert_eq!(said.len(), 4);
    assert!(are_gone(&said), "{said:?}");
}

// sync-26, sync-27.
#[test]
fn a_replacement_names_what_it_replaces() {
    let mut one = One::started(Rights::Writer);
    one.meet(LINK, OTHER);
    let made = one.hear(LINK, records([file("a", 1, 1)], 1));
    let [step] = &steps(&made).collect::<Vec<_>>()[..] else {
        panic!("{made:?}");
    };
    assert!(matches!(&step.act, Act::Write { over: None, .. }));
    one.carry_out(&made, Some(print(1)));
    let mut newer = file("a", 2, 2);
    newer.place = file("a", 1, 1).place;
    let replaced = one.hear(LINK, records([newer], 2));
    let [step] = &steps(&replaced).collect::<Vec<_>>()[..] else {
        panic!("{replaced:?}");
    };
    let Act::Write { at, over, .. } = &step.act else {
        panic!("{step:?}");
    };
    assert_eq!(*at, RelPath::parse(b"a").expect("a path"));
    assert_eq!(*over, Some(print(1)));
}

/// Looks that were asked for at one name.
fn looked_at(effects: &[Effect], wanted: &str) -> usize {
    let at = |effect: &&Effect| match effect {
        Effect::Look { look, .. } => match look {
            Look::At(dir, name) => dir.join(name) == Some(crate::one::path(wanted)),
            Look::Below(_) => false,
        },
        Effect::Do(_)
        | Effect::Keep(_)
        | Effect::Say { .. }
        | Effect::Send { .. }
        | Effect::Accept { .. }
        | Effect::Hang { .. }
        | Effect::Read { .. }
        | Effect::Tell(_) => false,
    };
    effects.iter().filter(at).count()
}

#[test]
fn a_file_whose_directory_is_renamed_before_it_is_read_is_looked_for_there() {
    let see = |one: &mut One, sightings: Vec<Sighting>| {
        let input = Input::Seen {
            sightings,
            whole: Vec::new(),
            asked: None,
        };
        let mut effects = one.give(input);
        effects.extend(one.give(Input::Settled { whole_tree: false }));
        effects
    };
    let dir = |at: &str| Sighting {
        found: Found::Dir(print(1)),
        ..nothing(at)
    };
    for answered_before in [false, true] {
        let mut one = One::started(Rights::Writer);
        see(&mut one, vec![dir("old")]);
        let inside = Sighting {
            dir: crate::one::path("old"),
            ..crate::one::sighting("f", print(2))
        };
        see(&mut one, vec![inside]);
        // The file is not found any more: its directory has another name by now.
        let unread = Input::Unread {
            path: crate::one::path("old/f"),
            reason: "it is still being written".into(),
            changing: true,
        };
        if answered_before {
            one.give(unread);
        }
        let renamed = see(&mut one, vec![nothing("old"), dir("new")]);
        assert_eq!(looked_at(&renamed, "new/f"), 1, "{renamed:?}");
        let quiet = see(&mut one, vec![dir("new")]);
        assert_eq!(looked_at(&quiet, "new/f"), 0, "once is enough");
    }
}

#[test]
fn a_directory_is_looked_at_when_the_last_file_that_is_new_in_it_has_been_read() {
    let mut one = One::started(Rights::Writer);
    let dir = Sighting {
        found: Found::Dir(print(1)),
        ..nothing("dir")
    };
    let inside = ["f", "g"].map(|name| Sighting {
        dir: crate::one::path("dir"),
        ..crate::one::sighting(name, print(2))
    });
    for sightings in [vec![dir], inside.to_vec()] {
        one.give(Input::Seen {
            sightings,
            whole: Vec::new(),
            asked: None,
        });
        one.give(Input::Settled { whole_tree: false });
    }
    let [first, last] = ["dir/f", "dir/g"].map(|at| {
        one.give(Input::Hashed {
            path: crate::one::path(at),
            print: print(2),
            hash: Hash([2; 32]),
        })
    });
    assert_eq!(looked_at(&first, "dir"), 0, "there is more to come");
    assert_eq!(looked_at(&last, "dir"), 1, "{last:?}");
}

#[test]
fn what_was_read_before_a_step_and_told_after_it_is_no_edit() {
    let mut one = One::started(Rights::Writer);
    one.meet(LINK, OTHER);
    let touched = Print {
        ctime: 77,
        ..print(1)
    };
    let made = one.hear(LINK, records([file("a", 1, 1)], 1));
    one.carry_out(&made, Some(print(1)));
    let last = 1_000;
    let seen = one.give(Input::Seen {
        sightings: vec![crate::one::sighting("a", touched)],
        whole: Vec::new(),
        asked: Some(last),
    });
    assert!(
        seen.iter().any(|e| matches!(e, Effect::Read { .. })),
        "{seen:?}"
    );
    let mut newer = file("a", 2, 2);
    newer.place = file("a", 1, 1).place;
    let replaced = one.hear(LINK, records([newer], 2));
    assert_eq!(steps(&replaced).count(), 1);
    one.carry_out(&replaced, Some(print(2)));
    let mut late = one.give(Input::Hashed {
        path: crate::one::path("a"),
        print: touched,
        hash: Hash([1; 32]),
    });
    for _ in 0..4 {
        late.extend(one.give(Input::Room { link: LINK }));
    }
    assert!(sent(&late, LINK).is_empty(), "{late:?}");
    assert_eq!(looked_at(&late, "a"), 1, "it is looked at once more");
}

/// One that holds a file whose fingerprint may hide a change, and has heard that it is to be
/// replaced; what it wanted then.
fn about_to_replace_a_fresh_file() -> (One, Vec<Effect>) {
    let mut one = One::started(Rights::Writer);
    one.meet(LINK, OTHER);
    let made = one.hear(LINK, records([file("a", 1, 1)], 1));
    let fresh = Print {
        racy: true,
        ..print(1)
    };
    one.carry_out(&made, Some(fresh));
    one.give(Input::Room { link: LINK });
    let was = file("a", 1, 1);
    let mut next = file("a", 2, 2);
    next.place = was.place.clone();
    next.body.clock.add(was.body.dot);
    let effects = one.hear(LINK, records([next], 2));
    (one, effects)
}

/// The look that it asked for finds the same fingerprint, which hides nothing any more.
fn looked_at_again(one: &mut One, effects: &[Effect], content: u8) -> Vec<Effect> {
    let ask = asked(effects).expect("it is looked at");
    let mut effects = one.give(Input::Seen {
        sightings: vec![crate::one::sighting("a", print(1))],
        whole: Vec::new(),
        asked: Some(ask),
    });
    effects.extend(one.give(Input::Settled { whole_tree: false }));
    let reads = |effect: &Effect| matches!(effect, Effect::Read { .. });
    assert!(effects.iter().any(reads), "{effects:?}");
    effects.extend(one.give(Input::Hashed {
        path: RelPath::parse(b"a").expect("a path"),
        print: print(1),
        hash: Hash([content; 32]),
    }));
    one.pass(1000);
    effects.extend(one.give(Input::Tick));
    effects
}

// sync-26.
#[test]
fn a_file_that_could_hide_a_change_is_read_again_before_it_is_replaced() {
    let (mut one, before) = about_to_replace_a_fresh_file();
    assert_eq!(steps(&before).count(), 0, "{before:?}");
    let after = looked_at_again(&mut one, &before, 1);
    let replaces = |act: &Act| matches!(act, Act::Write { over: Some(over), .. } if !over.racy);
    assert!(steps(&after).any(|step| replaces(&step.act)), "{after:?}");
}

// sync-26, sync-21.
#[test]
fn a_change_that_hid_behind_a_fresh_fingerprint_is_kept() {
    let (mut one, before) = about_to_replace_a_fresh_file();
    let after = looked_at_again(&mut one, &before, 9);
    let told = sent(&after, LINK);
    assert!(!told.is_empty(), "it is an edit: {after:?}");
    let lost = |act: &Act| matches!(act, Act::Write { over: Some(_), .. } | Act::Remove { .. });
    assert!(!steps(&after).any(|step| lost(&step.act)), "{after:?}");
}

/// Where the step that is wanted would bring what is parked.
fn unparked(effects: &[Effect]) -> Option<String> {
    steps(effects).find_map(|step| match &step.act {
        Act::Unpark { to } => Some(to.display()),
        Act::MakeDir { .. }
        | Act::MakeLink { .. }
        | Act::Write { .. }
        | Act::SetMeta { .. }
        | Act::Move { .. }
        | Act::Remove { .. }
        | Act::Park { .. } => None,
    })
}

#[test]
fn what_is_parked_and_unknown_to_the_index_comes_out_again() {
    let mut one = One::new(Rights::Writer, Vec::new());
    let node = NodeId([7; 16]);
    let early = one.give(Input::Parked {
        node,
        print: print(1),
    });
    assert_eq!(steps(&early).count(), 0, "not before the first look");
    let mut effects = one.look(&[]);
    let first = unparked(&effects).expect("it gets a name");
    assert_eq!(first, format!("recovered {}", "07".repeat(16)));
    let job = steps(&effects).next().expect("found above").job;
    let result = Err(Trouble::Changed);
    one.give(Input::Finished(vec![Outcome { job, result }]));
    one.pass(60_000);
    effects = one.give(Input::Tick);
    let second = unparked(&effects).expect("it is tried again");
    assert_ne!(first, second, "that name may be taken");
    let done = one.carry_out(&effects, Some(print(1)));
    assert!(asked(&done).is_some(), "it is looked at there");
    one.pass(60_000);
    assert_eq!(unparked(&one.give(Input::Tick)), None);
}

fn below_d() -> Look {
    Look::Below(path("d"))
}

#[test]
fn what_is_seen_in_a_directory_that_is_only_just_being_made_is_looked_for_again() {
    let mut one = One::started(Rights::Writer);
    one.meet(LINK, OTHER);
    let heard = one.hear(LINK, records([directory("d", 1)], 1));
    assert_eq!(steps(&heard).count(), 1);
    let found = Found::File(print(2));
    let early = one.give(Input::Seen {
        sightings: vec![Sighting {
            dir: path("d"),
            name: name("x"),
            found,
        }],
        whole: Vec::new(),
        asked: None,
    });
    assert_eq!(asked(&early), None);
    let done = one.carry_out(&heard, Some(print(1)));
    let below = |effect: &Effect| matches!(effect, Effect::Look { look, .. } if *look == below_d());
    assert!(done.iter().any(below), "{done:?}");
}
