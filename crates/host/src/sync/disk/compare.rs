//! Which parts of a content an older version of the file holds already: asked of the peer by lists
//! of chunks that get finer where they differ, so that a small change costs little, however big
//! the file is.
//!
//! Two versions of the same length are compared at equal distances first: whoever writes over a
//! part of a file moves nothing. What has moved is found by content-defined chunks. Nothing here is
//! believed: what is put together is verified as a whole afterwards (`sync-56`).

use std::collections::HashMap;
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};

use ahoy_logic::sync::LinkId;
use ahoy_wire::sync::{Chunk, ChunkHash, Cuts, GRAIN_MAX, GRAIN_MIN, Stretch, Wanted};

use super::chunks::{self, CONTENT_GRAIN_MAX};
use crate::sync::supply::Supply;

/// The first list has about so many chunks, as a logarithm to base 2, ...
const EVEN_CHUNKS: u32 = 8;
/// ... and where content says, more: the longer the chunks, the more is fetched in vain.
const CONTENT_CHUNKS: u32 = 10;

/// By how much chunks get shorter from one list to the next, as a logarithm to base 2.
const FINER: u8 = 6;

/// The finest list of content-defined chunks: their edges are searched in more than is new.
const CONTENT_GRAIN_MIN: u8 = 14;

/// Most differing parts that are looked at more closely; more are fetched as they are.
const PARTS_MAX: usize = 16;

/// Longest differing part that is looked at more closely by content, bytes.
const CLOSER_BYTES_MAX: u64 = 64 << 20;

/// Part of the file that is being put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// In the older version, from this offset on.
    Here { from: u64, len: u64 },
    /// Only the peer has it.
    There { len: u64 },
}

impl Piece {
    pub(super) fn len(&self) -> u64 {
        let (Self::Here { len, .. } | Self::There { len }) = self;
        *len
    }
}

/// A comparison with the older version `basis`.
pub(super) struct Comparison<'c> {
    pub supply: &'c dyn Supply,
    pub link: LinkId,
    pub wanted: Wanted,
    /// Length of the new content.
    pub size: u64,
    pub basis: &'c File,
    pub stop: &'c AtomicBool,
}

/// A part of the new content, and the part of the older version in which it may be found.
#[derive(Debug, Clone, Copy)]
struct Gap {
    new: (u64, u64),
    old: (u64, u64),
}

