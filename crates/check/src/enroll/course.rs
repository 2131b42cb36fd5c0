//! What any program of the course must do: greet, take registrations in all their forms, answer.

use std::net::SocketAddr;

use ahoy_wire::enroll::{BACKLOG, Registration, Sid};
use ahoy_wire::pickle::{Value, encode};

use super::{
    Clients, ENROLL_2, ENROLL_3, ENROLL_4, ENROLL_5, ENROLL_6, ENROLL_7, ENROLL_8, ENROLL_9,
    ENROLL_14, Talk, Target, golden, serve_one,
};
use crate::attempt::{Attempt, shown};
use crate::case::{Column, Failure, Outcome};

/// As many clients as come at once to a server for many.
const CROWD: usize = 20;

/// Adds the cases that apply to `target`.
pub(super) fn cases(mut column: Column, target: &Target) -> Column {
    let addr = target.addr;
    column = column
        .case(&ENROLL_4, "the-clients-port", move |a| {
            the_clients_port(a, addr)
        })
        .case(&ENROLL_4, "each-its-own", move |a| each_its_own(a, addr))
        .case(&ENROLL_14, "greeting", move |a| plain_greeting(a, addr))
        .case(&ENROLL_14, "acknowledgement", move |a| plain_ack(a, addr))
        .case(&ENROLL_8, "one-for-one", move |a| one_for_one(a, addr))
        .case(&ENROLL_5, "text-sid", move |a| {
            let sid = Sid::Text("0042".into());
            register(a, addr, &registration("Bob", sid))
        })
        .case(&ENROLL_5, "any-text", move |a| any_text(a, addr))
        .case(&ENROLL_5, "long-text", move |a| {
            register(a, addr, &registration(&"n".repeat(2000), Sid::Number(1)))
        })
        .case(&ENROLL_5, "other-order", move |a| other_order(a, addr))
        .case(&ENROLL_5, "further-entries", move |a| {
            further_entries(a, addr)
        });
    for (protocol, pickle) in golden::ALICE.iter().enumerate() {
        let name = PROTOCOL_NAMES[protocol];
        column = column.case(&ENROLL_6, name, move |a| register(a, addr, pickle));
    }
    column = column
        .case(&ENROLL_6, "shared-texts", move |a| shared_texts(a, addr))
        .case(&ENROLL_7, "byte-by-byte", move |a| byte_by_byte(a, addr))
        .case(&ENROLL_7, "two-at-once", move |a| two_at_once(a, addr))
        .case(&ENROLL_7, "one-and-a-half", move |a| {
            one_and_a_half(a, addr)
        })
        .case(&ENROLL_9, "three-registrations", move |a| {
            three_registrations(a, addr)
        })
        .case(&ENROLL_9, "stays-open", move |a| stays_open(a, addr))
        .case(&ENROLL_9, "closes-at-the-end", move |a| {
            Talk::greeted(a, addr)?.leave()
        })
        .case(&ENROLL_9, "answers-before-it-closes", move |a| {
            answers_before_it_closes(a, addr)
        });
    match target.clients {
        Clients::Many => column
            .case(&ENROLL_2, "silent-neighbours", move |a| {
                // The plainest of these cases, thus the one to say it.
                advised(silent_neighbours(a, addr), IS_ONE)
            })
            .case(&ENROLL_2, "slow-neighbour", move |a| {
                slow_neighbour(a, addr)
            })
            .case(&ENROLL_2, "crowd", move |a| crowd(a, addr)),
        Clients::One => column
            .case(&ENROLL_3, "in-turn", move |a| {
                advised(in_turn(a, addr), IS_MANY)
            })
            .case(&ENROLL_3, "waiting-room", move |a| waiting_room(a, addr)),
    }
}

/// For whoever examines a server of lab 3 as one of lab 4,
const IS_ONE: &str = "a server for one client at a time is examined with --clients 1";

/// and the other way round.
const IS_MANY: &str = "a server for many clients at once is examined with --clients N";

