//! SIGINT and SIGTERM for programs that are made of threads: a function is called for each.
//!
//! SIGHUP is left alone, so that `nohup` does what it says.

use std::io;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Calls `asked` on a thread of its own each time the user or the system asks the process to end.
/// From then on the signals no longer end it by themselves.
pub fn on_request_to_end(asked: impl Fn() + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new()
        .name("ahoy-signals".into())
        .spawn(move || {
            for _ in signals.forever() {
                asked();
            }
        })?;
    Ok(())
}
