//! Contents of small files that have just been read for their hashes: nearly always a peer is told
//! of them a moment later and gets them along, and they need not be read a second time.
//!
//! What finds no room is read again, so there is nothing to lose here. Each is given out once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ahoy_wire::sync::{Hash, INLINE_BYTES_MAX};

/// Most bytes of them, with what it takes to find them.
const BYTES_MAX: usize = 16 << 20;

/// What a content takes beside its own bytes: its place in the map, which may be half empty, its
/// counts, and what the allocator adds.
const BYTES_BESIDE: usize = 160;

/// The contents, by hash.
#[derive(Debug, Default)]
pub(super) struct Recent {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    contents: HashMap<Hash, Arc<[u8]>>,
    bytes: usize,
}

impl Recent {
    /// Keeps a content that may travel with its record, if there is room.
    pub(super) fn keep(&self, hash: Hash, content: &[u8]) {
        let mut kept = self.lock();
        let bytes = content.len() + BYTES_BESIDE;
        let fits = content.len() <= INLINE_BYTES_MAX && kept.bytes + bytes <= BYTES_MAX;
        if fits && !kept.contents.contains_key(&hash) {
            kept.bytes += bytes;
            kept.contents.insert(hash, content.into());
        }
    }

    /// The content with this hash, if it is kept; it is not any more.
    pub(super) fn take(&self, hash: Hash) -> Option<Arc<[u8]>> {
        let mut kept = self.lock();
        let content = kept.contents.remove(&hash)?;
        kept.bytes -= content.len() + BYTES_BESIDE;
        Some(content)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().contents.is_empty()
    }

    /// Nobody has wanted the rest for a while.
    pub(super) fn forget(&self) {
        *self.lock() = Kept::default();
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: usize) -> Hash {
        Hash(*blake3::hash(&n.to_le_bytes()).as_bytes())
    }

    #[test]
    fn there_is_only_so_much_room_and_what_is_taken_makes_some() {
        let recent = Recent::default();
        let content = vec![7; INLINE_BYTES_MAX];
        let most = BYTES_MAX / (INLINE_BYTES_MAX + BYTES_BESIDE);
        (0..=most).for_each(|n| recent.keep(hash(n), &content));
        assert_eq!(recent.take(hash(most)), None, "no room for the last one");
        assert_eq!(recent.take(hash(0)).as_deref(), Some(&content[..]));
        assert_eq!(recent.take(hash(0)), None, "each is given out once");
        recent.keep(hash(most), &content);
        assert!(recent.take(hash(most)).is_some());
        recent.keep(hash(most), &vec![7; INLINE_BYTES_MAX + 1]);
        assert_eq!(recent.take(hash(most)), None, "never with its record");
        recent.forget();
        assert!(recent.is_empty());
        assert_eq!(recent.take(hash(1)), None);
    }

    #[test]
    fn the_same_content_twice_takes_its_room_once() {
        let recent = Recent::default();
        (0..1_000_000).for_each(|_| recent.keep(hash(0), &[1; 1000]));
        recent.keep(hash(1), &[2]);
        assert!(recent.take(hash(1)).is_some());
    }
}
