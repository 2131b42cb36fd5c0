//! Bytes to messages and back: the codecs of every service ahoy speaks.
#![forbid(unsafe_code)]

pub mod bounded;
pub mod classic;
pub mod discovery;
pub mod echo;
pub mod enroll;
pub mod hello;
pub mod peer;
pub mod pickle;
pub mod printable;
pub mod sync;
pub mod ticket;
pub mod tracker;
pub mod web;
