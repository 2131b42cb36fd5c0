//! `ahoy check` itself: what it lists, what its forms of a report say, how it exits, and that
//! nobody can hold it. What it finds out about each service stands in the tests of that service.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Every column that there is.
const COLUMNS: [&str; 8] = [
    "echo",
    "hello",
    "hello-client",
    "enroll",
    "enroll-client",
    "web",
    "tracker",
    "peer",
];

#[test]
fn every_column_lists_its_cases_and_talks_to_nobody() {
    for service in COLUMNS {
        let (code, list, error) = texts(&check(&[service, "--list"]));
        assert_eq!((code, error.as_str()), (Some(0), ""), "{service}");
        let mut titles = BTreeSet::new();
        for line in list.lines() {
            let mut words = line.split_whitespace();
            let title = words.next().expect("a title");
            let level = words.next().expect("a level");
            assert!(matches!(level, "MUST" | "SHOULD"), "{line}");
            assert!(words.count() > 3, "no sentence: {line}");
            let (number, _) = title.split_once('/').expect("number/name");
            let protocol = match service {
                "tracker" | "peer" => "classic",
                service => service.trim_end_matches("-client"),
            };
            assert!(number.starts_with(&format!("{protocol}-")), "{line}");
            assert!(titles.insert(title.to_owned()), "listed twice: {title}");
        }
        assert!(titles.len() >= 13, "{service}: {titles:?}");
        let one = titles.first().expect("some");
        let (code, list, _) = texts(&check(&[service, "--list", "--case", one]));
        assert_eq!((code, list.lines().count()), (Some(0), 1), "{service}");
        let (code, _, error) = texts(&check(&[service, "--list", "--case", "nonsense"]));
        assert_eq!(code, Some(2));
        let complaint = "Error: no such case: nonsense\nHint: see them all with --list\n";
        assert_eq!(error, complaint);
    }
}

#[test]
fn misuse_is_told_with_what_to_do() {
    for (args, complaint) in [
        (
            &["hello-client"][..],
            "Error: no client to examine\nHint: put its command behind --",
        ),
        (
            &["enroll-client"],
            "Error: no client to examine\nHint: put its command behind --",
        ),
        (
            &["peer"],
            "Error: no peer to examine\nHint: put its command behind --",
        ),
        (
            &["enroll", "nowhere"],
            "Error: \"nowhere\" is no address\nHint: write it as HOST:PORT",
        ),
    ] {
        let (code, printed, error) = texts(&check(args));
        assert_eq!((code, printed.as_str()), (Some(2), ""), "{args:?}");
        assert!(error.starts_with(complaint), "{error}");
    }
}

/// Python's own `pickle` executes what it reads, which breaks a SHOULD and no MUST.
#[test]
fn a_broken_should_counts_only_under_strict_and_all_forms_say_the_same() {
    let server = CarefulServer::start();
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("report");
    let file = file.to_str().expect("UTF-8");
    let examine = |more: &[&str]| {
        let cases = ["--case", "enroll-4", "--case", "enroll-10/call-back"];
        let first = ["enroll", server.addr.as_str()];
        texts(&check(&[&first[..], &cases, more].concat()))
    };
    for (strict, code, word, accepted) in [
        (&[][..], 0, "note ", "accepted"),
        (&["--strict"], 1, "FAIL ", "NOT accepted"),
    ] {
        let (exit, text, error) = examine(strict);
        assert_eq!((exit, error.as_str()), (Some(code), ""), "{text}");
        assert!(text.contains(&format!("\n{word} enroll-10/")), "{text}");
        let summary = format!("\nenroll at {}: {accepted}; ", server.addr);
        assert!(text.contains(&summary), "{text}");

        let json = ["--format", "json", "--output", file];
        let (exit, on_terminal, _) = examine(&[strict, &json].concat());
        assert_eq!(exit, Some(code));
        assert!(on_terminal.contains(&summary), "{on_terminal}");
        let report = std::fs::read_to_string(file).expect("a report");
        let report: Value = serde_json::from_str(&report).expect("JSON");
        assert_eq!(report["accepted"], code == 0);
        let cases = report["cases"].as_array().expect("cases");
        let verdict = |verdict: &str| {
            let is_it = |case: &&Value| case["verdict"] == verdict;
            cases.iter().filter(is_it).count()
        };
        assert_eq!(cases.len(), verdict("passed") + 1, "{report}");
        assert_eq!(verdict("advised"), usize::from(code == 0));
        assert_eq!(verdict("failed"), usize::from(code == 1));
        assert_eq!(report["counts"]["passed"], verdict("passed"));

        let (exit, xml, _) = examine(&[strict, &["--format", "junit"]].concat());
        assert_eq!(exit, Some(code));
        let expected = format!("{} {} 0 {}\n", cases.len(), code, 1 - code);
        assert_eq!(read_junit(&xml), expected, "{xml}");
    }
}

