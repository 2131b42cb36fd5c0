//! Copying from file to file without the bytes passing through this process: the system shares the
//! blocks where the file system can (XFS, Btrfs), which takes no time and no room, and copies them
//! from page to page where it cannot.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

use super::raw;

/// Less than this is as fast to read and write, and can be hashed on the way.
const WORTH_BYTES: u64 = 64 * 1024;

/// Most bytes of one call: so often it is asked whether to stop.
const STEP_BYTES: u64 = 32 << 20;

/// A part of a file.
pub(super) struct Range<'f> {
    pub file: BorrowedFd<'f>,
    pub offset: u64,
}

/// Copies up to `len` bytes; how many there are now at `to`, from its offset on. Fewer than `len`
/// if that is not worth it, if the source ends, if `stop` is set, or at any error: whoever needs
/// the rest reads and writes it, and finds out why.
pub(super) fn copy_inside(from: Range<'_>, to: Range<'_>, len: u64, stop: &AtomicBool) -> u64 {
    if len < WORTH_BYTES {
        return 0;
    }
    let mut copied = 0;
    while copied < len && !stop.load(Ordering::Acquire) {
        let (mut source, mut target) = (from.offset + copied, to.offset + copied);
        let step = STEP_BYTES.min(len - copied);
        let most = usize::try_from(step).unwrap_or(usize::MAX);
        let (source, target) = (Some(&mut source), Some(&mut target));
        match rustix::fs::copy_file_range(from.file, source, to.file, target, most) {
            Ok(0) => break,
            Ok(count) => {
                raw::begin_writing_out(to.file, to.offset + copied, count as u64);
                copied += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(_) => break,
        }
    }
    copied
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    use super::super::chunks::tests::{file, noise};
    use super::*;

    fn copy(from: (&File, u64), to: (&File, u64), len: u64) -> u64 {
        let [from, to] = [from, to].map(|(file, offset)| Range {
            file: file.as_fd(),
            offset,
        });
        copy_inside(from, to, len, &AtomicBool::new(false))
    }

    #[test]
    fn any_part_of_a_file_gets_to_any_place() {
        let bytes = noise(1_000_000, b"from");
        let (from, to) = (file(&bytes), file(&noise(300_000, b"to")));
        // On blocks, and beside them.
        for (source, target) in [(0, 0), (4096, 8192), (77, 8192), (4096, 99), (500_001, 3)] {
            let len = 200_001;
            assert_eq!(copy((&from, source), (&to, target), len), len);
            let mut got = vec![0; 200_001];
            to.read_exact_at(&mut got, target).expect("that long");
            let at = usize::try_from(source).expect("small");
            assert!(got == bytes[at..at + 200_001], "{source} to {target}");
        }
    }

    #[test]
    fn where_the_source_ends_so_does_the_copy() {
        let (from, to) = (file(&noise(100_000, b"from")), file(b""));
        assert_eq!(copy((&from, 20_000), (&to, 0), 1_000_000), 80_000);
        assert_eq!(copy((&from, 100_000), (&to, 80_000), 1_000_000), 0);
        assert_eq!(to.metadata().expect("open").len(), 80_000);
    }

    #[test]
    fn what_cannot_be_copied_so_is_left_to_others() {
        let (from, to) = (file(&noise(200_000, b"from")), file(b""));
        assert_eq!(copy((&from, 0), (&to, 0), WORTH_BYTES - 1), 0);
        let read_only = File::open("/proc/self/exe").expect("this program");
        assert_eq!(copy((&from, 0), (&read_only, 0), 200_000), 0);
        let [from, to] = [&from, &to].map(|file| Range {
            file: file.as_fd(),
            offset: 0,
        });
        assert_eq!(copy_inside(from, to, 200_000, &AtomicBool::new(true)), 0);
    }
}
