//! Bringing a file's content in from a peer, into a part file that survives interruptions.
//!
//! The bytes are hashed as they arrive (`sync-56`), and what has been written is handed to the
//! device early, so that little is left to do when the last byte is there. If an older version of
//! the file is here, only what it lacks is asked for; what the system copied from it is hashed in
//! the part file, once that is whole.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ahoy_logic::sync::{LinkId, Trouble};
use ahoy_wire::sync::{Hash, Meta, NodeId, RelPath, Wanted};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::compare::{Comparison, Piece};
use super::copying::{Range, copy_inside};
use super::hashing::{PIECE_BYTES, feed, hash_all};
use super::stage::{self, Staged};
use super::{Root, litter, raw};
use crate::sync::supply::{Supply, SupplyTrouble};

/// Files from this size on are compared with an older version, and synced by themselves.
pub(super) const BIG_BYTES: u64 = 1 << 20;

/// How much is written before the kernel is asked to begin writing it out.
const WRITE_OUT_BYTES: u64 = 8 << 20;

/// What to bring in.
pub(super) struct Errand<'a> {
    pub link: LinkId,
    pub node: NodeId,
    pub size: u64,
    pub hash: Hash,
    pub meta: Meta,
    pub basis: Option<&'a RelPath>,
}

impl Errand<'_> {
    fn wanted(&self) -> Wanted {
        Wanted {
            node: self.node,
            hash: self.hash,
        }
    }
}

/// Why an attempt did not succeed.
enum Miss {
    /// The source does not have it.
    Supply,
    /// More bytes than there are, or not in order.
    Unruly,
    /// Everything arrived and the hash is wrong.
    Wrong,
    System(Errno),
}

impl From<Errno> for Miss {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

/// Brings the content in and prepares the file for publishing.
pub(super) fn fetch(
    root: &Arc<Root>,
    supply: &dyn Supply,
    stop: &AtomicBool,
    errand: &Errand<'_>,
) -> Result<Staged, Trouble> {
    let name = litter::part(&errand.hash);
    let result = attempts(root, supply, stop, errand, &name);
    match result {
        Ok(file) => {
            let staged = stage::from_download(root, name, file, errand.meta)?;
            finish(staged, errand.size)
        }
        Err(Miss::Supply) => Err(Trouble::NoSource),
        Err(Miss::Unruly | Miss::Wrong) => {
            discard(root, &name);
            Err(Trouble::Corrupt)
        }
        Err(Miss::System(errno)) => {
            let trouble = stage::trouble(errno);
            if trouble == Trouble::Full {
                // What does not fit must not fill the disk for everybody else.
                discard(root, &name);
            }
            Err(trouble)
        }
    }
}

/// Makes a big file durable here: the writers would hold up small ones with it.
fn finish(mut staged: Staged, size: u64) -> Result<Staged, Trouble> {
    if size >= BIG_BYTES
        && let Some(file) = staged.unsynced.take()
    {
        rustix::fs::fdatasync(&file).map_err(stage::trouble)?;
    }
    Ok(staged)
}

/// Tries with what is here, and if the hash is wrong, from the first byte on: an old part file
/// or older version may be to blame, not the peer.
fn attempts(
    root: &Arc<Root>,
    supply: &dyn Supply,
    stop: &AtomicBool,
    errand: &Errand<'_>,
    name: &[u8],
) -> Result<File, Miss> {
    let mut part = Part::open(root, name, errand.size, stop)?;
    let resumed = part.offset > 0;
    let pieces = errand
        .basis
        .and_then(|basis| plan(root, supply, stop, errand, basis));
    let with_basis = pieces.is_some();
    if let Some((file, pieces)) = pieces {
        assemble(&mut part, supply, errand, &file, &pieces)?;
    }
    match part.complete(supply, errand) {
        Err(Miss::Wrong) if resumed || with_basis => {
            discard(root, name);
            Part::open(root, name, errand.size, stop)?.complete(supply, errand)
        }
        answer => answer,
    }
}

/// What to take from the older version and what from the peer; `None` if it is not worth it.
fn plan(
    root: &Root,
    supply: &dyn Supply,
    stop: &AtomicBool,
    errand: &Errand<'_>,
    basis: &RelPath,
) -> Option<(File, Vec<Piece>)> {
    if errand.size < BIG_BYTES {
        return None;
    }
    let file = root.open_for_serving(basis).ok()?;
    let comparison = Comparison {
        supply,
        link: errand.link,
        wanted: errand.wanted(),
        size: errand.size,
        basis: &file,
        stop,
    };
    let pieces = comparison.pieces()?;
    Some((file, pieces))
}

/// Goes through the pieces from where the part file ends.
fn assemble(
    part: &mut Part<'_>,
    supply: &dyn Supply,
    errand: &Errand<'_>,
    basis: &File,
    pieces: &[Piece],
) -> Result<(), Miss> {
    let mut start = 0;
    for piece in pieces {
        let end = start + piece.len();
        let skip = part.offset.saturating_sub(start);
        if skip < piece.len() {
            match piece {
                Piece::Here { from, len } => {
                    if !part.copy(basis, from + skip, len - skip)? {
                        // The older version has changed: the rest comes from the peer.
                        return Ok(());
                    }
                }
                Piece::There { len } => part.pull(supply, errand, len - skip)?,
            }
        }
        start = end;
    }
    Ok(())
}

/// A part file: everything up to `offset` is written.
struct Part<'s> {
    file: File,
    /// Of everything, unless something was copied without being read: see `hash`.
    hasher: blake3::Hasher,
    offset: u64,
    written_out: u64,
    stop: &'s AtomicBool,
}

