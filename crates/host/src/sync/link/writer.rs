//! The writer: one thread that sends what is in the outbox.
//!
//! Messages go first, then at most one message of records, then one piece of a file, and so on: no
//! kind of traffic can starve another. Bytes are encrypted under the lock that the reader needs
//! too, a few hundred KiB at most, and leave for the socket when that is free again.
//!
//! Under a limit, records and content wait for their turn, in smaller pieces. Messages, requests
//! and signs of life do not; what they cost is taken from the rest.

use std::io::{self, IoSlice, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use ahoy_logic::sync::{Input, Outgoing, Rights};
use ahoy_wire::sync::{
    Clock, DATA_BYTES_MAX, Frame, INLINE_BYTES_MAX, ITEMS_MAX, Item, MESSAGE_BYTES_MAX, Message,
    Records, Refusal, Value,
};

use super::Link;
use super::desk::Piece;
use super::outbox::{Batch, Work};

/// Most frames, in bytes, that are encrypted together with a piece of a file.
const BESIDE_BYTES_MAX: usize = 4 * 1024;

/// Most plain bytes that are encrypted at a time. Measured: more falls out of the cache.
const ENCRYPT_BYTES_MAX: usize = DATA_BYTES_MAX;

/// About how many bytes of records and content go into one message.
const RECORDS_BYTES: usize = 2 << 20;

/// How often a writer that is held up looks how long it has been, in the time it may be.
pub const LOOKS: u32 = 8;

const _: () = assert!(RECORDS_BYTES + (1 << 20) <= MESSAGE_BYTES_MAX);

/// Sends until the link is over.
pub fn run(link: &Arc<Link>) {
    let mut content = vec![0; DATA_BYTES_MAX];
    let mut pipe = Pipe {
        link,
        cipher: Vec::new(),
        free_at: None,
    };
    let mut batch = None;
    let mut bulk_from = None;
    let limits = &link.around.limits;
    while let Some(work) =
        link.outbox
            .work(batch.is_some(), bulk_from, limits.piece(DATA_BYTES_MAX))
    {
        let is_bulk = work.is_bulk();
        if let Err(error) = turn(&mut pipe, &mut content, &mut batch, work) {
            let stalled = matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
            );
            link.hang(&if stalled {
                "the peer takes nothing any more".to_owned()
            } else {
                format!("sending failed: {error}")
            });
            return;
        }
        // What did not wait does not put off what does: who says much would never get to it.
        if is_bulk {
            bulk_from = pipe.free_at;
        }
    }
}

/// Sends one turn of work. `content` is room for a piece of a file, `batch` what is left of the
/// records under way.
fn turn(
    pipe: &mut Pipe<'_>,
    content: &mut [u8],
    batch: &mut Option<Batch>,
    work: Work,
) -> io::Result<()> {
    let link = pipe.link;
    let mut frames = work.urgent;
    for message in work.messages {
        Frame::Message(message).encode(&mut frames);
    }
    let batch_done = work.records.is_some_and(|fresh| {
        *batch = batch.take().or(fresh);
        put_records(link, batch, &mut frames)
    });
    if let Some(list) = work.list {
        frames.extend_from_slice(&list);
    }
    if frames.len() > BESIDE_BYTES_MAX {
        for part in frames.chunks(ENCRYPT_BYTES_MAX) {
            pipe.send(&mut [IoSlice::new(part)])?;
        }
        frames.clear();
    }
    let mut end = Vec::new();
    let filled = work.piece.map_or(0, |piece| {
        read_piece(link, &piece, &mut frames, content, &mut end)
    });
    let content = &content[..filled];
    pipe.send(&mut [
        IoSlice::new(&frames),
        IoSlice::new(content),
        IoSlice::new(&end),
    ])?;
    if batch_done {
        link.around.port.input(Input::Room { link: link.id });
    }
    Ok(())
}

/// Encrypts and sends.
struct Pipe<'a> {
    link: &'a Link,
    cipher: Vec<u8>,
    /// When what was sent so far is paid for, if there is a limit.
    free_at: Option<Instant>,
}

