//! Content over a link: ranges, many at a time, refusals, cuts.

use std::sync::mpsc;

use ahoy_host::sync::link::Pace;
use ahoy_host::sync::supply::{Supply, SupplyTrouble};
use ahoy_wire::sync::{Hash, NodeId, Wanted};

use crate::world::{LONG, noise, pair, writers};

#[test]
fn a_range_arrives_whole_and_in_order() {
    let ((a, link), (b, _)) = pair(&writers(), &writers(), Pace::default());
    let bytes = noise(9_000_001);
    let wanted = b.files.put(&bytes);
    for (offset, len) in [
        (0, bytes.len()),
        (1, 300_000),
        (8_999_999, 2),
        (4_000_000, 1),
        (7, 0),
    ] {
        let mut got = Vec::new();
        let mut sink = |at: u64, piece: &[u8]| {
            assert_eq!(at, (offset + got.len()) as u64);
            got.extend_from_slice(piece);
            Ok(())
        };
        let fetched = a
            .links
            .fetch(link, wanted, offset as u64, len as u64, &mut sink);
        let reason = a.links.link(link).map(|l| format!("{:?}", l.end()));
        assert_eq!(fetched, Ok(()), "{offset} {len} {reason:?}");
        assert!(got == bytes[offset..offset + len], "{offset} {len}");
    }
}
