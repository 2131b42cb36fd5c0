//! A tree that was built at once is the one that grew record by record, whatever they describe.

use ahoy_wire::sync::{Body, Clock, Dot, Label, Meta, Mtime, Place, ReplicaId};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Few ids and fewer names, so that nodes want the same names, stand in one another, and turn
/// in circles.
const IDS: u8 = 12;
const NAMES: [&str; 3] = ["a", "b", "c"];

#[derive(Debug, Clone)]
struct Change {
    id: u8,
    parent: u8,
    name: usize,
    gone: bool,
    /// Directory and name on the disk.
    on_disk: Option<(u8, usize)>,
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let on_disk = proptest::option::of((0..IDS, 0..NAMES.len()));
    let change = (1..IDS, 0..IDS, 0..NAMES.len(), any::<bool>(), on_disk);
    let change = change.prop_map(|(id, parent, name, gone, on_disk)| Change {
        id,
        parent,
        name,
        gone,
        on_disk,
    });
    vec(change, 0..60)
}

fn node_id(number: u8) -> NodeId {
    // The root is all zeros.
    NodeId([number; 16])
}

fn name(number: usize) -> Name {
    Name::new(NAMES[number].as_bytes()).expect("a name")
}

fn value(id: u8) -> Value {
    let meta = Meta {
        mode: 0o644,
        mtime: Mtime { secs: 0, nanos: 0 },
    };
    // Every other id is that of a directory; two files have one content.
    if id.is_multiple_of(2) {
        Value::Dir(meta)
    } else {
        let (size, hash) = (u64::from(id / 4) + 1, Hash([id / 4; 32]));
        Value::File { meta, size, hash }
    }
}

fn record(change: &Change, count: u64) -> Record {
    let dot = Dot {
        count,
        replica: ReplicaId(7),
    };
    let (was, clock) = (value(change.id), Clock::of(dot));
    let class = match &was {
        Value::Dir(_) => Class::Dir,
        Value::File { .. } | Value::Link { .. } | Value::Gone { .. } => Class::Leaf,
    };
    let value = if change.gone {
        let (was, seen) = (Box::new(was), clock.clone());
        Value::Gone { was, seen }
    } else {
        was
    };
    Record {
        id: node_id(change.id),
        class,
        copy_of: (change.id == 5).then(|| node_id(3)),
        place: Place {
            clock: clock.clone(),
            dot,
            parent: node_id(change.parent),
            name: name(change.name),
        },
        body: Body {
            clock,
            dot,
            author: Label::tidy("desk"),
            value,
        },
    }
}

fn synced(id: u8, parent: u8, number: usize) -> Synced {
    Synced {
        parent: node_id(parent),
        name: name(number),
        value: value(id),
        print: Print {
            inode: u64::from(id),
            birth: 0,
            size: 0,
            mtime: Mtime { secs: 0, nanos: 0 },
            ctime: 0,
            mode: 0o644,
            racy: false,
        },
        body_clock: Clock::default(),
        place_clock: Clock::default(),
    }
}

fn grown(changes: &[Change]) -> Tree {
    let mut tree = Tree::default();
    for (change, count) in changes.iter().zip(1..) {
        let id = node_id(change.id);
        if change.parent == change.id {
            continue;
        }
        tree.set_record(record(change, count), None);
        // No two at one name: the disk has none.
        let place = change.on_disk;
        let free = place.filter(|(dir, at)| tree.on_disk(node_id(*dir), &name(*at)).is_none());
        tree.set_synced(id, free.map(|(dir, at)| synced(change.id, dir, at)));
    }
    tree
}

fn kept(tree: &Tree) -> Restored {
    let mut restored = Restored::new(1);
    for (_, node) in tree.nodes() {
        let (record, synced) = (node.record.clone(), node.synced.clone());
        let signature = node.signature();
        let node = Node::kept(node.number, record, signature, node.sequence, synced);
        restored.add(node);
    }
    restored
}

fn moved(id: u8, parent: u8) -> Change {
    Change {
        id,
        parent,
        name: 0,
        gone: false,
        on_disk: None,
    }
}

/// Files hold nothing, whatever a peer says: what is "in" one waits, before and after a start.
#[test]
fn a_circle_through_a_file_is_none() {
    let tree = grown(&[moved(10, 6), moved(7, 10), moved(6, 7)]);
    assert_eq!(tree.goal(node_id(6)), Goal::Waiting);
    let tree = grown(&[moved(10, 6), moved(7, 10), moved(6, 7), moved(7, 0)]);
    assert_eq!(tree.goal(node_id(6)), Goal::Waiting);
    assert_eq!(Tree::restored(kept(&tree)).goal(node_id(6)), Goal::Waiting);
}

proptest! {
    #[test]
    fn a_tree_that_is_built_at_once_is_the_one_that_grew(changes in changes()) {
        let one = grown(&changes);
        let two = Tree::restored(kept(&one));
        prop_assert_eq!(one.next_number(), two.next_number());
        prop_assert_eq!(one.census(), two.census());
        let ids = |tree: &Tree| tree.nodes().map(|(id, _)| id).collect::<Vec<_>>();
        prop_assert_eq!(ids(&one), ids(&two));
        for id in (0..IDS).map(node_id) {
            prop_assert_eq!(one.goal(id), two.goal(id));
            prop_assert_eq!(one.path(id), two.path(id));
            let wanted = |tree: &Tree| tree.wanted_in_dir(id).collect::<Vec<_>>();
            prop_assert_eq!(wanted(&one), wanted(&two));
            let copies = |tree: &Tree| tree.copies_of(id).collect::<Vec<_>>();
            prop_assert_eq!(copies(&one), copies(&two));
            let holders = |tree: &Tree| tree.holders(Hash([id.0[0] / 4; 32])).collect::<Vec<_>>();
            prop_assert_eq!(holders(&one), holders(&two));
            let here = |tree: &Tree| {
                let names = tree.in_dir(id).map(|(name, id)| (name.clone(), id));
                names.collect::<Vec<_>>()
            };
            prop_assert_eq!(here(&one), here(&two));
            for name in (0..NAMES.len()).map(name) {
                let class = Class::Leaf;
                let (a, b) = (one.is_wanted_at(id, &name), two.is_wanted_at(id, &name));
                prop_assert_eq!(a, b);
                let expected = |tree: &Tree| tree.is_expected_at(id, &name, class);
                prop_assert_eq!(expected(&one), expected(&two));
            }
        }
    }

    /// What follows one node in the row are all that came after it, and none twice.
    #[test]
    fn the_nodes_after_each_are_those_that_came_later(changes in changes()) {
        let tree = grown(&changes);
        let all: Vec<NodeId> = tree.nodes().map(|(id, _)| id).collect();
        let mut walked = Vec::new();
        let mut last = None;
        while let Some((id, _)) = tree.nodes_after(last).next() {
            walked.push(id);
            last = Some(id);
        }
        prop_assert_eq!(walked, all);
    }
}
