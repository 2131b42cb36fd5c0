//! Echo on real sockets. The server hands the machine of `logic` to the loops, and nothing more;
//! [`client`] and [`bench`] are the other side.

pub mod bench;
pub mod client;

use std::io;

use ahoy_logic::echo::{Echo, Note, Options};

use crate::drive::{Ending, Limits, Sockets, drive};

/// Serves echo on `sockets` until `stop` is ready; `on_note` hears of every client.
///
/// # Errors
/// What the system says when it does not let the runtime have the sockets.
pub async fn serve(
    options: Options,
    sockets: Sockets,
    on_note: impl FnMut(Note) + Send + 'static,
    stop: impl Future<Output = ()>,
) -> io::Result<Ending> {
    // The loops give three of the promises: each connection has a task of its own (echo-4), which
    // alone ends when its client tears it down (echo-7), and which reads only while nothing waits
    // to be sent (echo-10).
    let limits = Limits {
        connections_max: options.connections_max,
        stalled_max: options.idle_max,
        ..Limits::default()
    };
    drive(Echo::new(options), sockets, limits, on_note, stop).await
}