/// A failure with a word about what may be meant instead.
fn advised(outcome: Outcome, advice: &str) -> Outcome {
    outcome.map_err(|failure| match failure {
        Failure::Broken(why) => Failure::Broken(format!("{why} ({advice})")),
        Failure::Skipped(why) => Failure::Skipped(why),
    })
}

const PROTOCOL_NAMES: [&str; 6] = [
    "protocol-0",
    "protocol-1",
    "protocol-2",
    "protocol-3",
    "protocol-4",
    "protocol-5",
];

fn registration(name: &str, sid: Sid) -> Vec<u8> {
    let registration = Registration {
        student_name: name.into(),
        github_username: "octo-cat".into(),
        sid,
    };
    registration
        .encode()
        .expect("the cases' texts are far below the limit")
}

fn register(attempt: &Attempt, addr: SocketAddr, pickle: &[u8]) -> Outcome {
    Talk::greeted(attempt, addr)?.register(pickle)
}

fn the_clients_port(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let mut client = Talk::connect(attempt, addr)?;
    greeted_by_port(&mut client)?;
    client.expect_silence()
}

fn each_its_own(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    for _ in 0..3 {
        greeted_by_port(&mut Talk::connect(attempt, addr)?)?;
    }
    Ok(())
}

fn greeted_by_port(client: &mut Talk<'_>) -> Outcome {
    let port = client.stream.local_addr()?.port();
    let entry = (Value::from("clientid"), Value::Int(port.into()));
    let expected = Value::Dict(vec![entry]);
    let (greeting, _) = client.receive("a greeting")?;
    if greeting == expected {
        return Ok(());
    }
    Err(Failure::broken(format!(
        "expected the greeting {}; received {}",
        expected.repr(),
        shown(greeting.repr().to_string().as_bytes()),
    )))
}

fn plain_greeting(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let mut client = Talk::connect(attempt, addr)?;
    let port = client.stream.local_addr()?.port();
    let (_, bytes) = client.receive("a greeting")?;
    same(&golden::greeting(port), &bytes)
}

fn plain_ack(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let mut client = Talk::greeted(attempt, addr)?;
    client.stream.send(golden::ALICE[4])?;
    let (_, bytes) = client.receive("the acknowledgement 1")?;
    same(golden::ACK, &bytes)
}

fn same(expected: &[u8], received: &[u8]) -> Outcome {
    if expected == received {
        return Ok(());
    }
    let (expected, received) = (shown(expected), shown(received));
    Err(Failure::broken(format!(
        "expected the bytes {expected}; received {received}"
    )))
}

fn one_for_one(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let mut client = Talk::greeted(attempt, addr)?;
    client.register(golden::ALICE[4])?;
    client.expect_silence()
}

/// Text that is empty, in other scripts, and in what a careless printer trips over.
fn any_text(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let mut client = Talk::greeted(attempt, addr)?;
    for name in [
        "",
        "Zoë Ångström",
        "山田 太郎",
        "🦀",
        "%s %d {0} {x}",
        "O'Neill \"Bob\"\n",
    ] {
        client.register(&registration(name, Sid::Number(-1)))?;
    }
    Ok(())
}

fn other_order(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let entries = [
        ("sid", "s17"),
        ("github_username", "bb"),
        ("student_name", "Bob"),
    ];
    register(attempt, addr, &pickled(&entries))
}

fn further_entries(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let entries = [
        ("email", "bob@example.org"),
        ("student_name", "Bob"),
        ("github_username", "bb"),
        ("sid", "s17"),
        ("", "nameless"),
    ];
    register(attempt, addr, &pickled(&entries))
}

fn pickled(entries: &[(&str, &str)]) -> Vec<u8> {
    let entries = entries.iter();
    let entries = entries.map(|(key, value)| (Value::from(*key), Value::from(*value)));
    encode(&Value::Dict(entries.collect())).expect("a few short texts")
}

