//! Listing one directory: every name in it, looked at.
//!
//! Whoever walks a tree keeps its own stack of directories; nothing here descends.

use std::os::fd::{AsFd, OwnedFd};

use ahoy_logic::sync::{Found, Sighting};
use ahoy_wire::sync::{BadName, Name, RelPath};
use rustix::fs::RawDir;
use rustix::io::{Errno, Result};

use super::print::{self, Device};

/// Bytes of directory entries taken from the kernel at once.
const ENTRIES_BYTES: usize = 32 * 1024;

/// What a directory held.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Every name, looked at.
    pub sightings: Vec<Sighting>,
    /// The directories among them.
    pub dirs: Vec<RelPath>,
    /// Names that cannot be part of a share.
    pub odd: Vec<String>,
}

/// Lists `dir`, which is `path` in the share. On an error the listing holds what came before it.
pub(super) fn list(dir: &OwnedFd, path: &RelPath, device: Device) -> (Listing, Result<()>) {
    let mut listing = Listing::default();
    let done = each_name(dir, |bytes| match Name::new(bytes) {
        Ok(name) => {
            let found = found_at(dir, path, &name, device);
            match (&found, path.join(&name)) {
                (Found::Nothing, _) => return,
                (Found::Dir(_), Some(below)) => listing.dirs.push(below),
                (
                    Found::Dir(_)
                    | Found::File(_)
                    | Found::Link(..)
                    | Found::Foreign
                    | Found::Unreadable(_),
                    _,
                ) => {}
            }
            listing.sightings.push(Sighting {
                dir: path.clone(),
                name,
                found,
            });
        }
        Err(BadName::Reserved) => {}
        Err(error @ (BadName::Length(_) | BadName::Forbidden(_))) => {
            listing.odd.push(format!("in {}: {error}", path.display()));
        }
    });
    (listing, done)
}

/// Looks at one name; a path that would be too long for a share is unreadable.
pub(super) fn found_at(dir: impl AsFd, path: &RelPath, name: &Name, device: Device) -> Found {
    match path.join(name) {
        Some(_) => print::find(dir, name.as_bytes(), device),
        None => Found::Unreadable("its path is too long".into()),
    }
}

/// Calls `each` with every name in `dir` but `.` and `..`. The descriptor's position moves.
pub(super) fn each_name(dir: &OwnedFd, mut each: impl FnMut(&[u8])) -> Result<()> {
    let mut buffer: Vec<u8> = Vec::with_capacity(ENTRIES_BYTES);
    let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        match entry {
            Ok(entry) => {
                let name = entry.file_name().to_bytes();
                if name != b"." && name != b".." {
                    each(name);
                }
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
