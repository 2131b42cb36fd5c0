//! The classic file-share dialect in the real world (`spec/classic.md`).

mod tracker;

pub use tracker::{OnPortNote, serve_tracker};
