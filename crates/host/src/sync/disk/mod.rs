//! The disk side of folder sync: it looks, reads and changes, and decides nothing.
//!
//! * [`Root`]: the folder, its marker and its state directory.
//! * eyes: whole looks and inotify, reported as `Seen` and `Settled`.
//! * reader: hashes of files, reported as `Hashed` and `Unread`.
//! * hands: the engine's steps, reported as `Finished`.
//!
//! What is reported goes to a [`Listener`], in an order that is true (see [`world`]). Everything
//! runs on threads of its own that block; a [`Disk`] that is dropped stops and joins them.
//!
//! Durability: a step is reported when its content is on the device. Names and metadata of big
//! batches may not be yet: then the flag [`Disk::unsynced`] is set, and whoever is about to record
//! the outcome durably calls [`Barrier::sync`] first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ahoy_logic::sync::{Look, Print, Step};
use ahoy_wire::sync::RelPath;

pub(crate) mod beneath;
mod chunks;
mod compare;
mod copying;
mod displaced;
mod eyes;
mod fetch;
mod hands;
mod hashing;
pub(crate) mod litter;
pub(crate) mod print;
mod publish;
mod raw;
mod reader;
mod recent;
pub(crate) mod root;
mod stage;
mod sweep;
#[cfg(test)]
mod tests;
mod unnamed;
mod walk;
mod world;

pub use eyes::EyesOptions;

pub use root::{Root, RootError};
pub use sweep::Leftover;
pub use world::Listener;

use crate::sync::supply::Supply;
use eyes::Eyes;
use hands::Hands;
use reader::Reader;
use world::World;

/// Makes durable what the disk side has reported.
#[derive(Clone)]
pub struct Barrier {
    root: Arc<Root>,
    unsynced: Arc<AtomicBool>,
}

impl Barrier {
    /// What the next sync is for includes what others have done to the folder.
    pub fn distrust(&self) {
        self.unsynced.store(true, Ordering::Release);
    }

    /// Makes everything that has been reported so far durable, if it is not. To be called before
    /// any of it is recorded durably elsewhere.
    pub fn sync(&self) -> std::io::Result<()> {
        if self.unsynced.swap(false, Ordering::AcqRel)
            && let Err(error) = self.root.sync()
        {
            self.unsynced.store(true, Ordering::Release);
            return Err(error);
        }
        Ok(())
    }
}

/// The disk of one share, at work.
pub struct Disk {
    root: Arc<Root>,
    unsynced: Arc<AtomicBool>,
    // Hands first: steps end before the eyes close.
    hands: Hands,
    reader: Reader,
    eyes: Eyes,
}

impl Disk {
    /// Starts the threads. Nothing is looked at yet: begin with
    /// `look(Look::Below(RelPath::root()), None)`, and do so before anything is changed.
    pub fn start(
        root: Arc<Root>,
        listener: Arc<dyn Listener>,
        supply: Arc<dyn Supply>,
        options: EyesOptions,
    ) -> std::io::Result<Self> {
        let world = Arc::new(World::new(listener));
        let unsynced = Arc::new(AtomicBool::new(false));
        let eyes = Eyes::start(Arc::clone(&root), Arc::clone(&world), options)?;
        let reader = Reader::start(
            Arc::clone(&root),
            Arc::clone(&world),
            Arc::clone(eyes.asks()),
            Arc::clone(&unsynced),
        )?;
        let hands = Hands::start(Arc::clone(&root), world, supply, Arc::clone(&unsynced))?;
        Ok(Self {
            root,
            unsynced,
            hands,
            reader,
            eyes,
        })
    }

    /// The folder.
    pub fn root(&self) -> &Arc<Root> {
        &self.root
    }

    /// Looks there soon; the answer is `Seen` with the number `ask`, in several parts if there is
    /// much, and then a `Settled`. Questions that come together may be answered together, with
    /// the highest of their numbers.
    pub fn look(&self, look: Look, ask: Option<u64>) {
        self.eyes.asks().look(look, ask);
    }

    /// Reads and hashes `path` if it is still `print`; exactly one `Hashed` or `Unread` follows.
    pub fn read(&self, path: RelPath, print: Print) {
        self.reader.read(path, print);
    }

    /// Carries out `step`; exactly one outcome in a `Finished` follows.
    pub fn carry_out(&self, step: Step) {
        self.hands.carry_out(step);
    }

    /// No step is begun any more, and those that were begun have been reported when this returns.
    pub fn rest(&mut self) {
        self.hands.rest();
    }

    /// For whoever records what is reported.
    pub fn barrier(&self) -> Barrier {
        Barrier {
            root: Arc::clone(&self.root),
            unsynced: Arc::clone(&self.unsynced),
        }
    }

    /// Set when something that has been reported is not durable yet.
    pub fn unsynced(&self) -> &Arc<AtomicBool> {
        &self.unsynced
    }
}
