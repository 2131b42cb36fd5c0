//! Deletes in great number wait for the user's word.

use ahoy_logic::sync::{Notice, State, Withheld};

use crate::peers::Peers;

/// Two machines with so many files in `d`, linked.
fn with_files(count: usize) -> Peers {
    let mut peers = Peers::new(2);
    let folder = &mut peers.all[0].folder;
    folder.mkdir("d");
    folder.write("other", b"other");
    for n in 0..count - 1 {
        folder.write(&format!("d/{n}"), format!("content {n}").as_bytes());
    }
    peers.scan(0);
    peers.link(0, 1);
    assert_eq!(peers.count_in_d(1), count - 1);
    peers
}

/// The user removes the first so many of them, and the watcher reports them in bursts.
fn remove(peers: &mut Peers, count: usize, burst: usize) {
    let names: Vec<String> = (0..count).map(|n| format!("d/{n}")).collect();
    for some in names.chunks(burst) {
        let some: Vec<&str> = some.iter().map(String::as_str).collect();
        some.iter().for_each(|at| peers.all[0].folder.remove(at));
        peers.report(0, &some);
    }
    peers.run();
}

fn withheld(peers: &mut Peers) -> Option<Withheld> {
    peers.engine(0).progress().withheld
}

// sync-35.
#[test]
fn half_of_a_large_share_is_deleted_and_more_than_half_waits() {
    let mut peers = with_files(101);
    remove(&mut peers, 50, 1000);
    assert_eq!(withheld(&mut peers), None);
    assert_eq!(peers.count_in_d(1), 50);

    let mut peers = with_files(101);
    remove(&mut peers, 51, 1000);
    let (files, of) = (51, 101);
    assert_eq!(withheld(&mut peers), Some(Withheld { files, of }));
    assert_eq!(peers.all[0].told, [Notice::Vanished { files, of }]);
    assert_eq!(peers.count_in_d(1), 100, "nothing is told");
    assert_eq!(peers.engine(0).progress().state, State::Running);

    let mut peers = with_files(100);
    remove(&mut peers, 99, 1000);
    assert_eq!(peers.count_in_d(1), 0, "a share of 100 is not large");
}

// sync-35.
#[test]
fn a_mass_that_comes_in_bursts_is_seen_before_its_first_file_is_told() {
    for burst in [1, 7, 40] {
        let mut peers = with_files(120);
        remove(&mut peers, 70, burst);
        assert!(withheld(&mut peers).is_some(), "bursts of {burst}");
        assert_eq!(peers.count_in_d(1), 119, "bursts of {burst}");
    }
}

// sync-35.
#[test]
fn a_directory_that_disappears_counts_with_all_that_was_in_it() {
    let mut peers = with_files(150);
    peers.all[0].folder.remove("d");
    peers.watch(0, &["d"]);
    assert_eq!(withheld(&mut peers).map(|held| held.files), Some(149));
    assert_eq!(peers.count_in_d(1), 149);
}

// sync-35.
#[test]
fn at_the_users_word_they_are_deleted_everywhere() {
    let mut peers = with_files(150);
    remove(&mut peers, 120, 1000);
    assert_eq!(peers.count_in_d(1), 149);
    assert!(peers.engine(0).confirm());
    peers.tick(0);
    assert_eq!(withheld(&mut peers), None);
    assert_eq!(peers.agreed().len(), 2 + 29);
    // The word was for that once.
    let again: Vec<String> = (0..200).map(|n| format!("d/{n}")).collect();
    for at in &again {
        peers.all[0].folder.write(at, at.as_bytes());
    }
    peers.scan(0);
    assert_eq!(peers.count_in_d(1), 200);
    remove(&mut peers, 150, 1000);
    assert!(withheld(&mut peers).is_some());
    assert_eq!(peers.count_in_d(1), 200);
}