impl Comparison<'_> {
    /// The pieces of the new content, first to last; `None` if the older version is of no use.
    pub(super) fn pieces(&self) -> Option<Vec<Piece>> {
        let old_size = self.basis.metadata().ok()?.len();
        let even = (old_size == self.size).then(|| self.even()).flatten();
        let pieces = even.or_else(|| self.by_content(old_size))?;
        let useful = pieces.iter().any(|p| matches!(p, Piece::Here { .. }));
        useful.then_some(pieces)
    }

    /// Compares at equal distances; `None` if most of it differs, so something has moved.
    fn even(&self) -> Option<Vec<Piece>> {
        let mut grain = first_grain(self.size, EVEN_CHUNKS, GRAIN_MIN, GRAIN_MAX);
        let mut differing = self.differing(&[(0, self.size)], grain)?;
        let bytes: u64 = differing.iter().map(|(_, len)| len).sum();
        if bytes > self.size / 2 {
            return None;
        }
        while grain > GRAIN_MIN && differing.len() <= PARTS_MAX {
            grain = grain.saturating_sub(FINER).max(GRAIN_MIN);
            differing = self.differing(&differing, grain)?;
        }
        let mut pieces = Vec::new();
        let mut at = 0;
        for (offset, len) in differing {
            push(&mut pieces, here(at, offset - at));
            push(&mut pieces, Piece::There { len });
            at = offset + len;
        }
        push(&mut pieces, here(at, self.size - at));
        Some(pieces)
    }

    /// Those parts of `parts` whose chunks are not the same, at the same place, here.
    fn differing(&self, parts: &[(u64, u64)], grain: u8) -> Option<Vec<(u64, u64)>> {
        let mut found: Vec<(u64, u64)> = Vec::new();
        for (offset, len) in parts {
            let stretch = self.stretch((*offset, *len), Cuts::Even, grain);
            let (theirs, ours) = self.both(&stretch, &stretch)?;
            if ours.len() != theirs.len() {
                return None;
            }
            let mut at = *offset;
            for (theirs, ours) in theirs.iter().zip(&ours) {
                let len = u64::from(ours.len);
                if theirs.len != ours.len {
                    return None;
                }
                match found.last_mut() {
                    _ if theirs.hash == ours.hash => {}
                    Some((from, long)) if *from + *long == at => *long += len,
                    _ => found.push((at, len)),
                }
                at += len;
            }
        }
        Some(found)
    }

    fn by_content(&self, old_size: u64) -> Option<Vec<Piece>> {
        let whole = Gap {
            new: (0, self.size),
            old: (0, old_size),
        };
        let (low, high) = (CONTENT_GRAIN_MIN, CONTENT_GRAIN_MAX);
        let mut grain = first_grain(self.size, CONTENT_CHUNKS, low, high);
        let mut pieces = self.matched(whole, grain)?;
        while grain > low {
            let gaps = pieces.iter().filter(|p| matches!(p, Piece::There { .. }));
            if gaps.count() > PARTS_MAX {
                break;
            }
            grain = grain.saturating_sub(FINER).max(low);
            pieces = self.closer(&pieces, old_size, grain)?;
        }
        Some(pieces)
    }

    /// Looks at what is only there by a finer list.
    fn closer(&self, pieces: &[Piece], old_size: u64, grain: u8) -> Option<Vec<Piece>> {
        let mut finer = Vec::new();
        let mut at = 0;
        for (number, piece) in pieces.iter().enumerate() {
            let len = piece.len();
            match piece {
                Piece::There { .. } if len <= CLOSER_BYTES_MAX => {
                    let old = self.between(pieces, number, old_size);
                    let gap = Gap {
                        new: (at, len),
                        old,
                    };
                    for piece in self.matched(gap, grain)? {
                        push(&mut finer, piece);
                    }
                }
                Piece::There { .. } | Piece::Here { .. } => push(&mut finer, *piece),
            }
            at += len;
        }
        Some(finer)
    }

    /// The part of the older version between what the neighbours of a piece are taken from.
    fn between(&self, pieces: &[Piece], number: usize, old_size: u64) -> (u64, u64) {
        let before = pieces[..number].last();
        let start = match before {
            Some(Piece::Here { from, len }) => from + len,
            Some(Piece::There { .. }) | None => 0,
        };
        let end = match pieces.get(number + 1) {
            Some(Piece::Here { from, .. }) => *from,
            Some(Piece::There { .. }) | None => old_size,
        };
        // Its neighbours may have changed places.
        let len = end.saturating_sub(start).min(CLOSER_BYTES_MAX);
        (start, len)
    }

    /// The pieces of a part, by one list.
    fn matched(&self, gap: Gap, grain: u8) -> Option<Vec<Piece>> {
        if gap.old.1 == 0 {
            return Some(vec![Piece::There { len: gap.new.1 }]);
        }
        let ours = self.stretch(gap.old, Cuts::Content, grain);
        let theirs = self.stretch(gap.new, Cuts::Content, grain);
        let (theirs, ours) = self.both(&theirs, &ours)?;
        let mut known: HashMap<ChunkHash, (u64, u32)> = HashMap::with_capacity(ours.len());
        let mut at = gap.old.0;
        for chunk in ours {
            known.entry(chunk.hash).or_insert((at, chunk.len));
            at += u64::from(chunk.len);
        }
        let mut pieces = Vec::new();
        for chunk in theirs {
            let len = u64::from(chunk.len);
            let found = known.get(&chunk.hash);
            match found.filter(|(_, long)| *long == chunk.len) {
                Some((from, _)) => push(&mut pieces, here(*from, len)),
                None => push(&mut pieces, Piece::There { len }),
            }
        }
        Some(pieces)
    }

    /// The peer's chunks and ours, cut at the same time.
    fn both(&self, theirs: &Stretch, ours: &Stretch) -> Option<(Vec<Chunk>, Vec<Chunk>)> {
        std::thread::scope(|scope| {
            let asked = std::thread::Builder::new().name("compare".into());
            let asked = asked.spawn_scoped(scope, || {
                self.supply.outline(self.link, self.wanted, *theirs)
            });
            let go_on = || !self.stop.load(Ordering::Acquire);
            let ours = chunks::outline(self.basis, ours, go_on);
            let listed = asked.ok()?.join().ok()?.ok()?;
            let sound = |chunk: &Chunk| chunk.len > 0;
            let sum: u64 = listed.iter().map(|chunk| u64::from(chunk.len)).sum();
            let is_whole = sum == theirs.len && listed.iter().all(sound);
            Some((is_whole.then_some(listed)?, ours.ok()??))
        })
    }

    fn stretch(&self, (offset, len): (u64, u64), cuts: Cuts, grain: u8) -> Stretch {
        Stretch {
            offset,
            len,
            cuts,
            grain,
        }
    }
}

/// Chunks so long that there are about `2^count` of them.
fn first_grain(size: u64, count: u32, low: u8, high: u8) -> u8 {
    let whole = size.max(1).ilog2();
    let grain = u8::try_from(whole.saturating_sub(count)).unwrap_or(high);
    grain.clamp(low, high)
}

fn here(from: u64, len: u64) -> Piece {
    Piece::Here { from, len }
}

