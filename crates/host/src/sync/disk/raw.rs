//! Three system calls that no crate of ours wraps: file leases and early write-back.
//!
//! All `unsafe` of the disk side is here. Leases are used as a question, never as a lock for
//! others: is anybody about to write to this file?
#![expect(
    unsafe_code,
    reason = "fcntl leases and sync_file_range have no safe wrapper"
)]

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::io::Errno;

/// `F_SETSIG`; missing from the libc crate for most targets, the same on every architecture
/// that this builds for.
const F_SETSIG: libc::c_int = 10;

/// What a lease told about a file.
#[derive(Debug)]
pub(super) enum Quiet {
    /// Nobody has it open for writing, and whoever tries waits until the lease is dropped.
    Held(Lease),
    /// Somebody has it open for writing.
    Writer,
    /// The file system or the permissions do not allow to ask.
    Unknown,
}

/// A read lease; given back when dropped.
#[derive(Debug)]
pub(super) struct Lease(OwnedFd);

impl Lease {
    /// Asks for one on `file`, which must be open for reading only.
    pub(super) fn take(file: OwnedFd) -> Quiet {
        // If somebody opens the file while we hold the lease, the kernel sends a signal. The
        // default one, SIGIO, ends the process; SIGURG is ignored unless a program asks for it.
        let _ = control(&file, F_SETSIG, libc::SIGURG);
        match control(&file, libc::F_SETLEASE, libc::F_RDLCK) {
            Ok(_) => Quiet::Held(Self(file)),
            Err(Errno::AGAIN) => Quiet::Writer,
            Err(_) => Quiet::Unknown,
        }
    }

    /// Somebody has asked to write since, and waits for the lease to be given back.
    pub(super) fn is_wanted(&self) -> bool {
        control(&self.0, libc::F_GETLEASE, 0) != Ok(libc::F_RDLCK)
    }

    /// The file under lease.
    pub(super) fn file(&self) -> &OwnedFd {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let _ = control(&self.0, libc::F_SETLEASE, libc::F_UNLCK);
    }
}

fn control(fd: impl AsFd, command: libc::c_int, argument: libc::c_int) -> Result<i32, Errno> {
    // SAFETY: the descriptor is open for as long as `fd` is borrowed, and the commands used here
    // take an int and touch no memory of ours.
    let answer = unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), command, argument) };
    if answer < 0 {
        Err(last_error())
    } else {
        Ok(answer)
    }
}

/// Asks the kernel to begin writing the range to the device; does not wait and promises nothing.
pub(super) fn begin_writing_out(fd: impl AsFd, offset: u64, len: u64) {
    let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else {
        return;
    };
    // SAFETY: the descriptor is open for as long as `fd` is borrowed; no memory is passed.
    let _ = unsafe {
        libc::sync_file_range(
            fd.as_fd().as_raw_fd(),
            offset,
            len,
            libc::SYNC_FILE_RANGE_WRITE,
        )
    };
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};

    use super::*;

    #[test]
    fn a_lease_tells_writers_from_readers() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        std::fs::write(&path, b"x").expect("written");
        let ask = || Lease::take(File::open(&path).expect("opened").into());
        assert!(matches!(ask(), Quiet::Held(_)));
        let reader = File::open(&path).expect("opened");
        assert!(matches!(ask(), Quiet::Held(_)));
        let writer = OpenOptions::new().append(true).open(&path).expect("opened");
        assert!(matches!(ask(), Quiet::Writer));
        drop((reader, writer));
        let Quiet::Held(lease) = ask() else {
            panic!("nobody writes")
        };
        assert!(!lease.is_wanted());
        let wants = std::thread::spawn(move || OpenOptions::new().append(true).open(&path));
        while !lease.is_wanted() {
            std::thread::yield_now();
        }
        drop(lease);
        assert!(wants.join().expect("no panic").is_ok());
    }
}
