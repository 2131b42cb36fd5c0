//! BLAKE3 of a file, for large ones on several threads.
//!
//! BLAKE3 hashes a tree, so segments of a power of two can be hashed apart and put together; the
//! hash is the same. Nothing is told of a large file before its hash is known, so the time of the
//! first byte on the wire hangs on this.

use std::num::NonZeroU64;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use ahoy_wire::sync::Hash;
use blake3::Hasher;
use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root};
use blake3::hazmat::{left_subtree_len, merge_subtrees_root};
use rustix::fs::Advice;
use rustix::io::retry_on_intr;

/// Bytes of a segment; a power of two.
const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;

/// Shorter files are not worth more than one thread.
const APART_BYTES_MIN: u64 = 4 * SEGMENT_BYTES;

/// More threads than this read no faster from a disk, and leave something to others.
const THREADS_MAX: usize = 4;

/// Bytes read at once: what stays in a processor's own cache until it is hashed.
pub(super) const PIECE_BYTES: usize = 256 * 1024;

/// BLAKE3 of `file` and how many bytes that were; if they fit into `buffer`, they are there
/// afterwards. Stops soon after `most` bytes: somebody may write faster than we read. That there
/// are no more is seen by a read that brought less than there was room for; whoever has to know
/// looks at the file's size afterwards.
pub(super) fn hash_all(
    file: impl AsFd,
    buffer: &mut [u8],
    most: u64,
) -> rustix::io::Result<(Hash, u64)> {
    if most >= APART_BYTES_MIN && most > buffer.len() as u64 {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let hash = hash_apart(file.as_fd(), most, SEGMENT_BYTES, threads.min(THREADS_MAX))?;
        if let Some(hash) = hash {
            return Ok((hash, most));
        }
    }
    hash_in_order(file, buffer, most)
}

fn hash_in_order(file: impl AsFd, buffer: &mut [u8], most: u64) -> rustix::io::Result<(Hash, u64)> {
    let (mut hasher, mut offset) = (Hasher::new(), 0);
    let mut filled = 0;
    while offset <= most {
        if filled == buffer.len() {
            filled = 0;
        }
        match retry_on_intr(|| rustix::io::pread(&file, &mut buffer[filled..], offset))? {
            0 => break,
            count => {
                hasher.update(&buffer[filled..filled + count]);
                filled += count;
                offset += count as u64;
                if offset == most && filled < buffer.len() {
                    break;
                }
            }
        }
    }
    Ok((Hash(*hasher.finalize().as_bytes()), offset))
}

