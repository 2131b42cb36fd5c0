//! The served folder: what is at a path, never outside of it, and a small cache of the answers
//! (web-22, web-64).
//!
//! Every lookup is one openat2 relative to the folder's descriptor, which the kernel confines: no
//! way up, no symbolic link, no magic link. A small file is read into the cache, so that its
//! answer is one send; of a large one the cache holds the descriptor, for sendfile.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use ahoy_logic::moment::Moment;
use ahoy_logic::web::{
    Choice, Entry, Found, LISTING_ENTRIES_MAX, Representation, Resource, Stamp, Stat, media_type,
};
use ahoy_wire::web::Coding;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, StatxFlags, fstat, openat2, statx,
};
use rustix::io::Errno;
use tracing::debug;

use super::ServeError;

/// Files up to this length are kept in memory, in bytes.
pub const CACHED_CONTENT_LEN_MAX: u64 = 16 * 1024;
/// Most files in one worker's cache.
const CACHED_FILES_MAX: usize = 512;
/// Most descriptors in one worker's cache.
pub const CACHED_DESCRIPTORS_MAX: usize = 128;
/// How often a lookup is tried that raced with a rename (openat2 answers EAGAIN).
const RACES_MAX: usize = 4;
/// Bytes of directory entries read at a time.
const DIRECTORY_BUFFER_LEN: usize = 32 * 1024;

const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);
/// Not blocking, so that a pipe without a writer cannot hold the worker.
const READ: OFlags = OFlags::RDONLY
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOCTTY)
    .union(OFlags::NONBLOCK);

/// Opens the folder to serve; the user names it, so links on the way are followed.
pub(super) fn open_root(path: &Path) -> Result<OwnedFd, ServeError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(path, flags, Mode::empty()).map_err(|source| ServeError::Root {
        path: path.to_owned(),
        source: source.into(),
    })?;
    match openat2(&root, c".", READ, Mode::empty(), RESOLVE) {
        Ok(_) => Ok(root),
        Err(Errno::NOSYS) => Err(ServeError::NoConfinement),
        Err(source) => Err(ServeError::Root {
            path: path.to_owned(),
            source: source.into(),
        }),
    }
}

/// One form of a file, open or in memory.
#[derive(Debug)]
enum Content {
    Memory(Box<[u8]>),
    Open(OwnedFd),
}

/// A file that was found, with its coded forms.
#[derive(Debug)]
pub(super) struct OpenResource {
    pub(super) facts: Resource,
    plain: Content,
    coded: [Option<Content>; 3],
}

impl OpenResource {
    /// The bytes of a form, if they are in memory.
    pub(super) fn memory(&self, choice: Choice) -> Option<&[u8]> {
        match self.content(choice) {
            Content::Memory(bytes) => Some(bytes),
            Content::Open(_) => None,
        }
    }

    /// The descriptor of a form, if its bytes are not in memory.
    pub(super) fn descriptor(&self, choice: Choice) -> Option<BorrowedFd<'_>> {
        match self.content(choice) {
            Content::Memory(_) => None,
            Content::Open(file) => Some(file.as_fd()),
        }
    }

    fn content(&self, choice: Choice) -> &Content {
        match choice {
            Choice::Plain => &self.plain,
            Choice::Coded(coding) => self.coded[coding.index()].as_ref().unwrap_or(&self.plain),
        }
    }

    fn descriptors(&self) -> usize {
        let forms = self.coded.iter().flatten().chain([&self.plain]);
        forms
            .filter(|content| matches!(content, Content::Open(_)))
            .count()
    }
}

/// What a lookup came to.
#[derive(Debug)]
pub(super) enum Lookup {
    File(Rc<OpenResource>),
    Folder,
    Missing,
    Busy,
    Broken,
}

impl Lookup {
    /// As the machine wants to hear it.
    pub(super) fn found(&self) -> Found<'_> {
        match self {
            Lookup::File(file) => Found::File(&file.facts),
            Lookup::Folder => Found::Folder,
            Lookup::Missing => Found::Missing,
            Lookup::Busy => Found::Busy,
            Lookup::Broken => Found::Broken,
        }
    }
}

