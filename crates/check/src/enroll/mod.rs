//! The cases for an enroll server and for an enroll client (spec/enroll.md).
//!
//! - `requirements`: the sentences; `golden`: bytes as CPython wrote them.
//! - `course`: what any server of the course must do; `stranger`: what it must survive.
//! - `client`: a client is started against a scripted server.
//!
//! A server that serves one client at a time is examined by cases that never need two at once,
//! except those for its waiting room.

use std::net::SocketAddr;
use std::time::Duration;

use ahoy_wire::pickle::{Unpickler, Value};

use crate::attempt::{Attempt, shown};
use crate::case::{Column, Failure, Outcome};
use crate::stream::{Arrival, Stream};

mod client;
mod course;
mod golden;
mod requirements;
mod stranger;

pub use client::{Client, client_column};
pub use requirements::{
    ENROLL_2, ENROLL_3, ENROLL_4, ENROLL_5, ENROLL_6, ENROLL_7, ENROLL_8, ENROLL_9, ENROLL_10,
    ENROLL_11, ENROLL_12, ENROLL_13, ENROLL_14, ENROLL_15, ENROLL_16, ENROLL_17, ENROLL_18,
    ENROLL_21, ENROLL_22,
};

/// How many clients a server serves at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// One, the others wait (lab 3).
    One,
    /// Many (lab 4).
    Many,
}

/// The server under examination.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Where it is.
    pub addr: SocketAddr,
    /// How many clients it serves at once.
    pub clients: Clients,
    /// After how long without a registration it drops a client, if it says so.
    pub idle: Option<Duration>,
}

/// The column of cases for `target`.
#[must_use]
pub fn column(target: &Target) -> Column {
    let column = Column::new("enroll", target.addr.to_string());
    stranger::cases(course::cases(column, target), target)
}

/// More than any greeting or acknowledgement needs, in bytes.
const MESSAGE_BYTES_MAX: usize = 4096;

/// One connection as a case holds it, and the pickles that came on it so far.
struct Talk<'a> {
    stream: Stream<'a>,
    attempt: &'a Attempt,
    inbox: Unpickler,
    /// Everything of the current message as it came.
    raw: Vec<u8>,
}

impl<'a> Talk<'a> {
    /// Goes on with a connection that is there.
    fn over(attempt: &'a Attempt, stream: Stream<'a>) -> Self {
        Self {
            stream,
            attempt,
            inbox: Unpickler::default(),
            raw: Vec::new(),
        }
    }

    /// Connects, and does not wait for anything.
    fn connect(attempt: &'a Attempt, addr: SocketAddr) -> Result<Self, Failure> {
        let stream = Stream::connect(attempt, addr)?;
        Ok(Self::over(attempt, stream))
    }

    /// Connects and waits for the greeting, whatever it says.
    fn greeted(attempt: &'a Attempt, addr: SocketAddr) -> Result<Self, Failure> {
        let mut client = Self::connect(attempt, addr)?;
        client.receive("a greeting")?;
        Ok(client)
    }

    /// Waits for one whole pickle: its value and its bytes.
    fn receive(&mut self, awaited: &str) -> Result<(Value, Vec<u8>), Failure> {
        loop {
            let popped = self.inbox.pop().map_err(|invalid| {
                let came = shown(&self.raw);
                Failure::broken(format!("expected {awaited}; received {came}: {invalid}"))
            })?;
            if let Some(value) = popped {
                return Ok((value, std::mem::take(&mut self.raw)));
            }
            let came = |then: &str| {
                let came = shown(&self.raw);
                Failure::broken(format!("expected {awaited}; received {came}, then {then}"))
            };
            if self.raw.len() >= MESSAGE_BYTES_MAX {
                return Err(came("even more, and still no end of it"));
            }
            let deadline = self.attempt.reply_deadline()?;
            match self.stream.arrival(MESSAGE_BYTES_MAX, deadline) {
                Arrival::Bytes(bytes) => {
                    self.inbox.push(&bytes);
                    self.raw.extend(bytes);
                }
                Arrival::End => return Err(came("the end of the stream")),
                Arrival::Reset => return Err(came("a reset")),
                Arrival::Nothing => return Err(came("nothing in time")),
            }
        }
    }

    /// Sends a registration and waits for its acknowledgement.
    fn register(&mut self, pickle: &[u8]) -> Outcome {
        self.stream.send(pickle)?;
        self.acknowledged()
    }

    /// Waits for the acknowledgement, which is `1` and not merely equal to it.
    fn acknowledged(&mut self) -> Outcome {
        let (answer, _) = self.receive("the acknowledgement 1")?;
        if answer == Value::Int(1) {
            return Ok(());
        }
        Err(Failure::broken(format!(
            "expected the acknowledgement 1, an int; received {}, of type {}",
            shown(answer.repr().to_string().as_bytes()),
            answer.type_name(),
        )))
    }

    /// Makes sure that nothing has come beside what was received, and nothing comes.
    fn expect_silence(&mut self) -> Outcome {
        if self.inbox.is_midway() {
            return Err(Failure::broken("more came than was asked for"));
        }
        self.stream.expect_silence()
    }

    /// Ends the stream and expects the same of the server.
    fn leave(mut self) -> Outcome {
        self.stream.finish()?;
        self.stream.expect_end()
    }
}

/// The whole exchange of one client, in protocol 4.
fn serve_one(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let mut client = Talk::greeted(attempt, addr)?;
    client.register(golden::ALICE[4])
}
