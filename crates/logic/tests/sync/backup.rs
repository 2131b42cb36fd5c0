//! A machine whose index was put back from a backup: it has made changes of which it does not know,
//! and others do.

use ahoy_logic::sync::merge::{conflict_copy, merge_body};
use ahoy_logic::sync::{Act, Effect, Input, LinkId, Outcome, Rights, Row, Trouble};
use ahoy_wire::sync::{Clock, Dot, Hash, Message, Record, ReplicaId, Value};

use crate::one::{
    LINK, ME, OTHER, One, file, hello, is_hung_up, nothing, print, records, run, sent, steps,
};

/// Where the numbers of the next life begin.
const LEAP: u64 = 1 << 30;

/// A file was written twice. The index is from before the second time; the record is of it.
fn lost_life() -> (Vec<Row>, Record) {
    let mut one = One::started(Rights::Writer);
    one.meet(LINK, OTHER);
    one.write("a", 1);
    let backup = one.rows.clone();
    one.give(Input::Room { link: LINK });
    let told = one.write("a", 2);
    let record = sent(&told, LINK)[0].clone();
    assert_eq!(content(&record), Hash([2; 32]));
    (backup, record)
}

fn content(record: &Record) -> Hash {
    match &record.body.value {
        Value::File { hash, .. } => *hash,
        Value::Dir(_) | Value::Link { .. } | Value::Gone { .. } => panic!("{record:?}"),
    }
}

/// A life after that, in which the file is written a third time before anybody comes.
fn next_life(backup: Vec<Row>, is_put_back: bool) -> One {
    let mut one = One::with_index(Rights::Writer, backup, LEAP, is_put_back);
    one.look(&[("a", print(1))]);
    one.write("a", 3);
    one
}

fn open(one: &mut One, link: LinkId) -> (Vec<Effect>, ReplicaId) {
    let rights = Rights::Writer;
    let effects = one.give(Input::Opened { link, rights });
    let said = effects.iter().find_map(|effect| match effect {
        Effect::Say {
            message: Message::Hello(hello),
            ..
        } => Some(hello.replica),
        Effect::Say { .. }
        | Effect::Do(_)
        | Effect::Keep(_)
        | Effect::Send { .. }
        | Effect::Accept { .. }
        | Effect::Hang { .. }
        | Effect::Look { .. }
        | Effect::Read { .. }
        | Effect::Tell(_) => None,
    });
    let said = said.expect("it says hello");
    (effects, said)
}

const WANT: Message = Message::Want { since: 0 };

/// What it says of the file on a new link, to somebody who wants everything and knows nothing.
fn told(one: &mut One, link: LinkId) -> Record {
    open(one, link);
    one.hear(link, hello(ReplicaId(3), 0));
    let effects = one.hear(link, WANT);
    assert!(!is_hung_up(&effects), "{effects:?}");
    sent(&effects, link)[0].clone()
}

/// Whoever has the lost version and hears of the later one keeps both.
fn is_kept_beside(lost: &Record, told: &Record) {
    let merged = merge_body(&lost.body, &told.body);
    assert_eq!(merged.body, {
        let clock = lost.body.clock.join(&told.body.clock);
        ahoy_wire::sync::Body {
            clock,
            ..told.body.clone()
        }
    });
    assert_eq!(merged.lost.as_ref(), Some(&lost.body));
}

// sync-38: also if it meets somebody who does not know of the lost life before anybody who does.
#[test]
fn what_is_changed_after_a_backup_was_put_back_does_not_claim_to_have_seen_what_was_lost() {
    let (backup, lost) = lost_life();
    let mut one = next_life(backup, false);
    let record = told(&mut one, LINK);
    assert_eq!(content(&record), Hash([3; 32]));
    assert_eq!(record.body.dot.replica, run(LEAP));
    assert_eq!(record.place.dot, lost.place.dot, "it had seen that");
    assert!(!record.body.clock.has(lost.body.dot));
    is_kept_beside(&lost, &record);
}

