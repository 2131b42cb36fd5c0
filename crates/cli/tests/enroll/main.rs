//! `ahoy enroll` as its users meet it: its consoles byte for byte, Python on the other side,
//! records that survive, and the examination of both kinds of server.

mod side;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use side::{LONG, Server, ahoy, client, client_named, python, run, texts};
use tempfile::TempDir;

const PASSED: &str = "Data acknowledged by server and you passed the test";
const ALICE: &str = "Connected: Student: Alice Brown, Github Username: abrown, sid: 123456789";

fn python_client(port: u16, who: [&str; 3], protocol: &str) -> String {
    let port = port.to_string();
    let mut command = python("client.py");
    run(command.args(["127.0.0.1", &port]).args(who).arg(protocol))
}

#[test]
fn the_courses_client_sees_what_it_expects_from_our_server() {
    for clients in ["1", "N"] {
        let server = Server::ahoy(&["--clients", clients]);
        for (protocol, sid) in ["0", "1", "2", "3", "4", "5"].into_iter().zip([
            "1",
            "123456789",
            "-1",
            "'0042'",
            "99999999999999999999",
            "'s17'",
        ]) {
            let output = python_client(server.port, ["Zoë O'Neill", "octo-cat", sid], protocol);
            let (first, rest) = output.split_once('\n').expect("two lines");
            let id = first.strip_prefix("{'clientid': ").expect("a client id");
            let (id, place) = id
                .split_once("} has successfully connected to ")
                .expect("a place");
            assert!(id.parse::<u16>().is_ok(), "{first}");
            assert_eq!(place, format!("127.0.0.1/{}", server.port));
            assert_eq!(rest, format!("{PASSED}\n"));
            let sid = sid.trim_matches('\'');
            assert_eq!(
                server.line(),
                format!("Connected: Student: Zoë O'Neill, Github Username: octo-cat, sid: {sid}")
            );
        }
        assert_eq!(server.end(), (String::new(), vec![]));
    }
}

#[test]
fn our_client_sees_what_it_expects_from_the_courses_server() {
    let plain = "{'clientid': port}";
    let forms = [
        (plain, "1"),
        (plain, "'ok'"),
        (plain, "{'status': 'ok', 'sid': data['sid']}"),
        ("{'clientid': {'clientid': port}}", "1"),
        ("port", "1"),
        ("{'client_id': str(port), 'to': ['Zoë', (None,), 0.5]}", "1"),
    ];
    for (greeting, ack) in forms {
        let server = Server::python(greeting, ack);
        let output = client(server.port, &[]);
        let (stdout, stderr, code) = texts(&output);
        let (first, rest) = stdout.split_once('\n').expect("two lines");
        let (shown, place) = first.split_once(" has successfully").expect("connected");
        let id = shown
            .chars()
            .filter(char::is_ascii_digit)
            .collect::<String>();
        let id = id
            .strip_suffix("05")
            .filter(|_| shown.contains("0.5"))
            .unwrap_or(&id);
        let expected = match greeting {
            "port" => id.to_owned(),
            _ => greeting
                .replace("str(port)", &format!("'{id}'"))
                .replace("port", id),
        };
        assert_eq!(shown, expected);
        assert_eq!(place, format!(" connected to 127.0.0.1/{}", server.port));
        assert_eq!(rest, format!("{PASSED}\n"));
        assert_eq!(code, Some(0));
        assert_eq!(stderr.is_empty(), ack == "1", "{stderr}");
        assert_eq!(server.line(), ALICE);
    }
}

#[test]
fn our_clients_share_the_courses_server_of_lab_4() {
    let server = Server::python_for_many();
    // In lab 3 nobody would be served beside this one.
    let mut silent = TcpStream::connect(("127.0.0.1", server.port)).expect("accepted");
    silent.set_read_timeout(Some(LONG)).expect("possible");
    silent.read_exact(&mut [0; 20]).expect("greeted");
    for _ in 0..3 {
        let output = client(server.port, &[]);
        let (stdout, stderr, code) = texts(&output);
        assert_eq!((stderr, code), ("", Some(0)));
        assert!(stdout.ends_with(&format!("{PASSED}\n")), "{stdout}");
        assert_eq!(server.line(), ALICE);
    }
}

