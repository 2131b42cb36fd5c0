//! The hello columns against a right server and a right client, and one for each fault that a first
//! attempt is likely to have. A fault must be found by its own number.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a fault touches one step of the server and leaves every other as it should be"
)]

#[path = "hello/toy.rs"]
mod toy;

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use ahoy_check::attempt::Limits;
use ahoy_check::case::{Column, Level};
use ahoy_check::hello::{Client, Target, client_column, column};
use ahoy_check::runner::{CaseResult, Verdict, run};

use toy::{Fault, IDLE, LEASE};

const LIMITS: Limits = Limits {
    reply_max: Duration::from_millis(1500),
    quiet: Duration::from_millis(200),
    case_max: Duration::from_secs(30),
};

/// A client is a program of its own, and late where the machine is busy; so its times are judged
/// with this slack.
const CLIENT_LIMITS: Limits = Limits {
    quiet: Duration::from_millis(400),
    ..LIMITS
};

/// How long the clients here wait for a reply.
const CLIENT_REPLY: Duration = Duration::from_millis(800);

/// The tests that start many programs or judge times take turns: side by side, they would take one
/// another's delays for faults.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_right_server_passes_every_case() {
    let _turn = turn();
    for result in run(column(&toy::serve(Fault::Nothing)), LIMITS, |_| {}) {
        // It is bound to one address.
        if result.title == "hello-9/another-address" {
            assert!(matches!(result.verdict, Verdict::Skipped(_)));
            continue;
        }
        assert_eq!(result.verdict, Verdict::Passed, "{}", explain(&result));
    }
}

/// Each fault, the requirement that it breaks, and whether it shows by that alone.
const SERVER_FAULTS: [(Fault, &str, bool); 24] = [
    (Fault::NamesItself, "hello-2", false),
    (Fault::NeverResets, "hello-3", false),
    (Fault::AddsNewline, "hello-4", true),
    (Fault::TakesIdsForNumbers, "hello-5", true),
    (Fault::TakesWordsForId, "hello-6", true),
    (Fault::TakesLineEndForId, "hello-7", false),
    (Fault::AnswersTwice, "hello-8", true),
    (Fault::AnswersFromRoute, "hello-9", true),
    (Fault::WaitsForNewline, "hello-10", false),
    (Fault::WaitsForTheEnd, "hello-10", false),
    (Fault::ReadsOnce, "hello-11", true),
    (Fault::KeepsOpen, "hello-12", false),
    (Fault::ClosesWithReset, "hello-12", false),
    (Fault::DiesOfEmptyDatagram, "hello-13", false),
    (Fault::AnswersJunk, "hello-13", true),
    (Fault::DiesOfJunkStream, "hello-14", false),
    (Fault::NeverExpires, "hello-15", false),
    (Fault::ExpiresEarly, "hello-15", false),
    (Fault::RefreshesOnReset, "hello-16", true),
    (Fault::TwoTables, "hello-17", true),
    (Fault::NeverExits, "hello-18", false),
    (Fault::OnlyRequestsRestartIdle, "hello-19", false),
    (Fault::OneAtATime, "hello-20", false),
    (Fault::SilentKeepsAlive, "hello-21", true),
];

#[test]
fn each_wrong_server_fails_by_its_number() {
    let _turn = turn();
    let examinations = SERVER_FAULTS.map(|(fault, id, alone)| {
        let examine = move || run(column(&toy::serve(fault)), LIMITS, |_| {});
        (format!("{fault:?}"), id, alone, thread::spawn(examine))
    });
    judge(examinations);
}

/// Each fault of `hello/client.py`, the requirement that it breaks, and whether by that alone.
const CLIENT_FAULTS: [(&str, &str, bool); 17] = [
    ("drops-zeros", "hello-23", false),
    ("keeps-side-open", "hello-24", true),
    ("waits-for-end", "hello-25", true),
    ("keeps-line-end", "hello-26", true),
    ("impatient", "hello-27", true),
    ("patient", "hello-27", true),
    ("first-limit-only", "hello-27", true),
    ("same-socket", "hello-28", true),
    ("gives-up", "hello-28", false),
    ("two-tries", "hello-29", false),
    ("never-fails", "hello-29", false),
    ("forgets-port", "hello-30", false),
    ("short-time", "hello-31", true),
    ("crashes-at-end", "hello-32", true),
    ("any-id", "hello-33", true),
    ("sends-newline", "hello-38", true),
    ("believes-anything", "hello-41", true),
];