fn shared_texts(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    for (protocol, pickle) in golden::SHARED {
        attempt.note(format!("protocol {protocol}"));
        register(attempt, addr, pickle)?;
    }
    Ok(())
}

fn byte_by_byte(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let mut client = Talk::greeted(attempt, addr)?;
    let (last, first) = golden::ALICE[4].split_last().expect("not empty");
    for byte in first {
        client.stream.send(&[*byte])?;
    }
    client.expect_silence()?;
    client.stream.send(&[*last])?;
    client.acknowledged()
}

fn two_at_once(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let mut client = Talk::greeted(attempt, addr)?;
    client
        .stream
        .send(&[golden::ALICE[4], golden::ALICE[2]].concat())?;
    client.acknowledged()?;
    client.acknowledged()?;
    client.expect_silence()
}

fn one_and_a_half(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let mut client = Talk::greeted(attempt, addr)?;
    let (half, rest) = golden::ALICE[4].split_at(40);
    client.stream.send(&[golden::ALICE[4], half].concat())?;
    client.acknowledged()?;
    client.expect_silence()?;
    client.stream.send(rest)?;
    client.acknowledged()
}

fn three_registrations(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let mut client = Talk::greeted(attempt, addr)?;
    for protocol in [4, 4, 0] {
        client.register(golden::ALICE[protocol])?;
    }
    client.leave()
}

fn stays_open(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let mut client = Talk::greeted(attempt, addr)?;
    client.expect_silence()?;
    client.register(golden::ALICE[4])?;
    client.expect_silence()
}

fn answers_before_it_closes(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let mut client = Talk::greeted(attempt, addr)?;
    client.stream.send(golden::ALICE[4])?;
    client.stream.finish()?;
    client.acknowledged()?;
    client.stream.expect_end()
}

fn silent_neighbours(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let _silent = [Talk::greeted(attempt, addr)?, Talk::greeted(attempt, addr)?];
    serve_one(attempt, addr)
}

/// One sends its registration in two parts while another sends all of its own, and again the other
/// way round; a server that keeps one buffer for all mixes them up.
fn slow_neighbour(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let mut slow = Talk::greeted(attempt, addr)?;
    let mut quick = Talk::greeted(attempt, addr)?;
    let (half, rest) = golden::ALICE[4].split_at(50);
    for _ in 0..2 {
        slow.stream.send(half)?;
        slow.expect_silence()?;
        quick.register(golden::ALICE[3])?;
        slow.stream.send(rest)?;
        slow.acknowledged()?;
        std::mem::swap(&mut slow, &mut quick);
    }
    Ok(())
}

/// All connect, all are greeted, all send, all are answered: each step before the next.
fn crowd(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let mut clients = Vec::with_capacity(CROWD);
    for _ in 0..CROWD {
        clients.push(Talk::connect(attempt, addr)?);
    }
    clients.iter_mut().try_for_each(greeted_by_port)?;
    for (number, client) in clients.iter_mut().enumerate() {
        let name = format!("student {number}");
        client.stream.send(&registration(&name, Sid::Number(7)))?;
    }
    clients.iter_mut().try_for_each(Talk::acknowledged)
}

/// The second is not served while the first is, and is served after it.
fn in_turn(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let mut first = Talk::greeted(attempt, addr)?;
    let mut second = Talk::connect(attempt, addr)?;
    second.expect_silence()?;
    first.register(golden::ALICE[4])?;
    first.leave()?;
    greeted_by_port(&mut second)?;
    second.register(golden::ALICE[4])
}

/// As many as may wait do wait, and each is served in the order in which it came.
fn waiting_room(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let mut served = Talk::greeted(attempt, addr)?;
    let mut waiting = Vec::new();
    for _ in 0..BACKLOG {
        waiting.push(Talk::connect(attempt, addr)?);
    }
    for mut next in waiting {
        served.register(golden::ALICE[4])?;
        served.leave()?;
        greeted_by_port(&mut next)?;
        served = next;
    }
    served.register(golden::ALICE[4])
}
