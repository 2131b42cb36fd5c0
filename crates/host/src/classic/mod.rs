//! The classic file-share dialect in the real world (`spec/classic.md`).
//!
//! [`serve_tracker`] is the tracker; [`ClassicPeer`] a peer: its [`Folder`], the threads that fetch
//! and serve, and the loop that steps the machine.

mod fetch;
mod folder;
mod peer;
mod serve;
mod tracker;

pub use folder::{Folder, FolderError};
pub use peer::{ClassicPeer, PeerConfig, PeerNote, PeerStop};
pub use tracker::{OnPortNote, serve_tracker};

/// The system's words for an error, without Rust's "(os error 111)".
fn words(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}
