//! The cases for hello servers and hello clients (spec/hello.md).
//!
//! - [`requirements`]: the sentences.
//! - [`server`]: what a server answers; [`times`]: what only time can show.
//! - [`client`]: a client under examination, started against a scripted server.

mod ask;
pub mod client;
pub mod requirements;
pub mod server;
pub mod times;

pub use client::{Client, client_column};
pub use server::{Target, column};
