//! Stepping back for others: a process in the background gets what they leave over.
//!
//! The niceness is all that is set. The kernel derives the disk priority from it, as long as
//! nobody has set one: the lowest of those that still get their turn. The idle classes, of the
//! processor or the disk, are left alone on purpose: who holds a lock of the file system and
//! never gets a turn holds up everybody behind it. Needs no privileges; there is no way back
//! without them.

use std::io;

use rustix::process::{getpriority_process, setpriority_process};

/// The lowest there is.
const NICENESS_MAX: i32 = 19;

/// Puts this thread, and all that it starts from now on, behind everybody else's.
///
/// # Errors
/// What the system answers.
pub fn step_back() -> io::Result<()> {
    Ok(setpriority_process(None, NICENESS_MAX)?)
}

/// How far this thread, and who was started like it, stands back: 0 normally, up to 19.
#[must_use]
pub fn niceness() -> i32 {
    getpriority_process(None).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_steps_back_takes_its_own_threads_along_and_nobody_else() {
        let before = niceness();
        let stepped = std::thread::spawn(|| {
            step_back().expect("it needs no privileges");
            let child = std::thread::spawn(niceness);
            (niceness(), child.join().expect("no panic"))
        });
        assert_eq!(stepped.join().expect("no panic"), (19, 19));
        assert_eq!(niceness(), before);
    }
}