#[test]
fn our_client_gives_up_cleanly_and_says_so() {
    let hasty = ["--wait-ms", "300"];
    for (greeting, ack, error) in [
        (
            "{'clientid': port}",
            "None",
            "Error: no acknowledgement from the server within 300 ms\n\
             Hint: some servers never acknowledge; its console says whether it knows you\n",
        ),
        (
            "b''",
            "1",
            "Error: no greeting from the server within 300 ms\n\
             Hint: it may be serving someone else; try again, or wait longer with --wait-ms\n",
        ),
        (
            "{'clientid': port}",
            "close",
            "Error: the server closed the connection before its acknowledgement\n\
             Hint: its console may say why\n",
        ),
        (
            "{'clientid': port}",
            "0",
            "Error: the server did not acknowledge: it answered 0\n\
             Hint: see what it does: ahoy check enroll HOST:PORT\n",
        ),
        (
            "['welcome\\x1b[2J']",
            "1",
            "Error: the server's greeting cannot be understood: \
             no client id in ['welcome\\x1b[2J']\n\
             Hint: is it an enroll server? see what it does: ahoy check enroll HOST:PORT\n",
        ),
        (
            "b'cos\\nsystem\\n'",
            "1",
            "Error: the server's greeting cannot be read: refused GLOBAL at byte 0: \
             only plain data is read, nothing is ever executed\n\
             Hint: is it an enroll server? see what it does: ahoy check enroll HOST:PORT\n",
        ),
    ] {
        let server = Server::python(greeting, ack);
        let output = client(server.port, &hasty);
        let (stdout, stderr, code) = texts(&output);
        assert_eq!((stderr, code), (error, Some(1)), "{greeting} {ack}");
        assert!(!stdout.contains(PASSED));
    }
}

#[test]
fn a_crowd_is_served_at_once_and_its_lines_are_whole() {
    const CROWD: usize = 200;
    let server = Server::ahoy(&[]);
    let (port, count) = (server.port.to_string(), CROWD.to_string());
    let crowd = run(python("crowd.py").args(["127.0.0.1", &port, &count]));
    assert_eq!(crowd, "True\n");
    let mut lines: Vec<String> = (0..CROWD).map(|_| server.line()).collect();
    lines.sort();
    let mut expected: Vec<String> = (0..CROWD)
        .map(|number| {
            let name = format!("student {number} {}", "x".repeat(number * 17 % 3000));
            format!("Connected: Student: {name}, Github Username: u{number}, sid: {number}")
        })
        .collect();
    expected.sort();
    assert_eq!(lines, expected);
    assert_eq!(server.end(), (String::new(), vec![]));
}

#[test]
fn a_pickle_that_would_execute_is_refused_by_name_and_the_server_goes_on() {
    let folder = TempDir::new().expect("a folder");
    let made = folder.path().join("made-by-the-pickle");
    let server = Server::ahoy(&[]);
    let port = server.port.to_string();
    let mut evil = python("evil.py");
    let answer = run(evil.args(["127.0.0.1", &port]).arg(&made));
    assert_eq!(answer, "b''\n", "dropped without an answer");
    assert!(!made.exists());
    assert_eq!(texts(&client(server.port, &[])).2, Some(0));
    let (log, lines) = server.end();
    assert!(log.starts_with("127.0.0.1/"), "{log}");
    assert!(
        log.contains(": dropped: refused STACK_GLOBAL at byte "),
        "{log}"
    );
    assert_eq!(log.lines().count(), 1, "{log}");
    assert_eq!(lines, [ALICE]);
}

/// enroll-11, as it looks from outside the process.
#[test]
fn bombs_do_not_grow_the_server() {
    const GROWTH_KIB_MAX: u64 = 1024;
    let server = Server::ahoy(&[]);
    let addr = format!("127.0.0.1:{}", server.port);
    let examine = |case| {
        let mut check = ahoy(&["check", "enroll", &addr, "--case", case]);
        let report = run(&mut check);
        assert!(report.contains(": accepted; "), "{report}");
    };
    // What every server needs for a first registration is there before it is measured.
    examine("enroll-6");
    let before = server.memory_peak_kib();
    for _ in 0..3 {
        examine("enroll-11/bombs");
    }
    let after = server.memory_peak_kib();
    assert!(
        after - before <= GROWTH_KIB_MAX,
        "{before} KiB before, {after} KiB after"
    );
}

#[test]
fn a_silent_client_is_dropped_in_its_time_and_lets_the_next_one_in() {
    let server = Server::ahoy(&["--clients", "1", "--idle-ms", "400"]);
    let mut silent = TcpStream::connect(("127.0.0.1", server.port)).expect("accepted");
    silent.set_read_timeout(Some(LONG)).expect("possible");
    silent.read_exact(&mut [0; 20]).expect("greeted");
    assert_eq!(
        texts(&client(server.port, &[])).2,
        Some(0),
        "served after it"
    );
    let (log, lines) = server.end();
    let port = silent.local_addr().expect("bound").port();
    assert_eq!(
        log,
        format!("127.0.0.1/{port}: dropped: no registration for 400 ms\n")
    );
    assert_eq!(lines, [ALICE]);
}

