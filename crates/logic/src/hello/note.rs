//! What the hello server has to tell: every decision, as a value that can be printed or compared.

use std::net::SocketAddr;

use ahoy_wire::hello::{Fault, HelloId};

use super::leases::Transport;

/// Why an id that a client asked for was not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is in use.
    InUse,
    /// The table of leases is full.
    TableFull,
    /// The source holds as many leases as it may (`--protect`).
    Quota,
    /// The datagram is shorter than the reply would be (`--protect`).
    ShortRequest,
}

/// Why a request was not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes are not a request.
    #[error(transparent)]
    Bytes(#[from] Fault),
    /// The id has not the shape that the server insists on.
    #[error("an id that is not four digits")]
    Shape,
}

/// Something an operator may want to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// An id is in use from now on.
    Granted {
        /// The id.
        id: HelloId,
        /// Who has it.
        client: SocketAddr,
        /// How it was asked for.
        transport: Transport,
    },
    /// The owner of a lease asked again and was told `OK` again (`--protect`).
    Repeated {
        /// The id.
        id: HelloId,
        /// Who has it.
        client: SocketAddr,
    },
    /// `RESET` was answered.
    Refused {
        /// The id.
        id: HelloId,
        /// Who asked.
        client: SocketAddr,
        /// How it was asked for.
        transport: Transport,
        /// Why.
        why: Refusal,
    },
    /// Something came that is not a request; a datagram is ignored, a connection is closed.
    Malformed {
        /// Who sent it.
        client: SocketAddr,
        /// How it came.
        transport: Transport,
        /// What is wrong with it.
        why: Malformed,
    },
    /// A lease has ended; the id is free.
    Ended {
        /// The id.
        id: HelloId,
        /// Who had it.
        client: SocketAddr,
    },
    /// A connection brought no whole request in time and was closed.
    Overdue {
        /// Who had connected.
        client: SocketAddr,
    },
    /// A connection was closed to make room for a newer one.
    Displaced {
        /// Who had connected.
        client: SocketAddr,
    },
    /// Nobody has asked for anything for long enough: the service ends.
    Idle,
}
