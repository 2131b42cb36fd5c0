//! One engine by itself: what it says and does in answer to single inputs (`spec/sync.md`); and
//! every pair of things done apart, on two machines and on three. How engines fare in bad weather
//! is shown by the simulator.

mod backup;
mod corpus;
mod disk;
mod folder;
mod gossip;
mod guard;
mod ignored;
mod one;
mod pairs;
mod peers;
mod reader;
mod rot;
