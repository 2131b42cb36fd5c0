//! The cases for an echo server (spec/echo.md), over TCP and UDP.
//!
//! echo-8 has no case here: a source address that is the server's own cannot be shown to a stranger
//! without raw sockets.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use ahoy_wire::echo::{DATAGRAM_BYTES_MAX, probe};

use crate::attempt::{Attempt, shown};
use crate::case::{Column, Failure, Level, Outcome, Requirement};
use crate::datagram::Datagrams;
use crate::stream::Stream;

/// The server under examination.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it is, on both transports.
    pub addr: SocketAddr,
    /// Whether it is examined over TCP.
    pub tcp: bool,
    /// Whether it is examined over UDP.
    pub udp: bool,
    /// After how much silence it closes a connection, if it says so.
    pub idle: Option<Duration>,
}

/// What the stream carries.
pub const ECHO_1: Requirement = Requirement {
    id: "echo-1",
    level: Level::Must,
    sentence: "Every byte received on a TCP connection goes back on it, unchanged and in order, \
               and nothing else does.",
};

/// When it answers.
pub const ECHO_2: Requirement = Requirement {
    id: "echo-2",
    level: Level::Must,
    sentence: "Bytes go back as they arrive: the server waits for no newline, no full buffer and \
               no end of the stream.",
};

/// How a connection ends.
pub const ECHO_3: Requirement = Requirement {
    id: "echo-3",
    level: Level::Must,
    sentence: "When the client has finished sending, the server sends back what is still due and \
               then closes the connection.",
};

/// Who is served.
pub const ECHO_4: Requirement = Requirement {
    id: "echo-4",
    level: Level::Must,
    sentence: "A silent client does not keep others from being served.",
};

/// What datagrams get.
pub const ECHO_5: Requirement = Requirement {
    id: "echo-5",
    level: Level::Must,
    sentence: "Each UDP datagram, an empty one too, is answered by exactly one datagram with the \
               same bytes, sent to its source from the address it was sent to.",
};

/// How large datagrams may be.
pub const ECHO_6: Requirement = Requirement {
    id: "echo-6",
    level: Level::Should,
    sentence: "A datagram of any size that UDP carries comes back whole.",
};

/// What a torn connection does.
pub const ECHO_7: Requirement = Requirement {
    id: "echo-7",
    level: Level::Must,
    sentence: "A connection torn down by its client disturbs neither the server nor other clients.",
};

/// When silence ends a connection.
pub const ECHO_9: Requirement = Requirement {
    id: "echo-9",
    level: Level::Should,
    sentence: "A connection on which nothing is received for the server's idle limit is closed.",
};

/// What a client that reads late gets.
pub const ECHO_10: Requirement = Requirement {
    id: "echo-10",
    level: Level::Must,
    sentence: "A client that sends without reading loses nothing: the server stops taking bytes \
               in when it cannot send them back, and goes on when it can.",
};

/// More than any socket buffer takes at once, in bytes.
const LARGE_BYTES: usize = 1024 * 1024;

/// More than the socket buffers of both sides together usually take, in bytes.
const FLOOD_BYTES: usize = 16 * 1024 * 1024;

/// The column of cases for `target`.
#[must_use]
pub fn column(target: &Target) -> Column {
    let addr = target.addr;
    let mut column = Column::new("echo", addr.to_string());
    if target.tcp {
        column = column
            .case(&ECHO_1, "one-message", move |a| one_message(a, addr))
            .case(&ECHO_1, "every-byte-value", move |a| {
                every_byte_value(a, addr)
            })
            .case(&ECHO_1, "many-pieces", move |a| many_pieces(a, addr))
            .case(&ECHO_1, "one-mebibyte", move |a| one_mebibyte(a, addr))
            .case(&ECHO_2, "single-byte", move |a| single_byte(a, addr))
            .case(&ECHO_3, "after-the-end", move |a| after_the_end(a, addr))
            .case(&ECHO_3, "nothing-sent", move |a| nothing_sent(a, addr))
            .case(&ECHO_4, "silent-neighbours", move |a| {
                silent_neighbours(a, addr)
            })
            .case(&ECHO_10, "late-reader", move |a| late_reader(a, addr));
        let idle = target.idle;
        let patience = idle.unwrap_or_default();
        column = column.slow_case(&ECHO_9, "idle-limit", patience, move |a| {
            idle_limit(a, addr, idle)
        });
        // Last, because a server may die of them.
        column = column
            .case(&ECHO_7, "torn-down", move |a| torn_down(a, addr))
            .case(&ECHO_7, "torn-down-beside", move |a| {
                torn_down_beside(a, addr)
            });
    }
    if target.udp {
        column = column
            .case(&ECHO_5, "one-datagram", move |a| one_datagram(a, addr))
            .case(&ECHO_5, "empty-datagram", move |a| empty_datagram(a, addr))
            .case(&ECHO_5, "two-clients", move |a| two_clients(a, addr))
            .case(&ECHO_6, "largest-datagram", move |a| {
                largest_datagram(a, addr)
            });
    }
    column
}

fn one_message(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let mut stream = Stream::connect(attempt, addr)?;
    round_trip(&mut stream, b"Hello, world\n")?;
    stream.expect_silence()
}

fn every_byte_value(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let every: Vec<u8> = (0..=u8::MAX).chain((0..=u8::MAX).rev()).collect();
    round_trip(&mut Stream::connect(attempt, addr)?, &every)
}

/// Pieces of growing size, each answered before the next one goes.
fn many_pieces(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let mut stream = Stream::connect(attempt, addr)?;
    for sequence in 0..20 {
        round_trip(&mut stream, &probe(sequence, 8 + 311 * sequence as usize))?;
    }
    Ok(())
}

