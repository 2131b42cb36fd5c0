//! How two records of one node become one: the same on every machine, whatever came first.
//!
//! Place and body are merged apart, so that a rename here and an edit there both stay (`sync-20`).
//! A merge is a join: order, repetition and detours do not matter. Where two contents exclude each
//! other the loser is handed back, and becomes a node of its own beside the winner
//! ([`conflict_copy`]). The specification lists what comes of each pair of deeds (`sync-24`).

use ahoy_wire::sync::{Body, Class, Clock, Dot, NodeId, Place, Record, Relation, Value};

use super::names;
use super::planted::{self, Bug};

/// A merged body and the content that had to give way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// What the node holds now.
    pub body: Body,
    /// What is to be kept beside it.
    pub lost: Option<Body>,
}

/// How two versions of one thing stand to each other. What counts is whether the maker of one had
/// seen the *change* that made the other, not all that its clock has gathered by merging since:
/// who deletes what he sees has deleted it, whatever else was merged into its clock meanwhile.
/// Only where each has seen the other's change, so that one of them gave way in some earlier
/// merge, does the one count that knows all that the other knows and more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Ours replaces theirs.
    Ours,
    /// Theirs replaces ours.
    Theirs,
    /// One change, or each has seen the other.
    Level,
    /// Neither had seen the other.
    Concurrent,
}

fn standing(ours: (&Clock, Dot), theirs: (&Clock, Dot)) -> Standing {
    match (ours.0.has(theirs.1), theirs.0.has(ours.1)) {
        (true, false) => Standing::Ours,
        (false, true) => Standing::Theirs,
        (true, true) if ours.1 == theirs.1 => Standing::Level,
        (true, true) => match ours.0.relation(theirs.0) {
            Relation::After => Standing::Ours,
            Relation::Before => Standing::Theirs,
            Relation::Equal | Relation::Concurrent => Standing::Level,
        },
        (false, false) => Standing::Concurrent,
    }
}

/// Joins two places: the later one, or, if neither knew of the other, the one with the higher dot.
pub fn merge_place(ours: &Place, theirs: &Place) -> Place {
    let winner = match standing((&ours.clock, ours.dot), (&theirs.clock, theirs.dot)) {
        Standing::Ours => ours,
        Standing::Theirs => theirs,
        Standing::Level | Standing::Concurrent => {
            let rank = |place: &Place| (place.dot, place.parent, place.name.clone());
            if rank(ours) >= rank(theirs) || planted::is(Bug::OwnMoveWins) {
                ours
            } else {
                theirs
            }
        }
    };
    Place {
        clock: ours.clock.join(&theirs.clock),
        ..winner.clone()
    }
}

/// Joins two bodies. An edit beats a deletion that did not know of it (`sync-22`); of two deletions
/// the later knowledge counts; equal content with other metadata is no conflict. Of a directory,
/// whose body is only metadata, the deletion wins: what lives in it keeps it alive.
pub fn merge_body(ours: &Body, theirs: &Body) -> Merged {
    let clock = ours.clock.join(&theirs.clock);
    let standing = standing((&ours.clock, ours.dot), (&theirs.clock, theirs.dot));
    let settled = |winner: &Body| Merged {
        body: Body {
            clock: clock.clone(),
            ..winner.clone()
        },
        lost: None,
    };
    match standing {
        Standing::Ours => return settled(ours),
        Standing::Theirs => return settled(theirs),
        Standing::Level | Standing::Concurrent => {}
    }
    let ours_first = (ours.dot, &ours.value) >= (theirs.dot, &theirs.value);
    let (high, low) = if ours_first {
        (ours, theirs)
    } else {
        (theirs, ours)
    };
    let (winner, loser) = match (&high.value, &low.value) {
        (Value::Gone { was, seen }, Value::Gone { seen: other, .. }) => {
            let value = Value::Gone {
                was: was.clone(),
                seen: seen.join(other),
            };
            return Merged {
                body: Body {
                    clock,
                    value,
                    ..high.clone()
                },
                lost: None,
            };
        }
        // A directory's body is metadata; whatever lives in it keeps it there all the same.
        (Value::Gone { .. }, Value::Dir(_)) => (high, low),
        (_, Value::Gone { .. }) if planted::is(Bug::DeletionBeatsEdit) => (low, high),
        (Value::Gone { .. }, _) if planted::is(Bug::DeletionBeatsEdit) => (high, low),
        (Value::Dir(_), Value::Gone { .. }) | (Value::Gone { .. }, _) => (low, high),
        _ => (high, low),
    };
    let either_gone = loser.value.is_gone() || winner.value.is_gone();
    let exclusive = !planted::is(Bug::ConflictIgnored)
        && standing == Standing::Concurrent
        && !either_gone
        && !winner.value.same_content(&loser.value);
    Merged {
        lost: exclusive.then(|| loser.clone()),
        ..settled(winner)
    }
}

