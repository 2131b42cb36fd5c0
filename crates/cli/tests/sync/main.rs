//! The main job from end to end: the built `ahoy`, several devices on this machine, real folders.
//!
//! Every device has its own `AHOY_HOME`; everybody listens on the loopback, on any free port.
//! Nothing sleeps: tests wait for events and states, with one deadline for all.

mod harness;
mod tree;

mod apart;
mod basic;
mod crash;
mod hostile;
mod ignore;
mod limits;
mod refuse;
mod shape;
mod trouble;
mod trust;
