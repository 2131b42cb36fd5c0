//! The chunks of a stretch of a file: read, cut where `logic` says (`sync-57`), and hashed.

use std::fs::File;

pub(super) use ahoy_logic::sync::chunks::CONTENT_GRAIN_MAX;
use ahoy_logic::sync::chunks::{content_len, longest};
use ahoy_wire::sync::{CHUNKS_MAX, Chunk, ChunkHash, Cuts, RelPath, Stretch};
use rustix::io::{Errno, retry_on_intr};

use super::Root;
use super::hashing::{PIECE_BYTES, feed};

/// Bytes read at once; not less than four of the longest chunks.
const BUFFER_BYTES_MIN: usize = 1024 * 1024;

/// The chunks of a stretch of `file`; `None` if there are more than a list may have, if the
/// stretch is not in the file, or if `go_on` says no.
pub(super) fn outline(
    file: &File,
    stretch: &Stretch,
    go_on: impl Fn() -> bool,
) -> rustix::io::Result<Option<Vec<Chunk>>> {
    let (mut chunks, mut bytes_in_all) = (Vec::new(), 0);
    let add = |chunk: Chunk| {
        bytes_in_all += u64::from(chunk.len);
        chunks.push(chunk);
        chunks.len() <= CHUNKS_MAX && go_on()
    };
    let cut = match stretch.cuts {
        _ if !stretch.is_sound() => Err(Errno::INVAL),
        Cuts::Even => evenly(file, stretch, add),
        Cuts::Content => by_content(file, stretch, add),
    };
    match cut {
        Ok(()) if bytes_in_all == stretch.len => Ok(Some(chunks)),
        Ok(()) | Err(Errno::CANCELED | Errno::INVAL) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Calls `each` with every chunk of a sound stretch, first to last; ends with `CANCELED` when
/// `each` says no. What is beyond the end of the file is left out. Chunks are hashed as they are
/// read, so long ones need no room.
fn evenly(
    file: &File,
    stretch: &Stretch,
    mut each: impl FnMut(Chunk) -> bool,
) -> rustix::io::Result<()> {
    let mut buffer = vec![0; PIECE_BYTES];
    let (mut offset, end) = (stretch.offset, stretch.offset + stretch.len);
    while offset < end {
        let next = end.min(offset + longest(stretch.cuts, stretch.grain) as u64);
        let mut hasher = blake3::Hasher::new();
        let reached = feed(&mut hasher, file, offset..next, &mut buffer)?;
        if reached > offset && !each(chunk(reached - offset, &hasher.finalize())) {
            return Err(Errno::CANCELED);
        }
        if reached < next {
            break;
        }
        offset = next;
    }
    Ok(())
}

/// As [`evenly`], cut where the content says.
fn by_content(
    file: &File,
    stretch: &Stretch,
    mut each: impl FnMut(Chunk) -> bool,
) -> rustix::io::Result<()> {
    if stretch.grain > CONTENT_GRAIN_MAX {
        return Err(Errno::INVAL);
    }
    let longest = longest(stretch.cuts, stretch.grain);
    let room = BUFFER_BYTES_MIN.max(4 * longest);
    let room = room.min(usize::try_from(stretch.len).unwrap_or(room).max(longest));
    let mut buffer = vec![0; room];
    let (mut filled, mut offset) = (0, stretch.offset);
    let end = stretch.offset + stretch.len;
    loop {
        let mut ended = false;
        while !ended && filled < buffer.len() {
            let at = offset + filled as u64;
            let most = usize::try_from(end - at).unwrap_or(usize::MAX);
            let most = most.min(buffer.len() - filled);
            let free = &mut buffer[filled..filled + most];
            match retry_on_intr(|| rustix::io::pread(file, &mut *free, at))? {
                0 => ended = true,
                count => filled += count,
            }
        }
        let mut start = 0;
        // Close to the end of the buffer a cut could depend on what has not been read yet.
        while start < filled && (ended || filled - start >= longest) {
            let len = content_len(&buffer[start..filled], stretch.grain);
            let hash = blake3::hash(&buffer[start..start + len]);
            if !each(chunk(len as u64, &hash)) {
                return Err(Errno::CANCELED);
            }
            start += len;
        }
        buffer.copy_within(start..filled, 0);
        (filled, offset) = (filled - start, offset + start as u64);
        if ended && filled == 0 {
            return Ok(());
        }
    }
}

/// What a list says of a chunk.
fn chunk(len: u64, hash: &blake3::Hash) -> Chunk {
    let len = u32::try_from(len).expect("chunks are at most 4 MiB long");
    let half = hash.as_bytes().first_chunk().expect("half of 32 bytes");
    let hash = ChunkHash(*half);
    Chunk { len, hash }
}

impl Root {
    /// The chunks of a stretch of the file at `path`, for a peer that has an older version;
    /// `None` if the file is shorter than that, or if the list would be too long.
    pub fn outline_of(
        &self,
        path: &RelPath,
        stretch: &Stretch,
    ) -> std::io::Result<Option<Vec<Chunk>>> {
        let file = self.open_for_serving(path)?;
        Ok(outline(&file, stretch, || true)?)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use ahoy_wire::sync::{GRAIN_MAX, GRAIN_MIN};
    use fastcdc::v2020::FastCDC;

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

    pub fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(bytes).expect("written");
        file
    }

    fn stretch(offset: usize, len: usize, cuts: Cuts, grain: u8) -> Stretch {
        Stretch {
            offset: offset as u64,
            len: len as u64,
            cuts,
            grain,
        }
    }

    /// The chunks of a stretch of a file with these bytes.
    fn outline_of(bytes: &[u8], stretch: &Stretch) -> Vec<Chunk> {
        let chunks = outline(&file(bytes), stretch, || true).expect("read");
        chunks.expect("a sound stretch of it")
    }

    fn chunk_of(bytes: &[u8]) -> Chunk {
        chunk(bytes.len() as u64, &blake3::hash(bytes))
    }

    // sync-57.
    #[test]
    fn chunks_are_where_the_library_cuts_a_file_in_memory() {
        let bytes = noise(3 * BUFFER_BYTES_MIN + 77, b"one");
        for (offset, len, grain) in [
            (0, 1, 14),
            (0, 1 << 12, 14),
            (5, BUFFER_BYTES_MIN - 1, 14),
            (0, BUFFER_BYTES_MIN, 16),
            (77, 3 * BUFFER_BYTES_MIN, 12),
            (0, 3 * BUFFER_BYTES_MIN + 77, 18),
        ] {
            let part = &bytes[offset..offset + len];
            let (min, mean, max) = (1 << (grain - 2), 1 << grain, 1 << (grain + 2));
            let want: Vec<Chunk> = FastCDC::new(part, min, mean, max)
                .map(|chunk| chunk_of(&part[chunk.offset..chunk.offset + chunk.length]))
                .collect();
            let got = outline_of(&bytes, &stretch(offset, len, Cuts::Content, grain));
            assert!(got == want, "{offset} {len} {grain}");
        }
    }

    #[test]
    fn even_chunks_have_one_length_and_the_last_the_rest() {
        let bytes = noise(1_000_000, b"one");
        for (offset, len, grain) in [(1000, 90_000, 15), (0, 1_000_000, 19), (7, 4096, 12)] {
            let got = outline_of(&bytes, &stretch(offset, len, Cuts::Even, grain));
            let part = &bytes[offset..offset + len];
            let want: Vec<Chunk> = part.chunks(1 << grain).map(chunk_of).collect();
            assert!(got == want, "{offset} {len} {grain}");
        }
    }

    #[test]
    fn what_cannot_be_cut_so_is_refused() {
        let content = file(&[7; 100]);
        let refused = [
            stretch(0, 100, Cuts::Even, GRAIN_MIN - 1),
            stretch(0, 100, Cuts::Even, GRAIN_MAX + 1),
            stretch(0, 100, Cuts::Content, CONTENT_GRAIN_MAX + 1),
            stretch(0, 0, Cuts::Even, 12),
            stretch(usize::MAX, 1, Cuts::Even, 12),
            stretch(0, usize::MAX, Cuts::Even, 22),
            stretch(50, 51, Cuts::Even, 12),
        ];
        for stretch in refused {
            assert_eq!(
                outline(&content, &stretch, || true),
                Ok(None),
                "{stretch:?}"
            );
        }
        let stopped = outline(&content, &stretch(0, 100, Cuts::Even, 12), || false);
        assert_eq!(stopped, Ok(None));
    }

    #[test]
    fn an_outline_is_of_the_file_that_is_there() {
        let temp = tempfile::tempdir().expect("a directory");
        let root = Root::open(temp.path()).expect("opened");
        let bytes = noise(300_000, b"x");
        std::fs::write(temp.path().join("f"), &bytes).expect("written");
        let path = RelPath::parse(b"f").expect("a path");
        let whole = stretch(0, 300_000, Cuts::Content, 14);
        let chunks = root.outline_of(&path, &whole).expect("read");
        let chunks = chunks.expect("not too many");
        assert_eq!(
            chunks.iter().map(|c| u64::from(c.len)).sum::<u64>(),
            300_000
        );
        let first = usize::try_from(chunks[0].len).expect("small");
        assert_eq!(chunks[0], chunk_of(&bytes[..first]));
        let beyond = stretch(0, 300_001, Cuts::Content, 14);
        assert_eq!(root.outline_of(&path, &beyond).expect("read"), None);
        let none = RelPath::parse(b"none").expect("a path");
        assert!(root.outline_of(&none, &whole).is_err());
    }
}
