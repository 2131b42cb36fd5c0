//! The TCP loop: accepts, reads, writes and closes for any machine (see [`crate::drive`]).
//!
//! A connection is read only while nothing waits to be sent on it. So a peer that does not read its
//! answers is not fed further (its own sending blocks), and one connection never holds more than
//! one read and what the machine makes of it. An idle connection holds no buffer at all.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, ready};
use std::time::Duration;

use ahoy_logic::machine::{ConnectionId, Input, Machine};
use socket2::SockRef;
use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::drive::{Chunk, Core, Order, Orders};

/// One read takes at most this many bytes.
const READ_BYTES_MAX: usize = 32 * 1024;

thread_local! {
    /// What one read brings, for one call; so an idle connection holds no buffer, and none is
    /// cleared for each read, which would cost more than a short read itself.
    static READ_BUFFER: RefCell<Box<[MaybeUninit<u8>]>> =
        RefCell::new(Box::new_uninit_slice(READ_BYTES_MAX));
}

/// Answers that are written in one call at most.
const SLICES_MAX: usize = 32;

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
    // Accepted sockets have it from their listener; so each is spared a call.
    let _ = SockRef::from(&listener).set_tcp_nodelay(true);
    let bound = listener.local_addr().ok();
    let bound = bound.filter(|addr| !addr.ip().is_unspecified());
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await;
        let slot = slot.expect("the slots are never closed");
        match listener.accept().await {
            Ok((stream, peer)) => {
                let core = Arc::clone(&core);
                tokio::spawn(async move {
                    // Only of a wildcard address it is not known which one was dialled.
                    if let Some(local) = bound.or_else(|| stream.local_addr().ok()) {
                        serve(&core, stream, peer, local).await;
                    }
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
                    // Answers are written whole; waiting to fill a segment would delay them.
                    let _ = stream.set_nodelay(true);
                    // Without addresses it was gone before it began.
                    if let (Ok(peer), Ok(local)) = (stream.peer_addr(), stream.local_addr()) {
                        serve(&core, stream, peer, local).await;
                    }
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
async fn serve<M: Machine>(core: &Core<M>, stream: TcpStream, peer: SocketAddr, local: SocketAddr) {
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
    let (mut reader, writer) = stream.split();
    let mut outgoing = Outgoing::default();
    let stalled_max = core.limits.stalled_max;
    let mut ended = false;
    // Until when the peer must have taken something; None while nothing waits for it.
    let mut stalled_at = None;
    loop {
        // The answer to what was just read is here already, and nearly always goes at once.
        loop {
            match orders.queue.try_recv() {
                Ok(order) => outgoing.take(order),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Ok(()), // told to drop it
            }
        }
        if !outgoing.is_empty() {
            let written = outgoing.write_to(&writer)?;
            orders.unsent_bytes.fetch_sub(written, Ordering::Relaxed);
            if outgoing.is_empty() {
                stalled_at = None;
            } else if written > 0 || stalled_at.is_none() {
                stalled_at = Some(Instant::now() + stalled_max);
            }
        }
        if outgoing.is_finished() {
            break;
        }
        let reads = outgoing.is_empty() && !ended;
        tokio::select! {
            biased;
            order = orders.queue.recv() => match order {
                Some(order) => outgoing.take(order),
                None => return Ok(()), // told to drop it
            },
            ready = writer.writable(), if !outgoing.is_empty() => ready?,
            () = until(stalled_at) => {
                return Err(io::Error::new(ErrorKind::TimedOut, "the peer does not read"));
            }
            read = read_once(core, orders.id, &mut reader), if reads => ended = read?,
        }
    }
    linger(&mut stream, core.limits.linger_max).await
}

/// Ready at this moment, or never.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Hands the machine what one read brings; true if that was the end of the stream.
async fn read_once<M: Machine>(
    core: &Core<M>,
    id: ConnectionId,
    reader: &mut ReadHalf<'_>,
) -> io::Result<bool> {
    let take = |bytes: &[u8]| {
        if bytes.is_empty() {
            core.step(Input::Ended { id });
        } else {
            core.step(Input::Received { id, bytes });
        }
        bytes.is_empty()
    };
    read_with(reader, take).await
}

/// Reads once and hands over what came, of which nothing is the end of the stream. Nothing is lost
/// if it is dropped before it is ready.
async fn read_with<R>(
    reader: &mut ReadHalf<'_>,
    mut take: impl FnMut(&[u8]) -> R,
) -> io::Result<R> {
    poll_fn(|context| {
        READ_BUFFER.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::uninit(buffer);
            ready!(Pin::new(&mut *reader).poll_read(context, &mut buffer))?;
            Poll::Ready(Ok(take(buffer.filled())))
        })
    })
    .await
}

/// Closes our side and waits for the peer to close its own: a socket closed with unread bytes in it
/// resets the connection, and a reset can destroy what the peer has not yet read.
async fn linger(stream: &mut TcpStream, linger_max: Duration) -> io::Result<()> {
    stream.shutdown().await?;
    let (mut reader, _) = stream.split();
    let until = Instant::now() + linger_max;
    let mut left_bytes = LINGER_BYTES_MAX;
    while let Ok(read) = timeout_at(until, read_with(&mut reader, <[u8]>::len)).await {
        let len = read?;
        left_bytes = left_bytes.saturating_sub(len);
        if len == 0 || left_bytes == 0 {
            break;
        }
    }
    Ok(())
}

/// What waits to be sent on a connection, in order.
#[derive(Debug, Default)]
struct Outgoing {
    queue: VecDeque<Chunk>,
    /// How much of the first one is already gone, in bytes.
    head_bytes: usize,
    /// There will be no more.
    finishing: bool,
}

impl Outgoing {
    fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Everything is sent that ever will be.
    fn is_finished(&self) -> bool {
        self.finishing && self.is_empty()
    }

    fn take(&mut self, order: Order) {
        match order {
            // Never empty.
            Order::Send(bytes) => self.queue.push_back(bytes),
            Order::Finish => self.finishing = true,
        }
    }

    /// Writes what goes without waiting, many answers in one call; how many bytes went.
    fn write_to(&mut self, stream: &WriteHalf<'_>) -> io::Result<usize> {
        let mut written = 0;
        while !self.is_empty() {
            let (mut slices, mut bytes) = ([IoSlice::new(&[]); SLICES_MAX], 0);
            let mut count = 0;
            for (slice, chunk) in slices.iter_mut().zip(&self.queue) {
                let rest = if count == 0 {
                    &chunk[self.head_bytes..]
                } else {
                    &chunk[..]
                };
                *slice = IoSlice::new(rest);
                bytes += rest.len();
                count += 1;
            }
            match stream.try_write_vectored(&slices[..count]) {
                Ok(len) => {
                    self.forget(len);
                    written += len;
                    if len < bytes {
                        break; // the socket is full
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    /// So many bytes are gone.
    fn forget(&mut self, bytes: usize) {
        self.head_bytes += bytes;
        while let Some(first) = self.queue.front()
            && self.head_bytes >= first.len()
        {
            self.head_bytes -= first.len();
            self.queue.pop_front();
        }
    }
}