// sync-38: its own peers believe that they have heard what they have heard from the lost life.
#[test]
fn who_hears_of_a_lost_life_goes_on_under_a_new_name() {
    let (backup, lost) = lost_life();
    let mut one = next_life(backup, false);
    assert_eq!(open(&mut one, LINK).1, ME);
    one.hear(LINK, hello(OTHER, 7));
    let effects = one.hear(LINK, records([lost.clone()], 7));
    assert!(is_hung_up(&effects), "{effects:?}");
    assert_eq!(steps(&effects).count(), 0, "nothing of it is merged yet");
    is_kept_beside(&lost, &told(&mut one, LinkId(8)));
    let link = LinkId(9);
    assert_eq!(open(&mut one, link).1, run(LEAP));
    let asked = one.hear(link, hello(OTHER, 7));
    let is_asked =
        |effect: &Effect| matches!(effect, Effect::Say { message, .. } if *message == WANT);
    assert!(asked.iter().any(is_asked), "{asked:?}");
    let effects = one.hear(link, records([lost.clone()], 7));
    assert!(!is_hung_up(&effects), "{effects:?}");
    let is_copy = |step: &&ahoy_logic::sync::Step| step.node != lost.id;
    assert_eq!(steps(&effects).filter(is_copy).count(), 1, "{effects:?}");
    // The next run keeps the name, and what it has heard of is no news.
    let mut next = One::beginning(Rights::Writer, one.rows, 2 * LEAP);
    assert_eq!(open(&mut next, LINK).1, run(LEAP));
    next.hear(LINK, hello(OTHER, 0));
    let effects = next.hear(LINK, records([lost], 7));
    assert!(!is_hung_up(&effects), "{effects:?}");
}

// sync-38: a version that was merged with another one's.
#[test]
fn what_others_made_of_it_does_not_claim_more_than_is_known() {
    let (backup, lost) = lost_life();
    let mut one = next_life(backup, false);
    one.meet(LINK, OTHER);
    one.hear(LINK, records([file("a", 5, LEAP + 100)], 3));
    let merged = one.engine.tree().node(lost.id).expect("it is there");
    assert!(!merged.record.body.clock.has(lost.body.dot));
    assert!(merged.record.is_sound());
    let synced = merged.synced.as_ref().expect("it is on the disk");
    assert!(!synced.body_clock.has(lost.body.dot));
}

// sync-38.
#[test]
fn who_sees_that_the_index_was_put_back_begins_under_a_new_name() {
    let (backup, lost) = lost_life();
    let mut one = next_life(backup, true);
    assert!(one.rows.iter().any(|row| matches!(row, Row::Numbers(_))));
    is_kept_beside(&lost, &told(&mut one, LINK));
    assert_eq!(open(&mut one, LinkId(8)).1, run(LEAP));
    // It hears of what was lost without being surprised.
    one.hear(LinkId(8), hello(OTHER, 0));
    let effects = one.hear(LinkId(8), records([lost], 7));
    assert!(!is_hung_up(&effects), "{effects:?}");
}

#[test]
fn who_hears_only_what_it_knows_keeps_its_name() {
    let (backup, _) = lost_life();
    let mut one = next_life(backup.clone(), false);
    // An index from before anybody wrote down which counts were given knows no less.
    let rows = backup.into_iter();
    let rows = rows.filter(|row| !matches!(row, Row::Numbers(_)));
    let mut old = next_life(rows.collect(), false);
    for one in [&mut one, &mut old] {
        let first = told(one, LINK);
        let again = one.hear(LINK, records([first], 1));
        assert!(!is_hung_up(&again), "{again:?}");
        assert_eq!(open(one, LinkId(8)).1, ME);
    }
}

/// A writer that makes up changes of this machine can have it take one name in a run, no more.
#[test]
fn made_up_changes_do_not_go_on_for_ever() {
    let mut one = One::started(Rights::Writer);
    one.write("a", 1);
    let mut hung_up = 0;
    for n in 1..=5 {
        let link = LinkId(n);
        one.meet(link, OTHER);
        let mut record = file("b", 2, 3);
        record.body.clock.add(Dot {
            count: 1 << 50,
            replica: ME.in_run(1000 + n as u32),
        });
        let effects = one.hear(link, records([record], n));
        hung_up += u32::from(is_hung_up(&effects));
        assert!(one.rows.len() < 100, "it keeps nothing without end");
    }
    assert_eq!(hung_up, 1);
    assert_eq!(open(&mut one, LinkId(9)).1, run(0));
}

