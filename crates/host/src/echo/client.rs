//! The echo client: sends, and gives back what returns, with a limit on every wait.
//!
//! Strictly one thing after the other, so plain blocking sockets do. It does not judge the answer;
//! the caller has both sides of it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ahoy_wire::echo::DATAGRAM_BYTES_MAX;

/// One read takes at most this many bytes.
const READ_BYTES_MAX: usize = 32 * 1024;

/// How often the receiving side looks whether the sending side has ended.
const LOOK: Duration = Duration::from_millis(20);

/// Why an exchange did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody accepted.
    #[error("cannot connect to {addr}")]
    Connect {
        /// Where nobody accepted.
        addr: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The server fell silent.
    #[error("nothing came back for {} ms; {missing_bytes} bytes are missing", wait.as_millis())]
    Silent {
        /// How long it was waited for.
        wait: Duration,
        /// What was sent and did not come back, in bytes.
        missing_bytes: u64,
    },
    /// The server ended the connection too early.
    #[error("the server closed the connection; {missing_bytes} bytes are missing")]
    Cut {
        /// What was sent and did not come back, in bytes.
        missing_bytes: u64,
    },
    /// What came back is not what was sent.
    #[error("what came back differs from what was sent")]
    Differs,
    /// A message is too large for a datagram.
    #[error("{len} bytes do not fit into a datagram; {DATAGRAM_BYTES_MAX} is the limit")]
    TooLarge {
        /// The size of the message, in bytes.
        len: usize,
    },
    /// The socket or the output failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Opens a connection, waiting for at most `wait`.
///
/// # Errors
/// [`ClientError::Connect`] if nobody accepts.
pub fn connect(addr: SocketAddr, wait: Duration) -> Result<TcpStream, ClientError> {
    let stream = TcpStream::connect_timeout(&addr, wait);
    let stream = stream.map_err(|source| ClientError::Connect { addr, source })?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Opens a datagram socket that talks to `addr` only.
///
/// # Errors
/// [`ClientError::Connect`] if there is no way to `addr`.
pub fn open(addr: SocketAddr) -> Result<UdpSocket, ClientError> {
    let any: SocketAddr = if addr.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any)?;
    let way = socket.connect(addr);
    way.map_err(|source| ClientError::Connect { addr, source })?;
    Ok(socket)
}

/// Sends all of `input` over TCP and writes what returns into `output`, both at once; ends when as
/// much has returned as was sent. How many bytes that was.
///
/// # Errors
/// See [`ClientError`]. A server that is silent for `wait` while something is due is given up.
pub fn exchange_stream(
    addr: SocketAddr,
    input: impl Read + Send + 'static,
    output: &mut impl Write,
    wait: Duration,
) -> Result<u64, ClientError> {
    let mut stream = connect(addr, wait)?;
    stream.set_read_timeout(Some(LOOK))?;
    stream.set_write_timeout(Some(wait))?;
    let sending = Arc::new(Sending::default());
    let (theirs, writer) = (Arc::clone(&sending), stream.try_clone()?);
    // Not joined: it may sit in a read of a terminal for ever.
    thread::spawn(move || theirs.run(input, writer));
    let mut received_bytes = 0;
    let mut buffer = vec![0; READ_BYTES_MAX];
    let mut heard = Instant::now();
    while let Some(missing_bytes) = sending.missing(received_bytes) {
        match stream.read(&mut buffer) {
            Ok(0) => return cut(&sending, received_bytes),
            Ok(len) => {
                received_bytes += len as u64;
                output.write_all(&buffer[..len])?;
                output.flush()?;
                heard = Instant::now();
            }
            Err(error) if nothing_yet(&error) => {
                if missing_bytes == 0 {
                    heard = Instant::now();
                } else if heard.elapsed() > wait {
                    return Err(ClientError::Silent {
                        wait,
                        missing_bytes,
                    });
                }
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                return cut(&sending, received_bytes);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(received_bytes)
}

/// The server ended its side: fine if that was all.
fn cut(sending: &Sending, received_bytes: u64) -> Result<u64, ClientError> {
    match sending.missing(received_bytes) {
        None => Ok(received_bytes),
        Some(missing_bytes) => Err(ClientError::Cut { missing_bytes }),
    }
}

/// Sends one datagram and waits for one back.
///
/// # Errors
/// See [`ClientError`]; `Connect` if the port is known to be closed.
pub fn exchange_datagram(
    socket: &UdpSocket,
    message: &[u8],
    wait: Duration,
) -> Result<Vec<u8>, ClientError> {
    if message.len() > DATAGRAM_BYTES_MAX {
        return Err(ClientError::TooLarge { len: message.len() });
    }
    let refused = |source| match socket.peer_addr() {
        Ok(addr) => ClientError::Connect { addr, source },
        Err(_) => ClientError::Io(source),
    };
    socket.send(message).map_err(refused)?;
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX + 1];
    let until = Instant::now() + wait;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let missing_bytes = message.len() as u64;
            return Err(ClientError::Silent {
                wait,
                missing_bytes,
            });
        }
        socket.set_read_timeout(Some(left))?;
        match socket.recv(&mut buffer) {
            Ok(len) => {
                buffer.truncate(len);
                return Ok(buffer);
            }
            Err(error) if nothing_yet(&error) => {}
            Err(error) => return Err(refused(error)),
        }
    }
}

/// The sending half of a TCP exchange, as the receiving half sees it.
#[derive(Debug, Default)]
struct Sending {
    bytes: AtomicU64,
    ended: AtomicBool,
}

impl Sending {
    /// Sends until the input ends or either side fails; a failure shows on the receiving half.
    fn run(&self, mut input: impl Read, mut stream: TcpStream) {
        let mut buffer = vec![0; READ_BYTES_MAX];
        loop {
            match input.read(&mut buffer) {
                Ok(0) => break,
                Ok(len) => {
                    // Counted first, so that the echo never overtakes the count.
                    self.bytes.fetch_add(len as u64, Ordering::Release);
                    if stream.write_all(&buffer[..len]).is_err() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        // Set first, so that whoever sees the server's answer to the end sees the mark as well.
        self.ended.store(true, Ordering::Release);
        let _ = stream.shutdown(Shutdown::Write);
    }

    /// What is still due when `received_bytes` have come, in bytes; None when all has been sent and
    /// has come back. The mark is read before the count, because the count is final behind it.
    fn missing(&self, received_bytes: u64) -> Option<u64> {
        let ended = self.ended.load(Ordering::Acquire);
        let missing = self
            .bytes
            .load(Ordering::Acquire)
            .saturating_sub(received_bytes);
        (!ended || missing > 0).then_some(missing)
    }
}

fn nothing_yet(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}
