//! The enroll column against servers that run in this process: one that is right, and one for each
//! fault that a course's first attempt is likely to have. A fault must be found by its own number.
//!
//! `client.py` is a client with one fault of choice.
//!
//! Beside them two Python programs as the course's readers write them: `careful.py` reads pickles
//! from a file object, `naive.py` takes what one `recv` brings for one pickle.

mod faulty;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use ahoy_check::attempt::Limits;
use ahoy_check::enroll::{Client, Clients, Target, client_column, column};
use ahoy_check::runner::{CaseResult, Verdict, run, select};

use faulty::{Fault, IDLE, serve};

const LIMITS: Limits = Limits {
    reply_max: Duration::from_millis(2000),
    quiet: Duration::from_millis(150),
    case_max: Duration::from_secs(60),
};

#[test]
fn a_right_server_passes_every_case() {
    for clients in [Clients::Many, Clients::One] {
        let results = examine(Fault::Nothing, clients, "");
        assert!(results.len() >= 30);
        for result in results {
            assert_eq!(result.verdict, Verdict::Passed, "{}", result.title);
        }
    }
}

#[test]
fn each_wrong_server_fails_by_its_number() {
    let examinations: Vec<_> = faulty::ALL
        .into_iter()
        .map(|(fault, clients, id)| {
            // Every case of a server that answers nothing takes all its time: only those in
            // question.
            let wanted = if fault.is_precise() { "" } else { id };
            let examination = thread::spawn(move || examine(fault, clients, wanted));
            (fault, id, examination)
        })
        .collect();
    for (fault, id, examination) in examinations {
        let results = examination.join().expect("an examination never crashes");
        let failed = failed(&results);
        assert!(
            failed.contains(id),
            "{fault:?} must fail by {id}; it failed by {failed:?}"
        );
        if fault.is_precise() {
            assert_eq!(
                failed,
                BTreeSet::from([id]),
                "{fault:?} must fail by {id} alone"
            );
        }
    }
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
    let target = Target {
        addr,
        clients: Clients::Many,
        idle: Some(Duration::ZERO),
    };
    let results = run(column(&target), limits, |_| {});
    assert!(
        results
            .iter()
            .all(|result| matches!(result.verdict, Verdict::Failed(_)))
    );
}

#[test]
fn a_careful_python_server_passes_all_that_is_a_must() {
    for (mode, clients) in [("many", Clients::Many), ("one", Clients::One)] {
        let server = PythonServer::start(include_str!("careful.py"), mode);
        let results = examine_at(server.addr, clients);
        // Python's pickle executes what it reads: that is what enroll-10 is about.
        assert_eq!(failed(&results), BTreeSet::from(["enroll-10"]), "{mode}");
        let called = results
            .iter()
            .find(|result| result.title == "enroll-10/call-back");
        let Verdict::Failed(why) = &called.expect("the case ran").verdict else {
            panic!("it must notice the execution");
        };
        assert!(why.starts_with("the server executed the pickle"), "{why}");
    }
}

#[test]
fn a_naive_python_server_is_told_that_a_read_is_not_a_message() {
    let server = PythonServer::start(include_str!("naive.py"), "many");
    let failed = failed(&examine_at(server.addr, Clients::Many));
    assert!(failed.contains("enroll-7"), "{failed:?}");
    assert!(
        !failed.contains("enroll-4") && !failed.contains("enroll-8"),
        "{failed:?}"
    );
}

/// Fault, and every number by which it must be found; enroll-10 is Python's own.
const CLIENT_FAULTS: [(&str, &[&str]); 14] = [
    ("careful", &[]),
    ("course", &["enroll-7", "enroll-22"]),
    ("no-sid", &["enroll-16"]),
    ("sends-a-list", &["enroll-16"]),
    ("speaks-first", &["enroll-16"]),
    ("protocol-2", &["enroll-14"]),
    ("wants-a-dict", &["enroll-15"]),
    ("wants-a-number", &["enroll-15"]),
    ("wants-one", &["enroll-17"]),
    ("prints-the-number", &["enroll-21"]),
    ("own-words", &["enroll-21"]),
    ("waits-for-ever", &["enroll-18"]),
    ("ignores-the-answer", &["enroll-18"]),
    ("says-nothing", &["enroll-18"]),
];

#[test]
fn each_wrong_client_fails_by_its_number() {
    let examinations: Vec<_> = CLIENT_FAULTS
        .into_iter()
        .map(|(fault, expected)| {
            let examination = thread::spawn(move || examine_client(fault, expected));
            (fault, expected, examination)
        })
        .collect();
    for (fault, expected, examination) in examinations {
        let results = examination.join().expect("an examination never crashes");
        let failed = failed(&results);
        for id in expected {
            assert!(failed.contains(id), "{fault} must fail by {id}: {failed:?}");
        }
        assert!(failed.contains("enroll-10"), "{fault}: {results:?}");
        if fault == "careful" {
            assert_eq!(failed, BTreeSet::from(["enroll-10"]), "{results:?}");
        }
    }
}

/// Runs the cases of these requirements and of enroll-10 against a client with this fault; all
/// against one without.
fn examine_client(fault: &str, expected: &[&str]) -> Vec<CaseResult> {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/enroll/client.py");
    let client = Client {
        command: ["python3", program, fault].map(str::to_owned).to_vec(),
        wait: Some(Duration::from_secs(1)),
    };
    let mut wanted: Vec<String> = expected.iter().map(|id| (*id).to_owned()).collect();
    if fault != "careful" {
        // Starting Python for every case takes its time: only those in question.
        wanted.push("enroll-10".to_owned());
    }
    let column = select(client_column(&client), &wanted).expect("numbers that have cases");
    run(column, LIMITS, |_| {})
}

fn failed(results: &[CaseResult]) -> BTreeSet<&'static str> {
    results
        .iter()
        .filter(|result| matches!(result.verdict, Verdict::Failed(_)))
        .map(|result| result.requirement.id)
        .collect()
}

/// Runs the cases of the requirement `wanted`, or all if it is empty.
fn examine(fault: Fault, clients: Clients, wanted: &str) -> Vec<CaseResult> {
    let target = Target {
        addr: serve(fault, clients),
        clients,
        idle: Some(IDLE),
    };
    let wanted: Vec<String> = (!wanted.is_empty())
        .then(|| wanted.to_owned())
        .into_iter()
        .collect();
    let column = select(column(&target), &wanted).expect("a number that has cases");
    run(column, LIMITS, |_| {})
}

fn examine_at(addr: SocketAddr, clients: Clients) -> Vec<CaseResult> {
    let target = Target {
        addr,
        clients,
        idle: None,
    };
    run(column(&target), LIMITS, |_| {})
}

/// A Python program that prints its port first and then its console lines.
struct PythonServer {
    process: Child,
    addr: SocketAddr,
}

impl PythonServer {
    fn start(program: &str, mode: &str) -> Self {
        let mut process = Command::new("python3")
            .args(["-u", "-c", program, mode])
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is needed for this test");
        let mut output = BufReader::new(process.stdout.take().expect("piped"));
        let mut line = String::new();
        output.read_line(&mut line).expect("a first line");
        let port = line.trim().rsplit('/').next().expect("not empty");
        let port: u16 = port.parse().expect("`Listening at <host>/<port>`");
        // Someone has to read what it prints, or it stops at a full pipe.
        thread::spawn(move || output.lines().for_each(drop));
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        Self { process, addr }
    }
}

impl Drop for PythonServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
