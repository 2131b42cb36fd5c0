//! The cases for a hello server: what it answers, to whom, and what it must survive.
//!
//! What only time can show (leases, the idle exit) is in [`super::times`].

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ahoy_wire::hello::Reply;

use super::ask::{Answer, Way, ask, ask_with, fresh_id, our_ip, receive_reply, take_an_id};
use super::requirements::*;
use super::times;
use crate::attempt::{Attempt, shown};
use crate::case::{Column, Failure, Outcome, Requirement};
use crate::datagram::Datagrams;
use crate::stream::{Arrival, Stream};

/// The server under examination.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Where it is, on both transports.
    pub addr: SocketAddr,
    /// Whether it is examined over UDP.
    pub udp: bool,
    /// Whether it is examined over TCP.
    pub tcp: bool,
    /// How long an id is in use, if that is to be examined.
    pub lease: Option<Duration>,
    /// After how long without requests it exits, if that is to be examined. It is gone afterwards.
    pub idle: Option<Duration>,
    /// Whether it was started with protection: datagrams are padded then, and that is examined.
    pub protect: bool,
}

/// The column of cases for `target`.
#[must_use]
pub fn column(target: &Target) -> Column {
    let target = *target;
    let mut column = Column::new("hello", target.addr.to_string());
    let ways = [(Way::Udp, target.udp), (Way::Tcp, target.tcp)];
    for way in ways.into_iter().filter_map(|(way, on)| on.then_some(way)) {
        column = common(column, target, way);
    }
    if target.udp {
        column = datagram_cases(column, target);
    }
    if target.udp && target.tcp {
        column = column.case(&HELLO_17, "udp-then-tcp", move |a| shared(a, &target));
    }
    if target.tcp {
        column = stream_cases(column, target);
    }
    times::cases(column, target)
}

/// A script that several cases run, each with its own way of asking.
type WayScript = fn(&Attempt, &Target, Way) -> Outcome;

/// What holds for both transports, once for each.
fn common(column: Column, target: Target, way: Way) -> Column {
    let cases: [(&'static Requirement, [&'static str; 2], WayScript); 8] = [
        (&HELLO_1, ["plain-udp", "plain-tcp"], plain),
        (&HELLO_2, ["free-id-udp", "free-id-tcp"], free_id),
        (&HELLO_3, ["id-in-use-udp", "id-in-use-tcp"], id_in_use),
        (
            &HELLO_4,
            ["plain-reply-udp", "plain-reply-tcp"],
            plain_reply,
        ),
        (&HELLO_5, ["zeros-udp", "zeros-tcp"], leading_zeros),
        (
            &HELLO_6,
            ["extra-words-udp", "extra-words-tcp"],
            extra_words,
        ),
        (&HELLO_7, ["line-ends-udp", "line-ends-tcp"], line_ends),
        (
            &HELLO_2,
            ["two-clients-udp", "two-clients-tcp"],
            two_clients,
        ),
    ];
    cases
        .into_iter()
        .fold(column, |column, (requirement, names, script)| {
            let name = match way {
                Way::Udp => names[0],
                Way::Tcp => names[1],
            };
            column.case(requirement, name, move |a| script(a, &target, way))
        })
}

fn datagram_cases(column: Column, target: Target) -> Column {
    let column = column
        .case(&HELLO_8, "exactly-one", move |a| exactly_one(a, &target))
        .case(&HELLO_9, "another-address", move |a| {
            another_address(a, &target)
        });
    let column = if target.protect {
        column
            .case(&HELLO_34, "asked-again", move |a| asked_again(a, &target))
            .case(&HELLO_36, "short-request", move |a| {
                short_request(a, &target)
            })
    } else {
        column
    };
    // Last, because a server may die of them.
    let junk: [(&'static str, &'static [u8]); 5] = [
        ("empty", b""),
        ("word-alone", b"HELLO"),
        ("no-id", b"HELLO "),
        ("another-word", b"GOODBYE 1234"),
        ("not-text", b"\xff\xfe\x00\x80HELLO"),
    ];
    junk.into_iter().fold(column, |column, (name, bytes)| {
        column.case(&HELLO_13, name, move |a| junk_datagram(a, &target, bytes))
    })
}

