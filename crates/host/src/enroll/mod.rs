//! Enroll on real sockets: the machine of `logic`, with records kept before it acknowledges.
//!
//! The loops are everyone's (`drive`); [`record`] is the file, [`client`] the other side.

use std::io;
use std::net::SocketAddr;

use ahoy_logic::enroll::{Enroll, Note, Options, Reason};
use ahoy_logic::machine::{ConnectionId, Effect, Input, Machine, Outbox};
use ahoy_logic::moment::{Deadline, Moment};
use ahoy_wire::enroll::Registration;

use crate::drive::{Ending, Limits, Sockets, drive};

pub mod client;
pub mod record;

use record::Record;

/// What an observer of the server hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// From the machine. A registration is told once it is kept.
    Note(Note),
    /// Registrations could not be kept, so their client was not acknowledged but dropped.
    NotKept {
        /// The client.
        peer: SocketAddr,
        /// How many registrations came at once.
        count: usize,
        /// What the system said.
        error: String,
    },
}

/// Serves enroll on `sockets` until `stop` is ready, keeping registrations in `record` if there is
/// one; `on_notice` hears of everything that happens.
///
/// # Errors
/// What the system says when it does not let the runtime have the sockets.
pub async fn serve(
    options: Options,
    sockets: Sockets,
    record: Option<Record>,
    on_notice: impl FnMut(Notice) + Send + 'static,
    stop: impl Future<Output = ()>,
) -> io::Result<Ending> {
    let limits = Limits {
        connections_max: options.clients_max,
        stalled_max: options.idle_max,
        ..Limits::default()
    };
    let keeping = Keeping {
        enroll: Enroll::new(options),
        record,
    };
    drive(keeping, sockets, limits, on_notice, stop).await
}

/// The machine, with a hand on what leaves it: a registration is on the disk before its
/// acknowledgement goes out, or the acknowledgement does not go out (enroll-23).
///
/// Writing happens inside the step, so all clients wait for the disk with the one that registered;
/// what one client sent at once is written at once.
#[derive(Debug)]
struct Keeping {
    enroll: Enroll,
    record: Option<Record>,
}

impl Keeping {
    /// Passes on what the machine wants done about one input, unless it has registrations in it
    /// that cannot be kept.
    fn pass(&mut self, now: Moment, mut wanted: Outbox<Note>, out: &mut Outbox<Notice>) {
        let effects: Vec<Effect<Note>> = wanted.drain().collect();
        if let Some((id, peer, error)) = self.keep(&effects) {
            let count = effects.iter().filter_map(registered).count();
            let error = error.to_string();
            out.note(Notice::NotKept { peer, count, error });
            out.close(id);
            // It forgets that client; what it has to say about it was said.
            let gone = Input::Closed { id };
            self.enroll.handle(now, gone, &mut Outbox::new());
            return;
        }
        for effect in effects {
            match effect {
                Effect::Datagram { to, local, bytes } => out.datagram(local, to, bytes),
                Effect::Send { id, bytes } => out.send(id, bytes),
                Effect::SendShared { id, bytes } => out.send_shared(id, bytes),
                Effect::Finish { id } => out.finish(id),
                Effect::Close { id } => out.close(id),
                Effect::Note(note) => out.note(Notice::Note(note)),
                Effect::Exit => out.exit(),
            }
        }
    }

    /// Keeps the registrations among `effects`; they are all of one client, because one input is.
    /// Whose they are and what is wrong, if they could not be kept.
    fn keep(&mut self, effects: &[Effect<Note>]) -> Option<(ConnectionId, SocketAddr, io::Error)> {
        let record = self.record.as_mut()?;
        let (id, peer, _) = effects.iter().find_map(registered)?;
        let registrations = effects.iter().filter_map(registered);
        let registrations = registrations.map(|(_, _, registration)| registration);
        let error = record.keep(peer, registrations).err()?;
        Some((id, peer, error))
    }
}

fn registered(effect: &Effect<Note>) -> Option<(ConnectionId, SocketAddr, &Registration)> {
    if let Effect::Note(Note::Registered {
        id,
        peer,
        registration,
    }) = effect
    {
        Some((*id, *peer, registration))
    } else {
        None
    }
}

impl Machine for Keeping {
    type Note = Notice;
    type Reason = Reason;

    fn handle(&mut self, now: Moment, input: Input<'_>, out: &mut Outbox<Notice>) {
        let mut wanted = Outbox::new();
        self.enroll.handle(now, input, &mut wanted);
        self.pass(now, wanted, out);
    }

    fn deadline(&self) -> Option<Deadline<Reason>> {
        self.enroll.deadline()
    }
}
