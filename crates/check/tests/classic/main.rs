//! The columns of the classic dialect against programs in Python: a tracker and a peer that are
//! right, and each with one fault of choice. A fault must be found by its own number, and by no
//! other unless it breaks several rules.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use ahoy_check::attempt::Limits;
use ahoy_check::classic::{Client, Target, client_column, column};
use ahoy_check::runner::{CaseResult, Verdict, run, select};

const LIMITS: Limits = Limits {
    reply_max: Duration::from_millis(3000),
    quiet: Duration::from_millis(250),
    case_max: Duration::from_secs(60),
};

/// After how much silence the trackers here forget a peer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Examinations that run side by side: a busy machine must not look like a slow program.
const AT_A_TIME: usize = 6;

/// Fault of `tracker.py`, and the numbers by which it must be found.
const TRACKER_FAULTS: [(&str, &[&str]); 20] = [
    ("waits-for-line-ends", &["classic-1"]),
    ("a-segment-is-a-message", &["classic-1"]),
    ("no-line-end", &["classic-2"]),
    ("wants-the-usual-members", &["classic-3"]),
    ("keeps-fractions", &["classic-3"]),
    ("answers-twice", &["classic-4"]),
    ("no-address", &["classic-5"]),
    ("last-one-wins", &["classic-5"]),
    ("ties-to-the-last", &["classic-5"]),
    ("lists-paths", &["classic-7"]),
    ("drops-all-for-one", &["classic-7"]),
    ("keeps-garbage", &["classic-8"]),
    ("dies-of-garbage", &["classic-8"]),
    ("knows-addresses-only", &["classic-10"]),
    ("forgets-at-hangup", &["classic-10"]),
    ("ignores-strangers", &["classic-11"]),
    ("adds-up", &["classic-12"]),
    ("never-forgets", &["classic-13"]),
    ("keeps-one-holder", &["classic-14"]),
    ("one-at-a-time", &["classic-17"]),
];

/// Faults that break several rules at once, or the rest of the examination.
const BROAD: [&str; 8] = [
    "a-segment-is-a-message",
    "adds-up",
    "answers-twice",
    "dies-of-garbage",
    "ignores-strangers",
    "keeps-one-holder",
    "knows-addresses-only",
    "one-at-a-time",
];

/// Fault of `peer.py`, and the number by which it must be found.
const PEER_FAULTS: [(&str, &str); 22] = [
    ("serves-outside", "classic-6"),
    ("writes-outside", "classic-6"),
    ("no-init", "classic-30"),
    ("says-it-once", "classic-30"),
    ("never-replaces", "classic-31"),
    ("takes-whatever-differs", "classic-31"),
    ("empty-is-missing", "classic-31"),
    ("believes-itself", "classic-32"),
    ("announces-programs", "classic-33"),
    ("serves-programs", "classic-33"),
    ("takes-programs", "classic-33"),
    ("time-of-now", "classic-34"),
    ("writes-in-place", "classic-35"),
    ("stops-at-a-dead-holder", "classic-37"),
    ("gives-up", "classic-39"),
    ("no-header", "classic-50"),
    ("counts-one-less", "classic-50"),
    ("header-always", "classic-51"),
    ("missing-is-empty", "classic-53"),
    ("one-at-a-time", "classic-56"),
    ("keeps-half-a-file", "classic-58"),
    ("waits-for-the-end", "classic-59"),
];

#[test]
fn a_right_tracker_passes_every_case() {
    let results = examine_tracker("nothing");
    assert!(results.len() >= 20, "{}", results.len());
    for result in results {
        assert_eq!(result.verdict, Verdict::Passed, "{}", result.title);
    }
}

