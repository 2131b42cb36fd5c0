//! The enroll client: takes the greeting, sends a registration, waits for the acknowledgement.
//!
//! Strictly one thing after the other, so a plain blocking socket does. Each wait has its own
//! limit, which a trickle of bytes does not prolong.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use ahoy_wire::enroll::{Fault, Greeting, Registration, acknowledges};
use ahoy_wire::pickle::{Invalid, Unpickler, Value};

/// One read takes at most this many bytes.
const READ_BYTES_MAX: usize = 4096;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The client id.
    Greeting,
    /// The answer to the registration.
    Acknowledgement,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Greeting => "greeting",
            Self::Acknowledgement => "acknowledgement",
        })
    }
}

/// Why a registration did not come to its end.
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
    /// The registration is too long to be sent at all.
    #[error("the registration is too long")]
    TooLong(#[source] Invalid),
    /// The server did not say it in time (enroll-18).
    #[error("no {step} from the server within {} ms", wait.as_millis())]
    Silent {
        /// What was missing.
        step: Step,
        /// How long it was waited for.
        wait: Duration,
    },
    /// The server closed the connection instead.
    #[error("the server closed the connection before its {step}")]
    Cut {
        /// What was missing.
        step: Step,
    },
    /// The server sent something that is no pickle, or none that is read.
    #[error("the server's {step} cannot be read")]
    Garbled {
        /// What it should have been.
        step: Step,
        /// What is wrong with it.
        source: Invalid,
    },
    /// The greeting is something else.
    #[error("the server's greeting cannot be understood")]
    Greeting(#[source] Fault),
    /// The server's answer says no (enroll-17).
    #[error("the server did not acknowledge: it answered {}", answer.repr())]
    Refused {
        /// What it answered.
        answer: Value,
    },
    /// The connection failed.
    #[error("the connection failed")]
    Io(#[from] io::Error),
}

/// Registers at the server at `addr`; `on_greeting` hears the greeting as soon as it is there.
///
/// `wait` limits connecting, the greeting and the acknowledgement, each. The server's answer.
///
/// # Errors
/// [`ClientError`].
pub fn register(
    addr: SocketAddr,
    registration: &Registration,
    wait: Duration,
    on_greeting: impl FnOnce(&Greeting),
) -> Result<Value, ClientError> {
    let request = registration.encode().map_err(ClientError::TooLong)?;
    let stream = TcpStream::connect_timeout(&addr, wait)
        .map_err(|source| ClientError::Connect { addr, source })?;
    let mut server = Server {
        stream,
        inbox: Unpickler::default(),
        wait,
    };
    let greeting = server.receive(Step::Greeting)?;
    let greeting = Greeting::read(greeting).map_err(ClientError::Greeting)?;
    on_greeting(&greeting);
    server.send(&request)?;
    let answer = server.receive(Step::Acknowledgement)?;
    // The answer is here; how the connection ends does not matter any more.
    let _ = server.stream.shutdown(Shutdown::Both);
    if acknowledges(&answer) {
        Ok(answer)
    } else {
        Err(ClientError::Refused { answer })
    }
}

struct Server {
    stream: TcpStream,
    inbox: Unpickler,
    wait: Duration,
}

impl Server {
    fn send(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        self.stream.set_write_timeout(Some(self.wait))?;
        self.stream.write_all(bytes).map_err(|error| {
            let step = Step::Acknowledgement;
            self.explain(error, step)
        })
    }

    /// The next value that the server sends.
    fn receive(&mut self, step: Step) -> Result<Value, ClientError> {
        let until = Instant::now() + self.wait;
        let mut buffer = [0; READ_BYTES_MAX];
        loop {
            let popped = self.inbox.pop();
            match popped.map_err(|source| ClientError::Garbled { step, source })? {
                Some(value) => return Ok(value),
                None => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        let wait = self.wait;
                        return Err(ClientError::Silent { step, wait });
                    }
                    self.stream.set_read_timeout(Some(left))?;
                }
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(ClientError::Cut { step }),
                Ok(len) => self.inbox.push(&buffer[..len]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.explain(error, step)),
            }
        }
    }

    fn explain(&self, error: io::Error, step: Step) -> ClientError {
        let is = |kinds: &[ErrorKind]| kinds.contains(&error.kind());
        if is(&[ErrorKind::WouldBlock, ErrorKind::TimedOut]) {
            let wait = self.wait;
            ClientError::Silent { step, wait }
        } else if is(&[ErrorKind::ConnectionReset, ErrorKind::BrokenPipe]) {
            ClientError::Cut { step }
        } else {
            ClientError::Io(error)
        }
    }
}
