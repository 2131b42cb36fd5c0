//! Bytes that change on the disk though nobody wrote them.

use ahoy_logic::sync::{Notice, Tally};

use crate::folder::{Entry, Kind, hash};
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

// sync-36. Found by seed 702328.
#[test]
fn what_somebody_deleted_and_somebody_moved_rots_like_anything_else() {
    let mut peers = deleted_and_moved(|_| ());
    assert_eq!(peers.agreed(), ["moved=small"]);
    peers.part();
    peers.all[0].folder.rot("moved");
    peers.scrub(0);
    assert_eq!(peers.engine(0).rotten(10).len(), 1);
    peers.link(0, 1);
    assert_eq!(peers.agreed(), ["moved=small"]);
}

// sync-36. Found by seed 720181.
#[test]
fn who_deletes_what_has_rotted_deletes_what_it_was() {
    let mut peers = deleted_and_moved(|peers| {
        peers.all[0].folder.rot("small");
        peers.scrub(0);
        assert_eq!(peers.engine(0).rotten(10).len(), 1);
    });
    assert_eq!(peers.agreed(), ["moved=small"]);
    assert_eq!(peers.told_contents(0), [hash(b"small")]);
}

/// A file that one of two deletes while the other, who does not know of that, moves it. What
/// `before` does happens when both hold it and have parted.
fn deleted_and_moved(before: impl FnOnce(&mut Peers)) -> Peers {
    let mut peers = Peers::new(2);
    peers.all[0].folder.write("small", b"small");
    peers.scan(0);
    peers.link(0, 1);
    peers.part();
    before(&mut peers);
    peers.all[0].folder.remove("small");
    peers.watch(0, &["small"]);
    peers.all[1].folder.rename("small", "moved");
    peers.watch(1, &["moved", "small"]);
    peers.link(0, 1);
    peers
}

// sync-36. Found by seed 701884.
#[test]
fn who_has_lost_a_content_by_rot_does_not_give_it_up_for_others() {
    // The other's folder goes away sooner or later.
    for turns in 0..40 {
        lost_by_rot(turns);
    }
}

fn lost_by_rot(turns: u32) {
    let mut peers = Peers::new(3);
    // Too much to go along with a record.
    let mine = vec![b'0'; 100_000];
    peers.all[0].folder.write("file", b"old");
    peers.scan(0);
    peers.link(0, 1);
    peers.link(0, 2);
    peers.part();
    peers.all[0].folder.write("file", &mine);
    peers.watch(0, &["file"]);
    peers.link(0, 2);
    peers.part();
    peers.all[0].folder.rot("file");
    peers.scrub(0);
    peers.all[1].folder.write("file", b"by 1");
    peers.watch(1, &["file"]);
    peers.link(1, 2);
    peers.part();
    assert_eq!(kept(&peers, 1, &mine), 1, "what lost stands beside it");
    // For a while the only one who is there with it cannot read it.
    peers.link_for(0, 1, turns);
    peers.root_away(1);
    peers.run_for(36);
    peers.root_back(1);
    assert_eq!(kept(&peers, 1, &mine), 1);
    peers.part();
    peers.link(0, 1);
    assert_eq!(kept(&peers, 0, &mine), 1);
}

/// How many files of a machine hold this.
fn kept(peers: &Peers, index: usize, bytes: &[u8]) -> usize {
    let files = peers.all[index].folder.at.values();
    let is_it = |entry: &&Entry| matches!(&entry.kind, Kind::File(held) if held == bytes);
    files.filter(is_it).count()
}
