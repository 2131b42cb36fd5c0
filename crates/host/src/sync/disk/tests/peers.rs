//! Content that comes from peers.
