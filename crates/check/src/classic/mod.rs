//! The cases for trackers and peers of the classic file-share dialect (spec/classic.md).

mod peer;
mod requirements;
mod scene;
mod tracker;

pub use peer::{Client, client_column};
pub use requirements::*;
pub use tracker::{Target, column};
