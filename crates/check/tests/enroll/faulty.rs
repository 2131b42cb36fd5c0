//! A registration server with one fault of choice, in the simplest form it can have.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a fault touches one step of the server and leaves every other as it should be"
)]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ahoy_check::enroll::Clients;
use ahoy_wire::enroll::{Registration, Sid, greeting};
use ahoy_wire::pickle::{Invalid, Unpickler, decode};

/// After how long without a registration a client is dropped.
pub const IDLE: Duration = Duration::from_millis(2000);

/// What is wrong with a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Nothing,
    DropsAByteOfTheGreeting,
    WaitsForTheClient,
    GreetsWithItsOwnPort,
    GreetsWithABareNumber,
    GreetsWithText,
    WritesProtocol2,
    DropsAByteOfTheAck,
    ClosesBeforeTheAck,
    NeverAcks,
    AcksTwice,
    AcksTrue,
    AnswersGarbage,
    OneAtATime,
    OneBufferForAll,
    ManyAtATime,
    SendsWaitersAway,
    OneReadOnePickle,
    ForgetsWhatFollows,
    ReadsProtocol4Only,
    HasNoMemo,
    TakesNumbersOnly,
    TakesAsciiOnly,
    CutsLongTexts,
    WantsExactEntries,
    ClosesAfterTheAck,
    KeepsOpenAtTheEnd,
    ForgetsTheLastAtTheEnd,
    DiesOfNonsense,
    DiesOfReset,
    DiesOfBombs,
    Executes,
    KeepsWhomItRefuses,
    NeverIdle,
    TrickleProlongs,
}

/// Every fault, the kind of server that has it, and the number by which it must be found.
pub const ALL: [(Fault, Clients, &str); 34] = [
    (Fault::DropsAByteOfTheGreeting, Clients::Many, "enroll-4"),
    (Fault::WaitsForTheClient, Clients::Many, "enroll-4"),
    (Fault::GreetsWithItsOwnPort, Clients::Many, "enroll-4"),
    (Fault::GreetsWithABareNumber, Clients::Many, "enroll-4"),
    (Fault::GreetsWithText, Clients::Many, "enroll-4"),
    (Fault::WritesProtocol2, Clients::Many, "enroll-14"),
    (Fault::DropsAByteOfTheAck, Clients::Many, "enroll-8"),
    (Fault::ClosesBeforeTheAck, Clients::Many, "enroll-8"),
    (Fault::NeverAcks, Clients::Many, "enroll-8"),
    (Fault::AcksTwice, Clients::Many, "enroll-8"),
    (Fault::AcksTrue, Clients::Many, "enroll-8"),
    (Fault::AnswersGarbage, Clients::Many, "enroll-8"),
    (Fault::OneAtATime, Clients::Many, "enroll-2"),
    (Fault::OneBufferForAll, Clients::Many, "enroll-2"),
    (Fault::ManyAtATime, Clients::One, "enroll-3"),
    (Fault::SendsWaitersAway, Clients::One, "enroll-3"),
    (Fault::OneReadOnePickle, Clients::Many, "enroll-7"),
    (Fault::ForgetsWhatFollows, Clients::Many, "enroll-7"),
    (Fault::ReadsProtocol4Only, Clients::Many, "enroll-6"),
    (Fault::HasNoMemo, Clients::Many, "enroll-6"),
    (Fault::TakesNumbersOnly, Clients::Many, "enroll-5"),
    (Fault::TakesAsciiOnly, Clients::Many, "enroll-5"),
    (Fault::CutsLongTexts, Clients::Many, "enroll-5"),
    (Fault::WantsExactEntries, Clients::Many, "enroll-5"),
    (Fault::ClosesAfterTheAck, Clients::Many, "enroll-9"),
    (Fault::KeepsOpenAtTheEnd, Clients::Many, "enroll-9"),
    (Fault::ForgetsTheLastAtTheEnd, Clients::Many, "enroll-9"),
    (Fault::DiesOfNonsense, Clients::Many, "enroll-12"),
    (Fault::DiesOfReset, Clients::Many, "enroll-12"),
    (Fault::DiesOfBombs, Clients::One, "enroll-11"),
    (Fault::Executes, Clients::Many, "enroll-10"),
    (Fault::KeepsWhomItRefuses, Clients::Many, "enroll-10"),
    (Fault::NeverIdle, Clients::Many, "enroll-13"),
    (Fault::TrickleProlongs, Clients::One, "enroll-13"),
];

