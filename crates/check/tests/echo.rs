//! The echo column against servers that run in this process: one that is right, and one for each
//! fault that a course's first attempt is likely to have. A fault must be found by its own number.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a fault touches one step of the server and leaves every other as it should be"
)]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use ahoy_check::attempt::Limits;
use ahoy_check::echo::{Target, column};
use ahoy_check::runner::{CaseResult, Verdict, run};

/// What is wrong with a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Nothing,
    DropsAByte,
    UpperCases,
    StopsAtNul,
    AddsNewline,
    WaitsForNewline,
    WaitsForTheEnd,
    AnswersOnce,
    OneAtATime,
    KeepsOpen,
    LosesTheRest,
    DiesOfReset,
    DropsWhenFull,
    NeverIdle,
    IgnoresEmptyDatagrams,
    DiesOfEmptyDatagrams,
    CutsDatagrams,
    AnswersTwice,
    AnswersFromElsewhere,
    ConfusesClients,
}

const IDLE: Duration = Duration::from_millis(1000);

/// The server that answers in lulls only waits this long for one.
const LULL: Duration = Duration::from_millis(20);

const LIMITS: Limits = Limits {
    reply_max: Duration::from_millis(2000),
    quiet: Duration::from_millis(150),
    case_max: Duration::from_secs(30),
};

#[test]
fn a_right_server_passes_every_case() {
    let results = examine(Fault::Nothing);
    assert!(results.len() >= 15);
    for result in results {
        assert_eq!(result.verdict, Verdict::Passed, "{}", result.title);
    }
}

#[test]
fn each_wrong_server_fails_by_its_number() {
    let faults = [
        (Fault::DropsAByte, "echo-1"),
        (Fault::UpperCases, "echo-1"),
        (Fault::StopsAtNul, "echo-1"),
        (Fault::AddsNewline, "echo-1"),
        (Fault::WaitsForNewline, "echo-2"),
        (Fault::WaitsForTheEnd, "echo-2"),
        (Fault::AnswersOnce, "echo-2"),
        (Fault::OneAtATime, "echo-4"),
        (Fault::KeepsOpen, "echo-3"),
        (Fault::LosesTheRest, "echo-3"),
        (Fault::DiesOfReset, "echo-7"),
        (Fault::DropsWhenFull, "echo-10"),
        (Fault::NeverIdle, "echo-9"),
        (Fault::IgnoresEmptyDatagrams, "echo-5"),
        (Fault::DiesOfEmptyDatagrams, "echo-5"),
        (Fault::CutsDatagrams, "echo-6"),
        (Fault::AnswersTwice, "echo-5"),
        (Fault::AnswersFromElsewhere, "echo-5"),
        (Fault::ConfusesClients, "echo-5"),
    ];
    let examinations: Vec<_> = faults
        .into_iter()
        .map(|(fault, id)| (fault, id, thread::spawn(move || examine(fault))))
        .collect();
    for (fault, id, examination) in examinations {
        let results = examination.join().expect("an examination never crashes");
        let failed: BTreeSet<&str> = results
            .iter()
            .filter(|result| matches!(result.verdict, Verdict::Failed(_)))
            .map(|result| result.requirement.id)
            .collect();
        assert!(
            failed.contains(id),
            "{fault:?} must fail by {id}; it failed by {failed:?}"
        );
        if is_precise(fault) {
            assert_eq!(
                failed,
                BTreeSet::from([id]),
                "{fault:?} must fail by {id} alone"
            );
        }
    }
}

/// Faults that break one requirement only; the others show in many cases.
fn is_precise(fault: Fault) -> bool {
    matches!(
        fault,
        Fault::KeepsOpen
            | Fault::OneAtATime
            | Fault::DiesOfReset
            | Fault::DropsWhenFull
            | Fault::NeverIdle
            | Fault::CutsDatagrams
            | Fault::IgnoresEmptyDatagrams
    )
}

#[test]
fn a_server_that_is_not_there_fails_everything_but_hangs_nothing() {
    let vacant = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = vacant.local_addr().expect("bound");
    drop(vacant);
    let limits = Limits {
        reply_max: Duration::from_millis(50),
        ..LIMITS
    };
    let results = run(column(&target(addr)), limits, |_| {});
    assert!(
        results
            .iter()
            .all(|result| matches!(result.verdict, Verdict::Failed(_)))
    );
}

fn examine(fault: Fault) -> Vec<CaseResult> {
    let mut target = target(serve(fault));
    // Its silent clients would otherwise leave before the patient one gives up.
    if fault == Fault::OneAtATime {
        target.idle = None;
    }
    run(column(&target), LIMITS, |_| {})
}

