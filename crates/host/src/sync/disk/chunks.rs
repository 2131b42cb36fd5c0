//! Content-defined chunks: where a big file may be cut so that an edit moves few cuts.
//!
//! Both ends cut with the same numbers (FastCDC, 2020 variant, no seed), so equal stretches of
//! two versions of a file give equal chunks.

use std::collections::HashMap;
use std::fs::File;

use ahoy_wire::sync::{CHUNKS_MAX, Chunk, Hash, RelPath};
use fastcdc::v2020::FastCDC;
use rustix::io::Errno;

use super::Root;

/// Shortest, wanted and longest chunk in bytes.
const CHUNK_MIN: usize = 16 * 1024;
const CHUNK_WANTED: usize = 64 * 1024;
const CHUNK_MAX: usize = 256 * 1024;

/// Bytes read at once; several of the longest chunks.
const BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Longest chunk that is believed when a peer tells of it.
pub(super) const CHUNK_BYTES_MAX: u32 = 16 << 20;

/// Calls `each` with every chunk of `file` and the hash of the whole; stops when `each` says no.
fn cut(file: &File, mut each: impl FnMut(u64, &[u8]) -> bool) -> rustix::io::Result<Hash> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let (mut filled, mut offset, mut ended) = (0, 0u64, false);
    let mut whole = blake3::Hasher::new();
    loop {
        while !ended && filled < buffer.len() {
            match rustix::io::pread(file, &mut buffer[filled..], offset + filled as u64) {
                Ok(0) => ended = true,
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        let chunker = FastCDC::new(&buffer[..filled], CHUNK_MIN, CHUNK_WANTED, CHUNK_MAX);
        let mut start = 0;
        // Close to the end of the buffer a cut could depend on what has not been read yet.
        while start < filled && (ended || filled - start >= CHUNK_MAX) {
            let (_, end) = chunker.cut(start, filled - start);
            let bytes = &buffer[start..end];
            whole.update(bytes);
            if !each(offset + start as u64, bytes) {
                return Err(Errno::CANCELED);
            }
            start = end;
        }
        buffer.copy_within(start..filled, 0);
        (filled, offset) = (filled - start, offset + start as u64);
        if ended && filled == 0 {
            return Ok(Hash(*whole.finalize().as_bytes()));
        }
    }
}

impl Root {
    /// The chunks of the file at `path`, for a peer that has an older version; `None` if it is
    /// not the file with this hash any more, or has more chunks than a list may have.
    pub fn outline_of(&self, path: &RelPath, hash: Hash) -> std::io::Result<Option<Vec<Chunk>>> {
        outline(&self.open_for_serving(path)?, hash)
    }
}

/// The chunks of `file` if it has this hash.
pub(super) fn outline(file: &File, hash: Hash) -> std::io::Result<Option<Vec<Chunk>>> {
    let mut chunks = Vec::new();
    let cut = cut(file, |_, bytes| {
        let len = u32::try_from(bytes.len()).expect("chunks are at most 256 KiB long");
        chunks.push(Chunk {
            len,
            hash: Hash(*blake3::hash(bytes).as_bytes()),
        });
        chunks.len() <= CHUNKS_MAX
    });
    match cut {
        Ok(whole) if whole == hash => Ok(Some(chunks)),
        Ok(_) | Err(Errno::CANCELED) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Where each chunk of an older version lies: offset and length by hash.
pub(super) fn index_of(file: &File) -> rustix::io::Result<HashMap<Hash, (u64, u32)>> {
    let mut index = HashMap::new();
    cut(file, |offset, bytes| {
        let len = u32::try_from(bytes.len()).expect("chunks are at most 256 KiB long");
        index
            .entry(Hash(*blake3::hash(bytes).as_bytes()))
            .or_insert((offset, len));
        index.len() <= CHUNKS_MAX
    })?;
    Ok(index)
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use super::*;

    /// Bytes that no chunker finds boring.
    pub fn noise(len: usize, seed: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new()
            .update(seed)
            .finalize_xof()
            .fill(&mut bytes);
        bytes
    }

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(bytes).expect("written");
        file
    }

    #[test]
    fn chunks_are_where_the_library_cuts_a_file_in_memory() {
        for len in [
            0,
            1,
            CHUNK_MIN,
            BUFFER_BYTES - 1,
            BUFFER_BYTES,
            3 * BUFFER_BYTES + 77,
        ] {
            let bytes = noise(len, b"one");
            let want: Vec<(u64, usize)> = FastCDC::new(&bytes, CHUNK_MIN, CHUNK_WANTED, CHUNK_MAX)
                .map(|chunk| (chunk.offset as u64, chunk.length))
                .collect();
            let mut got = Vec::new();
            let whole = cut(&file(&bytes), |offset, bytes| {
                got.push((offset, bytes.len()));
                true
            });
            assert_eq!(whole, Ok(Hash(*blake3::hash(&bytes).as_bytes())));
            assert_eq!(got, want);
        }
    }

    #[test]
    fn an_insert_at_the_front_moves_few_chunks() {
        let old = noise(8 << 20, b"old");
        let new = [b"inserted", &old[..]].concat();
        let known = index_of(&file(&old)).expect("cut");
        let mut missing = 0;
        cut(&file(&new), |_, bytes| {
            let hash = Hash(*blake3::hash(bytes).as_bytes());
            missing += usize::from(!known.contains_key(&hash));
            true
        })
        .expect("cut");
        assert!(missing <= 2, "{missing} chunks");
    }

    #[test]
    fn an_outline_is_only_given_of_the_content_that_was_asked_for() {
        let temp = tempfile::tempdir().expect("a directory");
        let root = Root::open(temp.path()).expect("opened");
        let bytes = noise(300_000, b"x");
        std::fs::write(temp.path().join("f"), &bytes).expect("written");
        let path = RelPath::parse(b"f").expect("a path");
        let hash = Hash(*blake3::hash(&bytes).as_bytes());
        let chunks = root
            .outline_of(&path, hash)
            .expect("read")
            .expect("the same");
        assert_eq!(
            chunks.iter().map(|c| u64::from(c.len)).sum::<u64>(),
            300_000
        );
        assert_eq!(root.outline_of(&path, Hash([0; 32])).expect("read"), None);
        assert!(
            root.outline_of(&RelPath::parse(b"none").expect("a path"), hash)
                .is_err()
        );
    }
}