#[test]
fn a_right_client_passes_every_case() {
    let _turn = turn();
    for tcp in [false, true] {
        for result in run(client("nothing", tcp), CLIENT_LIMITS, |_| {}) {
            assert_eq!(result.verdict, Verdict::Passed, "{}", explain(&result));
        }
    }
}

#[test]
fn each_wrong_client_fails_by_its_number() {
    let _turn = turn();
    // A few at a time: each starts a score of interpreters, and two of the rules are about time.
    for some in CLIENT_FAULTS.chunks(4) {
        judge(some.iter().map(|&(fault, id, alone)| {
            // The faults of the transport that has them; the others over the simpler one.
            let tcp = matches!(fault, "keeps-side-open" | "waits-for-end");
            let examine = move || run(client(fault, tcp), CLIENT_LIMITS, |_| {});
            (fault.to_owned(), id, alone, thread::spawn(examine))
        }));
    }
}

#[test]
fn a_server_that_is_not_there_fails_but_hangs_nothing() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = gone.local_addr().expect("bound");
    drop(gone);
    let limits = Limits {
        reply_max: Duration::from_millis(50),
        quiet: Duration::from_millis(10),
        ..LIMITS
    };
    let target = Target {
        addr,
        udp: true,
        tcp: true,
        lease: None,
        idle: None,
        protect: false,
    };
    let results = run(column(&target), limits, |_| {});
    assert!(results.len() > 30);
    let passed = |result: &&CaseResult| result.verdict == Verdict::Passed;
    let passed: Vec<_> = results.iter().filter(passed).map(explain).collect();
    assert!(passed.is_empty(), "{passed:?}");
}

/// Every numbered sentence of the specification has its case, and says the same there.
#[test]
fn the_specification_and_the_cases_agree() {
    let spec = include_str!("../../../spec/hello.md");
    let target = Target {
        addr: "127.0.0.1:1".parse().expect("an address"),
        udp: true,
        tcp: true,
        lease: Some(LEASE),
        idle: Some(IDLE),
        protect: true,
    };
    let columns = [column(&target), client("nothing", true)];
    let mut examined = BTreeSet::new();
    for case in columns.iter().flat_map(|column| &column.cases) {
        let requirement = case.requirement;
        examined.insert(requirement.id.to_owned());
        let level = match requirement.level {
            Level::Must => "MUST",
            Level::Should => "SHOULD",
        };
        let line = format!("**{}** ({level}) {}", requirement.id, requirement.sentence);
        let spec = spec.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(spec.contains(&line), "not in the specification: {line}");
    }
    for id in ["hello-22", "hello-35", "hello-37"] {
        examined.insert(id.to_owned()); // Seen from inside only; the specification says so.
    }
    let numbered: BTreeSet<String> = spec
        .split("**")
        .filter(|word| word.starts_with("hello-"))
        .map(str::to_owned)
        .collect();
    assert_eq!(numbered, examined);
}

fn client(fault: &str, tcp: bool) -> Column {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hello/client.py");
    let transport = if tcp { "tcp" } else { "udp" };
    let reply = CLIENT_REPLY.as_secs_f64().to_string();
    let words = ["python3", "-S", "-E", script, fault, transport, &reply];
    client_column(&Client {
        command: words.map(str::to_owned).to_vec(),
        tcp,
        reply: Some(CLIENT_REPLY),
        timestamps: true,
    })
}

type Examination = (
    String,
    &'static str,
    bool,
    thread::JoinHandle<Vec<CaseResult>>,
);

fn judge(examinations: impl IntoIterator<Item = Examination>) {
    let all: Vec<_> = examinations.into_iter().collect();
    for (fault, id, alone, examination) in all {
        let results = examination.join().expect("an examination never crashes");
        let is_failed = |result: &&CaseResult| matches!(result.verdict, Verdict::Failed(_));
        let failures: Vec<_> = results.iter().filter(is_failed).collect();
        let failed: BTreeSet<_> = failures.iter().map(|it| it.requirement.id).collect();
        let told: Vec<_> = failures.iter().map(|it| explain(it)).collect();
        let told = told.join("\n");
        assert!(failed.contains(id), "{fault} must fail by {id}:\n{told}");
        if alone {
            assert_eq!(
                failed,
                BTreeSet::from([id]),
                "{fault} by {id} alone:\n{told}"
            );
        }
    }
}

fn explain(result: &CaseResult) -> String {
    let transcript = result.transcript.join("\n    ");
    format!("{}: {:?}\n    {transcript}", result.title, result.verdict)
}