fn stream_cases(column: Column, target: Target) -> Column {
    let column = column
        .case(&HELLO_10, "side-kept-open", move |a| {
            side_kept_open(a, &target)
        })
        .case(&HELLO_10, "side-ended", move |a| side_ended(a, &target))
        .case(&HELLO_11, "byte-by-byte", move |a| byte_by_byte(a, &target))
        .case(&HELLO_12, "closed-after", move |a| closed_after(a, &target))
        .case(&HELLO_40, "late-bytes", move |a| late_bytes(a, &target))
        .case(&HELLO_20, "silent-neighbours", move |a| {
            silent_neighbours(a, &target)
        });
    let junk: [(&'static str, &'static [u8]); 4] = [
        ("empty", b""),
        ("no-id", b"HELLO \r\n"),
        ("another-protocol", b"GET / HTTP/1.1\r\nHost: there\r\n\r\n"),
        ("not-text", b"\xff\xfe\x00\x80\r\n"),
    ];
    junk.into_iter()
        .fold(column, |column, (name, bytes)| {
            let name = match name {
                "empty" => "empty-stream",
                "no-id" => "no-id-stream",
                "not-text" => "not-text-stream",
                other => other,
            };
            column.case(&HELLO_14, name, move |a| junk_stream(a, &target, bytes))
        })
        .case(&HELLO_14, "gone-at-once", move |a| gone_at_once(a, &target))
}

fn plain(attempt: &Attempt, target: &Target, way: Way) -> Outcome {
    ask(attempt, target, way, &fresh_id())?.reply().map(drop)
}

fn free_id(attempt: &Attempt, target: &Target, way: Way) -> Outcome {
    let mut tries = 3;
    loop {
        let id = fresh_id();
        let answer = ask(attempt, target, way, &id)?;
        tries -= 1;
        // Strangers may hold an id or two, hardly all that are tried.
        if matches!(answer.reply()?, Reply::Reset { .. }) && tries > 0 {
            continue;
        }
        return answer.expect_ok(&id);
    }
}

fn id_in_use(attempt: &Attempt, target: &Target, way: Way) -> Outcome {
    let id = take_an_id(attempt, target, way)?;
    ask(attempt, target, way, &id)?.expect_reset(&id)?;
    // Whoever asks, how often ever, and asking for another id changes nothing.
    take_an_id(attempt, target, way)?;
    ask(attempt, target, way, &id)?.expect_reset(&id)
}

fn two_clients(attempt: &Attempt, target: &Target, way: Way) -> Outcome {
    free_id(attempt, target, way)?;
    free_id(attempt, target, way)
}

fn plain_reply(attempt: &Attempt, target: &Target, way: Way) -> Outcome {
    let id = take_an_id(attempt, target, way)?;
    let reset = match way {
        Way::Udp => ask(attempt, target, way, &id)?,
        Way::Tcp => {
            let mut stream = Stream::connect(attempt, target.addr)?;
            stream.send(format!("HELLO {id}").as_bytes())?;
            let mut answer = receive_reply(attempt, &mut stream)?;
            // Something behind the reply may come a moment later.
            let until = attempt.deadline_in(attempt.limits.quiet)?;
            if let Arrival::Bytes(more) = stream.arrival(512, until) {
                answer.bytes.extend_from_slice(&more);
            }
            answer
        }
    };
    expect_plain(&reset)?;
    let granted = ask(attempt, target, way, &fresh_id())?;
    expect_plain(&granted)
}

fn expect_plain(answer: &Answer) -> Outcome {
    let mut plain = Vec::new();
    answer.reply()?.encode(&mut plain);
    if answer.bytes == plain {
        return Ok(());
    }
    let (got, plain) = (shown(&answer.bytes), shown(&plain));
    Err(Failure::broken(format!(
        "the plain reply is {plain}, got {got}"
    )))
}

