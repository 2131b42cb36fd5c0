//! The stranger's world: black-box cases that examine anyone's implementation.
//!
//! An examiner must not share the beliefs of what it examines: this crate speaks through plain
//! blocking sockets, knows only the codecs of `wire`, and sees no code of our own servers. It never
//! trusts the other side to answer, to stop, or to be reasonable: every wait has a deadline, every
//! buffer a maximum.
//!
//! - [`case`]: what a requirement, a case and a column of cases are.
//! - [`attempt`]: one run of one case: its deadline, its limits, its transcript.
//! - [`stream`], [`datagram`], [`program`]: the tools a case talks with.
//! - [`runner`]: picks cases and runs them; [`report`]: prints what came out.
//! - one module for each service, each with a `column`: [`echo`], [`enroll`], [`hello`], [`web`].
#![forbid(unsafe_code)]

pub mod attempt;
pub mod case;
pub mod datagram;
pub mod program;
pub mod report;
pub mod runner;
pub mod stream;

pub mod classic;
pub mod echo;
pub mod enroll;
pub mod hello;
pub mod web;