impl Pipe<'_> {
    /// Sends all of `plain`, and whatever TLS has to say of its own.
    fn send(&mut self, mut plain: &mut [IoSlice<'_>]) -> io::Result<()> {
        self.cipher.clear();
        {
            let mut tls = self.link.tls();
            IoSlice::advance_slices(&mut plain, 0);
            while !plain.is_empty() {
                let taken = tls.writer().write_vectored(plain)?;
                if taken == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                IoSlice::advance_slices(&mut plain, taken);
            }
            while tls.wants_write() {
                tls.write_tls(&mut self.cipher)?;
            }
        }
        self.put()?;
        let (link, sent) = (self.link, self.cipher.len());
        link.said_ms.store(link.now_ms(), Ordering::Release);
        link.sent_bytes.fetch_add(sent as u64, Ordering::Relaxed);
        self.free_at = link.around.limits.sent(sent);
        Ok(())
    }

    /// Writes what is encrypted; a slow peer may take as long as it likes, one that takes nothing
    /// may not (`sync-60`). A write that times out after some progress says only how far it came,
    /// hence the looks.
    fn put(&self) -> io::Result<()> {
        let stalled_after = self.link.around.pace.stalled_after;
        let mut rest = self.cipher.as_slice();
        let mut progress = Instant::now();
        while !rest.is_empty() {
            match (&self.link.socket).write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    rest = &rest[written..];
                    progress = Instant::now();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if progress.elapsed() >= stalled_after {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Reads a piece of a file into `content`, the head of its frame into `head` and what follows it
/// into `end`; how many bytes it has. Nothing, and a refusal, if the file has become shorter or
/// cannot be read.
fn read_piece(
    link: &Link,
    piece: &Piece,
    head: &mut Vec<u8>,
    content: &mut [u8],
    end: &mut Vec<u8>,
) -> usize {
    let content = &mut content[..piece.len];
    if let Err(error) = piece.file.read_exact_at(content, piece.offset) {
        let short = error.kind() == io::ErrorKind::UnexpectedEof;
        let reason = if short {
            Refusal::NotHere
        } else {
            Refusal::Unreadable
        };
        link.outbox.with_desk(|desk| desk.fail(piece, reason));
        return 0;
    }
    Frame::encode_data_header(piece.request, piece.offset, piece.len, head);
    if piece.last {
        Frame::Done {
            request: piece.request,
        }
        .encode(end);
    }
    piece.len
}

/// Appends one message of records; whether the batch ends with it.
fn put_records(link: &Link, batch: &mut Option<Batch>, frames: &mut Vec<u8>) -> bool {
    let Some(under_way) = batch else { return false };
    let mut items = Vec::new();
    let mut bytes = 0;
    let bytes_wanted = link.around.limits.records(RECORDS_BYTES);
    while bytes < bytes_wanted && items.len() < ITEMS_MAX {
        let Some(outgoing) = under_way.items.next() else {
            break;
        };
        let item = complete(link, outgoing);
        bytes += bytes_at_most(&item);
        items.push(item);
    }
    let done = under_way.items.peek().is_none();
    // All but the last part say what was true before: the peer may have to ask again from there.
    let upto = if done {
        under_way.upto
    } else {
        link.told_upto.load(Ordering::Acquire)
    };
    Frame::Message(Message::Records(Records { upto, items })).encode(frames);
    if done {
        link.told_upto.store(upto, Ordering::Release);
        *batch = None;
    }
    done
}

/// With the content, if it is still there, and with the signature that a reader needs.
fn complete(link: &Link, outgoing: Outgoing) -> Item {
    let Outgoing {
        record,
        signature,
        attach,
    } = outgoing;
    let around = &link.around;
    let content = attach.as_ref().zip(record.body.value.content());
    let content = content.and_then(|(path, (hash, size))| around.shelf.small(path, hash, size));
    let content = content.filter(|content| content.len() <= INLINE_BYTES_MAX);
    let signature = signature.or_else(|| match link.rights {
        Rights::Reader => around
            .membership
            .write_key()
            .map(|key| key.sign_record(&record)),
        Rights::Writer => None,
    });
    Item {
        record,
        signature,
        content,
    }
}

/// An upper bound for the encoded length of an item.
fn bytes_at_most(item: &Item) -> usize {
    /// Ids, dots, label, metadata, hash, signature, and all lengths.
    const FIXED: usize = 512;
    /// A replica and a count.
    const CLOCK_ENTRY: usize = 20;
    let clock = |clock: &Clock| clock.len() * CLOCK_ENTRY;
    let value = |value: &Value| match value {
        Value::Link { target, .. } => target.as_bytes().len(),
        Value::Dir(_) | Value::File { .. } | Value::Gone { .. } => 0,
    };
    let record = &item.record;
    let gone = match &record.body.value {
        Value::Gone { was, seen } => value(was) + clock(seen),
        Value::Dir(_) | Value::File { .. } | Value::Link { .. } => 0,
    };
    FIXED
        + record.place.name.as_bytes().len()
        + clock(&record.place.clock)
        + clock(&record.body.clock)
        + value(&record.body.value)
        + gone
        + item.content.as_ref().map_or(0, |content| content.len())
}