/// Appends a piece, to the last one if it goes on from there.
fn push(pieces: &mut Vec<Piece>, piece: Piece) {
    match (pieces.last_mut(), piece) {
        (_, Piece::Here { len: 0, .. } | Piece::There { len: 0 }) => {}
        (
            Some(Piece::Here { from, len }),
            Piece::Here {
                from: at,
                len: more,
            },
        ) if *from + *len == at => {
            *len += more;
        }
        (Some(Piece::There { len }), Piece::There { len: more }) => *len += more,
        (_, piece) => pieces.push(piece),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use ahoy_wire::sync::{Hash, NodeId};

    use super::super::chunks::tests::{file, noise};
    use super::*;
    use crate::sync::supply::{Sink, SupplyTrouble};

    /// A peer that holds a content, and counts what its lists weigh.
    struct Peer {
        content: File,
        listed: Mutex<usize>,
        skew: i64,
    }

    impl Supply for Peer {
        fn fetch(
            &self,
            _: LinkId,
            _: Wanted,
            _: u64,
            _: u64,
            _: &mut Sink<'_>,
        ) -> Result<(), SupplyTrouble> {
            Err(SupplyTrouble::NotHere)
        }

        fn outline(
            &self,
            _: LinkId,
            _: Wanted,
            stretch: Stretch,
        ) -> Result<Vec<Chunk>, SupplyTrouble> {
            let chunks = chunks::outline(&self.content, &stretch, || true).expect("read");
            let mut chunks = chunks.ok_or(SupplyTrouble::NotHere)?;
            *self.listed.lock().expect("no panic") += chunks.len();
            let last = chunks.last_mut().expect("one");
            last.len = last.len.wrapping_add_signed(self.skew as i32);
            Ok(chunks)
        }
    }

    struct Told {
        pieces: Option<Vec<Piece>>,
        listed: usize,
        fetched: u64,
    }

    fn compare_skewed(old: &[u8], new: &[u8], skew: i64) -> Told {
        let peer = Peer {
            content: file(new),
            listed: Mutex::new(0),
            skew,
        };
        let wanted = Wanted {
            node: NodeId([0; 16]),
            hash: Hash([0; 32]),
        };
        let comparison = Comparison {
            supply: &peer,
            link: LinkId(1),
            wanted,
            size: new.len() as u64,
            basis: &file(old),
            stop: &AtomicBool::new(false),
        };
        let pieces = comparison.pieces();
        let mut fetched = 0;
        if let Some(pieces) = &pieces {
            let mut built = Vec::new();
            for piece in pieces {
                match piece {
                    Piece::Here { from, len } => {
                        let from = usize::try_from(*from).expect("small");
                        built.extend(&old[from..from + usize::try_from(*len).expect("small")]);
                    }
                    Piece::There { len } => {
                        let to = built.len() + usize::try_from(*len).expect("small");
                        built.extend_from_slice(&new[built.len()..to]);
                        fetched += len;
                    }
                }
            }
            if skew == 0 {
                assert!(built == new);
            }
        }
        let listed = *peer.listed.lock().expect("no panic");
        Told {
            pieces,
            listed,
            fetched,
        }
    }

    fn compare(old: &[u8], new: &[u8]) -> Told {
        compare_skewed(old, new, 0)
    }

    #[test]
    fn eight_bytes_in_the_middle_cost_one_short_chunk() {
        let old = noise(32 << 20, b"old");
        let mut new = old.clone();
        new[16_000_000..16_000_008].copy_from_slice(b"8 bytes.");
        let told = compare(&old, &new);
        assert_eq!(
            (told.fetched, told.pieces.expect("useful").len()),
            (4096, 3)
        );
        // 256 of 128 KiB, 32 of them in one: 32 of 4 KiB.
        assert!(told.listed < 300, "{} chunks", told.listed);
    }

    #[test]
    fn a_byte_at_the_front_costs_little_more() {
        let old = noise(32 << 20, b"old");
        let new = [b"!", &old[..]].concat();
        let told = compare(&old, &new);
        assert!(told.fetched <= 128 << 10, "{} bytes", told.fetched);
        assert!(told.listed < 1500, "{} chunks", told.listed);
    }

    #[test]
    fn edits_at_many_places_and_changed_ends_are_found() {
        let old = noise(8 << 20, b"old");
        let mut new = [&old[..2 << 20], &noise(100_000, b"in"), &old[3 << 20..]].concat();
        new.extend(noise(50_000, b"end"));
        let told = compare(&old, &new);
        assert!(told.fetched < 500_000, "{} bytes", told.fetched);
        let mut new = old.clone();
        for at in (0..old.len()).step_by(300_000) {
            new[at] ^= 1;
        }
        let told = compare(&old, &new);
        assert!(told.fetched < 4 << 20, "{} bytes", told.fetched);
    }

    #[test]
    fn halves_that_have_changed_places_are_found() {
        let old = noise(4 << 20, b"old");
        let new = [&old[2 << 20..], &old[..2 << 20]].concat();
        let told = compare(&old, &new);
        assert!(told.fetched < 300_000, "{} bytes", told.fetched);
    }

    #[test]
    fn another_content_altogether_is_no_use() {
        let (old, new) = (noise(2 << 20, b"old"), noise(2 << 20, b"new"));
        assert_eq!(compare(&old, &new).pieces, None);
        assert_eq!(compare(&[], &new).pieces, None);
    }

    #[test]
    fn lists_that_do_not_add_up_are_not_believed() {
        let old = noise(2 << 20, b"old");
        let new = [b"!", &old[..]].concat();
        for skew in [1, -1] {
            assert_eq!(compare_skewed(&old, &new, skew).pieces, None);
            assert_eq!(compare_skewed(&old, &old, skew).pieces, None);
        }
    }
}