impl Fault {
    /// Whether it breaks one requirement only; the others show in many cases.
    pub fn is_precise(self) -> bool {
        matches!(
            self,
            Self::WritesProtocol2
                | Self::HasNoMemo
                | Self::TakesNumbersOnly
                | Self::TakesAsciiOnly
                | Self::CutsLongTexts
                | Self::WantsExactEntries
                | Self::ForgetsTheLastAtTheEnd
                | Self::Executes
                | Self::KeepsWhomItRefuses
                | Self::NeverIdle
                | Self::TrickleProlongs
        )
    }
}

/// Starts a server with `fault` on a free port; it lives as long as the test, or until it dies.
pub fn serve(fault: Fault, clients: Clients) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("bound");
    let shared = Arc::new(Shared::default());
    let one = match fault {
        Fault::OneAtATime => true,
        Fault::ManyAtATime | Fault::SendsWaitersAway => false,
        _ => clients == Clients::One,
    };
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { continue };
            if shared.dead.load(SeqCst) {
                return;
            }
            let server = Server {
                fault,
                shared: Arc::clone(&shared),
            };
            let serve = move || server.serve(stream);
            if one {
                serve();
            } else {
                thread::spawn(serve);
            }
        }
    });
    addr
}

/// What the connections of one server have in common.
#[derive(Default)]
struct Shared {
    dead: AtomicBool,
    busy: Mutex<()>,
    inbox: Mutex<Unpickler>,
}

struct Server {
    fault: Fault,
    shared: Arc<Shared>,
}

/// Why a conversation ended early.
enum End {
    Torn,
    Refused(Invalid),
    Nonsense,
    Served,
}

impl Server {
    fn serve(&self, stream: TcpStream) {
        let mut _turn = None;
        if self.fault == Fault::SendsWaitersAway {
            match self.shared.busy.try_lock() {
                Ok(turn) => _turn = Some(turn),
                Err(_) => return,
            }
        }
        let keep = stream.try_clone().expect("a handle");
        let end = self.converse(stream).err().unwrap_or(End::Served);
        let deadly = match &end {
            End::Torn => self.fault == Fault::DiesOfReset,
            End::Refused(Invalid::Refused { .. }) | End::Served => false,
            End::Refused(
                Invalid::TooLong
                | Invalid::TooManyValues
                | Invalid::TooDeep
                | Invalid::SelfReference,
            ) => self.fault == Fault::DiesOfBombs,
            End::Refused(_) | End::Nonsense => self.fault == Fault::DiesOfNonsense,
        };
        if deadly {
            self.shared.dead.store(true, SeqCst);
        }
        let refused = matches!(end, End::Refused(Invalid::Refused { .. }));
        if self.fault == Fault::KeepsWhomItRefuses && refused {
            std::mem::forget(keep);
        }
    }

    fn converse(&self, mut stream: TcpStream) -> Result<(), End> {
        let greeting = self.greeting(&stream);
        if self.fault == Fault::WaitsForTheClient {
            stream.peek(&mut [0]).map_err(torn)?;
        }
        stream.write_all(&greeting).map_err(torn)?;
        let mut inbox = Unpickler::default();
        let mut until = Instant::now() + IDLE;
        let mut buffer = [0; 4096];
        loop {
            let patient = matches!(self.fault, Fault::NeverIdle | Fault::OneAtATime);
            let wait = until.saturating_duration_since(Instant::now());
            let wait = (!patient).then(|| wait.max(Duration::from_millis(1)));
            stream.set_read_timeout(wait).map_err(torn)?;
            let len = match stream.read(&mut buffer) {
                Ok(0) => return self.end(stream),
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(End::Served),
                Err(_) => return Err(End::Torn),
            };
            if self.fault == Fault::TrickleProlongs {
                until = Instant::now() + IDLE;
            }
            let count = self.answer(&buffer[..len], &mut inbox, &mut stream)?;
            if count > 0 {
                until = Instant::now() + IDLE;
                if self.fault == Fault::ClosesAfterTheAck {
                    return Ok(());
                }
            }
        }
    }

    fn greeting(&self, stream: &TcpStream) -> Vec<u8> {
        let theirs = stream.peer_addr().expect("connected").port();
        let ours = stream.local_addr().expect("connected").port();
        match self.fault {
            Fault::GreetsWithItsOwnPort => greeting(ours),
            Fault::DropsAByteOfTheGreeting => {
                let mut bytes = greeting(theirs);
                bytes.remove(20);
                bytes
            }
            Fault::GreetsWithABareNumber => {
                [&b"\x80\x04M"[..], &theirs.to_le_bytes(), b"."].concat()
            }
            Fault::GreetsWithText => format!("welcome, client {theirs}\n").into_bytes(),
            Fault::WritesProtocol2 => {
                let port = theirs.to_le_bytes();
                [
                    &b"\x80\x02}q\x00X\x08\0\0\0clientidq\x01M"[..],
                    &port,
                    b"s.",
                ]
                .concat()
            }
            _ => greeting(theirs),
        }
    }