/// How often the peer refuses the content of a record until it is given up.
fn refusals(one: &mut One, record: &Record) -> u32 {
    let mut effects = one.hear(LINK, records([record.clone()], 9));
    for refusals in 0..100 {
        let is_gone = |node: &ahoy_logic::sync::tree::Node| node.record.body.value.is_gone();
        if one.engine.tree().node(record.id).is_some_and(is_gone) {
            return refusals;
        }
        let refused = steps(&effects).map(|step| Outcome {
            job: step.job,
            result: Err(Trouble::NoSource),
        });
        let refused: Vec<Outcome> = refused.collect();
        assert_eq!(refused.len(), 1, "{effects:?}");
        one.give(Input::Finished(refused));
        one.pass(60_000);
        effects = one.give(Input::Tick);
    }
    panic!("it is never given up");
}

#[test]
fn who_was_put_back_does_not_give_up_soon_what_its_lost_life_wrote() {
    let (_, record) = lost_life();
    // One that lost the file without a backup in between.
    let mut one = One::started(Rights::Writer);
    one.meet(LINK, OTHER);
    one.write("b", 1);
    let mut own = record.clone();
    let count = own.body.dot.count.min(1);
    own.body.dot.count = count;
    own.body.clock = Clock::of(own.body.dot);
    (own.place.dot, own.place.clock) = (own.body.dot, own.body.clock.clone());
    let soon = refusals(&mut one, &own);
    let mut one = One::with_index(Rights::Writer, Vec::new(), LEAP, true);
    one.look(&[]);
    one.meet(LINK, OTHER);
    let late = refusals(&mut one, &record);
    assert!(soon < 8 && late > 16, "{soon} {late}");
}

/// The record that says what has become of "a", and what `next` wants done when it hears that.
fn hears_of(next: &mut One, lost: &[Record]) -> Vec<Effect> {
    next.meet(LINK, OTHER);
    let effects = next.hear(LINK, records(lost.iter().cloned(), 7));
    assert!(!is_hung_up(&effects), "{effects:?}");
    effects
}

/// What a machine tells of a file that it has, and that its user then has nowhere.
fn deletion(one: &mut One, at: &str) -> Record {
    let mut told = Vec::new();
    for asked in [None, Some(90), Some(91)] {
        one.give(Input::Seen {
            sightings: vec![nothing(at)],
            whole: Vec::new(),
            asked,
        });
        told.extend(one.give(Input::Settled { whole_tree: false }));
    }
    let told = sent(&told, LINK).into_iter();
    let mut gone = told.filter(|record| record.body.value.is_gone());
    gone.next().expect("a deletion").clone()
}

// sync-39: the other half of a rename, say, went with the disk.
#[test]
fn what_was_put_back_is_not_deleted_because_a_lost_life_deleted_it() {
    let mut one = One::started(Rights::Writer);
    one.meet(LINK, OTHER);
    one.write("a", 1);
    let backup = one.rows.clone();
    one.give(Input::Room { link: LINK });
    let lost = deletion(&mut one, "a");
    let mut next = One::with_index(Rights::Writer, backup, LEAP, true);
    next.look(&[("a", print(1))]);
    let effects = hears_of(&mut next, std::slice::from_ref(&lost));
    assert_eq!(steps(&effects).count(), 0, "{effects:?}");
    let told = sent(&effects, LINK);
    let told = told.iter().find(|record| record.id == lost.id);
    let told = told.expect("the others hear that it is there");
    assert_eq!(content(told), Hash([1; 32]));
    assert_eq!(told.body.dot.replica, run(LEAP));
    assert_eq!(merge_body(&told.body, &lost.body).body, told.body);
    // Its user may delete it again.
    next.give(Input::Room { link: LINK });
    let again = deletion(&mut next, "a");
    assert!(again.body.clock.has(told.body.dot));
}

