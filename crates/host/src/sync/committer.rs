//! The committer: one thread that makes rows durable while the conductor goes on.
//!
//! An order is a list of rows. First what the disk side has reported is made durable, then the rows
//! are, in one transaction. There is one order at a time; what it was for waits with the conductor
//! until it is done. A full disk under the index holds an order up until there is room again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use ahoy_logic::sync::Row;

use super::conductor::Mail;
use super::disk::Barrier;
use super::index::Index;

/// After a failed commit the next try comes this much later.
const RETRY: Duration = Duration::from_secs(1);

/// The way to the thread. When dropped, waits for the order that is being carried out.
pub struct Committer {
    orders: Option<Sender<Vec<Row>>>,
    done: Receiver<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    /// Starts it. It writes a `Mail::Committed` to `mail` after each order, and tells there of
    /// trouble with the index; when `give_up` is set, an order that cannot be carried out ends.
    pub fn start(
        index: Index,
        barrier: Barrier,
        mail: Sender<Mail>,
        give_up: Arc<AtomicBool>,
    ) -> std::io::Result<Self> {
        let (orders, ordered) = channel::<Vec<Row>>();
        let (tell, done) = channel();
        let mut clerk = Clerk {
            index,
            barrier,
            mail,
            give_up,
        };
        let work = move || {
            for rows in ordered {
                let kept = clerk.commit(&rows);
                // After the end nobody listens, and nobody needs to.
                let _ = tell.send(kept);
                let _ = clerk.mail.send(Mail::Committed);
            }
        };
        let thread = std::thread::Builder::new().name("committer".into());
        Ok(Self {
            orders: Some(orders),
            done,
            thread: Some(thread.spawn(work)?),
        })
    }

    /// Gives the next order; only when the last one is done.
    pub fn order(&self, rows: Vec<Row>) {
        // If the thread is gone, `done` says so.
        let _ = self.orders.as_ref().map(|orders| orders.send(rows));
    }

    /// Whether the order is done: `None` if not yet, false if it was given up.
    pub fn is_done(&self) -> Option<bool> {
        match self.done.try_recv() {
            Ok(kept) => Some(kept),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(false),
        }
    }

    /// Waits until the order is done; false if it was given up.
    pub fn wait(&self) -> bool {
        self.done.recv().unwrap_or(false)
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Clerk {
    index: Index,
    barrier: Barrier,
    mail: Sender<Mail>,
    give_up: Arc<AtomicBool>,
}

impl Clerk {
    fn commit(&mut self, rows: &[Row]) -> bool {
        let mut failed = false;
        loop {
            let synced = self.barrier.sync().map_err(|error| error.to_string());
            let commit = |()| self.index.commit(rows).map_err(|error| error.to_string());
            match synced.and_then(commit) {
                Ok(()) => {
                    if failed {
                        let _ = self.mail.send(Mail::IndexTrouble(None));
                    }
                    return true;
                }
                Err(reason) if !failed => {
                    tracing::error!(%reason, "the index cannot be written");
                    let _ = self.mail.send(Mail::IndexTrouble(Some(reason)));
                    failed = true;
                }
                Err(_) => {}
            }
            if self.give_up.load(Ordering::Relaxed) {
                return false;
            }
            std::thread::sleep(RETRY);
        }
    }
}
