//! One engine by itself: what it says and does in answer to single inputs (`spec/sync.md`). How
//! several of them come to the same folder is shown by the simulator.

mod disk;
mod gossip;
mod one;
mod reader;
