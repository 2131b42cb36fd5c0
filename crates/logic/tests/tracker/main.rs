//! The tracker and its clients in virtual time: what is spoken, what expires when, and what a
//! hostile one of either gets. Bytes go in and come out; only signatures are stand-ins (a hash
//! under the signer's name), because real ones are the host's.

mod announcer;
mod hostile;
mod service;
mod world;
