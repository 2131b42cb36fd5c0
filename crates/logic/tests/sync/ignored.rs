//! What the rules of a machine leave out, and what becomes of it (`sync-15` to `sync-17`).

use ahoy_logic::sync::Notice;

use crate::folder::Kind;
use crate::one::path;
use crate::peers::Peers;

/// Two linked machines with these rules.
fn with_rules(rules: &str) -> Peers {
    let mut peers = Peers::new(2);
    peers.rule(0, rules);
    peers.rule(1, rules);
    peers.link(0, 1);
    peers
}

fn text(peers: &Peers, index: usize, at: &str) -> Option<String> {
    match &peers.all[index].folder.at.get(&path(at))?.kind {
        Kind::File(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Kind::Dir => Some("a directory".to_owned()),
        Kind::Link(_) => Some("a link".to_owned()),
    }
}

/// Every path on a machine.
fn paths(peers: &Peers, index: usize) -> Vec<String> {
    let paths = peers.all[index].folder.at.keys();
    paths.map(|at| at.display().to_string()).collect()
}

fn is_done(peers: &mut Peers, index: usize) -> bool {
    peers.engine(index).progress().nodes_left == 0
}

fn troubles(peers: &Peers, index: usize) -> Vec<&str> {
    let told = peers.all[index].told.iter();
    let reasons = told.map(|notice| match notice {
        Notice::Trouble { reason, .. } => reason.as_str(),
        Notice::Conflict { .. }
        | Notice::Emptied { .. }
        | Notice::Vanished { .. }
        | Notice::NotSent { .. }
        | Notice::Brought { .. } => "",
    });
    reasons.filter(|reason| !reason.is_empty()).collect()
}

// sync-16.
#[test]
fn what_is_left_out_is_not_told_and_the_rest_is() {
    let mut peers = with_rules("*.o\ntarget/");
    let folder = &mut peers.all[0].folder;
    folder.write("x.o", b"built");
    folder.write("x.c", b"source");
    folder.mkdir("target");
    folder.write("target/y", b"built too");
    folder.mkdir("d");
    folder.link("d/l.o", "../x.o");
    peers.scan(0);
    assert_eq!(paths(&peers, 1), ["d", "x.c"]);
    peers.all[0].folder.write("x.o", b"built again");
    peers.all[0].folder.write("target/z", b"new");
    peers.watch(0, &["x.o", "target/z", "target"]);
    assert_eq!(paths(&peers, 1), ["d", "x.c"]);
    peers.crash(0);
    peers.link(0, 1);
    assert_eq!(paths(&peers, 1), ["d", "x.c"]);
    assert!(is_done(&mut peers, 0) && is_done(&mut peers, 1));
}

// sync-16: two machines may each have their own.
#[test]
fn what_is_left_out_on_both_stays_as_each_has_it() {
    let mut peers = with_rules("*.o");
    for index in [0, 1] {
        let text = format!("of {index}");
        peers.all[index].folder.write("x.o", text.as_bytes());
        peers.scan(index);
    }
    assert_eq!(text(&peers, 0, "x.o").as_deref(), Some("of 0"));
    assert_eq!(text(&peers, 1, "x.o").as_deref(), Some("of 1"));
}

// sync-16: a rule is no matter of what the share has.
#[test]
fn what_the_share_has_goes_on_being_shared() {
    let mut peers = with_rules("");
    peers.all[0].folder.write("x.o", b"one");
    peers.all[0].folder.mkdir("target");
    peers.all[0].folder.write("target/y", b"why");
    peers.scan(0);
    for index in [0, 1] {
        peers.rule(index, "*.o\ntarget/");
    }
    assert_eq!(paths(&peers, 1), ["target", "target/y", "x.o"]);
    peers.all[1].folder.write("x.o", b"two");
    peers.watch(1, &["x.o"]);
    assert_eq!(text(&peers, 0, "x.o").as_deref(), Some("two"));
    // Nobody looks into the directory but for what the share has in there.
    peers.all[0].folder.write("target/y", b"again");
    peers.all[0].folder.write("target/z", b"new");
    peers.scan(0);
    assert_eq!(text(&peers, 1, "target/y").as_deref(), Some("again"));
    assert_eq!(text(&peers, 1, "target/z"), None);
    peers.all[1].folder.remove("x.o");
    peers.watch(1, &["x.o"]);
    assert_eq!(text(&peers, 0, "x.o"), None);
    peers.all[1].folder.write("x.o", b"left out now");
    peers.watch(1, &["x.o"]);
    assert_eq!(text(&peers, 0, "x.o"), None);
}

// sync-16: another machine shares what this one leaves out.
#[test]
fn what_is_in_the_way_of_the_share_is_kept_beside_it() {
    let mut peers = Peers::new(2);
    peers.rule(0, "*.o");
    peers.all[0].folder.write("x.o", b"mine");
    peers.scan(0);
    peers.all[1].folder.write("x.o", b"theirs");
    peers.scan(1);
    peers.link(0, 1);
    let kept: Vec<String> = paths(&peers, 0);
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert_eq!(kept, paths(&peers, 1));
    let mut texts: Vec<_> = kept.iter().filter_map(|at| text(&peers, 0, at)).collect();
    texts.sort();
    assert_eq!(texts, ["mine", "theirs"]);
}

// sync-16: the share brings a file to where a directory is that is left out.
#[test]
fn a_directory_in_the_way_is_shared_and_what_is_in_it_is_not() {
    let mut peers = Peers::new(2);
    peers.rule(0, "e/");
    peers.all[0].folder.mkdir("e");
    peers.all[0].folder.write("e/secret", b"mine");
    peers.scan(0);
    peers.all[1].folder.write("e", b"a file");
    peers.scan(1);
    peers.link(0, 1);
    assert!(is_done(&mut peers, 0) && is_done(&mut peers, 1));
    assert_eq!(text(&peers, 0, "e/secret").as_deref(), Some("mine"));
    assert_eq!(text(&peers, 1, "e/secret"), None);
    let beside = paths(&peers, 1).into_iter().find(|at| at != "e");
    let beside = beside.expect("the file stands beside the directory");
    assert_eq!(text(&peers, 0, &beside).as_deref(), Some("a file"));
}

// sync-16.
#[test]
fn what_gets_a_name_that_is_left_out_leaves_the_share_and_comes_back() {
    let mut peers = with_rules("*~\nold/");
    peers.all[0].folder.write("a", b"one");
    peers.all[0].folder.mkdir("new");
    peers.all[0].folder.write("new/b", b"two");
    peers.scan(0);
    assert_eq!(paths(&peers, 1), ["a", "new", "new/b"]);
    // As editors do: the old one is renamed, and a new one written.
    peers.all[0].folder.rename("a", "a~");
    peers.all[0].folder.write("a", b"three");
    peers.all[0].folder.rename("new", "old");
    peers.watch(0, &["a", "a~", "new", "old"]);
    assert_eq!(paths(&peers, 1), ["a"]);
    assert_eq!(text(&peers, 1, "a").as_deref(), Some("three"));
    assert_eq!(paths(&peers, 0), ["a", "a~", "old", "old/b"]);
    peers.all[0].folder.rename("old", "new");
    peers.watch(0, &["new", "old"]);
    assert_eq!(text(&peers, 1, "new/b").as_deref(), Some("two"));
}

// sync-16: whoever moves a directory moves what is in it.
#[test]
fn what_is_left_out_moves_with_its_directory() {
    let mut peers = with_rules("*.o");
    peers.all[0].folder.mkdir("d");
    peers.all[0].folder.write("d/a", b"shared");
    peers.scan(0);
    peers.all[1].folder.write("d/x.o", b"not shared");
    peers.watch(1, &["d/x.o"]);
    peers.all[0].folder.rename("d", "e");
    peers.watch(0, &["d", "e"]);
    assert_eq!(paths(&peers, 1), ["e", "e/a", "e/x.o"]);
}

// sync-15: rules are taken back.
#[test]
fn what_is_not_left_out_any_more_is_shared() {
    let mut peers = with_rules("*.o\ntarget/");
    peers.all[0].folder.mkdir("target");
    peers.all[0].folder.write("target/x.o", b"built");
    peers.all[0].folder.write("y.o", b"built");
    peers.scan(0);
    peers.rule(1, "");
    peers.rule(0, "target/");
    assert_eq!(paths(&peers, 1), ["y.o"]);
    peers.rule(0, "");
    assert_eq!(paths(&peers, 1), ["target", "target/x.o", "y.o"]);
}

/// Machine 0 has deleted `d` with `d/e` in it, and machine 1 has something of its own there.
fn with_husks() -> Peers {
    let mut peers = with_rules("*.o");
    peers.all[0].folder.mkdir("d");
    peers.all[0].folder.mkdir("d/e");
    peers.all[0].folder.write("d/e/a", b"shared");
    peers.scan(0);
    peers.all[1].folder.write("d/e/x.o", b"not shared");
    peers.watch(1, &["d/e/x.o"]);
    peers.all[0].folder.remove("d");
    peers.watch(0, &["d"]);
    peers
}

// sync-17.
#[test]
fn a_deleted_directory_stays_where_something_left_out_is_in_it() {
    let mut peers = with_husks();
    for _ in 0..2 {
        assert_eq!(paths(&peers, 1), ["d", "d/e", "d/e/x.o"]);
        assert_eq!(paths(&peers, 0), [""; 0]);
        assert!(is_done(&mut peers, 1), "there is nothing to wait for");
        assert_eq!(troubles(&peers, 1).len(), 1, "{:?}", troubles(&peers, 1));
        // Something happens in there, and everything is looked at.
        peers.all[1].folder.write("d/e/y.o", b"not shared either");
        peers.all[1].folder.chmod("d/e", 0o700);
        peers.watch(1, &["d/e", "d/e/y.o"]);
        peers.all[1].folder.remove("d/e/y.o");
        peers.watch(1, &["d/e", "d/e/y.o"]);
        peers.scan(1);
    }
    peers.all[1].told.clear();
    peers.crash(1);
    peers.link(0, 1);
    assert_eq!(paths(&peers, 1), ["d", "d/e", "d/e/x.o"]);
    assert_eq!(paths(&peers, 0), [""; 0]);
    assert!(is_done(&mut peers, 1));
    // The last of it leaves, and the directories go.
    peers.all[1].folder.rename("d/e/x.o", "x.o");
    peers.watch(1, &["d/e/x.o", "x.o"]);
    assert_eq!(paths(&peers, 1), ["x.o"]);
}

// sync-17.
#[test]
fn a_directory_that_stayed_is_shared_again_if_something_is_made_in_it() {
    let mut peers = with_husks();
    peers.all[0].folder.mkdir("d");
    peers.all[0].folder.write("d/new", b"from the other side");
    peers.watch(0, &["d"]);
    assert_eq!(paths(&peers, 1), ["d", "d/e", "d/e/x.o", "d/new"]);
    peers.all[1].folder.write("d/e/mine", b"from this side");
    peers.watch(1, &["d/e/mine"]);
    assert_eq!(paths(&peers, 0), ["d", "d/e", "d/e/mine", "d/new"]);
    assert!(is_done(&mut peers, 0) && is_done(&mut peers, 1));
}

// sync-17.
#[test]
fn what_is_to_have_the_name_of_a_directory_that_stayed_waits_for_it() {
    let mut peers = with_husks();
    peers.may_wait = true;
    peers.all[0].folder.mkdir("n");
    peers.all[0].folder.write("n/b", b"new");
    peers.watch(0, &["n"]);
    peers.all[0].folder.rename("n", "d");
    peers.watch(0, &["n", "d"]);
    assert_eq!(paths(&peers, 1), ["d", "d/e", "d/e/x.o", "n", "n/b"]);
    assert!(!is_done(&mut peers, 1));
    let told = troubles(&peers, 1);
    assert!(
        told.iter().any(|it| it.contains("move that away")),
        "{told:?}"
    );
    peers.all[1].folder.rename("d", "mine.o");
    peers.watch(1, &["d", "mine.o"]);
    assert_eq!(
        paths(&peers, 1),
        ["d", "d/b", "mine.o", "mine.o/e", "mine.o/e/x.o"]
    );
    assert!(is_done(&mut peers, 1));
}