#[test]
fn each_wrong_tracker_fails_by_its_number() {
    let examine = |fault: &'static str| examine_tracker(fault);
    let found = side_by_side(TRACKER_FAULTS.map(|(fault, _)| fault).to_vec(), examine);
    let mut wrong = Vec::new();
    for ((fault, expected), results) in TRACKER_FAULTS.into_iter().zip(found) {
        let (failed, expected) = (failed(&results), BTreeSet::from_iter(expected.to_vec()));
        let is_right = if BROAD.contains(&fault) {
            failed.is_superset(&expected)
        } else {
            failed == expected
        };
        if !is_right {
            wrong.push(format!("{fault} must fail by {expected:?}, not {failed:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_right_peer_passes_every_case() {
    let results = examine_peer("nothing", "");
    assert!(results.len() >= 21, "{}", results.len());
    for result in results {
        assert_eq!(result.verdict, Verdict::Passed, "{}", result.title);
    }
}

#[test]
fn each_wrong_peer_fails_by_its_number() {
    // Starting Python for every case takes its time: the number in question, and one more that
    // must hold all the same.
    let found = side_by_side(PEER_FAULTS.to_vec(), |(fault, id)| examine_peer(fault, id));
    let mut wrong = Vec::new();
    for ((fault, id), results) in PEER_FAULTS.into_iter().zip(found) {
        let failed = failed(&results);
        if failed != BTreeSet::from([id]) {
            wrong.push(format!("{fault} must fail by {id}, not {failed:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_tracker_that_is_not_there_and_a_peer_that_never_connects_hang_nothing() {
    let vacant = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = vacant.local_addr().expect("bound");
    drop(vacant);
    let target = Target {
        addr,
        bare: false,
        timeout: Some(TIMEOUT),
    };
    for result in run(column(&target), LIMITS, |_| {}) {
        let failed = matches!(result.verdict, Verdict::Failed(_));
        assert!(failed, "{}: {:?}", result.title, result.verdict);
    }
    let client = Client {
        command: vec!["true".to_owned()],
        lines: true,
        bare: true,
        interval: Duration::from_secs(1),
    };
    let one = select(client_column(&client), &["classic-30/init".to_owned()]);
    let results = run(one.expect("a case"), LIMITS, |_| {});
    assert_eq!(failed(&results), BTreeSet::from(["classic-30"]));
}

/// Runs the whole column of a tracker with this fault.
fn examine_tracker(fault: &str) -> Vec<CaseResult> {
    let tracker = Tracker::start(fault);
    let target = Target {
        addr: tracker.addr,
        bare: false,
        timeout: Some(TIMEOUT),
    };
    run(column(&target), LIMITS, |_| {})
}

/// Runs the cases of one number and one other; all of them if the number is empty.
fn examine_peer(fault: &str, id: &str) -> Vec<CaseResult> {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/classic/peer.py");
    let command = ["python3", program, fault, "{dir}", "{ip}", "{port}"];
    let client = Client {
        command: command.map(str::to_owned).to_vec(),
        lines: true,
        bare: true,
        interval: Duration::from_secs(1),
    };
    let other = if id == "classic-30" || id == "classic-31" {
        "classic-51"
    } else {
        "classic-31/absent"
    };
    let wanted = match id {
        "" => Vec::new(),
        id => vec![id.to_owned(), other.to_owned()],
    };
    let column = select(client_column(&client), &wanted).expect("numbers that have cases");
    run(column, LIMITS, |_| {})
}

/// Examines a few at a time; the results in the same order.
fn side_by_side<T: Send + Copy + 'static>(
    all: Vec<T>,
    examine: impl Fn(T) -> Vec<CaseResult> + Send + Copy + 'static,
) -> Vec<Vec<CaseResult>> {
    let mut found = Vec::new();
    for some in all.chunks(AT_A_TIME) {
        let begun = some.iter().map(|&one| thread::spawn(move || examine(one)));
        let begun: Vec<_> = begun.collect();
        let done = begun.into_iter().map(thread::JoinHandle::join);
        found.extend(done.map(|results| results.expect("an examination never crashes")));
    }
    found
}

fn failed(results: &[CaseResult]) -> BTreeSet<&'static str> {
    results
        .iter()
        .filter(|result| matches!(result.verdict, Verdict::Failed(_)))
        .map(|result| result.requirement.id)
        .collect()
}

/// A tracker in Python; killed when dropped.
struct Tracker {
    process: Child,
    addr: SocketAddr,
}

impl Tracker {
    fn start(fault: &str) -> Self {
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/classic/tracker.py");
        let mut process = Command::new("python3")
            .args([program, fault, &TIMEOUT.as_secs().to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is needed for this test");
        let mut output = BufReader::new(process.stdout.take().expect("piped"));
        let mut line = String::new();
        output.read_line(&mut line).expect("a first line");
        let port = line.trim().rsplit(' ').next().expect("not empty");
        let port: u16 = port.parse().expect("`port <port>`");
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        Self { process, addr }
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        // It may have died of its fault.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
