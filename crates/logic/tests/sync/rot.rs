//! Bytes that change on the disk though nobody wrote them.

use ahoy_logic::sync::{Notice, Tally};

use crate::peers::{Peers, listing};

/// Machines that hold a small file and a large one, linked in a row.
fn synced(count: usize) -> Peers {
    let mut peers = Peers::new(count);
    peers.all[0].folder.write("small", b"small");
    peers.all[0].folder.write("large", &vec![b'x'; 100_000]);
    peers.scan(0);
    for next in 1..count {
        peers.link(next - 1, next);
    }
    assert_eq!(peers.agreed().len(), 2);
    peers
}

fn told(peers: &Peers, index: usize) -> usize {
    let told = peers.all[index].told.iter();
    told.filter(|notice| matches!(notice, Notice::Trouble { .. }))
        .count()
}

fn tally(peers: &mut Peers, index: usize) -> Tally {
    peers.engine(index).tally()
}

// sync-36.
#[test]
fn what_is_whole_is_left_alone() {
    let mut peers = synced(2);
    let before = peers.all[0]
        .folder
        .at
        .clone()
        .into_keys()
        .collect::<Vec<_>>();
    assert_eq!(peers.scrub(0), 2);
    assert_eq!(tally(&mut peers, 0), Tally { told: 2, rotten: 0 });
    assert_eq!(told(&peers, 0), 0);
    assert!(peers.all[0].folder.at.keys().eq(before.iter()));
}

// sync-36.
#[test]
fn what_has_rotted_is_told_and_fetched_again_and_goes_nowhere() {
    for rotten in ["small", "large"] {
        let mut peers = synced(3);
        let whole = peers.agreed();
        peers.all[1].folder.rot(rotten);
        assert_ne!(listing(&peers.all[1].folder), whole);
        peers.scan(1);
        assert_ne!(listing(&peers.all[1].folder), whole, "no look can find it");
        peers.scrub(1);
        assert_eq!(tally(&mut peers, 1).rotten, 1);
        assert_eq!(told(&peers, 1), 1);
        assert_eq!(peers.agreed(), whole);
        assert!(peers.engine(1).rotten(10).is_empty());
        assert_eq!(peers.scrub(1), 2);
        assert_eq!(tally(&mut peers, 1).rotten, 1, "it is whole again");
    }
}

// sync-36.
#[test]
fn it_waits_for_somebody_who_has_it_whole_over_restarts() {
    let mut peers = synced(2);
    let whole = peers.agreed();
    peers.part();
    peers.all[0].folder.rot("large");
    peers.scrub(0);
    assert_eq!(peers.engine(0).rotten(10).len(), 1);
    peers.stop(0);
    peers.start(0);
    assert_eq!(peers.engine(0).rotten(10).len(), 1);
    peers.link(0, 1);
    assert_eq!(peers.agreed(), whole);
}

// sync-36.
#[test]
fn what_is_whole_nowhere_stays_and_still_goes_nowhere() {
    let mut peers = Peers::new(2);
    peers.all[0].folder.write("only", b"the only one");
    peers.scan(0);
    peers.all[0].folder.rot("only");
    peers.scrub(0);
    peers.link_for(0, 1, 500);
    assert_eq!(listing(&peers.all[1].folder), Vec::<String>::new());
    assert_eq!(listing(&peers.all[0].folder), ["only=uhe only one"]);
    // Somebody touches it: these are still not his bytes.
    peers.all[0].folder.chmod("only", 0o600);
    peers.report(0, &["only"]);
    peers.run_for(500);
    assert_eq!(listing(&peers.all[1].folder), Vec::<String>::new());
    // The user puts it back from elsewhere.
    peers.all[0].folder.write("only", b"the only one");
    peers.watch(0, &["only"]);
    assert_eq!(peers.agreed(), ["only=the only one@600"]);
}

// sync-36.
#[test]
fn an_edit_is_no_rot() {
    let mut peers = synced(2);
    peers.all[0]
        .folder
        .change("small", |bytes| bytes.push(b'!'));
    peers.all[0].folder.write("large", b"new");
    peers.scrub(0);
    // The eyes have missed it, and the reading finds another fingerprint.
    peers.scan(0);
    assert_eq!(tally(&mut peers, 0).rotten, 0);
    assert_eq!(peers.agreed(), ["large=new", "small=small!"]);
    // An edit of what has rotted is an edit.
    peers.part();
    peers.all[0].folder.rot("small");
    peers.scrub(0);
    peers.all[0].folder.write("small", b"by hand");
    peers.watch(0, &["small"]);
    peers.link(0, 1);
    assert_eq!(peers.agreed(), ["large=new", "small=by hand"]);
}