/// The node that keeps `lost`, a content of the node at `place` that lost a conflict (`sync-21`).
/// Every machine that meets the conflict makes the same record, so it never multiplies, and since
/// its only version is the lost change itself, a copy that somebody has deleted stays deleted.
pub fn conflict_copy(original: NodeId, place: &Place, lost: &Body) -> Record {
    let clock = Clock::of(lost.dot);
    let name = names::conflict(&place.name, lost);
    Record {
        id: NodeId::conflict_copy(original, lost.dot),
        class: Class::Leaf,
        copy_of: Some(original),
        place: Place {
            clock: clock.clone(),
            dot: lost.dot,
            parent: place.parent,
            name,
        },
        body: Body {
            clock,
            ..lost.clone()
        },
    }
}

/// Whether the node exists for its users: it is not deleted, or somebody moved it while somebody
/// else, who did not know of the move, deleted it.
pub fn is_alive(record: &Record) -> bool {
    match &record.body.value {
        Value::Gone { seen, .. } => !seen.has(record.place.dot),
        Value::Dir(_) | Value::File { .. } | Value::Link { .. } => true,
    }
}

/// What the node holds, or last held.
pub fn value_of(record: &Record) -> &Value {
    match &record.body.value {
        Value::Gone { was, .. } => was,
        value @ (Value::Dir(_) | Value::File { .. } | Value::Link { .. }) => value,
    }
}

#[cfg(test)]
mod tests {
    use ahoy_wire::sync::{Hash, Label, Meta, Mtime, Name, ReplicaId};
    use proptest::prelude::*;

    use super::*;

    fn body(clock: &[(u64, u64)], by: u64, content: u8) -> Body {
        let mut joined = Clock::default();
        for &(replica, count) in clock {
            joined.add(Dot {
                count,
                replica: ReplicaId(replica),
            });
        }
        let dot = Dot {
            count: joined.named(ReplicaId(by)),
            replica: ReplicaId(by),
        };
        let meta = Meta {
            mode: 0o644,
            mtime: Mtime::default(),
        };
        let file = Value::File {
            meta,
            size: 1,
            hash: Hash([content; 32]),
        };
        let value = match content {
            0 => Value::Gone {
                was: Box::new(file),
                seen: Clock::default(),
            },
            _ => file,
        };
        Body {
            clock: joined,
            dot,
            author: Label::tidy("x"),
            value,
        }
    }

    // sync-22.
    #[test]
    fn the_edit_survives_a_deletion_that_did_not_know_of_it() {
        for (edit_by, delete_by) in [(1, 2), (2, 1)] {
            let edit = body(&[(edit_by, 5)], edit_by, 7);
            let delete = body(&[(delete_by, 5)], delete_by, 0);
            let merged = merge_body(&edit, &delete);
            assert_eq!(merged.body.value, edit.value);
            assert_eq!(merged.lost, None);
            assert_eq!(merge_body(&delete, &edit), merged);
        }
    }

    // sync-21.
    #[test]
    fn two_edits_keep_both_contents() {
        let (a, b) = (body(&[(1, 1)], 1, 1), body(&[(2, 1)], 2, 2));
        let merged = merge_body(&a, &b);
        assert_eq!(merged.body.value, b.value);
        assert_eq!(merged.lost, Some(a.clone()));
        assert_eq!(merge_body(&b, &a), merged);
        let copy = |lost: &Body| {
            let place = Place {
                clock: Clock::of(a.dot),
                dot: a.dot,
                parent: NodeId::ROOT,
                name: Name::new(b"f.txt").expect("good name"),
            };
            conflict_copy(NodeId([1; 16]), &place, lost)
        };
        assert!(copy(&a).is_sound());
        assert_eq!(copy(&a), copy(&merged.lost.expect("a lost body")));
    }

    #[test]
    fn the_same_content_is_no_conflict() {
        let (a, b) = (body(&[(1, 1)], 1, 3), body(&[(2, 1)], 2, 3));
        assert_eq!(merge_body(&a, &b).lost, None);
    }

    fn any_body() -> impl Strategy<Value = Body> {
        // Contents follow from dots, as in life: one change has one content.
        (
            proptest::collection::btree_map(1u64..4, 1u64..4, 1..3),
            any::<prop::sample::Index>(),
        )
            .prop_map(|(clock, by)| {
                let entries: Vec<_> = clock.into_iter().collect();
                let (by, count) = entries[by.index(entries.len())];
                let content = ((by * 4 + count) % 5) as u8;
                body(&entries, by, content)
            })
    }