fn target(addr: SocketAddr) -> Target {
    Target {
        addr,
        tcp: true,
        udp: true,
        idle: Some(IDLE),
    }
}

/// Starts a server with `fault` on one free port for both transports; it lives as long as the test.
fn serve(fault: Fault) -> SocketAddr {
    let (listener, datagrams) = loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("bound");
        if let Ok(datagrams) = UdpSocket::bind(addr) {
            break (listener, datagrams);
        }
    };
    let addr = listener.local_addr().expect("bound");
    thread::spawn(move || accept(&listener, fault));
    thread::spawn(move || answer(&datagrams, fault));
    addr
}

fn accept(listener: &TcpListener, fault: Fault) {
    let dead = Arc::new(Mutex::new(false));
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        if *dead.lock().expect("no panics") {
            return;
        }
        let dead = Arc::clone(&dead);
        let converse = move || {
            let torn = converse(stream, fault).is_err();
            if torn && fault == Fault::DiesOfReset {
                *dead.lock().expect("no panics") = true;
            }
        };
        if fault == Fault::OneAtATime {
            converse();
        } else {
            thread::spawn(converse);
        }
    }
}

fn converse(mut stream: TcpStream, fault: Fault) -> std::io::Result<()> {
    if !matches!(fault, Fault::NeverIdle | Fault::OneAtATime) {
        stream.set_read_timeout(Some(IDLE))?;
    }
    let mut held = Vec::new();
    let mut buffer = [0; 16 * 1024];
    let mut total = 0;
    loop {
        let len = match stream.read(&mut buffer) {
            Ok(len) => len,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                if fault != Fault::LosesTheRest || held.is_empty() {
                    return Ok(());
                }
                stream.write_all(&std::mem::take(&mut held))?;
                stream.set_read_timeout(Some(IDLE))?;
                continue;
            }
            Err(error) => return Err(error),
        };
        if len == 0 {
            return end(stream, fault, &held);
        }
        let mut bytes = buffer[..len].to_vec();
        distort(fault, &mut bytes, total);
        total += len;
        held.extend_from_slice(&bytes);
        match fault {
            Fault::WaitsForTheEnd => {}
            Fault::WaitsForNewline if !held.contains(&b'\n') => {}
            Fault::LosesTheRest => stream.set_read_timeout(Some(LULL))?,
            Fault::DropsWhenFull => {
                stream.set_nonblocking(true)?;
                let _ = stream.write(&held);
                stream.set_nonblocking(false)?;
                held.clear();
            }
            _ => {
                stream.write_all(&held)?;
                held.clear();
            }
        }
        if fault == Fault::AnswersOnce {
            return Ok(());
        }
    }
}

fn distort(fault: Fault, bytes: &mut Vec<u8>, total: usize) {
    match fault {
        Fault::DropsAByte if total == 0 => drop(bytes.pop()),
        Fault::UpperCases => bytes.make_ascii_uppercase(),
        Fault::AddsNewline => bytes.push(b'\n'),
        Fault::StopsAtNul => bytes.retain(|byte| *byte != 0),
        _ => {}
    }
}

fn end(mut stream: TcpStream, fault: Fault, held: &[u8]) -> std::io::Result<()> {
    match fault {
        Fault::KeepsOpen => std::mem::forget(stream),
        Fault::LosesTheRest => {}
        _ => {
            stream.write_all(held)?;
            stream.shutdown(Shutdown::Write)?;
        }
    }
    Ok(())
}

fn answer(socket: &UdpSocket, fault: Fault) {
    let elsewhere = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let mut first = None;
    let mut buffer = vec![0; 65_536];
    while let Ok((len, from)) = socket.recv_from(&mut buffer) {
        let bytes = &buffer[..len];
        let to = *first.get_or_insert(from);
        let sent = match fault {
            Fault::IgnoresEmptyDatagrams if len == 0 => Ok(0),
            Fault::DiesOfEmptyDatagrams if len == 0 => return,
            Fault::CutsDatagrams => socket.send_to(&bytes[..len.min(1500)], from),
            Fault::AnswersTwice => socket.send_to(bytes, from).and(socket.send_to(bytes, from)),
            Fault::AnswersFromElsewhere => elsewhere.send_to(bytes, from),
            Fault::ConfusesClients => socket.send_to(bytes, to),
            _ => socket.send_to(bytes, from),
        };
        sent.expect("loopback takes it");
    }
}