impl<'s> Part<'s> {
    /// Opens or makes it, and hashes what is there already.
    fn open(root: &Root, name: &[u8], size: u64, stop: &'s AtomicBool) -> Result<Self, Miss> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(root.tmp(), name, flags, Mode::RUSR | Mode::WUSR);
        let file = match open() {
            Err(Errno::ACCESS | Errno::LOOP) => {
                discard(root, name);
                open()?
            }
            answer => answer?,
        };
        let file = File::from(file);
        let len = rustix::fs::fstat(&file)?.st_size.try_into().unwrap_or(0);
        if len > size {
            rustix::fs::ftruncate(&file, 0)?;
        }
        let mut part = Self {
            file,
            hasher: blake3::Hasher::new(),
            offset: 0,
            written_out: 0,
            stop,
        };
        if len <= size {
            part.hash_to(len)?;
        }
        Ok(part)
    }

    fn hash_to(&mut self, len: u64) -> Result<(), Miss> {
        let mut buffer = vec![0; PIECE_BYTES];
        self.offset = feed(&mut self.hasher, &self.file, 0..len, &mut buffer)?;
        self.written_out = self.offset;
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> rustix::io::Result<()> {
        let written = self.file.write_all_at(bytes, self.offset);
        written.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        if self.hasher.count() == self.offset {
            self.hasher.update(bytes);
        }
        self.offset += bytes.len() as u64;
        let ready = self.offset - self.written_out;
        if ready >= WRITE_OUT_BYTES {
            raw::begin_writing_out(&self.file, self.written_out, ready);
            self.written_out = self.offset;
        }
        Ok(())
    }

    /// Appends from the older version; false if that has become shorter.
    fn copy(&mut self, basis: &File, mut from: u64, mut len: u64) -> Result<bool, Miss> {
        let copied = self.copy_unread(basis, from, len);
        from += copied;
        len -= copied;
        let mut buffer = vec![0; PIECE_BYTES];
        while len > 0 {
            if self.stop.load(Ordering::Acquire) {
                return Err(Miss::Supply);
            }
            let most = buffer.len().min(usize::try_from(len).unwrap_or(usize::MAX));
            match retry_on_intr(|| rustix::io::pread(basis, &mut buffer[..most], from)) {
                Ok(0) | Err(_) => return Ok(false),
                Ok(count) => {
                    self.append(&buffer[..count])?;
                    from += count as u64;
                    len -= count as u64;
                }
            }
        }
        Ok(true)
    }

    /// Appends as much as the system copies by itself.
    fn copy_unread(&mut self, basis: &File, offset: u64, len: u64) -> u64 {
        let from = Range {
            file: basis.as_fd(),
            offset,
        };
        let to = Range {
            file: self.file.as_fd(),
            offset: self.offset,
        };
        let copied = copy_inside(from, to, len, self.stop);
        if copied > 0 {
            self.offset += copied;
            self.written_out = self.offset;
        }
        copied
    }

    /// Appends `len` bytes from the peer.
    fn pull(&mut self, supply: &dyn Supply, errand: &Errand<'_>, len: u64) -> Result<(), Miss> {
        let wanted = errand.wanted();
        let (start, end) = (self.offset, self.offset + len);
        let mut miss = None;
        let mut sink = |offset: u64, bytes: &[u8]| {
            let fits = offset == self.offset && bytes.len() as u64 <= end - offset;
            let done = if self.stop.load(Ordering::Acquire) {
                Err(Miss::Supply)
            } else if !fits {
                Err(Miss::Unruly)
            } else {
                self.append(bytes).map_err(Miss::System)
            };
            done.map_err(|why| {
                miss = Some(why);
                std::io::Error::other("no more of this is wanted")
            })
        };
        let answer = supply.fetch(errand.link, wanted, start, len, &mut sink);
        match (miss, answer) {
            (Some(miss), _) => Err(miss),
            (None, Err(SupplyTrouble::NotHere | SupplyTrouble::Ended | SupplyTrouble::Stopped)) => {
                Err(Miss::Supply)
            }
            (None, Ok(())) if self.offset < end => Err(Miss::Supply),
            (None, Ok(())) => Ok(()),
        }
    }

    /// Pulls what is missing at the end and compares the hash.
    fn complete(mut self, supply: &dyn Supply, errand: &Errand<'_>) -> Result<File, Miss> {
        if self.offset < errand.size {
            self.pull(supply, errand, errand.size - self.offset)?;
        }
        if self.hash()? == (errand.hash, errand.size) {
            Ok(self.file)
        } else {
            Err(Miss::Wrong)
        }
    }

    /// BLAKE3 of all that is written, and its length; read again only if some of it was never seen.
    fn hash(&self) -> Result<(Hash, u64), Miss> {
        if self.hasher.count() == self.offset {
            let hash = Hash(*self.hasher.finalize().as_bytes());
            return Ok((hash, self.offset));
        }
        let mut buffer = vec![0; PIECE_BYTES];
        Ok(hash_all(&self.file, &mut buffer, self.offset)?)
    }
}

fn discard(root: &Root, name: &[u8]) {
    let _ = rustix::fs::unlinkat(root.tmp(), name, AtFlags::empty());
}