    #[test]
    fn three_versions_come_to_the_same_in_every_order() {
        // 3 changed what 2 had made; 1 knew of neither.
        let second = body(&[(2, 3)], 2, 1);
        let third = body(&[(2, 3), (3, 4)], 3, 2);
        let first = body(&[(1, 9)], 1, 3);
        let join = |x: &Body, y: &Body| merge_body(x, y).body;
        let want = join(&first, &third);
        assert_eq!(join(&join(&second, &first), &third), want);
        assert_eq!(join(&join(&second, &third), &first), want);
        // The second has won over the first where nobody had heard of the third.
        let early = join(&second, &first);
        assert_eq!(join(&early, &want), want);
        assert_eq!(join(&want, &early), want);
    }

    /// What happened on three machines: an edit, a deletion, or hearing of another one's version.
    #[derive(Debug, Clone)]
    enum Deed {
        Edit(usize),
        Delete(usize),
        Hear(usize, usize),
    }

    fn any_deed() -> impl Strategy<Value = Deed> {
        prop_oneof![
            (0..3usize).prop_map(Deed::Edit),
            (0..3usize).prop_map(Deed::Delete),
            (0..3usize, 0..3usize).prop_map(|(to, from)| Deed::Hear(to, from)),
            (0..3usize, 0..3usize).prop_map(|(to, from)| Deed::Hear(to, from)),
        ]
    }

    /// Three machines that all begin with one version; as in life, a change has a higher number
    /// than all that its maker has seen.
    struct Three {
        bodies: Vec<Body>,
        made: Vec<Dot>,
        replaced: Vec<Dot>,
        kept_beside: Vec<Dot>,
    }

    impl Three {
        fn new() -> Self {
            let first = body(&[(1, 1)], 1, 1);
            Self {
                made: vec![first.dot],
                bodies: vec![first; 3],
                replaced: Vec::new(),
                kept_beside: Vec::new(),
            }
        }

        fn change(&mut self, at: usize, deletes: bool) {
            let old = self.bodies[at].clone();
            if deletes && old.value.is_gone() {
                return;
            }
            let dot = Dot {
                count: old.clock.highest() + 1,
                replica: ReplicaId(at as u64 + 1),
            };
            let entries: Vec<(u64, u64)> = (1..=3)
                .map(|replica| (replica, old.clock.named(ReplicaId(replica))))
                .map(|(replica, seen)| {
                    (
                        replica,
                        if replica == dot.replica.0 {
                            dot.count
                        } else {
                            seen
                        },
                    )
                })
                .filter(|(_, count)| *count > 0)
                .collect();
            let content = if deletes {
                0
            } else {
                (dot.count * 4 + dot.replica.0) as u8
            };
            self.bodies[at] = body(&entries, dot.replica.0, content);
            self.replaced.push(old.dot);
            if !deletes {
                self.made.push(dot);
            }
        }

        fn hear(&mut self, to: usize, from: usize) {
            let merged = merge_body(&self.bodies[to], &self.bodies[from]);
            self.kept_beside.extend(merged.lost.map(|lost| lost.dot));
            self.bodies[to] = merged.body;
        }
    }

    proptest! {
        #[test]
        fn merging_is_a_join(a in any_body(), b in any_body(), c in any_body()) {
            let join = |x: &Body, y: &Body| merge_body(x, y).body;
            prop_assert_eq!(join(&a, &a), a.clone());
            prop_assert_eq!(join(&a, &b), join(&b, &a));
            let (left, right) = (join(&join(&a, &b), &c), join(&a, &join(&b, &c)));
            prop_assert_eq!(left.clock, right.clock);
        }

        #[test]
        fn machines_that_have_heard_each_other_agree_and_nothing_is_lost(
            deeds in proptest::collection::vec(any_deed(), 0..24),
            rounds in Just([(0, 1), (1, 2), (2, 0), (0, 1), (1, 2), (2, 0), (0, 1)]).prop_shuffle(),
        ) {
            let mut three = Three::new();
            for deed in deeds {
                match deed {
                    Deed::Edit(at) => three.change(at, false),
                    Deed::Delete(at) => three.change(at, true),
                    Deed::Hear(to, from) => three.hear(to, from),
                }
            }
            for _ in 0..3 {
                for (to, from) in rounds {
                    three.hear(to, from);
                    three.hear(from, to);
                }
            }
            prop_assert_eq!(&three.bodies[0], &three.bodies[1]);
            prop_assert_eq!(&three.bodies[0], &three.bodies[2]);
            for dot in &three.made {
                let accounted = three.bodies[0].dot == *dot
                    || three.replaced.contains(dot)
                    || three.kept_beside.contains(dot);
                prop_assert!(accounted, "{:?} is lost", dot);
            }
        }
    }
}
