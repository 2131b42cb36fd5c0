//! Measures an echo server: how long a message takes there and back, and how much goes through.
//!
//! Two phases, never at once: first one message at a time, for round-trip times that no queue of
//! our own adds to; then as much as goes, for throughput. A lost datagram is counted, not waited
//! for beyond the limit. Statistics are the caller's; it is given every round-trip time.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use ahoy_wire::echo::{DATAGRAM_BYTES_MAX, probe, probe_sequence};

use crate::echo::client::{ClientError, connect, open};

/// What to measure with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// The size of a message, in bytes; at least the head of a probe, at most a datagram over UDP.
    pub message_bytes: usize,
    /// How long each of the two phases lasts.
    pub phase: Duration,
    /// Datagrams that may be on their way at once in the second phase.
    pub window: u64,
    /// How long to wait for an answer before it counts as lost.
    pub wait: Duration,
}

/// What went through in the second phase.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Throughput {
    /// Bytes that came back.
    pub bytes: u64,
    /// Datagrams that came back; over TCP, bytes divided by the size of a message.
    pub messages: u64,
    /// Datagrams that did not come back, in both phases.
    pub lost: u64,
    /// How long the phase took.
    pub took: Duration,
}

/// Each new connection or socket sends this many messages that are not measured.
const WARM_UP: u64 = 100;

/// One write or read of the TCP throughput phase, in bytes.
const BULK_BYTES: usize = 64 * 1024;

/// Measures over TCP.
///
/// # Errors
/// See [`ClientError`].
pub fn stream(
    addr: SocketAddr,
    load: Load,
    mut on_round_trip: impl FnMut(Duration),
) -> Result<Throughput, ClientError> {
    let mut stream = connect(addr, load.wait)?;
    stream.set_read_timeout(Some(load.wait))?;
    stream.set_write_timeout(Some(load.wait))?;
    let message = probe(1, load.message_bytes);
    let mut back = vec![0; message.len()];
    let started = Instant::now();
    let mut count = 0;
    while started.elapsed() < load.phase {
        let sent = Instant::now();
        stream.write_all(&message)?;
        stream
            .read_exact(&mut back)
            .map_err(|error| silent(error, load.wait, message.len()))?;
        let took = sent.elapsed();
        same(&message, &back)?;
        count += 1;
        if count > WARM_UP {
            on_round_trip(took);
        }
    }
    let bulk = bulk(stream, load)?;
    Ok(Throughput {
        messages: bulk.bytes / message.len() as u64,
        ..bulk
    })
}

/// Sends as fast as the connection takes it, receives at the same time.
fn bulk(mut stream: TcpStream, load: Load) -> Result<Throughput, ClientError> {
    let mut writer = stream.try_clone()?;
    let started = Instant::now();
    let sender = thread::spawn(move || -> io::Result<u64> {
        let chunk = probe(2, BULK_BYTES);
        let mut bytes = 0;
        while started.elapsed() < load.phase {
            writer.write_all(&chunk)?;
            bytes += chunk.len() as u64;
        }
        writer.shutdown(Shutdown::Write)?;
        Ok(bytes)
    });
    let mut buffer = vec![0; BULK_BYTES];
    let mut bytes = 0;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => bytes += len as u64,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(silent(error, load.wait, BULK_BYTES)),
        }
    }
    let took = started.elapsed();
    let sent = sender
        .join()
        .map_err(|_| io::Error::other("the sender crashed"))??;
    if bytes < sent {
        let missing_bytes = sent - bytes;
        return Err(ClientError::Cut { missing_bytes });
    }
    Ok(Throughput {
        bytes,
        took,
        ..Throughput::default()
    })
}

/// Measures over UDP.
///
/// # Errors
/// See [`ClientError`]; `Silent` if not one datagram of the first phase came back.
pub fn datagrams(
    addr: SocketAddr,
    load: Load,
    mut on_round_trip: impl FnMut(Duration),
) -> Result<Throughput, ClientError> {
    let len = load.message_bytes;
    if len > DATAGRAM_BYTES_MAX {
        return Err(ClientError::TooLarge { len });
    }
    let socket = open(addr)?;
    socket.set_read_timeout(Some(load.wait))?;
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX + 1];
    let (mut sequence, mut lost, mut returned) = (0, 0, 0);
    let started = Instant::now();
    while started.elapsed() < load.phase {
        sequence += 1;
        let message = probe(sequence, len);
        let sent = Instant::now();
        socket.send(&message)?;
        match receive_until(&socket, &mut buffer, |came| came >= sequence)? {
            Some(size) => {
                let took = sent.elapsed();
                same(&message, &buffer[..size])?;
                returned += 1;
                if returned > WARM_UP {
                    on_round_trip(took);
                }
            }
            None => lost += 1,
        }
    }
    if returned == 0 {
        let (wait, missing_bytes) = (load.wait, len as u64);
        return Err(ClientError::Silent {
            wait,
            missing_bytes,
        });
    }
    let flood = flood(&socket, load, sequence)?;
    Ok(Throughput {
        lost: flood.lost + lost,
        ..flood
    })
}

/// Keeps `load.window` datagrams on their way. When none comes back in time, all of them are lost.
fn flood(socket: &UdpSocket, load: Load, mut sequence: u64) -> Result<Throughput, ClientError> {
    let mut message = probe(0, load.message_bytes);
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX + 1];
    let mut outcome = Throughput::default();
    let (first, mut outstanding) = (sequence + 1, 0);
    let started = Instant::now();
    loop {
        let over = started.elapsed() >= load.phase;
        while outstanding < load.window.max(1) && !over {
            sequence += 1;
            let head = message.first_chunk_mut::<8>().expect("a probe has a head");
            *head = sequence.to_be_bytes();
            socket.send(&message)?;
            outstanding += 1;
        }
        if outstanding == 0 {
            outcome.took = started.elapsed();
            return Ok(outcome);
        }
        match receive_until(socket, &mut buffer, |came| came >= first)? {
            Some(size) => {
                outcome.bytes += size as u64;
                outcome.messages += 1;
                outstanding -= 1;
            }
            None => {
                outcome.lost += outstanding;
                outstanding = 0;
            }
        }
    }
}

/// The size of the next datagram whose sequence number is `wanted`; None if none came in time.
fn receive_until(
    socket: &UdpSocket,
    buffer: &mut [u8],
    wanted: impl Fn(u64) -> bool,
) -> Result<Option<usize>, ClientError> {
    loop {
        match socket.recv(buffer) {
            Ok(size) if probe_sequence(&buffer[..size]).is_some_and(&wanted) => {
                return Ok(Some(size));
            }
            Ok(_) => {}
            Err(error) if is_timeout(&error) => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn same(sent: &[u8], received: &[u8]) -> Result<(), ClientError> {
    if sent == received {
        Ok(())
    } else {
        Err(ClientError::Differs)
    }
}

fn silent(error: io::Error, wait: Duration, missing: usize) -> ClientError {
    let missing_bytes = missing as u64;
    if is_timeout(&error) {
        ClientError::Silent {
            wait,
            missing_bytes,
        }
    } else if error.kind() == ErrorKind::UnexpectedEof {
        ClientError::Cut { missing_bytes }
    } else {
        ClientError::Io(error)
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
