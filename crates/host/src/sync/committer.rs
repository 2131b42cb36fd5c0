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
use ahoy_wire::sync::{Dot, Value};

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
            dots: 0,
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
    /// The count of the last change made here that is in the index.
    dots: u64,
}

impl Clerk {
    fn commit(&mut self, rows: &[Row]) -> bool {
        let mut failed = false;
        if user_changed_names(rows, &mut self.dots) {
            self.barrier.distrust();
        }
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

/// Whether the user has removed, renamed or made something other than the files whose reading has
/// synced them: a power cut could undo that on the disk, and what the index knows of it would then
/// look like something that the user has done since (`sync-27`). `dots` is the count of the last
/// change of earlier orders; moves on.
fn user_changed_names(rows: &[Row], dots: &mut u64) -> bool {
    let counters = rows.iter().filter_map(|row| match row {
        Row::Counters { dots, .. } => Some(*dots),
        Row::Node { .. } | Row::Heard { .. } | Row::Numbers(_) => None,
    });
    let Some(upto) = counters.max() else {
        return false;
    };
    let since = std::mem::replace(dots, upto);
    let is_new = |dot: Dot| dot.count > since && dot.count <= upto;
    rows.iter().any(|row| match row {
        Row::Node { record, .. } => {
            let (place, body) = (&record.place, &record.body);
            let was_read = is_new(body.dot) && matches!(body.value, Value::File { .. });
            (is_new(place.dot) || is_new(body.dot)) && !was_read
        }
        Row::Heard { .. } | Row::Counters { .. } | Row::Numbers(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use ahoy_wire::sync::{
        Body, Class, Clock, Hash, Label, Meta, Mtime, Name, NodeId, Place, Record, ReplicaId,
    };

    use super::*;

    fn row(place: u64, body: u64, value: Value) -> Row {
        let dot = |count| Dot {
            count,
            replica: ReplicaId(1),
        };
        let record = Record {
            id: NodeId([1; 16]),
            class: Class::Leaf,
            copy_of: None,
            place: Place {
                clock: Clock::of(dot(place)),
                dot: dot(place),
                parent: NodeId::ROOT,
                name: Name::new(b"a").expect("a name"),
            },
            body: Body {
                clock: Clock::of(dot(body)),
                dot: dot(body),
                author: Label::tidy("me"),
                value,
            },
        };
        Row::Node {
            number: 1,
            record: Box::new(record),
            signature: None,
            sequence: 0,
            synced: None,
        }
    }

    #[test]
    fn names_that_the_user_changed_are_synced_before_they_are_remembered() {
        let meta = Meta {
            mode: 0o644,
            mtime: Mtime { secs: 0, nanos: 0 },
        };
        let file = || Value::File {
            meta,
            size: 1,
            hash: Hash([1; 32]),
        };
        let gone = || Value::Gone {
            was: Box::new(file()),
            seen: Clock::default(),
        };
        let counters = |dots| Row::Counters { dots, sequence: 0 };
        let cases = [
            (
                "a file was made, and read",
                row(10, 11, file()),
                true,
                false,
            ),
            ("one was edited, and read", row(3, 11, file()), true, false),
            ("one was renamed", row(11, 3, file()), true, true),
            ("one was removed", row(3, 11, gone()), true, true),
            (
                "a directory was made",
                row(10, 11, Value::Dir(meta)),
                true,
                true,
            ),
            (
                "nothing since the last turn",
                row(9, 9, gone()),
                true,
                false,
            ),
            ("a peer did it", row(11, 11, gone()), false, false),
        ];
        for (what, row, is_own, wanted) in cases {
            let mut dots = 9;
            let rows: Vec<Row> = is_own
                .then(|| counters(11))
                .into_iter()
                .chain([row])
                .collect();
            assert_eq!(user_changed_names(&rows, &mut dots), wanted, "{what}");
            assert_eq!(dots, if is_own { 11 } else { 9 }, "{what}");
        }
    }
}
