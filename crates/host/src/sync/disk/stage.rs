//! Preparing what is to be published: files, links and directories, without a name or under
//! temporary ones.
//!
//! Whatever is prepared carries its final mode and mtime, so that publishing is one call. A
//! prepared thing that is not published is deleted when it is dropped.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ahoy_logic::sync::{Print, Trouble};
use ahoy_wire::sync::{Hash, Meta, Mtime, RelPath, Target};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps};
use rustix::io::{Errno, retry_on_intr};

use super::copying::{Range, copy_inside};
use super::hashing::{PIECE_BYTES, hash_all};
use super::unnamed::Unnamed;
use super::{Root, litter, print};

/// The owner may do anything with it; while it is ours.
const OURS: u16 = 0o700;

/// Something ready to be published.
pub(super) struct Staged {
    root: Arc<Root>,
    lies: Lies,
    /// A download: worth keeping under this name if it is not published.
    download: Option<Vec<u8>>,
    published: bool,
    /// As it is now; publishing changes only the change time.
    pub print: Print,
    /// The content, if it may not be on the device yet.
    pub unsynced: Option<Arc<File>>,
}

/// Where something is before it is published.
enum Lies {
    /// In `tmp/`, under this name.
    Named(Vec<u8>),
    /// Nowhere.
    Unnamed(Unnamed),
}

impl Staged {
    /// Gives it the free name `name` in `dir`; `Errno::EXIST` if that is taken.
    pub(super) fn put(&self, dir: impl AsFd, name: &[u8]) -> rustix::io::Result<()> {
        match &self.lies {
            Lies::Named(from) => litter::rename_free(self.root.tmp(), from, dir, name),
            Lies::Unnamed(unnamed) => unnamed.link(dir, name),
        }
    }

    /// Gives it this temporary name.
    pub(super) fn rename(&mut self, name: Vec<u8>) -> rustix::io::Result<()> {
        let tmp = self.root.tmp();
        match &self.lies {
            Lies::Named(from) => rustix::fs::renameat(tmp, &**from, tmp, &*name)?,
            Lies::Unnamed(unnamed) => unnamed.link(tmp, &name)?,
        }
        self.lies = Lies::Named(name);
        Ok(())
    }

    /// It is in its place; nothing of it is left here.
    pub(super) fn published(&mut self) {
        self.published = true;
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        let tmp = self.root.tmp();
        match (&self.lies, &self.download) {
            (Lies::Unnamed(_), _) => {}
            (Lies::Named(name), Some(home)) => {
                // To be written to again; this directory is ours alone, no link can be in the way.
                let own = Mode::RUSR | Mode::WUSR;
                let _ = rustix::fs::chmodat(tmp, &**name, own, AtFlags::empty());
                let _ = rustix::fs::renameat(tmp, &**name, tmp, &**home);
            }
            (Lies::Named(name), None) => discard(tmp, name),
        }
    }
}

/// Deletes a file or an empty directory.
fn discard(tmp: BorrowedFd<'_>, name: &[u8]) {
    if rustix::fs::unlinkat(tmp, name, AtFlags::empty()).is_err() {
        let _ = rustix::fs::unlinkat(tmp, name, AtFlags::REMOVEDIR);
    }
}