fn one_mebibyte(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    round_trip(&mut Stream::connect(attempt, addr)?, &probe(1, LARGE_BYTES))
}

fn single_byte(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let mut stream = Stream::connect(attempt, addr)?;
    round_trip(&mut stream, b"a")?;
    round_trip(&mut stream, b"b")
}

fn after_the_end(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let message = probe(2, 20_000);
    let mut stream = Stream::connect(attempt, addr)?;
    stream.send(&message)?;
    stream.finish()?;
    let back = stream.receive_to_end(2 * message.len())?;
    same(&message, &back)
}

fn nothing_sent(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let mut stream = Stream::connect(attempt, addr)?;
    stream.finish()?;
    stream.expect_end()
}

fn silent_neighbours(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let _silent = [
        Stream::connect(attempt, addr)?,
        Stream::connect(attempt, addr)?,
    ];
    round_trip(&mut Stream::connect(attempt, addr)?, b"is anyone there?")
}

/// A server that died of the resets is found out by the fresh client.
fn torn_down(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    for _ in 0..3 {
        tear_down(attempt, addr)?;
    }
    round_trip(&mut Stream::connect(attempt, addr)?, b"a fresh client")
}

fn torn_down_beside(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let mut witness = Stream::connect(attempt, addr)?;
    round_trip(&mut witness, b"before")?;
    if tear_down(attempt, addr).is_err() {
        return Err(Failure::skipped(
            "the server serves one client at a time; see echo-4",
        ));
    }
    round_trip(&mut witness, b"after")
}

/// Closing a socket with unread bytes in it resets the connection.
fn tear_down(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let mut victim = Stream::connect(attempt, addr)?;
    victim.send(&probe(3, 4096))?;
    victim.receive_exact(1)?;
    victim.send(&probe(4, 4096))?;
    attempt.note("(reset)".to_owned());
    Ok(())
}

/// Sends until the way is blocked, and only then begins to read.
fn late_reader(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let message = probe(5, FLOOD_BYTES);
    let mut stream = Stream::connect(attempt, addr)?;
    let mut sender = stream.second_handle()?;
    thread::scope(|scope| {
        let sending = scope.spawn(|| sender.send(&message));
        attempt.pause(attempt.limits.quiet)?;
        let back = stream.receive_exact(message.len());
        sending.join().unwrap_or(Ok(()))?;
        same(&message, &back?)
    })
}

fn idle_limit(attempt: &Attempt, addr: SocketAddr, idle: Option<Duration>) -> Outcome {
    let Some(idle) = idle else {
        return Err(Failure::skipped(
            "the server's idle limit is not known; give it to examine it",
        ));
    };
    let mut stream = Stream::connect(attempt, addr)?;
    round_trip(&mut stream, b"and now silence")?;
    attempt.pause(idle)?;
    stream.expect_end()
}

fn one_datagram(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let client = Datagrams::open(attempt, addr)?;
    for message in [&b"Hello, world"[..], b"\0\n\r\xff", &probe(6, 1400)] {
        client.send(message)?;
        same(message, &client.receive()?)?;
    }
    client.expect_silence()
}

/// The second exchange shows that the server survived the first.
fn empty_datagram(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let client = Datagrams::open(attempt, addr)?;
    for message in [&b""[..], b"still there?"] {
        client.send(message)?;
        same(message, &client.receive()?)?;
    }
    Ok(())
}

fn two_clients(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let clients = [
        Datagrams::open(attempt, addr)?,
        Datagrams::open(attempt, addr)?,
    ];
    for (client, message) in clients.iter().zip([b"one", b"two"]) {
        client.send(message)?;
    }
    for (client, message) in clients.iter().zip([b"one", b"two"]) {
        same(message, &client.receive()?)?;
    }
    Ok(())
}

fn largest_datagram(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let client = Datagrams::open(attempt, addr)?;
    for len in [2_000, 9_000, DATAGRAM_BYTES_MAX] {
        let message = probe(7, len);
        client.send(&message)?;
        same(&message, &client.receive()?)?;
    }
    Ok(())
}

/// Sends `message` and expects it back; sending and receiving go on at the same time.
fn round_trip(stream: &mut Stream<'_>, message: &[u8]) -> Outcome {
    let mut sender = stream.second_handle()?;
    thread::scope(|scope| {
        let sending = scope.spawn(|| sender.send(message));
        let back = stream.receive_exact(message.len());
        sending.join().unwrap_or(Ok(()))?;
        same(message, &back?)
    })
}

/// Says where `received` first differs from `sent`.
fn same(sent: &[u8], received: &[u8]) -> Outcome {
    if sent == received {
        return Ok(());
    }
    let place = sent
        .iter()
        .zip(received)
        .take_while(|(a, b)| a == b)
        .count();
    let around = |bytes: &[u8]| shown(&bytes[place..bytes.len().min(place + 16)]);
    Err(Failure::broken(format!(
        "sent {} bytes, {} came back; from byte {place} on {} was sent and {} came",
        sent.len(),
        received.len(),
        around(sent),
        around(received),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named() {
        let outcome = same(b"abcdef", b"abXdef");
        let Err(Failure::Broken(why)) = outcome else {
            panic!("a difference must be found");
        };
        assert!(
            why.contains("from byte 2 on \"cdef\" was sent and \"Xdef\" came"),
            "{why}"
        );
        assert_eq!(same(b"", b""), Ok(()));
        assert!(same(b"abc", b"ab").is_err());
    }
}
