//! The TCP loop: accepts, reads, writes and closes for any machine (see [`crate::drive`]).
//!
//! A connection is read only while nothing waits to be sent on it. So a peer that does not read its
//! answers is not fed further (its own sending blocks), and one connection never holds more than
//! one read and what the machine makes of it. An idle connection holds no buffer at all.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ahoy_logic::machine::{ConnectionId, Input, Machine};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::drive::{Chunk, Core, Order, Orders};

/// One read takes at most this many bytes; it lives on the stack of the thread, for one call.
const READ_BYTES_MAX: usize = 32 * 1024;

/// How long accepting rests when the system has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// After a finish, at most this many bytes of a peer that goes on sending are read and forgotten.
const LINGER_BYTES_MAX: usize = 1024 * 1024;

/// Accepts connections for ever, each in a task of its own, as long as there are slots.
pub(crate) async fn accept<M>(core: Arc<Core<M>>, listener: TcpListener, slots: Arc<Semaphore>)
where
    M: Machine + Send + 'static,
    M::Note: Send,
{
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await;
        let slot = slot.expect("the slots are never closed");
        match listener.accept().await {
            Ok((stream, _)) => {
                let core = Arc::clone(&core);
                tokio::spawn(async move {
                    serve(&core, stream).await;
                    drop(slot);
                });
            }
            // The client gave up before it was accepted.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept; trying again");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves connections that were accepted elsewhere, as long as there are slots; when there are
/// none, those that come wait in the channel.
pub(crate) async fn adopt<M>(
    core: Arc<Core<M>>,
    mut handed: mpsc::Receiver<std::net::TcpStream>,
    slots: Arc<Semaphore>,
) where
    M: Machine + Send + 'static,
    M::Note: Send,
{
    while let Some(stream) = handed.recv().await {
        let slot = Arc::clone(&slots).acquire_owned().await;
        let slot = slot.expect("the slots are never closed");
        let adopted = stream
            .set_nonblocking(true)
            .and_then(|()| TcpStream::from_std(stream));
        match adopted {
            Ok(stream) => {
                let core = Arc::clone(&core);
                tokio::spawn(async move {
                    serve(&core, stream).await;
                    drop(slot);
                });
            }
            Err(error) => tracing::warn!(%error, "cannot take a connection over"),
        }
    }
    // Nobody hands anything over any more; the loop goes on for the others.
    std::future::pending().await
}

/// One connection, from the machine's `Opened` to its `Closed`.
async fn serve<M: Machine>(core: &Core<M>, stream: TcpStream) {
    let (Ok(peer), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else {
        return; // gone before it began
    };
    // Answers are written whole; waiting to fill a segment would only delay them.
    let _ = stream.set_nodelay(true);
    let [peer, local] = [peer, local].map(crate::datagram::canonical);
    let orders = core.open(peer, local);
    let id = orders.id;
    if let Err(error) = converse(core, stream, orders).await {
        tracing::debug!(connection = id.0, %peer, %error, "broken off");
    }
    core.close(id);
}

async fn converse<M: Machine>(
    core: &Core<M>,
    mut stream: TcpStream,
    mut orders: Orders,
) -> io::Result<()> {
    let mut outgoing = Outgoing::default();
    let (mut ended, mut finishing) = (false, false);
    let mut stalled_at = Instant::now();
    loop {
        if finishing && outgoing.is_empty() {
            return linger(&mut stream, core.limits.linger_max).await;
        }
        let reads = outgoing.is_empty() && !ended && !finishing;
        tokio::select! {
            biased;
            order = orders.queue.recv() => match order {
                Some(Order::Send(bytes)) => {
                    if outgoing.is_empty() {
                        stalled_at = Instant::now() + core.limits.stalled_max;
                    }
                    outgoing.push(bytes);
                }
                Some(Order::Finish) => finishing = true,
                None => return Ok(()), // told to drop it
            },
            ready = stream.writable(), if !outgoing.is_empty() => {
                ready?;
                let written = outgoing.write_to(&stream)?;
                orders.unsent_bytes.fetch_sub(written, Ordering::Relaxed);
                if written > 0 {
                    stalled_at = Instant::now() + core.limits.stalled_max;
                }
            }
            () = sleep_until(stalled_at), if !outgoing.is_empty() => {
                return Err(io::Error::new(ErrorKind::TimedOut, "the peer does not read"));
            }
            ready = stream.readable(), if reads => {
                ready?;
                ended = read_once(core, orders.id, &stream)?;
            }
        }
    }
}

/// Hands the machine what one read brings; true if that was the end of the stream.
fn read_once<M: Machine>(core: &Core<M>, id: ConnectionId, stream: &TcpStream) -> io::Result<bool> {
    let mut buffer = [0; READ_BYTES_MAX];
    match stream.try_read(&mut buffer) {
        Ok(0) => {
            core.step(Input::Ended { id });
            Ok(true)
        }
        Ok(len) => {
            let bytes = &buffer[..len];
            core.step(Input::Received { id, bytes });
            Ok(false)
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

/// Closes our side and waits for the peer to close its own: a socket closed with unread bytes in it
/// resets the connection, and a reset can destroy what the peer has not yet read.
async fn linger(stream: &mut TcpStream, linger_max: Duration) -> io::Result<()> {
    stream.shutdown().await?;
    let until = Instant::now() + linger_max;
    let mut left_bytes = LINGER_BYTES_MAX;
    while let Ok(ready) = timeout_at(until, stream.readable()).await {
        ready?;
        match forget_once(stream) {
            Ok(0) => break,
            Ok(len) => left_bytes = left_bytes.saturating_sub(len),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if left_bytes == 0 {
            break;
        }
    }
    Ok(())
}

fn forget_once(stream: &TcpStream) -> io::Result<usize> {
    stream.try_read(&mut [0; READ_BYTES_MAX])
}

/// What waits to be sent on a connection, in order.
#[derive(Debug, Default)]
struct Outgoing {
    queue: VecDeque<Chunk>,
    /// How much of the first one is already gone, in bytes.
    head_bytes: usize,
}

impl Outgoing {
    fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// `bytes` is never empty.
    fn push(&mut self, bytes: Chunk) {
        self.queue.push_back(bytes);
    }

    /// Writes what goes without waiting; how many bytes went.
    fn write_to(&mut self, stream: &TcpStream) -> io::Result<usize> {
        let mut written = 0;
        while let Some(first) = self.queue.front() {
            match stream.try_write(&first[self.head_bytes..]) {
                Ok(len) => {
                    written += len;
                    self.head_bytes += len;
                    if self.head_bytes == first.len() {
                        self.queue.pop_front();
                        self.head_bytes = 0;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }
}