/// What an error while preparing means. Nothing outside the state directory is involved, so it
/// is never that the user's files have changed.
pub(super) fn trouble(errno: Errno) -> Trouble {
    match errno {
        Errno::NOSPC | Errno::DQUOT => Trouble::Full,
        _ => Trouble::Refused(print::words(errno)),
    }
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// A file with these bytes.
pub(super) fn from_bytes(
    root: &Arc<Root>,
    bytes: &[u8],
    (size, hash): (u64, Hash),
    meta: Meta,
    over: Option<&Print>,
) -> Result<Staged, Trouble> {
    if bytes.len() as u64 != size || blake3::hash(bytes) != hash.0 {
        return Err(Trouble::Corrupt);
    }
    let draft = Draft::new(root, meta, over)?;
    let mut file: &File = draft.file();
    file.write_all(bytes)
        .map_err(|error| trouble(errno(&error)))?;
    draft.finish(meta)
}

/// A file with the bytes of another file of the share, if that is still what `expect` says.
pub(super) fn from_local(
    root: &Arc<Root>,
    from: &RelPath,
    expect: &Print,
    (size, hash): (u64, Hash),
    meta: Meta,
    over: Option<&Print>,
    stop: &AtomicBool,
) -> Result<Staged, Trouble> {
    let (source, before) = root.open_file(from).map_err(|_| Trouble::NoSource)?;
    if expect.size != size || !before.print.same(expect) {
        return Err(Trouble::NoSource);
    }
    let draft = Draft::new(root, meta, over)?;
    let mut file: &File = draft.file();
    let mut buffer = vec![0; PIECE_BYTES];
    let start = |file| Range { file, offset: 0 };
    let copied = if copy_inside(start(source.as_fd()), start(file.as_fd()), size, stop) == size {
        hash_all(file, &mut buffer, size).map_err(trouble)?
    } else {
        copy(&source, &mut file, &mut buffer, size, stop)?
    };
    let after = print::glance_open(&source, root.device());
    if copied != (hash, size) || !after.is_ok_and(|after| after.print.same(expect)) {
        return Err(Trouble::NoSource);
    }
    draft.finish(meta)
}

fn copy(
    from: impl AsFd,
    to: &mut &File,
    buffer: &mut [u8],
    most: u64,
    stop: &AtomicBool,
) -> Result<(Hash, u64), Trouble> {
    let (mut hasher, mut offset) = (blake3::Hasher::new(), 0);
    while offset <= most {
        if stop.load(Ordering::Acquire) {
            return Err(Trouble::NoSource);
        }
        let count = match retry_on_intr(|| rustix::io::pread(&from, &mut *buffer, offset)) {
            Ok(0) => break,
            Ok(count) => count,
            Err(_) => return Err(Trouble::NoSource),
        };
        hasher.update(&buffer[..count]);
        to.write_all(&buffer[..count])
            .map_err(|error| trouble(errno(&error)))?;
        offset += count as u64;
    }
    Ok((Hash(*hasher.finalize().as_bytes()), offset))
}

/// A finished download: the file `name` in `tmp/`, whose content has been verified.
pub(super) fn from_download(
    root: &Arc<Root>,
    name: Vec<u8>,
    file: File,
    meta: Meta,
) -> Result<Staged, Trouble> {
    let print = set_meta(root, &file, meta).map_err(trouble)?;
    let (root, download) = (Arc::clone(root), Some(name.clone()));
    Ok(Staged {
        root,
        lies: Lies::Named(name),
        download,
        published: false,
        print,
        unsynced: Some(Arc::new(file)),
    })
}

/// A symbolic link.
pub(super) fn link(root: &Arc<Root>, target: &Target, mtime: Mtime) -> Result<Staged, Trouble> {
    let name = litter::incoming();
    rustix::fs::symlinkat(target.as_bytes(), root.tmp(), &*name).map_err(trouble)?;
    let set = set_mtime(root.tmp(), &name, mtime)
        .and_then(|()| print::glance(root.tmp(), &name, root.device()));
    match set {
        Ok(glance) => Ok(staged(root, Lies::Named(name), glance.print)),
        Err(errno) => {
            discard(root.tmp(), &name);
            Err(trouble(errno))
        }
    }
}

/// A directory. It keeps all rights for its owner until it is published: a directory that its
/// owner may not write to cannot be moved.
pub(super) fn dir(root: &Arc<Root>, meta: Meta) -> Result<Staged, Trouble> {
    let name = litter::incoming();
    rustix::fs::mkdirat(root.tmp(), &*name, Mode::RWXU).map_err(trouble)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let set = rustix::fs::openat(root.tmp(), &*name, flags, Mode::empty()).and_then(|dir| {
        set_meta(
            root,
            &dir.into(),
            Meta {
                mode: meta.mode | OURS,
                ..meta
            },
        )
    });
    match set {
        Ok(print) => Ok(staged(root, Lies::Named(name), print)),
        Err(errno) => {
            discard(root.tmp(), &name);
            Err(trouble(errno))
        }
    }
}

fn staged(root: &Arc<Root>, lies: Lies, print: Print) -> Staged {
    let root = Arc::clone(root);
    Staged {
        root,
        lies,
        download: None,
        published: false,
        print,
        unsynced: None,
    }
}

/// A file that is being written; it is deleted if it is not finished.
enum Draft<'r> {
    Unnamed(&'r Arc<Root>, Unnamed),
    Named(NamedDraft<'r>),
}

struct NamedDraft<'r> {
    root: &'r Arc<Root>,
    name: Vec<u8>,
    file: Arc<File>,
}

impl<'r> Draft<'r> {
    /// What replaces something needs a name to be exchanged with it.
    fn new(root: &'r Arc<Root>, meta: Meta, over: Option<&Print>) -> Result<Self, Trouble> {
        if over.is_none()
            && let Some(unnamed) = root.unnamed(mode(meta.mode))
        {
            return Ok(Self::Unnamed(root, unnamed));
        }
        let name = litter::incoming();
        let file = litter::create(root.tmp(), &name).map_err(trouble)?;
        let file = Arc::new(file);
        Ok(Self::Named(NamedDraft { root, name, file }))
    }

    fn file(&self) -> &Arc<File> {
        match self {
            Self::Unnamed(_, unnamed) => unnamed.file(),
            Self::Named(draft) => &draft.file,
        }
    }

    fn finish(self, meta: Meta) -> Result<Staged, Trouble> {
        let file = Arc::clone(self.file());
        let print = |root| set_meta(root, &file, meta).map_err(trouble);
        let (root, lies, print) = match self {
            Self::Unnamed(root, unnamed) => (root, Lies::Unnamed(unnamed), print(root)?),
            Self::Named(mut draft) => {
                let (root, print) = (draft.root, print(draft.root)?);
                (root, Lies::Named(std::mem::take(&mut draft.name)), print)
            }
        };
        let mut staged = staged(root, lies, print);
        staged.unsynced = Some(file);
        Ok(staged)
    }
}

impl Drop for NamedDraft<'_> {
    fn drop(&mut self) {
        if !self.name.is_empty() {
            let _ = rustix::fs::unlinkat(self.root.tmp(), &*self.name, AtFlags::empty());
        }
    }
}