fn leading_zeros(attempt: &Attempt, target: &Target, way: Way) -> Outcome {
    let mut tries = 3;
    let id = loop {
        let id = format!("00{}", &fresh_id()[2..]);
        let answer = ask(attempt, target, way, &id)?;
        tries -= 1;
        if matches!(answer.reply()?, Reply::Reset { .. }) && tries > 0 {
            continue;
        }
        answer.expect_ok(&id)?;
        break id;
    };
    let short = id.trim_start_matches('0');
    let short = if short.is_empty() { "0" } else { short };
    // A server may refuse ids that are not four digits; it may not take one for the other.
    match ask(attempt, target, way, short).and_then(|answer| answer.reply()) {
        Ok(Reply::Reset { .. }) => {
            let why = format!("{id} is in use; {short} is not, and was answered with RESET");
            Err(Failure::broken(why))
        }
        Ok(Reply::Ok { id: got, .. }) if got.as_str() != short => {
            let why = format!("asked for id {short}, got OK for {got}");
            Err(Failure::broken(why))
        }
        Ok(Reply::Ok { .. }) => Ok(()),
        Err(_) => {
            attempt.note(format!("({short} is not an id to this server)"));
            Ok(())
        }
    }
}

fn extra_words(attempt: &Attempt, target: &Target, way: Way) -> Outcome {
    let id = fresh_id();
    let request = format!("HELLO {id} 127.0.0.1 5000 and more that means nothing to anybody");
    let answer = ask_with(attempt, target, way, request.as_bytes())?;
    if answer.reply()?.id().as_str() != id {
        let (got, id) = (shown(&answer.bytes), shown(id.as_bytes()));
        return Err(Failure::broken(format!("the id is {id}, got {got}")));
    }
    // It is the same id as without the words.
    ask(attempt, target, way, &id)?.expect_reset(&id)
}

fn line_ends(attempt: &Attempt, target: &Target, way: Way) -> Outcome {
    for end in ["\n", "\r\n"] {
        let id = take_an_id(attempt, target, way)?;
        let request = format!("HELLO {id}{end}");
        ask_with(attempt, target, way, request.as_bytes())?.expect_reset(&id)?;
    }
    Ok(())
}

fn exactly_one(attempt: &Attempt, target: &Target) -> Outcome {
    let socket = Datagrams::open(attempt, target.addr)?;
    socket.send(format!("HELLO {}", fresh_id()).as_bytes())?;
    socket.receive()?;
    socket.expect_silence()
}

/// On loopback a server on all addresses has millions; the system's own choice is the first.
fn another_address(attempt: &Attempt, target: &Target) -> Outcome {
    let first = SocketAddr::from((Ipv4Addr::LOCALHOST, target.addr.port()));
    if target.addr != first {
        // Every other case has already looked where its answer came from.
        return plain(attempt, target, Way::Udp);
    }
    let second = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), target.addr.port()));
    let socket = Datagrams::open(attempt, second)?;
    socket.send(format!("HELLO {}", fresh_id()).as_bytes())?;
    match socket.arrival(attempt.reply_deadline()?) {
        Some((_, from)) if from != second => {
            let why = format!("asked {second}, the answer came from {from}");
            Err(Failure::broken(why))
        }
        Some(_) => Ok(()),
        None => Err(Failure::skipped("the server listens on one address only")),
    }
}

fn asked_again(attempt: &Attempt, target: &Target) -> Outcome {
    let id = take_an_id(attempt, target, Way::Udp)?;
    ask(attempt, target, Way::Udp, &id)?.expect_reset(&id)?;
    let socket = Datagrams::open(attempt, target.addr)?;
    let ours = SocketAddr::new(our_ip(target.addr)?, socket.local_port()?);
    let id = fresh_id();
    for _ in 0..3 {
        socket.send(format!("HELLO {id} {}", ".".repeat(90)).as_bytes())?;
        let bytes = socket.receive()?;
        Answer { bytes, ours }.expect_ok(&id)?;
    }
    Ok(())
}

fn short_request(attempt: &Attempt, target: &Target) -> Outcome {
    for padding in [0, 1, 5, 10, 11, 12, 13, 20, 60] {
        let request = format!("HELLO {} {}", fresh_id(), ".".repeat(padding));
        let socket = Datagrams::open(attempt, target.addr)?;
        socket.send(request.as_bytes())?;
        let until = attempt.deadline_in(attempt.limits.quiet)?;
        if let Some((bytes, _)) = socket.arrival(until)
            && bytes.len() > request.len()
        {
            let (sent, got) = (request.len(), bytes.len());
            return Err(Failure::broken(format!(
                "{sent} bytes were answered by {got}"
            )));
        }
    }
    Ok(())
}