/// The served folder as one worker sees it.
#[derive(Debug)]
pub(super) struct Folder {
    root: OwnedFd,
    validity: Duration,
    dotfiles: bool,
    cache: HashMap<Vec<u8>, Cached>,
    cached_descriptors: usize,
}

#[derive(Debug)]
struct Cached {
    file: Rc<OpenResource>,
    looked_at: Moment,
}

impl Folder {
    pub(super) fn new(root: OwnedFd, validity: Duration, dotfiles: bool) -> Self {
        Self {
            root,
            validity,
            dotfiles,
            cache: HashMap::new(),
            cached_descriptors: 0,
        }
    }

    /// What is at a path that `logic` has made safe.
    pub(super) fn find(&mut self, path: &[u8], now: Moment, now_secs: i64) -> Lookup {
        if let Some(cached) = self.cache.get(path)
            && now - cached.looked_at < self.validity
        {
            return Lookup::File(cached.file.clone());
        }
        let mut lookup = self.look(path, now_secs);
        if matches!(lookup, Lookup::Busy) && !self.cache.is_empty() {
            self.release();
            lookup = self.look(path, now_secs);
        }
        if let Lookup::File(file) = &lookup {
            self.remember(path, file.clone(), now);
        } else if let Some(gone) = self.cache.remove(path) {
            self.cached_descriptors -= gone.file.descriptors();
        }
        lookup
    }

    /// Gives back every descriptor of the cache.
    pub(super) fn release(&mut self) {
        self.cache.clear();
        self.cached_descriptors = 0;
    }

    fn remember(&mut self, path: &[u8], file: Rc<OpenResource>, now: Moment) {
        if self.validity.is_zero() {
            return;
        }
        let full = self.cache.len() >= CACHED_FILES_MAX
            || self.cached_descriptors + file.descriptors() > CACHED_DESCRIPTORS_MAX;
        if full && !self.cache.contains_key(path) {
            let validity = self.validity;
            self.cache
                .retain(|_, cached| now - cached.looked_at < validity);
            // Mostly fresh ones: start over, so that a sweep is paid for by many lookups.
            if self.cache.len() > CACHED_FILES_MAX / 2 {
                self.cache.clear();
            }
            let left = self.cache.values().map(|cached| cached.file.descriptors());
            self.cached_descriptors = left.sum();
            if self.cached_descriptors > CACHED_DESCRIPTORS_MAX / 2 {
                self.release();
            }
        }
        self.cached_descriptors += file.descriptors();
        if let Some(old) = self.cache.insert(
            path.to_vec(),
            Cached {
                file,
                looked_at: now,
            },
        ) {
            self.cached_descriptors -= old.file.descriptors();
        }
    }

    fn look(&self, path: &[u8], now_secs: i64) -> Lookup {
        let name = path.rsplit(|&b| b == b'/').next().unwrap_or(path);
        let media = media_type(&String::from_utf8_lossy(name));
        let (plain, plain_stat) = match self.open_form(path) {
            Ok(Some(form)) => form,
            Ok(None) => return Lookup::Folder,
            Err(error) => return refusal(path, error),
        };
        let plain_form = Representation::new(&plain_stat, media, None, now_secs);
        let mut forms = [None, None, None];
        let mut coded = [None, None, None];
        for coding in Coding::ALL {
            let mut sibling = path.to_vec();
            sibling.extend_from_slice(coding.suffix().as_bytes());
            // A coded form that cannot be opened is one that is not there.
            if let Ok(Some((content, stat))) = self.open_form(&sibling) {
                let form = Representation::new(&stat, media, Some(coding), now_secs);
                forms[coding.index()] = Some(form);
                coded[coding.index()] = Some(content);
            }
        }
        let facts = Resource::new(plain_form, forms);
        Lookup::File(Rc::new(OpenResource {
            facts,
            plain,
            coded,
        }))
    }

    /// Opens one regular file; `None` for a folder, ENOENT for anything else.
    fn open_form(&self, path: &[u8]) -> Result<Option<(Content, Stat)>, Errno> {
        let file = self.open(path)?;
        let status = fstat(&file)?;
        match FileType::from_raw_mode(status.st_mode) {
            FileType::RegularFile => {}
            FileType::Directory => return Ok(None),
            FileType::Symlink
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => return Err(Errno::NOENT),
        }
        let stat = stat_of(&status);
        let content = match read_small(&file, &stat)? {
            Some(bytes) => Content::Memory(bytes),
            None => Content::Open(file),
        };
        Ok(Some((content, stat)))
    }

