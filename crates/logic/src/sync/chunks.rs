//! Where a content is cut into chunks: at equal distances, or where it says so itself (`sync-57`).
//!
//! Both ends cut with the same numbers (content-defined: `FastCDC`, 2020 variant, no seed), so
//! equal stretches of two versions of a file give equal chunks. Only where to cut: reading and
//! hashing are the host's.

use ahoy_wire::sync::Cuts;
use fastcdc::v2020::FastCDC;

/// The longest mean length of content-defined chunks, as a logarithm to base 2.
pub const CONTENT_GRAIN_MAX: u8 = 20;

/// How much shorter and longer than the mean a content-defined chunk may be, as logarithms.
const SPREAD: u8 = 2;

/// The longest chunk that there can be, in bytes; `grain` is the mean length as a logarithm.
#[must_use]
pub fn longest(cuts: Cuts, grain: u8) -> usize {
    match cuts {
        Cuts::Even => 1 << grain,
        Cuts::Content => 1 << (grain + SPREAD),
    }
}

/// The length of the content-defined chunk at the front of `bytes`, which are not empty. Where the
/// content goes on after them, they are at least as long as the [`longest`] chunk: the cut depends
/// on no more.
#[must_use]
pub fn content_len(bytes: &[u8], grain: u8) -> usize {
    let (mean, longest) = (1 << grain, longest(Cuts::Content, grain));
    let chunker = FastCDC::new(bytes, mean >> SPREAD, mean, longest);
    let (_, end) = chunker.cut(0, bytes.len());
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    // sync-57.
    #[test]
    fn what_follows_the_longest_chunk_moves_no_cut() {
        let mut bytes = vec![0; 1 << 20];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        for grain in [12, 16] {
            let longest = longest(Cuts::Content, grain);
            let (mut start, mut chunks) = (0, 0);
            while start + longest < bytes.len() {
                let rest = &bytes[start..];
                let len = content_len(rest, grain);
                assert!((1..=longest).contains(&len));
                assert_eq!(len, content_len(&rest[..longest], grain), "at {start}");
                start += len;
                chunks += 1;
            }
            assert!(chunks > 1, "{grain}");
        }
    }

    #[test]
    fn an_insert_at_the_front_moves_few_cuts() {
        let mut old = vec![0; 1 << 20];
        blake3::Hasher::new().finalize_xof().fill(&mut old);
        let new = [b"inserted", &old[..]].concat();
        let cuts = |mut bytes: &[u8]| {
            let mut chunks = std::collections::BTreeSet::new();
            while !bytes.is_empty() {
                let (chunk, rest) = bytes.split_at(content_len(bytes, 14));
                chunks.insert(chunk.to_vec());
                bytes = rest;
            }
            chunks
        };
        let known = cuts(&old);
        let missing = cuts(&new).iter().filter(|it| !known.contains(*it)).count();
        assert!(
            known.len() > 20 && missing <= 2,
            "{missing} of {}",
            known.len()
        );
    }
}
