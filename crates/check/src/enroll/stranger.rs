//! What a server must survive: pickles that want to be executed, bombs, nonsense, torn connections.
//!
//! After each of them a fresh client must be served. These cases come last, because a server may
//! die of them.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use super::{Clients, ENROLL_10, ENROLL_11, ENROLL_12, ENROLL_13, Talk, Target, golden, serve_one};
use crate::attempt::Attempt;
use crate::case::{Column, Failure, Outcome};
use crate::stream::Arrival;

/// Adds the cases that apply to `target`.
pub(super) fn cases(mut column: Column, target: &Target) -> Column {
    let addr = target.addr;
    let idle = target.idle;
    let patience = idle.unwrap_or_default();
    column = column.slow_case(&ENROLL_13, "idle-limit", patience, move |a| {
        idle_limit(a, addr, idle)
    });
    for (name, bytes) in NONSENSE {
        column = column.case(&ENROLL_12, name, move |a| survives(a, addr, bytes));
    }
    column = column
        .case(&ENROLL_12, "cut-in-the-middle", move |a| {
            cut_in_the_middle(a, addr)
        })
        .case(&ENROLL_12, "torn-down", move |a| torn_down(a, addr));
    if target.clients == Clients::Many {
        column = column.case(&ENROLL_12, "neighbours-stay", move |a| {
            neighbours_stay(a, addr)
        });
    }
    column
        .case(&ENROLL_11, "bombs", move |a| bombs(a, addr))
        .case(&ENROLL_10, "call-back", move |a| call_back(a, addr))
        .case(&ENROLL_10, "every-instruction", move |a| {
            every_instruction(a, addr)
        })
}

/// What a client may send by mistake or in mischief, each with the name of its case.
const NONSENSE: [(&str, &[u8]); 7] = [
    ("no-pickle", b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"),
    ("random-bytes", b"\xff\xfe\x00\x17\x99\xc3\x28\r\n"),
    ("a-number", b"\x80\x04K\x07."),
    ("a-list", b"\x80\x04]\x94(K\x01K\x02e."),
    ("an-empty-dict", b"\x80\x04}\x94."),
    (
        "a-missing-entry",
        b"\x80\x04}\x94(\x8c\x0cstudent_name\x94\x8c\x03Bob\x94\x8c\x03sid\x94K\x07u.",
    ),
    ("a-later-protocol", b"\x80\x63}."),
];

/// Whatever is done to the client that sent `bytes`, another is served after it.
fn survives(attempt: &Attempt, addr: SocketAddr, bytes: &[u8]) -> Outcome {
    let mut client = Talk::greeted(attempt, addr)?;
    client.stream.send(bytes)?;
    let _ = client.stream.finish();
    hear_out(attempt, &mut client)?;
    drop(client);
    serve_one(attempt, addr)
}

/// Lets the server answer, close, or do nothing, as it likes.
fn hear_out(attempt: &Attempt, client: &mut Talk<'_>) -> Outcome {
    let deadline = attempt.deadline_in(attempt.limits.quiet)?;
    while let Arrival::Bytes(_) = client.stream.arrival(1024, deadline) {}
    Ok(())
}

fn cut_in_the_middle(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    survives(attempt, addr, &golden::ALICE[4][..40])
}

/// Closing a socket with unread bytes in it resets the connection.
fn torn_down(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    for _ in 0..3 {
        let mut client = Talk::connect(attempt, addr)?;
        client.stream.send(&golden::ALICE[4][..40])?;
        // Something must be unread: the greeting.
        let deadline = attempt.reply_deadline()?;
        let _ = client.stream.arrival(1, deadline);
        attempt.note("(reset)".to_owned());
    }
    serve_one(attempt, addr)
}

fn neighbours_stay(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let mut witness = Talk::greeted(attempt, addr)?;
    witness.register(golden::ALICE[4])?;
    for (_, bytes) in NONSENSE {
        survives(attempt, addr, bytes)?;
        witness.register(golden::ALICE[4])?;
    }
    torn_down(attempt, addr)?;
    witness.register(golden::ALICE[4])
}

fn bombs(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    for (name, bomb) in golden::bombs() {
        attempt.note(name.to_owned());
        let mut client = Talk::greeted(attempt, addr)?;
        // A server may well hang up before it has all of it.
        let _ = client.stream.send(&bomb);
        let _ = client.stream.finish();
        hear_out(attempt, &mut client)?;
        drop(client);
        serve_one(attempt, addr)?;
    }
    Ok(())
}

/// If the server executes what it reads, it connects to a listener of ours.
fn call_back(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    if !addr.ip().is_loopback() {
        return Err(Failure::skipped(
            "the server is on another machine and could not connect back to this one",
        ));
    }
    let no_listener = |error| Failure::skipped(format!("cannot listen for the call: {error}"));
    let listener = TcpListener::bind("127.0.0.1:0").map_err(no_listener)?;
    let port = listener.local_addr().map_err(no_listener)?.port();
    listener.set_nonblocking(true).map_err(no_listener)?;
    let mut client = Talk::greeted(attempt, addr)?;
    client.stream.send(&golden::call_back(port))?;
    let dropped = dropped(attempt, &mut client);
    if listener.accept().is_ok() {
        return Err(Failure::broken(
            "the server executed the pickle: it connected to where the pickle told it to",
        ));
    }
    dropped
}

fn every_instruction(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    for (name, pickle) in golden::CALLS {
        attempt.note(name.to_owned());
        let mut client = Talk::greeted(attempt, addr)?;
        client.stream.send(pickle)?;
        dropped(attempt, &mut client)?;
    }
    serve_one(attempt, addr)
}

/// The connection ends without another word.
fn dropped(attempt: &Attempt, client: &mut Talk<'_>) -> Outcome {
    let note = |_: &Failure| attempt.note("(that client should have been dropped)".to_owned());
    client.stream.expect_end().inspect_err(note)
}

/// A trickle of single bytes does not prolong the wait.
fn idle_limit(attempt: &Attempt, addr: SocketAddr, idle: Option<Duration>) -> Outcome {
    let Some(idle) = idle else {
        return Err(Failure::skipped(
            "the server's idle limit is not known; give it to examine it",
        ));
    };
    let mut client = Talk::greeted(attempt, addr)?;
    for byte in &golden::ALICE[4][..3] {
        attempt.pause(idle / 4)?;
        client.stream.send(&[*byte])?;
    }
    attempt.pause(idle / 4)?;
    // Where the last byte did prolong it, the end comes after three quarters more.
    let deadline = attempt.deadline_in(attempt.limits.reply_max.min(idle / 2))?;
    match client.stream.arrival(1, deadline) {
        Arrival::End | Arrival::Reset => {}
        Arrival::Bytes(_) | Arrival::Nothing => {
            return Err(Failure::broken(
                "a client that sent single bytes but no registration was not dropped in time",
            ));
        }
    }
    drop(client);
    serve_one(attempt, addr)
}