/// BLAKE3 of the first `len` bytes, more than one segment, on `threads` threads; none if the file
/// is shorter than that, or if only one thread can be had.
fn hash_apart(
    file: BorrowedFd<'_>,
    len: u64,
    segment: u64,
    threads: usize,
) -> rustix::io::Result<Option<Hash>> {
    let next = AtomicU64::new(0);
    let work = || hash_segments(file, len, segment, &next);
    let parts = std::thread::scope(|scope| {
        let name = || std::thread::Builder::new().name("hasher".into());
        // This one works as well. What cannot be started is not needed, only faster.
        let others = (1..threads).map_while(|_| name().spawn_scoped(scope, work).ok());
        let others: Vec<_> = others.collect();
        if others.is_empty() {
            return Ok(Vec::new());
        }
        let mut parts = work()?;
        for other in others {
            match other.join() {
                Ok(theirs) => parts.extend(theirs?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(parts)
    });
    let mut parts: Vec<(u64, ChainingValue)> = parts?;
    parts.sort_unstable_by_key(|(offset, _)| *offset);
    let is_whole = parts.len() as u64 == len.div_ceil(segment);
    Ok(is_whole.then(|| {
        let values: Vec<_> = parts.into_iter().map(|(_, value)| value).collect();
        let (left, right) = halves(&values, len, segment);
        Hash(*merge_subtrees_root(&left, &right, Mode::Hash).as_bytes())
    }))
}

/// Takes the next segment until there is none; ends early where the file does.
fn hash_segments(
    file: BorrowedFd<'_>,
    len: u64,
    segment: u64,
    next: &AtomicU64,
) -> rustix::io::Result<Vec<(u64, ChainingValue)>> {
    let (mut values, mut buffer) = (Vec::new(), vec![0; PIECE_BYTES]);
    loop {
        let start = next.fetch_add(segment, Ordering::Relaxed);
        if start >= len {
            return Ok(values);
        }
        let end = len.min(start + segment);
        // Two who read in turns look to the system like somebody who jumps about. It may refuse.
        let _ = rustix::fs::fadvise(file, start, NonZeroU64::new(end - start), Advice::WillNeed);
        let mut hasher = Hasher::new();
        hasher.set_input_offset(start);
        if feed(&mut hasher, file, start..end, &mut buffer)? < end {
            return Ok(values);
        }
        values.push((start, hasher.finalize_non_root()));
    }
}

/// Hashes a stretch of a file, read by way of `buffer`; where it ends, which is before its end if
/// the file has less.
pub(super) fn feed(
    hasher: &mut Hasher,
    file: impl AsFd,
    stretch: Range<u64>,
    buffer: &mut [u8],
) -> rustix::io::Result<u64> {
    let mut offset = stretch.start;
    while offset < stretch.end {
        let left = usize::try_from(stretch.end - offset).unwrap_or(usize::MAX);
        let most = left.min(buffer.len());
        match retry_on_intr(|| rustix::io::pread(&file, &mut buffer[..most], offset))? {
            0 => break,
            count => {
                hasher.update(&buffer[..count]);
                offset += count as u64;
            }
        }
    }
    Ok(offset)
}

/// The two below the root of a tree over these segments, of which only the last may be short.
fn halves(values: &[ChainingValue], len: u64, segment: u64) -> (ChainingValue, ChainingValue) {
    let left_len = left_subtree_len(len);
    let at = usize::try_from(left_len / segment).expect("no more than there are segments");
    let (left, right) = values.split_at(at);
    (
        top(left, left_len, segment),
        top(right, len - left_len, segment),
    )
}

/// The value of a subtree over these segments.
fn top(values: &[ChainingValue], len: u64, segment: u64) -> ChainingValue {
    if let [value] = values {
        return *value;
    }
    let (left, right) = halves(values, len, segment);
    merge_subtrees_non_root(&left, &right, Mode::Hash)
}

#[cfg(test)]
mod tests {
    use super::super::chunks::tests::{file, noise};
    use super::*;

    const SMALL: u64 = 4096;

    // The tree has another shape for each number of segments, and the last may be short.
    #[test]
    fn what_was_hashed_apart_has_the_hash_of_the_whole() {
        let bytes = noise(19 * SMALL as usize, b"tree");
        for segments in 1..19 {
            for more in [1, 700, 1024, 1025, SMALL - 1, SMALL] {
                let len = segments * SMALL + more;
                let part = &bytes[..len as usize];
                for threads in [2, 3] {
                    let got = hash_apart(file(part).as_fd(), len, SMALL, threads);
                    let want = Hash(*blake3::hash(part).as_bytes());
                    assert_eq!(got, Ok(Some(want)), "{segments} and {more}, {threads}");
                }
            }
        }
    }

    #[test]
    fn a_large_file_is_hashed_as_the_library_does() {
        let len = APART_BYTES_MIN as usize + 12_345;
        let bytes = noise(len, b"large");
        let file = file(&bytes);
        let want = Hash(*blake3::hash(&bytes).as_bytes());
        let mut buffer = vec![0; 100_000];
        assert_eq!(
            hash_all(&file, &mut buffer, len as u64),
            Ok((want, len as u64))
        );
        // One that has become shorter says how long it is, and one that is longer than it was is
        // hashed as far as it was: its size tells.
        let shorter = hash_all(&file, &mut buffer, len as u64 + 1);
        assert_eq!(shorter, Ok((want, len as u64)));
        let part = Hash(*blake3::hash(&bytes[..len - 1]).as_bytes());
        assert_eq!(
            hash_all(&file, &mut buffer, len as u64 - 1),
            Ok((part, len as u64 - 1))
        );
    }

    #[test]
    fn one_thread_alone_goes_in_order() {
        let bytes = noise(3 * SMALL as usize, b"alone");
        assert_eq!(
            hash_apart(file(&bytes).as_fd(), 3 * SMALL, SMALL, 1),
            Ok(None)
        );
    }

    #[test]
    fn what_fits_into_the_buffer_is_there_afterwards() {
        let bytes = noise(5000, b"small");
        let mut buffer = vec![0; 6000];
        let got = hash_all(file(&bytes), &mut buffer, 5000);
        assert_eq!(got, Ok((Hash(*blake3::hash(&bytes).as_bytes()), 5000)));
        assert_eq!(buffer[..5000], bytes);
    }
}