/// What a CI system would read: tests, failures, errors, skipped; as the suite says and as counted.
fn read_junit(xml: &str) -> String {
    const READER: &str = "
import sys, xml.etree.ElementTree as tree
suite, = tree.fromstring(sys.stdin.buffer.read())
says = [int(suite.get(name)) for name in ('tests', 'failures', 'errors', 'skipped')]
cases = suite.findall('testcase')
counted = [len(cases)]
counted += [len(suite.findall('testcase/' + name)) for name in ('failure', 'error', 'skipped')]
assert says == counted, (says, counted)
assert all(case.get('name') and case.get('classname') for case in cases)
print(*says)
";
    let mut python = Command::new("python3")
        .args(["-c", READER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is needed for this test");
    let mut input = python.stdin.take().expect("piped");
    input.write_all(xml.as_bytes()).expect("Python reads");
    drop(input);
    let output = python.wait_with_output().expect("it ends");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Far more than what is waited for below, far less than for ever.
const SOON: Duration = Duration::from_secs(120);

#[test]
fn nobody_holds_it_and_nobody_is_accepted_for_nothing() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = silent.local_addr().expect("bound").to_string();
    let short = ["--reply-ms", "50", "--quiet-ms", "10", "--case-ms", "300"];
    let examinations: Vec<_> = [
        &["echo", &addr, "--tcp"][..],
        &["hello", &addr, "--tcp"],
        &["enroll", &addr],
        &["web", &addr],
        &["hello-client", "--", "true"],
        &["enroll-client", "--", "true"],
        &["hello-client", "--", "/nowhere/no-such-program"],
        &["enroll-client", "--", "yes"],
    ]
    .into_iter()
    .map(|words| {
        let words: Vec<String> = short
            .iter()
            .chain(words)
            .map(|word| (*word).to_owned())
            .collect();
        thread::spawn(move || {
            let started = Instant::now();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            (texts(&check(&words)), started.elapsed())
        })
    })
    .collect();
    for examination in examinations {
        let ((code, text, error), took) = examination.join().expect("it ends");
        assert_eq!((code, error.as_str()), (Some(1), ""), "{text}");
        assert!(text.contains(": NOT accepted; "), "{text}");
        assert!(took < SOON, "{took:?}: {text}");
    }
}

fn check(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ahoy"));
    let command = command.arg("check").args(args).stdin(Stdio::null());
    command.output().expect("ahoy runs")
}

fn texts(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let (printed, error) = (text(&output.stdout), text(&output.stderr));
    (output.status.code(), printed, error)
}

/// The registration server of a careful student, in Python.
struct CarefulServer {
    process: Child,
    addr: String,
}

impl CarefulServer {
    fn start() -> Self {
        let program = include_str!("../../check/tests/enroll/careful.py");
        let mut process = Command::new("python3")
            .args(["-u", "-c", program, "many"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is needed for this test");
        let mut output = BufReader::new(process.stdout.take().expect("piped"));
        let mut line = String::new();
        output.read_line(&mut line).expect("a first line");
        let (_, place) = line.trim().rsplit_once(' ').expect("`Listening at ...`");
        let addr = place.replace('/', ":");
        // Someone has to read what it prints, or it stops at a full pipe.
        thread::spawn(move || output.lines().for_each(drop));
        Self { process, addr }
    }
}

impl Drop for CarefulServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
