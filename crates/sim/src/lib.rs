//! The imagined world: engines, network and disks driven from one seed.
#![forbid(unsafe_code)]
