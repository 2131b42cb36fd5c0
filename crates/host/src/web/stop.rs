//! How a running server is told to end: gently, then at once (web-65).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread;

use rustix::event::{EventfdFlags, eventfd};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::info;

/// Two bells that every worker listens to. They stay rung.
#[derive(Debug)]
pub struct Stop {
    drain: OwnedFd,
    now: OwnedFd,
}

impl Stop {
    /// Two silent bells.
    ///
    /// # Errors
    /// If there is no descriptor left.
    pub fn new() -> io::Result<Self> {
        let bell = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        Ok(Self {
            drain: bell()?,
            now: bell()?,
        })
    }

    /// Accept nothing more, finish the answers under way, then end.
    pub fn drain(&self) {
        ring(self.drain.as_fd());
    }

    /// End without waiting for anybody.
    pub fn now(&self) {
        ring(self.now.as_fd());
    }

    pub(super) fn drain_bell(&self) -> BorrowedFd<'_> {
        self.drain.as_fd()
    }

    pub(super) fn now_bell(&self) -> BorrowedFd<'_> {
        self.now.as_fd()
    }
}

fn ring(bell: BorrowedFd<'_>) {
    // It can only fail when the counter is full, and then it has been ringing for long.
    let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
}

/// From now on the first SIGTERM or SIGINT rings the first bell, the second one the other.
///
/// # Errors
/// If the handlers or the thread that waits for them cannot be set up.
pub fn stop_on_signals(stop: Arc<Stop>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for (count, signal) in signals.forever().enumerate() {
                info!(signal, "told to stop");
                if count == 0 { stop.drain() } else { stop.now() }
            }
        })?;
    Ok(())
}
