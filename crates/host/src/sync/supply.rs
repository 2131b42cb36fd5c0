//! Where the bytes of other machines come from: what the disk side asks of the links.
//!
//! The disk side decides which ranges of which content it needs and where they go; whoever
//! implements [`Supply`] only moves bytes. Calls block the calling thread, so an implementation
//! ends every wait by itself when a link goes silent.

use ahoy_logic::sync::LinkId;
use ahoy_wire::sync::{Chunk, Stretch, Wanted};

/// Takes content bytes in order: the offset in the file, and the bytes from there on.
/// An error means that nothing more is wanted.
pub type Sink<'a> = dyn FnMut(u64, &[u8]) -> std::io::Result<()> + 'a;

/// Why content did not come.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SupplyTrouble {
    /// The peer no longer has it, or cannot read it.
    #[error("the peer does not have it")]
    NotHere,
    /// The link is gone, or went silent.
    #[error("the connection ended")]
    Ended,
    /// The sink wanted no more.
    #[error("the transfer was stopped here")]
    Stopped,
}

/// Fetches content from peers.
pub trait Supply: Send + Sync {
    /// Has `len` bytes of `wanted` from `offset` on put into `sink`: every byte once, in order.
    fn fetch(
        &self,
        link: LinkId,
        wanted: Wanted,
        offset: u64,
        len: u64,
        sink: &mut Sink<'_>,
    ) -> Result<(), SupplyTrouble>;

    /// The chunks of a part of `wanted`, first to last, as the peer has cut it.
    fn outline(
        &self,
        link: LinkId,
        wanted: Wanted,
        stretch: Stretch,
    ) -> Result<Vec<Chunk>, SupplyTrouble>;
}