#[test]
fn text_from_outside_cannot_move_a_cursor() {
    let server = Server::ahoy(&[]);
    let name = "\x1b[2Jx\nConnected: Student: forged\u{202e}";
    python_client(server.port, [name, "\t", "'\\x07'"], "4");
    let escaped = "Connected: Student: \\x1b[2Jx\\nConnected: Student: forged\\u202e, \
                   Github Username: \\t, sid: \\x07";
    assert_eq!(server.line(), escaped);
    let (log, lines) = server.end();
    assert_eq!((log.as_str(), lines.len()), ("", 0));
    // And the other way round.
    let server = Server::python("{'clientid': port, '\\x1b[2J\\u202e': '\\n'}", "'\\x1b[2J'");
    let output = client(server.port, &[]);
    let (stdout, stderr, _) = texts(&output);
    assert!(
        stdout.contains("'\\x1b[2J\\u202e': '\\n'} has successfully"),
        "{stdout}"
    );
    assert!(
        stderr.contains("acknowledged with '\\x1b[2J', not with 1"),
        "{stderr}"
    );
}

#[test]
fn records_are_there_when_the_client_is_told_so() {
    let folder = TempDir::new().expect("a folder");
    for (name, expected) in [
        (
            "r.jsonl",
            "\"student_name\":\"=Alice, \\\"A\\\"\",\"github_username\":\"abrown\",\
             \"sid\":123456789}\n",
        ),
        ("r.csv", ",\"'=Alice, \"\"A\"\"\",\"abrown\",123456789\n"),
    ] {
        let path = folder.path().join(name);
        let file = path.to_str().expect("UTF-8");
        for round in 1..=3 {
            let server = Server::ahoy(&["--record", file]);
            let output = client_named("=Alice, \"A\"", server.port, &[]);
            assert_eq!(texts(&output).2, Some(0));
            // No farewell: what was acknowledged must be there.
            server.kill();
            let content = fs::read_to_string(&path).expect("readable");
            assert_eq!(content.matches(expected).count(), round, "{content}");
        }
        let content = fs::read_to_string(&path).expect("readable");
        let time = content.lines().last().expect("a line");
        assert!(
            time.contains("20") && time.contains('T') && time.contains('Z'),
            "{time}"
        );
    }
}

#[test]
fn a_registration_that_cannot_be_recorded_is_not_acknowledged() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("r.jsonl");
    let server = Server::ahoy_on_a_small_disk(&["--record", path.to_str().expect("UTF-8")]);
    let (mut kept, mut lost) = (0, 0);
    while lost < 2 && kept < 100 {
        let output = client(server.port, &[]);
        let (stdout, stderr, code) = texts(&output);
        if code == Some(0) {
            assert_eq!(
                lost, 0,
                "what does not fit does not fit the next time either"
            );
            kept += 1;
            continue;
        }
        lost += 1;
        assert_eq!(code, Some(1));
        assert!(!stdout.contains(PASSED));
        assert!(
            stderr.contains("closed the connection before its acknowledgement"),
            "{stderr}"
        );
    }
    assert!(kept > 0 && lost == 2, "{kept} kept, {lost} lost");
    let content = fs::read_to_string(&path).expect("readable");
    assert!(content.ends_with("}\n"), "no half line: {content}");
    assert_eq!(content.lines().count(), kept);
    let (log, lines) = server.end();
    assert_eq!(lines, vec![ALICE; kept]);
    assert_eq!(
        log.matches("dropped: it could not be recorded: ").count(),
        2,
        "{log}"
    );
}

#[test]
fn json_tells_the_same_to_machines() {
    let server = Server::ahoy(&["--json"]);
    let name = "Z\u{9b}\u{202e}";
    let output = client_named(name, server.port, &["--json", "--sid-text"]);
    let (stdout, stderr, code) = texts(&output);
    assert_eq!((stderr, code), ("", Some(0)));
    let report: serde_json::Value = serde_json::from_str(stdout).expect("JSON");
    assert_eq!(report["acknowledged"], true);
    assert_eq!(report["answer"], "1");
    let id = report["client_id"].as_u64().expect("a port");
    assert_eq!(report["greeting"], format!("{{'clientid': {id}}}"));
    let mut torn = TcpStream::connect(("127.0.0.1", server.port)).expect("accepted");
    torn.write_all(b"HELLO").expect("sent");
    torn.read_to_end(&mut Vec::new()).expect("dropped");
    let client_of = |port: u64| serde_json::json!(format!("127.0.0.1:{port}"));
    let events: Vec<serde_json::Value> = (0..5)
        .map(|_| {
            let line = server.line();
            assert!(!line.contains(['\u{9b}', '\u{202e}']), "{line}");
            serde_json::from_str(&line).expect("JSON")
        })
        .collect();
    let named = |name: &'static str| events.iter().filter(move |event| event["event"] == name);
    assert_eq!(named("connected").count(), 2);
    let registered = named("registered").next().expect("it registered");
    assert_eq!(registered["client"], client_of(id));
    assert_eq!(registered["student_name"], name);
    assert_eq!(registered["sid"], "123456789");
    let left = named("disconnected").next().expect("it left");
    assert_eq!(left["registrations"], 1);
    let refused = named("refused").next().expect("it was refused");
    assert_eq!(
        refused["reason"],
        "byte 0x48 at 0 is not a pickle instruction"
    );

    drop(server);
    let failed = client(1, &["--json"]);
    let (stdout, stderr, code) = texts(&failed);
    assert_eq!(code, Some(3));
    assert!(stdout.contains("\"acknowledged\":false"), "{stdout}");
    assert!(
        stderr.contains("Hint: start a server: ahoy enroll server 127.0.0.1 1"),
        "{stderr}"
    );
}

