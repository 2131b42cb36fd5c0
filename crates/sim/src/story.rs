//! What became of a run, for people: fixed columns, one event on each line.

use std::fmt;

/// It went well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// Of everything that engines were told, in order: equal for equal runs.
    pub trace: [u8; 32],
    /// How many events there were.
    pub events: u64,
}

/// It did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What did not hold.
    pub what: String,
    /// When, in milliseconds of the imagined clock.
    pub at_ms: u64,
    /// After how many events.
    pub events: u64,
    /// How many things were planned, those that were left out included.
    pub planned: usize,
    /// Everything that happened, if it was to be told.
    pub story: Vec<Line>,
    /// How things stand at the end, likewise.
    pub state: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, at_ms, .. } = self;
        write!(f, "{what}, at {at_ms} ms after {} events", self.events)
    }
}

/// One line of a story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Milliseconds of the imagined clock.
    pub at_ms: u64,
    /// Which machine; `None` for what concerns no single one.
    pub machine: Option<usize>,
    /// What kind of event: at most 7 letters.
    pub kind: &'static str,
    /// What happened.
    pub text: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = self.machine.map_or("-".to_owned(), |n| format!("m{n}"));
        let Self {
            at_ms, kind, text, ..
        } = self;
        write!(f, "{at_ms:>9} {who:<3} {kind:<7} {text}")
    }
}