// sync-35.
#[test]
fn what_is_put_back_was_never_gone() {
    let mut peers = with_files(150);
    peers.all[0].folder.rename("d", "aside");
    let taken = peers.all[0].folder.take_away("aside");
    peers.watch(0, &["d"]);
    assert!(withheld(&mut peers).is_some());
    peers.all[0].folder.put_back("d", taken);
    peers.scan(0);
    assert_eq!(withheld(&mut peers), None);
    assert_eq!(peers.agreed().len(), 151);
    assert!(!peers.engine(0).confirm(), "nothing waits");
}

// sync-35.
#[test]
fn everything_else_goes_on_meanwhile() {
    let mut peers = with_files(150);
    remove(&mut peers, 120, 1000);
    peers.all[0].folder.write("fresh", b"here");
    peers.watch(0, &["fresh"]);
    peers.all[1].folder.write("other", b"edited there");
    peers.watch(1, &["other"]);
    let has = |index: usize, line: &str| {
        let lines = crate::peers::listing(&peers.all[index].folder);
        lines.iter().any(|found| found == line)
    };
    assert!(has(1, "fresh=here"));
    assert!(has(0, "other=edited there"));
    assert_eq!(peers.count_in_d(1), 149);
}

// sync-35.
#[test]
fn what_disappeared_while_ahoy_did_not_run_waits_too_and_over_a_restart() {
    let mut peers = with_files(150);
    peers.part();
    for _ in 0..2 {
        peers.stop(0);
        (0..120).for_each(|n| peers.all[0].folder.remove(&format!("d/{n}")));
        peers.start(0);
        assert!(withheld(&mut peers).is_some());
    }
    peers.link(0, 1);
    assert_eq!(peers.count_in_d(1), 149);
    assert!(peers.engine(0).confirm());
    peers.tick(0);
    assert_eq!(peers.agreed().len(), 2 + 29);
}

// sync-25, sync-35.
#[test]
fn one_word_is_enough_for_a_folder_that_was_found_empty() {
    let mut peers = with_files(150);
    peers.part();
    peers.stop(0);
    peers.all[0].folder.remove("d");
    peers.all[0].folder.remove("other");
    peers.start(0);
    assert_eq!(peers.engine(0).progress().state, State::Emptied);
    peers.link(0, 1);
    assert_eq!(peers.count_in_d(1), 149);
    assert!(peers.engine(0).confirm());
    peers.tick(0);
    assert_eq!(peers.agreed(), Vec::<String>::new());
}

/// One file that is there is exchanged for what `name` says, again and again, without a pause in
/// which the guard would forget.
fn exchange(peers: &mut Peers, rounds: usize, names: impl Fn(usize) -> (String, String)) {
    for n in 0..rounds {
        let (gone, fresh) = names(n);
        peers.all[0].folder.remove(&gone);
        peers.report(0, &[&gone]);
        peers.run();
        peers.all[0].folder.write(&fresh, fresh.as_bytes());
        peers.report(0, &[&fresh]);
        peers.run();
    }
}

// sync-35.
#[test]
fn files_that_come_and_go_have_not_disappeared_from_the_share() {
    let mut peers = with_files(120);
    peers.all[0].folder.write("temporary 0", b"temporary 0");
    peers.scan(0);
    let name = |n: usize| format!("temporary {n}");
    exchange(&mut peers, 100, |n| (name(n), name(n + 1)));
    assert_eq!(withheld(&mut peers), None);
    exchange(&mut peers, 100, |_| ("d/7".into(), "d/7".into()));
    assert_eq!(withheld(&mut peers), None);
    assert_eq!(peers.count_in_d(1), 119);
    assert_eq!(peers.agreed().len(), 1 + 1 + 119 + 1);
}

// sync-35.
#[test]
fn whoever_replaces_every_file_by_another_is_stopped_half_way() {
    let mut peers = with_files(120);
    let names = |n: usize| (format!("d/{n}"), format!("encrypted {n}"));
    exchange(&mut peers, 100, names);
    assert!(withheld(&mut peers).is_some());
    assert_eq!(peers.count_in_d(1), 119 - 60);
}
