//! Small files that only the user may read, written whole or not at all, and locks.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use super::{HomeError, random};

/// Largest of ahoy's own small files, bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Longest list of names in one of ahoy's own directories.
const NAMES_MAX: usize = 10_000;

/// How often a lock is tried, and the time between: whoever only asks whether a folder is in use
/// holds its lock for an instant.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(25);

/// Makes `dir` and what is missing above it, for the user alone.
pub fn private_dir(dir: &Path) -> Result<(), HomeError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(HomeError::refused("create", dir))
}

/// The content of a small file; `None` if there is none.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, HomeError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == ErrorKind::NotADirectory => return Ok(None),
        Err(error) => return Err(HomeError::refused("read", path)(error)),
    };
    let mut bytes = Vec::new();
    let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(HomeError::refused("read", path))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(HomeError::damaged(path, "it is far too long"));
    }
    Ok(Some(bytes))
}

/// Puts `bytes` at `path`, whole or not at all, durably when this returns. For files that one
/// process at a time writes: its temporary name is always the same, so no litter gathers.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), HomeError> {
    let fresh = path.with_extension("new");
    write_fresh(&fresh, bytes)?;
    std::fs::rename(&fresh, path).map_err(HomeError::refused("write", path))?;
    sync_parent(path)
}

/// Puts `bytes` at `path` unless there is a file already, durably; says whether it did. Of many
/// processes that try at once, exactly one does.
pub fn create(path: &Path, bytes: &[u8]) -> Result<bool, HomeError> {
    let mine = u32::from_le_bytes(random()?);
    let fresh = path.with_extension(format!("{mine:08x}.new"));
    write_fresh(&fresh, bytes)?;
    let linked = std::fs::hard_link(&fresh, path);
    let removed = std::fs::remove_file(&fresh);
    match linked {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(HomeError::refused("create", path)(error)),
    }
    removed.map_err(HomeError::refused("remove", &fresh))?;
    sync_parent(path)?;
    Ok(true)
}

fn write_fresh(path: &Path, bytes: &[u8]) -> Result<(), HomeError> {
    let write = || {
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        file.set_permissions(PermissionsExt::from_mode(0o600))?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(HomeError::refused("write", path))
}

/// A name is durable only when its directory is.
fn sync_parent(path: &Path) -> Result<(), HomeError> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(HomeError::refused("sync", dir))
}

/// The names in a directory of ahoy's own, sorted; none if there is no directory.
pub fn names(dir: &Path) -> Result<Vec<OsString>, HomeError> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(HomeError::refused("read", dir)(error)),
    };
    let mut names = Vec::new();
    for entry in entries.take(NAMES_MAX) {
        names.push(entry.map_err(HomeError::refused("read", dir))?.file_name());
    }
    names.sort();
    Ok(names)
}

/// A lock that lasts until this is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// What became of the try for a lock.
pub enum Locked {
    /// It is ours.
    Ours(Lock),
    /// Somebody else has it, who said this of himself.
    Theirs(String),
}

impl Lock {
    /// Takes the lock at `path`, which is made if it is missing.
    pub fn take(path: &Path) -> Result<Locked, HomeError> {
        let refused = |error| HomeError::refused("lock", path)(error);
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600);
        let mut file = options.open(path).map_err(refused)?;
        for round in 1..=LOCK_TRIES {
            match file.try_lock() {
                Ok(()) => {
                    let owner = format!("process {}", std::process::id());
                    file.set_len(0)
                        .and_then(|()| file.write_all(owner.as_bytes()))
                        .map_err(refused)?;
                    return Ok(Locked::Ours(Self { _file: file }));
                }
                Err(TryLockError::WouldBlock) if round < LOCK_TRIES => {
                    std::thread::sleep(LOCK_PAUSE);
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(refused(error)),
            }
        }
        let mut owner = String::new();
        // Only for the message; a lock without a readable name is held all the same.
        let _ = file
            .rewind()
            .and_then(|()| file.take(64).read_to_string(&mut owner));
        owner.retain(|c| c.is_ascii_alphanumeric() || c == ' ');
        Ok(Locked::Theirs(owner))
    }

    /// Whether somebody holds the lock at `path`; no, if there is no telling.
    pub fn is_held(path: &Path) -> bool {
        let Ok(file) = File::open(path) else {
            return false;
        };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }
}
