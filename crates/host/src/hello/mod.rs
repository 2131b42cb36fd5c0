//! The hello service on real sockets: the server under the loops that every service shares, and the
//! client.
//!
//! Nothing about ids or leases is decided here: [`ahoy_logic::hello`] does. Datagrams and
//! connections step one machine, so they share one table (hello-17).

pub mod client;

use std::io;

use ahoy_logic::hello::{Config, Note, Server};
use ahoy_logic::moment::Moment;
use ahoy_wire::hello::MESSAGE_BYTES_MAX;
use ring::rand::{SecureRandom, SystemRandom};

use crate::descriptors;
use crate::drive::{Ending, Limits, Sockets, drive};

/// One byte more than a request can have, so that a longer one is known to be cut.
const DATAGRAM_BYTES_MAX: usize = MESSAGE_BYTES_MAX + 1;

/// Descriptors that are not connections: standard streams, sockets, the runtime's own.
const DESCRIPTORS_RESERVED: usize = 32;

/// Serves on `sockets` until it has been idle for long enough or `stop` is ready; `on_note` hears
/// what happens, if the configuration asks for notes.
///
/// # Errors
/// If the system gives no random bytes, or does not let the runtime have the sockets.
pub async fn serve(
    mut config: Config,
    sockets: Sockets,
    on_note: impl FnMut(Note) + Send + 'static,
    stop: impl Future<Output = ()>,
) -> io::Result<Ending> {
    let mut seed = [0; 16];
    SystemRandom::new()
        .fill(&mut seed)
        .map_err(|_| io::Error::other("the system gives no random bytes"))?;
    // Half of the connections are for clients that have had their answer and not yet closed.
    let limits = Limits {
        connections_max: connections_max(config.conns_max.saturating_mul(2)),
        datagram_bytes_max: DATAGRAM_BYTES_MAX,
        unsent_bytes_max: 4096,
        ..Limits::default()
    };
    config.conns_max = config.conns_max.min(limits.connections_max / 2);
    // The clock of the loops starts with them, so now is its origin.
    let server = Server::new(config, seed, Moment::ORIGIN);
    drive(server, sockets, limits, on_note, stop).await
}

/// How many connections there may be if `wanted` are wanted: raises the limit of descriptors as far
/// as the system allows, and leaves some for everything else.
fn connections_max(wanted: usize) -> usize {
    wanted
        .min(descriptors::raise().saturating_sub(DESCRIPTORS_RESERVED))
        .max(2)
}
