//! Faults that can be planted in the engine, to see whether the simulator finds them. Only with the
//! feature `planted`, which nothing but the simulator's tests turns on: in every other build
//! [`is`] is false at compile time, and no fault can be planted.

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Changes are not counted.
    VersionNotRaised,
    /// Of two contents written apart one is forgotten.
    ConflictIgnored,
    /// What is not seen once is deleted for everybody.
    DeleteWithoutWitness,
    /// A deletion beats an edit that it did not know of.
    DeletionBeatsEdit,
    /// A file is replaced although its content is still to be copied.
    ContentNotSaved,
    /// A start does not remember how far its changes were counted.
    CountersForgotten,
    /// That the root is away is not heeded.
    RootLostIgnored,
    /// A reader's own bytes are written over.
    ReaderWrittenOver,
    /// Of two moves made apart every machine keeps its own.
    OwnMoveWins,
    /// One record more is left out than a peer has heard.
    RecordSkipped,
    /// Small changes of metadata are not told.
    ModeNotTold,
    /// What gets a name that is left out stays in the share.
    RulesNotHeeded,
    /// What is left out stays so although the share is to have its name.
    LeftOutInTheWay,
    /// What has rotted is left as it is.
    RotOverlooked,
    /// What has rotted counts as a version.
    RotIsAVersion,
}

#[cfg(feature = "planted")]
mod plant {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static BUG: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plants a fault in all engines of this thread, or takes it out again.
    pub fn plant(bug: Option<Bug>) {
        BUG.set(bug);
    }

    pub(in super::super) fn is(bug: Bug) -> bool {
        BUG.get() == Some(bug)
    }
}

#[cfg(feature = "planted")]
pub use plant::plant;

#[cfg(feature = "planted")]
pub(super) use plant::is;

/// Whether this fault is planted: never.
#[cfg(not(feature = "planted"))]
pub(super) const fn is(_: Bug) -> bool {
    false
}
