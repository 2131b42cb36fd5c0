//! The tracker in the real world: the client that keeps a peer announced, and the service.
//!
//! Both drive machines of [`ahoy_logic::tracker`]; here are sockets, threads, the clock, chance and
//! Ed25519, and no decisions.

mod announcer;
pub(crate) mod service;

pub use service::{Busy, Door, HANDED_MAX, OnNote, TrackerService, serve};

pub use announcer::{
    Announcer, AnnouncerConfig, AnnouncerStatus, OnEvent, TRACKER_TEXT_LEN_MAX, TRACKERS_MAX,
    Whereabouts,
};

use ahoy_wire::peer::PeerId;
use ahoy_wire::tracker::Signature;

/// Whether this is the peer's Ed25519 signature (RFC 8032) over these bytes.
#[must_use]
pub fn verify_signature(peer: &PeerId, bytes: &[u8], signature: &Signature) -> bool {
    ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, peer.as_bytes())
        .verify(bytes, &signature.0)
        .is_ok()
}