    fn open(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        for _ in 0..RACES_MAX {
            match openat2(&self.root, path, READ, Mode::empty(), RESOLVE) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
        Err(Errno::NOENT)
    }

    /// The visible files and folders in a folder (web-25): what a click would find.
    pub(super) fn list(&mut self, path: &[u8]) -> Result<(Vec<Entry>, bool), Lookup> {
        let directory = self.open(path).map_err(|error| refusal(path, error))?;
        let mut buffer = [MaybeUninit::uninit(); DIRECTORY_BUFFER_LEN];
        let mut entries = Vec::new();
        let mut names = RawDir::new(&directory, &mut buffer);
        while let Some(name) = names.next() {
            let name = name.map_err(|error| refusal(path, error))?;
            let name = name.file_name();
            let bytes = name.to_bytes();
            if bytes == b"." || bytes == b".." || (bytes.starts_with(b".") && !self.dotfiles) {
                continue;
            }
            if entries.len() == LISTING_ENTRIES_MAX {
                return Ok((entries, true));
            }
            let wanted = StatxFlags::TYPE | StatxFlags::SIZE | StatxFlags::MTIME;
            // It may be gone by now.
            let Ok(status) = statx(&directory, name, AtFlags::SYMLINK_NOFOLLOW, wanted) else {
                continue;
            };
            let kind = FileType::from_raw_mode(u32::from(status.stx_mode));
            if kind.is_file() || kind.is_dir() {
                entries.push(Entry {
                    name: bytes.to_vec(),
                    folder: kind.is_dir(),
                    len: status.stx_size,
                    modified_secs: status.stx_mtime.tv_sec,
                });
            }
        }
        Ok((entries, false))
    }
}

/// What an error of the disk means to the client.
fn refusal(path: &[u8], error: Errno) -> Lookup {
    match error {
        Errno::NOENT
        | Errno::NOTDIR
        | Errno::LOOP
        | Errno::XDEV
        | Errno::NAMETOOLONG
        | Errno::NXIO
        | Errno::INVAL => Lookup::Missing,
        Errno::ACCESS | Errno::PERM => {
            // The client is told of no file it may not have; the owner may want to know.
            debug!(path = %String::from_utf8_lossy(path).escape_debug(), "may not be read");
            Lookup::Missing
        }
        Errno::MFILE | Errno::NFILE | Errno::NOMEM => Lookup::Busy,
        error => {
            let path = String::from_utf8_lossy(path);
            tracing::warn!(path = %path.escape_debug(), %error, "a lookup failed");
            Lookup::Broken
        }
    }
}

#[expect(
    clippy::unnecessary_cast,
    reason = "the widths differ between architectures"
)]
fn stat_of(status: &rustix::fs::Stat) -> Stat {
    let stamp = |secs: i64, nanos: u64| Stamp {
        secs,
        nanos: u32::try_from(nanos).unwrap_or(0),
    };
    Stat {
        len: u64::try_from(status.st_size).unwrap_or(0),
        modified: stamp(status.st_mtime as i64, status.st_mtime_nsec as u64),
        changed: stamp(status.st_ctime as i64, status.st_ctime_nsec as u64),
        inode: status.st_ino as u64,
    }
}

/// Reads a small file whole; `None` if it is large, or is being changed just now: then what it
/// was said to be may not be what was read, and sendfile will notice a length that does not fit.
fn read_small(file: &OwnedFd, stat: &Stat) -> Result<Option<Box<[u8]>>, Errno> {
    if stat.len > CACHED_CONTENT_LEN_MAX {
        return Ok(None);
    }
    let len = usize::try_from(stat.len).expect("16 KiB fit into a usize");
    // One byte more, to see the end.
    let mut bytes = vec![0; len + 1];
    let mut read = 0;
    while read < bytes.len() {
        match rustix::io::read(file, &mut bytes[read..]) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    if read != len || stat_of(&fstat(file)?) != *stat {
        return Ok(None);
    }
    bytes.truncate(len);
    Ok(Some(bytes.into_boxed_slice()))
}
