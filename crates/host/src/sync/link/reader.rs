//! The reader: one thread that takes what the peer sends, checks it, and hands it on.
//!
//! It is the guard of the protocol: what breaks a rule ends the link here, before anybody sees it.
//! It also notices when a peer has fallen silent, and it is the last to leave: only when both
//! threads are done is the engine told that the link is closed.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ahoy_logic::sync::{Input, Rights};
use ahoy_wire::sync::{Frame, FrameError, Intake, Message, Records};

use super::asks::Unasked;
use super::desk::{self, Clerk, TooMany};
use super::{Link, writer};
use crate::sync::keys::is_vouched_for;

/// How much is taken from the socket at a time: TLS alone would take one record.
const RECEIVE_BYTES: usize = 256 * 1024;

/// Most frames that are decoded before the first of them is handed on.
const FRAMES_AT_ONCE: usize = 256;

/// What adds up to so many bytes is more than signs of life.
const SUBSTANCE_BYTES: usize = 4096;

/// The longest that the end of the link goes unnoticed while a limit holds up the reader.
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// Why reading ended.
#[derive(Debug, thiserror::Error)]
enum Ending {
    #[error("the peer closed the connection")]
    Closed,
    #[error("the peer has fallen silent")]
    Silent,
    #[error("the peer takes nothing any more")]
    Stalled,
    #[error("receiving failed: {0}")]
    Io(#[from] io::Error),
    #[error("encryption broke: {0}")]
    Tls(#[from] rustls::Error),
    #[error("the peer broke the protocol: {0}")]
    Frame(#[from] FrameError),
    #[error("the peer broke the protocol: {0}")]
    Unasked(#[from] Unasked),
    #[error("the peer broke the protocol: {0}")]
    TooMany(#[from] TooMany),
    #[error("the peer broke the protocol: records without credit")]
    NoCredit,
    #[error("the peer may only read, and sent a record that no writer signed")]
    Unsigned,
}

/// Starts both threads of a link. `after` is called when they are done, before the engine hears.
pub fn start(link: &Arc<Link>, after: impl FnOnce() + Send + 'static) {
    let end = End {
        link: Arc::clone(link),
        after: Some(Box::new(after)),
    };
    let worker = Arc::clone(link);
    let reader = thread("link-reader").spawn(move || {
        let end = end;
        let writing = Arc::clone(&worker);
        let writer = thread("link-writer").spawn(move || {
            let _end = Hang(Arc::clone(&writing));
            writer::run(&writing);
        });
        let reason = match &writer {
            Ok(_) => read(&worker).map_or_else(|ending| ending.to_string(), |never| match never {}),
            Err(error) => format!("no thread for sending: {error}"),
        };
        worker.hang(&reason);
        if let Ok(writer) = writer {
            let _ = writer.join();
        }
        drop(end);
    });
    if let Err(error) = reader {
        link.hang(&format!("no thread for receiving: {error}"));
    }
}

fn thread(name: &str) -> std::thread::Builder {
    std::thread::Builder::new().name(name.to_owned())
}

/// Ends a link when a thread of it does, for whatever reason.
struct Hang(Arc<Link>);

impl Drop for Hang {
    fn drop(&mut self) {
        self.0.hang("a thread of the link is gone");
    }
}

/// Tells everybody that a link is over, even if its thread panics or never came to be.
struct End {
    link: Arc<Link>,
    after: Option<Box<dyn FnOnce() + Send>>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.link.hang("a thread of the link is gone");
        if let Some(after) = self.after.take() {
            after();
        }
        self.link
            .around
            .port
            .input(Input::Closed { link: self.link.id });
    }
}

enum Never {}

/// Receives until the link is over.
fn read(link: &Arc<Link>) -> Result<Never, Ending> {
    let mut wire = vec![0; RECEIVE_BYTES];
    let mut intake = Intake::default();
    let mut frames = Vec::new();
    let mut pinged_ms = 0;
    let mut substance = 0;
    let mut pause = None;
    let limits = &link.around.limits;
    // The handshake may have taken in more than it needed.
    let mut rest: &[u8] = &[];
    loop {
        loop {
            decrypt(link, &mut rest, &mut intake, &mut frames)?;
            let full = frames.len() >= FRAMES_AT_ONCE;
            for frame in frames.drain(..) {
                take(link, frame, &mut intake)?;
            }
            if rest.is_empty() && !full {
                break;
            }
        }
        if let Some(until) = pause.take() {
            hold_back(link, until);
        }
        let gulp = limits.gulp(RECEIVE_BYTES);
        let received = match (&link.socket).read(&mut wire[..gulp]) {
            Ok(0) => return Err(Ending::Closed),
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                check_silence(link, &mut pinged_ms)?;
                0
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(Ending::Stalled),
            Err(error) => return Err(error.into()),
        };
        rest = &wire[..received];
        if received > 0 {
            link.heard_ms.store(link.now_ms(), Ordering::Release);
            link.doubted_ms.store(0, Ordering::Release);
            link.received_bytes
                .fetch_add(received as u64, Ordering::Relaxed);
            pause = limits.received(received);
        }
        // A slow line brings it in small pieces.
        substance += received;
        if substance >= SUBSTANCE_BYTES {
            substance = 0;
            link.asks.progress();
            show_life(link, &mut pinged_ms);
        }
    }
}

/// Reads no further until then, so that the peer's bytes wait on its own side.
fn hold_back(link: &Link, until: Instant) {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || link.end().is_some() {
            break;
        }
        std::thread::sleep(left.min(PAUSE_MAX));
    }
    // Whoever does not listen has not heard silence.
    link.heard_ms.store(link.now_ms(), Ordering::Release);
}

/// Tells a peer that sends without being answered that this end is there (`sync-61`): its own
/// question would stand behind all that is on its way, which on a slow line takes too long.
fn show_life(link: &Link, pinged_ms: &mut u64) {
    let (now, said) = (link.now_ms(), link.said_ms.load(Ordering::Acquire));
    let silent_for = Duration::from_millis(now.saturating_sub(said.max(*pinged_ms)));
    if silent_for >= link.around.pace.ping_after {
        *pinged_ms = now;
        link.outbox.urgent(&Frame::Ping);
    }
}

/// Decrypts bytes from the front of `rest`, until none are left or there are many frames.
fn decrypt(
    link: &Link,
    rest: &mut &[u8],
    intake: &mut Intake,
    frames: &mut Vec<Frame>,
) -> Result<(), Ending> {
    if intake.spare_wanted() > 0 && !rest.is_empty() {
        link.asks
            .spare(intake.spare_wanted())
            .into_iter()
            .for_each(|spare| intake.recycle(spare));
    }
    let chunks_awaited = link.asks.awaits_outline();
    let mut tls = link.tls();
    loop {
        let mut reader = tls.reader();
        loop {
            let mut plain = match reader.fill_buf() {
                Ok([]) => return Err(Ending::Closed),
                Ok(plain) => plain,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            };
            let len = plain.len();
            while let Some(frame) = intake.take(&mut plain, chunks_awaited)? {
                frames.push(frame);
            }
            reader.consume(len);
        }
        if rest.is_empty() || frames.len() >= FRAMES_AT_ONCE {
            break;
        }
        tls.read_tls(rest)?;
        tls.process_new_packets()?;
    }
    if tls.wants_write() {
        drop(tls);
        link.outbox.flush();
    }
    Ok(())
}

/// Asks a silent peer for a sign of life; gives up on one that has been silent for too long.
fn check_silence(link: &Link, pinged_ms: &mut u64) -> Result<(), Ending> {
    let pace = &link.around.pace;
    let now = link.now_ms();
    let since = |ms: u64| Duration::from_millis(now.saturating_sub(ms));
    let heard = link.heard_ms.load(Ordering::Acquire);
    let silent_for = since(heard);
    let doubted = link.doubted_ms.load(Ordering::Acquire);
    let in_doubt = doubted > 0 && since(doubted - 1) >= pace.doubt;
    if silent_for >= pace.dead_after || in_doubt {
        return Err(Ending::Silent);
    }
    if silent_for >= pace.ping_after && since(heard.max(*pinged_ms)) >= pace.ping_after {
        *pinged_ms = now;
        link.outbox.urgent(&Frame::Ping);
    }
    Ok(())
}

/// Checks one frame and hands it on.
fn take(link: &Arc<Link>, frame: Frame, intake: &mut Intake) -> Result<(), Ending> {
    match frame {
        Frame::Message(message) => hear(link, message)?,
        Frame::Data {
            request,
            offset,
            bytes,
        } => {
            if let Some(unwanted) = link.asks.content(request, offset, bytes)? {
                intake.recycle(unwanted);
            }
        }
        Frame::Done { request } => link.asks.done(request)?,
        Frame::Refused { request, reason } => link.asks.refused(request, reason),
        Frame::Chunks { request, chunks } => link.asks.chunks(request, chunks)?,
        Frame::Get {
            request,
            wanted,
            offset,
            len,
        } => {
            let clerk = link
                .outbox
                .with_desk(|desk| desk.ask(request, wanted, offset, len))?;
            start_clerk(link, clerk);
        }
        Frame::Outline {
            request,
            wanted,
            stretch,
        } => {
            let clerk = link
                .outbox
                .with_desk(|desk| desk.ask_outline(request, wanted, stretch))?;
            start_clerk(link, clerk);
        }
        Frame::Cancel { request } => link.outbox.with_desk(|desk| desk.cancel(request)),
        Frame::Credit { batches } => link.outbox.credit(batches),
        Frame::Listening { port } => link.heard_listening(port),
        Frame::Ping => link.outbox.pong(),
        Frame::Pong => {}
    }
    Ok(())
}

fn start_clerk(link: &Arc<Link>, clerk: Option<Clerk>) {
    if let Some(clerk) = clerk {
        desk::start(clerk, link);
    }
}

/// Checks what the peer says to the engine, and says it.
fn hear(link: &Link, message: Message) -> Result<(), Ending> {
    match &message {
        Message::Records(records) => {
            let allowed = &link.records_allowed;
            let spent =
                allowed.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1));
            spent.map_err(|_| Ending::NoCredit)?;
            check_signatures(link, records)?;
        }
        Message::Want { since, .. } => link.told_upto.store(*since, Ordering::Release),
        Message::Hello(_) | Message::Holding { .. } => {}
    }
    link.around.port.input(Input::Heard {
        link: link.id,
        message,
    });
    Ok(())
}

/// What a mere reader passes on must be vouched for by a writer, every single record (`sync-45`).
fn check_signatures(link: &Link, records: &Records) -> Result<(), Ending> {
    if link.rights == Rights::Writer {
        return Ok(());
    }
    let public = link.around.membership.write_public();
    let vouched_for = records.items.iter().all(|item| {
        let signature = item.signature.as_ref();
        signature.is_some_and(|signature| is_vouched_for(&public, &item.record, signature))
    });
    if vouched_for {
        Ok(())
    } else {
        Err(Ending::Unsigned)
    }
}