// sync-39: the same if the name has been given to something else.
#[test]
fn what_was_put_back_stays_beside_what_a_lost_life_put_in_its_place() {
    let (backup, lost) = lost_life();
    let mut next = One::with_index(Rights::Writer, backup, LEAP, true);
    next.look(&[("a", print(1))]);
    let effects = hears_of(&mut next, std::slice::from_ref(&lost));
    let wanted: Vec<_> = steps(&effects).collect();
    assert_eq!(
        wanted.len(),
        1,
        "first the old content is copied: {wanted:?}"
    );
    let copy = next.engine.tree().node(wanted[0].node).expect("a node");
    assert_eq!(copy.record.copy_of, Some(lost.id));
    assert_eq!(content(&copy.record), Hash([1; 32]));
    let now = next.engine.tree().node(lost.id).expect("a node");
    assert_eq!(content(&now.record), Hash([2; 32]));
    // A life that still knows what it did has nothing to keep.
    let mut same = One::with_index(Rights::Writer, next.rows, 2 * LEAP, false);
    same.look(&[("a", print(1))]);
    let again = hears_of(&mut same, &[lost]);
    let ids: Vec<_> = steps(&again).map(|step| step.node).collect();
    assert!(ids.iter().all(|id| *id == wanted[0].node), "{ids:?}");
}

// sync-39: it lost a conflict before the backup was made, and the lost life deleted the copy.
#[test]
fn a_copy_that_a_lost_life_deleted_is_made_again_of_what_was_put_back() {
    let mut one = One::started(Rights::Writer);
    one.meet(LINK, OTHER);
    one.write("a", 1);
    let backup = one.rows.clone();
    let stronger = file("a", 5, LEAP);
    one.give(Input::Room { link: LINK });
    let effects = one.hear(LINK, records([stronger.clone()], 3));
    let step = steps(&effects).next().expect("the copy comes first").node;
    let at = one.engine.tree().node(step).expect("a node").record.clone();
    one.carry_out(&effects, Some(print(1)));
    one.give(Input::Room { link: LINK });
    let text = String::from_utf8(at.place.name.as_bytes().to_vec()).expect("a plain name");
    let gone = deletion(&mut one, &text);
    assert_eq!(gone.id, at.id);
    let mut next = One::with_index(Rights::Writer, backup, LEAP, true);
    next.look(&[("a", print(1))]);
    let effects = hears_of(&mut next, &[gone, stronger]);
    let wanted: Vec<_> = steps(&effects).map(|step| step.node).collect();
    assert_eq!(wanted, [at.id], "{effects:?}");
}

// sync-39: nothing was lost where the user of this very life has deleted the copy.
#[test]
fn whose_copy_its_user_has_deleted_can_be_deleted() {
    let mut one = One::started(Rights::Writer);
    one.meet(LINK, OTHER);
    let first = file("a", 5, LEAP);
    let copy = conflict_copy(first.id, &first.place, &first.body);
    let effects = one.hear(LINK, records([first.clone(), copy.clone()], 3));
    assert_eq!(steps(&effects).count(), 2, "{effects:?}");
    one.carry_out(&effects, Some(print(5)));
    one.give(Input::Room { link: LINK });
    let text = String::from_utf8(copy.place.name.as_bytes().to_vec()).expect("a plain name");
    assert_eq!(deletion(&mut one, &text).id, copy.id);
    let mut gone = first.clone();
    gone.body.dot.count += 1;
    gone.body.clock.add(gone.body.dot);
    gone.body.value = Value::Gone {
        was: Box::new(first.body.value),
        seen: first.place.clock,
    };
    let effects = one.hear(LINK, records([gone], 4));
    let wanted: Vec<_> = steps(&effects).collect();
    assert_eq!(wanted.len(), 1, "{effects:?}");
    assert!(matches!(wanted[0].act, Act::Remove { .. }), "{effects:?}");
}