#[test]
fn misuse_is_told_from_failure() {
    let folder = TempDir::new().expect("a folder");
    let taken = Server::ahoy(&[]);
    let port = taken.port.to_string();
    let record = folder.path().join("r.txt");
    let foreign = folder.path().join("r.csv");
    fs::write(&foreign, "name,age\n").expect("written");
    let [record, foreign] = [record, foreign].map(|path| path.display().to_string());
    for (arguments, code, part) in [
        (
            vec!["enroll", "server", "127.0.0.1", &port],
            3,
            "Hint: choose another port",
        ),
        (
            vec!["enroll", "server", "--record", &record],
            2,
            "neither .jsonl nor .csv",
        ),
        (
            vec!["enroll", "server", "--record", &foreign],
            3,
            "other than registrations",
        ),
        (
            vec!["enroll", "server", "--clients", "0"],
            2,
            "or N for many",
        ),
        (
            vec!["enroll", "client", "--name", "x"],
            2,
            "--github-username",
        ),
    ] {
        let output = ahoy(&arguments).output().expect("runs");
        let (stdout, stderr, found) = texts(&output);
        assert_eq!((stdout, found), ("", Some(code)), "{arguments:?}: {stderr}");
        assert!(stderr.contains(part), "{arguments:?}: {stderr}");
    }
    assert_eq!(fs::read_to_string(foreign).expect("readable"), "name,age\n");
}

#[test]
fn our_servers_pass_the_examination_even_the_strict_one() {
    for clients in ["1", "N"] {
        let server = Server::ahoy(&["--clients", clients, "--idle-ms", "4000"]);
        let addr = format!("127.0.0.1:{}", server.port);
        let examination = ["check", "enroll", &addr, "--clients", clients, "--strict"];
        let patience = ["--idle-ms", "4000", "--case-ms", "60000"];
        let output = ahoy(&examination).args(patience).output().expect("runs");
        let (stdout, stderr, code) = texts(&output);
        assert_eq!((stderr, code), ("", Some(0)), "{stdout}");
    }
}

/// With and without the examiner's help its lines come late: `-E` makes Python ignore it.
#[test]
fn the_courses_client_passes_where_it_is_right() {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/enroll/client.py");
    for python in [&["python3"][..], &["python3", "-E"]] {
        let mut check = ahoy(&["check", "enroll-client", "--reply-ms", "10000"]);
        for right in ["enroll-14", "enroll-15", "enroll-16", "enroll-21"] {
            check.args(["--case", right]);
        }
        let command = [program, "{host}", "{port}", "Alice", "abrown", "17", "4"];
        let report = run(check.arg("--").args(python).args(command));
        assert!(
            report.contains(": accepted; 6 passed, 0 failed"),
            "{report}"
        );
    }
}

#[test]
fn our_client_passes_the_examination_even_the_strict_one() {
    let ahoy_itself = env!("CARGO_BIN_EXE_ahoy");
    let client = [
        "enroll",
        "client",
        "{host}",
        "{port}",
        "--wait-ms",
        "1000",
        "--name",
        "Zoë",
    ];
    let who = ["--github-username", "zoe", "--sid", "0042"];
    let examination = [
        "check",
        "enroll-client",
        "--strict",
        "--client-wait-ms",
        "1000",
    ];
    let limits = [
        "--reply-ms",
        "10000",
        "--case-ms",
        "60000",
        "--",
        ahoy_itself,
    ];
    let mut command = ahoy(&examination);
    let output = command.args(limits).args(client).args(who).output();
    let output = output.expect("runs");
    let (stdout, stderr, code) = texts(&output);
    assert_eq!((stderr, code), ("", Some(0)), "{stdout}");
    assert!(stdout.contains("pass  enroll-18/no-ack"), "{stdout}");
}
