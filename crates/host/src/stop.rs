//! The two signals by which a service is asked to end: SIGINT (Ctrl-C) and SIGTERM.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// A future that is ready once either signal has come. From this call on the signals no longer end
/// the process by themselves, so whoever calls it must await the future and then end.
///
/// # Errors
/// What the system says when it refuses a handler. Call it inside a tokio runtime.
pub fn requested() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