fn set_meta(root: &Root, file: &File, meta: Meta) -> rustix::io::Result<Print> {
    rustix::fs::futimens(file, &times(meta.mtime))?;
    let print = print::glance_open(file, root.device())?.print;
    if print.mode == meta.mode {
        return Ok(print);
    }
    rustix::fs::fchmod(file, mode(meta.mode))?;
    Ok(print::glance_open(file, root.device())?.print)
}

pub(super) fn mode(mode: u16) -> Mode {
    Mode::from_raw_mode(u32::from(mode & 0o7777))
}

/// This mtime, and the atime as it is.
pub(super) fn times(mtime: Mtime) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: mtime.secs,
            tv_nsec: mtime.nanos.into(),
        },
    }
}

/// Sets the mtime of `name` in `dir`, of a link itself and not of what it points to.
pub(super) fn set_mtime(dir: impl AsFd, name: &[u8], mtime: Mtime) -> rustix::io::Result<()> {
    rustix::fs::utimensat(dir, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW)
}

/// Sets the mtime of what `fd` holds, even if it was opened only to be named.
pub(super) fn set_mtime_of(fd: impl AsFd, mtime: Mtime) -> rustix::io::Result<()> {
    rustix::fs::utimensat(fd, c"", &times(mtime), AtFlags::EMPTY_PATH)
}

/// Sets the mode of what `fd` holds, even if it was opened only to be named.
pub(super) fn set_mode(fd: impl AsFd, bits: u16) -> rustix::io::Result<()> {
    let by_descriptor = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    match rustix::fs::chmodat(CWD, by_descriptor, mode(bits), AtFlags::empty()) {
        // Not that something is missing in the share: there is no /proc.
        Err(Errno::NOENT) => Err(Errno::NOSYS),
        answer => answer,
    }
}