fn junk_datagram(attempt: &Attempt, target: &Target, bytes: &[u8]) -> Outcome {
    let socket = Datagrams::open(attempt, target.addr)?;
    socket.send(bytes)?;
    socket.expect_silence()?;
    still_serves(attempt, target, Way::Udp)
}

fn still_serves(attempt: &Attempt, target: &Target, way: Way) -> Outcome {
    match plain(attempt, target, way) {
        Err(Failure::Broken(why)) => {
            let why = format!("afterwards a good request got no good reply: {why}");
            Err(Failure::broken(why))
        }
        other => other,
    }
}

fn shared(attempt: &Attempt, target: &Target) -> Outcome {
    let id = take_an_id(attempt, target, Way::Udp)?;
    ask(attempt, target, Way::Tcp, &id)?.expect_reset(&id)?;
    let id = take_an_id(attempt, target, Way::Tcp)?;
    ask(attempt, target, Way::Udp, &id)?.expect_reset(&id)
}

fn side_kept_open(attempt: &Attempt, target: &Target) -> Outcome {
    plain(attempt, target, Way::Tcp)
}

fn side_ended(attempt: &Attempt, target: &Target) -> Outcome {
    let mut stream = Stream::connect(attempt, target.addr)?;
    stream.send(format!("HELLO {}", fresh_id()).as_bytes())?;
    stream.finish()?;
    receive_reply(attempt, &mut stream)?.reply().map(drop)
}

fn byte_by_byte(attempt: &Attempt, target: &Target) -> Outcome {
    let id = take_an_id(attempt, target, Way::Tcp)?;
    let mut stream = Stream::connect(attempt, target.addr)?;
    for byte in format!("HELLO {id}").into_bytes() {
        stream.send(&[byte])?;
        attempt.pause(attempt.limits.quiet / 20)?;
    }
    receive_reply(attempt, &mut stream)?.expect_reset(&id)
}

fn closed_after(attempt: &Attempt, target: &Target) -> Outcome {
    let mut stream = Stream::connect(attempt, target.addr)?;
    stream.send(format!("HELLO {}", fresh_id()).as_bytes())?;
    let reply = stream.receive_to_end(512)?;
    let ours = stream.local_addr()?;
    Answer { bytes: reply, ours }.reply().map(drop)
}

/// As a client does that writes its line end by itself, a moment after the request.
fn late_bytes(attempt: &Attempt, target: &Target) -> Outcome {
    let mut stream = Stream::connect(attempt, target.addr)?;
    stream.send(format!("HELLO {}", fresh_id()).as_bytes())?;
    attempt.pause(attempt.limits.quiet / 4)?;
    // A server that has already closed answers these with a reset.
    for _ in 0..2 {
        if stream.send(b"\r\n").is_err() {
            break;
        }
        attempt.pause(attempt.limits.quiet / 4)?;
    }
    let reply = stream.receive_to_end(512)?;
    let ours = stream.local_addr()?;
    Answer { bytes: reply, ours }.reply().map(drop)
}

fn silent_neighbours(attempt: &Attempt, target: &Target) -> Outcome {
    let silent = Stream::connect(attempt, target.addr)?;
    let mut slow = Stream::connect(attempt, target.addr)?;
    slow.send(b"HEL")?;
    plain(attempt, target, Way::Tcp)?;
    if target.udp {
        plain(attempt, target, Way::Udp)?;
    }
    drop((silent, slow));
    Ok(())
}

fn junk_stream(attempt: &Attempt, target: &Target, bytes: &[u8]) -> Outcome {
    let mut stream = Stream::connect(attempt, target.addr)?;
    if bytes.is_empty() {
        stream.finish()?;
    } else {
        stream.send(bytes)?;
    }
    stream.expect_end()?;
    still_serves(attempt, target, Way::Tcp)
}

fn gone_at_once(attempt: &Attempt, target: &Target) -> Outcome {
    drop(Stream::connect(attempt, target.addr)?);
    let mut half = Stream::connect(attempt, target.addr)?;
    half.send(b"HELLO 12")?;
    drop(half);
    still_serves(attempt, target, Way::Tcp)
}
