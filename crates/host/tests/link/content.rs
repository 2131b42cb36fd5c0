//! Content over a link: ranges, many at a time, refusals, cuts.

use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};

use ahoy_host::sync::link::Pace;
use ahoy_host::sync::supply::{Supply, SupplyTrouble};
use ahoy_wire::sync::{Hash, NodeId, Wanted};

use crate::world::{Side, noise, pair, whole, writers};

fn fetched(
    side: &Side,
    link: ahoy_logic::sync::LinkId,
    wanted: Wanted,
    offset: u64,
    len: u64,
) -> Result<Vec<u8>, SupplyTrouble> {
    let mut got = Vec::new();
    let mut sink = |at: u64, piece: &[u8]| {
        assert_eq!(at, offset + got.len() as u64);
        got.extend_from_slice(piece);
        Ok(())
    };
    side.links.fetch(link, wanted, offset, len, &mut sink)?;
    Ok(got)
}

#[test]
fn a_range_arrives_whole_and_in_order() {
    let ((a, link), (b, _)) = pair(&writers(), &writers(), Pace::default());
    let bytes = noise(20_000_001);
    let wanted = b.files.put(&bytes);
    for (offset, len) in [
        (0, bytes.len()),
        (1, 300_000),
        (19_999_999, 2),
        (4_000_000, 1),
        (7, 0),
    ] {
        let got = fetched(&a, link, wanted, offset as u64, len as u64).expect("content");
        assert!(got == bytes[offset..offset + len], "{offset} {len}");
    }
}

#[test]
fn a_thousand_requests_from_many_threads_both_ways() {
    let ((a, at_a), (b, at_b)) = pair(&writers(), &writers(), Pace::default());
    let contents: Vec<_> = (0..50).map(|i| noise(i * 9001 + 1)).collect();
    let of_a: Vec<_> = contents.iter().map(|bytes| a.files.put(bytes)).collect();
    let of_b: Vec<_> = contents.iter().map(|bytes| b.files.put(bytes)).collect();
    std::thread::scope(|scope| {
        for worker in 0..20 {
            let (side, link, wanted) = if worker % 2 == 0 {
                (&a, at_a, &of_b)
            } else {
                (&b, at_b, &of_a)
            };
            let contents = &contents;
            scope.spawn(move || {
                for (bytes, wanted) in contents.iter().zip(wanted) {
                    let got = fetched(side, link, *wanted, 0, bytes.len() as u64);
                    assert!(got.expect("content") == *bytes);
                }
            });
        }
    });
}

#[test]
fn more_fetches_than_open_requests_wait_their_turn() {
    let ((a, link), (b, _)) = pair(&writers(), &writers(), Pace::default());
    let bytes = noise(3 << 20);
    let wanted = b.files.put(&bytes);
    let start = Barrier::new(100);
    std::thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| {
                start.wait();
                let got = fetched(&a, link, wanted, 0, bytes.len() as u64).expect("content");
                assert!(got == bytes);
            });
        }
    });
}

#[test]
fn what_is_not_there_is_refused_and_the_link_goes_on() {
    let ((a, link), (b, _)) = pair(&writers(), &writers(), Pace::default());
    let bytes = noise(5000);
    let wanted = b.files.put(&bytes);
    let other = Wanted {
        node: NodeId([1; 16]),
        hash: Hash([0; 32]),
    };
    assert_eq!(fetched(&a, link, other, 0, 10), Err(SupplyTrouble::NotHere));
    assert_eq!(
        fetched(&a, link, wanted, 4999, 2),
        Err(SupplyTrouble::NotHere)
    );
    assert_eq!(
        fetched(&a, link, wanted, u64::MAX, 2),
        Err(SupplyTrouble::NotHere)
    );
    assert_eq!(
        fetched(&a, link, wanted, u64::MAX - 1, 1),
        Err(SupplyTrouble::NotHere)
    );
    assert_eq!(
        a.links.outline(link, other, whole()),
        Err(SupplyTrouble::NotHere)
    );
    assert_eq!(
        a.links
            .outline(link, wanted, whole())
            .expect("an outline")
            .len(),
        1
    );
    // The file shrinks between being opened and being read.
    b.files.file(wanted).set_len(100).expect("shrinks");
    assert_eq!(
        fetched(&a, link, wanted, 0, 5000),
        Err(SupplyTrouble::NotHere)
    );
    assert_eq!(fetched(&a, link, wanted, 0, 100), Ok(bytes[..100].to_vec()));
}

#[test]
fn a_sink_that_wants_no_more_stops_the_transfer_alone() {
    let ((a, link), (b, _)) = pair(&writers(), &writers(), Pace::default());
    let bytes = noise(30 << 20);
    let wanted = b.files.put(&bytes);
    for _ in 0..20 {
        let mut sink = |_: u64, _: &[u8]| Err(std::io::Error::other("enough"));
        let stopped = a
            .links
            .fetch(link, wanted, 0, bytes.len() as u64, &mut sink);
        assert_eq!(stopped, Err(SupplyTrouble::Stopped));
    }
    let got = fetched(&a, link, wanted, 1 << 20, 2 << 20).expect("content");
    assert!(got == bytes[1 << 20..3 << 20]);
}

#[test]
fn a_slow_sink_holds_up_nobody_else() {
    let ((a, link), (b, _)) = pair(&writers(), &writers(), Pace::default());
    let bytes = noise(40 << 20);
    let wanted = b.files.put(&bytes);
    let (release, held) = channel::<()>();
    let (begun, beginning) = channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let held = held;
            let mut first = true;
            let mut sink = |_: u64, _: &[u8]| {
                if std::mem::take(&mut first) {
                    begun.send(()).expect("the test waits");
                    held.recv().expect("released");
                }
                Ok(())
            };
            a.links
                .fetch(link, wanted, 0, bytes.len() as u64, &mut sink)
                .expect("in the end");
        });
        beginning.recv().expect("the first piece");
        let got = fetched(&a, link, wanted, 0, bytes.len() as u64).expect("content");
        assert!(got == bytes);
        release.send(()).expect("it waits");
    });
}

#[test]
fn a_cut_ends_every_wait() {
    let ((a, link), (b, other)) = pair(&writers(), &writers(), Pace::default());
    let bytes = noise(64 << 20);
    let wanted = b.files.put(&bytes);
    let mut cut = Some(b.link(other));
    let mut got = 0;
    let mut sink = |_: u64, piece: &[u8]| {
        got += piece.len();
        if let Some(link) = cut.take_if(|_| got > 8 << 20) {
            link.hang("cut");
        }
        Ok(())
    };
    let ended = a
        .links
        .fetch(link, wanted, 0, bytes.len() as u64, &mut sink);
    assert_eq!(ended, Err(SupplyTrouble::Ended));
    a.closed(link);
    b.closed(other);
    assert_eq!(fetched(&a, link, wanted, 0, 1), Err(SupplyTrouble::Ended));
}

#[test]
fn a_link_that_is_let_go_frees_its_waiting_threads() {
    let ((a, link), (b, _)) = pair(&writers(), &writers(), Pace::default());
    let wanted = b.files.put(&noise(32 << 20));
    let link_a = Arc::clone(&a.link(link));
    let mut sink = |_: u64, _: &[u8]| {
        link_a.hang("enough");
        Ok(())
    };
    assert_eq!(
        a.links.fetch(link, wanted, 0, 32 << 20, &mut sink),
        Err(SupplyTrouble::Ended)
    );
    a.closed(link);
}
