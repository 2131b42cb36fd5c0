//! Both trackers on one port, until they are asked to stop.

use std::io;

use ahoy_logic::classic::{ClassicTracker, PortNote, SharedPort, TrackerOptions};
use ahoy_logic::tracker::Options;

use crate::drive::{Ending, Limits, Sockets, drive};
use crate::tracker::service;

/// Takes what either tracker notes. It is called with both waiting, so it must be quick.
pub type OnPortNote = Box<dyn FnMut(PortNote) + Send>;

/// Directories that may wait to be sent on one connection: a peer asks for the next one when it
/// has read the last.
const DIRECTORIES_UNSENT_MAX: usize = 2;

/// Serves the tracker of shares and the classic one on `sockets` until `stop` is ready.
///
/// # Errors
/// If the system gives no random bytes, or does not let the runtime have the sockets.
pub async fn serve_tracker(
    shares: Options,
    classic: TrackerOptions,
    sockets: Sockets,
    on_note: OnPortNote,
    stop: impl Future<Output = ()>,
) -> io::Result<Ending> {
    let machine = SharedPort::new(service::machine(shares)?, ClassicTracker::new(classic));
    let both_max = shares
        .limits
        .connections_max
        .saturating_add(classic.limits.connections_max);
    let limits = service::limits(both_max);
    // classic-17: who does not read loses its connection, not its turn.
    let directories = classic
        .limits
        .directory_bytes_max
        .saturating_mul(DIRECTORIES_UNSENT_MAX);
    let limits = Limits {
        unsent_bytes_max: limits.unsent_bytes_max.saturating_add(directories),
        ..limits
    };
    drive(machine, sockets, limits, on_note, stop).await
}