    /// How many registrations were answered.
    fn answer(
        &self,
        bytes: &[u8],
        inbox: &mut Unpickler,
        stream: &mut TcpStream,
    ) -> Result<usize, End> {
        self.look_at(bytes)?;
        if self.fault == Fault::OneReadOnePickle {
            let (value, _) = decode(bytes).map_err(|_| End::Nonsense)?;
            Registration::read(&value).map_err(|_| End::Nonsense)?;
            self.ack(stream)?;
            return Ok(1);
        }
        let mut shared = self.shared.inbox.lock().expect("no panics");
        let inbox = match self.fault {
            Fault::OneBufferForAll => &mut *shared,
            _ => inbox,
        };
        inbox.push(bytes);
        let mut count = 0;
        loop {
            let popped = inbox.pop().map_err(|invalid| {
                if self.fault == Fault::OneBufferForAll {
                    *inbox = Unpickler::default();
                }
                self.execute(&invalid, bytes);
                End::Refused(invalid)
            })?;
            let Some(value) = popped else {
                return Ok(count);
            };
            let registration = Registration::read(&value).map_err(|_| End::Nonsense)?;
            self.judge(&registration)?;
            if let (Fault::WantsExactEntries, 4..) = (self.fault, entries(&value)) {
                return Err(End::Nonsense);
            }
            self.ack(stream)?;
            count += 1;
            if self.fault == Fault::ForgetsWhatFollows {
                *inbox = Unpickler::default();
                return Ok(count);
            }
        }
    }

    /// What this server holds against some bytes as such.
    fn look_at(&self, bytes: &[u8]) -> Result<(), End> {
        let has = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
        match self.fault {
            Fault::ReadsProtocol4Only if has(b"student") && !bytes.starts_with(b"\x80\x04") => {
                Err(End::Nonsense)
            }
            Fault::HasNoMemo if has(b"h\x02") || has(b"g2\n") => Err(End::Nonsense),
            _ => Ok(()),
        }
    }

    /// What this server holds against some registrations.
    fn judge(&self, registration: &Registration) -> Result<(), End> {
        let name = &registration.student_name;
        let wrong = match self.fault {
            Fault::TakesNumbersOnly => matches!(registration.sid, Sid::Text(_)),
            Fault::TakesAsciiOnly => !name.is_ascii(),
            Fault::CutsLongTexts => name.len() > 1024,
            _ => false,
        };
        if wrong { Err(End::Nonsense) } else { Ok(()) }
    }

    fn ack(&self, stream: &mut TcpStream) -> Result<(), End> {
        let ack: &[u8] = match self.fault {
            Fault::WritesProtocol2 => b"\x80\x02K\x01.",
            Fault::DropsAByteOfTheAck => b"\x80\x04K\x01",
            Fault::NeverAcks => b"",
            Fault::AcksTwice => b"\x80\x04K\x01.\x80\x04K\x01.",
            Fault::AcksTrue => b"\x80\x04\x88.",
            Fault::AnswersGarbage => b"thank you\n",
            Fault::ClosesBeforeTheAck => return Err(End::Served),
            Fault::ForgetsTheLastAtTheEnd => {
                // Looks for the end of the stream first.
                let short = Some(Duration::from_millis(30));
                stream.set_read_timeout(short).map_err(torn)?;
                if let Ok(0) = stream.peek(&mut [0]) {
                    return Err(End::Served);
                }
                b"\x80\x04K\x01."
            }
            _ => b"\x80\x04K\x01.",
        };
        stream.write_all(ack).map_err(torn)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the port is on loopback, so the answer comes at once"
    )]
    /// Does what `pickle.loads` would have done, for the one pickle that the examiner tries it
    /// with.
    fn execute(&self, invalid: &Invalid, bytes: &[u8]) {
        if self.fault != Fault::Executes || !matches!(invalid, Invalid::Refused { .. }) {
            return;
        }
        let text = String::from_utf8_lossy(bytes);
        let port = text
            .lines()
            .find_map(|line| line.strip_prefix('I')?.parse().ok());
        if let Some(port) = port {
            let _ = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port)));
        }
    }

    fn end(&self, stream: TcpStream) -> Result<(), End> {
        if self.fault == Fault::KeepsOpenAtTheEnd {
            std::mem::forget(stream);
            return Ok(());
        }
        stream.shutdown(Shutdown::Write).map_err(torn)
    }
}

fn torn(_: std::io::Error) -> End {
    End::Torn
}

fn entries(value: &ahoy_wire::pickle::Value) -> usize {
    match value {
        ahoy_wire::pickle::Value::Dict(entries) => entries.len(),
        _ => 0,
    }
}
