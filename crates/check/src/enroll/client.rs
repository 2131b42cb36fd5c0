//! The cases for an enroll client: it is started against a scripted server and listened to.
//!
//! Its two lines are found wherever they stand in its output, each on a line of its own. Who the
//! student is stands in its command or in its source; only the shape of what it sends is examined.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use ahoy_wire::enroll::Registration;
use ahoy_wire::pickle::{Value, encode};

use super::requirements::{
    ENROLL_7, ENROLL_10, ENROLL_14, ENROLL_15, ENROLL_16, ENROLL_17, ENROLL_18, ENROLL_21,
    ENROLL_22,
};
use super::{Talk, golden};
use crate::attempt::{Attempt, shown};
use crate::case::{Column, Failure, Outcome};
use crate::program::Program;
use crate::stream::{Arrival, Stream};

/// Starting an interpreter may take this long before the connection comes.
const START_MAX: Duration = Duration::from_secs(10);

/// How often the listener is asked whether somebody has connected; std has no accept with a limit.
const ACCEPT_POLL: Duration = Duration::from_millis(5);

/// How often it is asked whether a client has connected to where a greeting told it to.
const CALL_POLL: Duration = Duration::from_millis(200);

/// The line that a client prints when it was acknowledged.
const PASSED: &str = "Data acknowledged by server and you passed the test";

/// The client under examination.
#[derive(Clone, Debug)]
pub struct Client {
    /// Program and arguments; `{host}` and `{port}` are filled in. If neither occurs, both are
    /// appended.
    pub command: Vec<String>,
    /// How long it waits for the server; None: it is not examined.
    pub wait: Option<Duration>,
}

/// The column of cases for `client`.
#[must_use]
pub fn client_column(client: &Client) -> Column {
    let mut client = client.clone();
    let has_places = |word: &String| word.contains("{host}") || word.contains("{port}");
    if !client.command.iter().any(has_places) {
        client
            .command
            .extend(["{host}", "{port}"].map(str::to_owned));
    }
    let title = client.command.join(" ");
    let start = START_MAX;
    let waits = start + client.wait.unwrap_or_default();
    let case = |script: fn(&Attempt, &Client) -> Outcome| {
        let client = client.clone();
        move |attempt: &Attempt| script(attempt, &client)
    };
    Column::new("enroll-client", title)
        .slow_case(&ENROLL_16, "registration", start, case(registration))
        .slow_case(&ENROLL_16, "greeted-first", start, case(greeted_first))
        .slow_case(&ENROLL_14, "registration", start, case(plain_form))
        .slow_case(&ENROLL_21, "lines", start, case(lines))
        .slow_case(&ENROLL_15, "dict-in-dict", start, case(dict_in_dict))
        .slow_case(&ENROLL_15, "bare-integer", start, case(bare_integer))
        .slow_case(
            &ENROLL_7,
            "greeting-in-pieces",
            start,
            case(greeting_in_pieces),
        )
        .slow_case(&ENROLL_17, "text", start, case(text_ack))
        .slow_case(&ENROLL_17, "dict", start, case(dict_ack))
        .slow_case(
            &ENROLL_18,
            "closed-before-greeting",
            start,
            case(closed_before_greeting),
        )
        .slow_case(
            &ENROLL_18,
            "closed-before-ack",
            start,
            case(closed_before_ack),
        )
        .slow_case(&ENROLL_18, "no-greeting", waits, case(no_greeting))
        .slow_case(&ENROLL_18, "no-ack", waits, case(no_ack))
        .slow_case(&ENROLL_22, "greeting", start, case(escaped_greeting))
        .slow_case(&ENROLL_10, "greeting", start, case(executed_greeting))
}

/// A client that was started and has connected.
struct Scene<'a> {
    attempt: &'a Attempt,
    program: Program<'a>,
    talk: Talk<'a>,
    addr: SocketAddr,
    /// The client's port, which is its id.
    port: u16,
}

impl<'a> Scene<'a> {
    fn start(attempt: &'a Attempt, client: &Client) -> Result<Self, Failure> {
        let no_socket = |error| Failure::skipped(format!("no socket for the server: {error}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(no_socket)?;
        listener.set_nonblocking(true).map_err(no_socket)?;
        let addr = listener.local_addr().map_err(no_socket)?;
        let (host, port) = (addr.ip().to_string(), addr.port().to_string());
        let places = [("host", host.as_str()), ("port", port.as_str())];
        let mut program = Program::start(attempt, &client.command, &places)?;
        program.end_input();
        let stream = accepted(attempt, &listener, &mut program)?;
        Ok(Self {
            port: stream.peer_addr()?.port(),
            talk: Talk::over(attempt, stream),
            attempt,
            program,
            addr,
        })
    }

    /// Started, and greeted in the plain form.
    fn greeted(attempt: &'a Attempt, client: &Client) -> Result<Self, Failure> {
        let mut scene = Self::start(attempt, client)?;
        let greeting = golden::greeting(scene.port);
        scene.talk.stream.send(&greeting)?;
        Ok(scene)
    }

    fn greet(&mut self, greeting: &Value) -> Outcome {
        let bytes = encode(greeting).expect("a greeting is short");
        self.talk.stream.send(&bytes)
    }

    /// The registration, and its bytes.
    fn registration(&mut self) -> Result<(Value, Vec<u8>), Failure> {
        let (value, bytes) = self.talk.receive("a registration")?;
        Registration::read(&value).map_err(|fault| {
            let came = shown(value.repr().to_string().as_bytes());
            Failure::broken(format!("expected a registration; received {came}: {fault}"))
        })?;
        Ok((value, bytes))
    }

    /// Waits until the client has printed `line` as a line of its own.
    fn expect_line(&self, line: &str) -> Outcome {
        let reply_max = self.attempt.limits.reply_max;
        let printed = |output: &str| output.lines().any(|printed| printed.trim_end() == line);
        let awaited = format!("the line {line:?}");
        self.program
            .output_until(&awaited, reply_max, printed)
            .map(drop)
    }

    /// The client ends in at most `wait`, says something, and does not claim to have passed.
    fn expect_failure(&mut self, wait: Duration) -> Outcome {
        let reply_max = self.attempt.limits.reply_max;
        self.program.expect_exit(wait + reply_max)?;
        let output = self.program.output();
        if output.contains(PASSED) {
            return Err(Failure::broken(
                "the client claims to have been acknowledged, and was not",
            ));
        }
        let greeting = " has successfully connected to ";
        if output
            .lines()
            .all(|line| line.trim().is_empty() || line.contains(greeting))
        {
            return Err(Failure::broken("the client ended without a word about it"));
        }
        Ok(())
    }
}

fn accepted<'a>(
    attempt: &'a Attempt,
    listener: &TcpListener,
    program: &mut Program<'_>,
) -> Result<Stream<'a>, Failure> {
    let deadline = attempt.deadline_in(START_MAX)?;
    loop {
        // Asked before the listener: what it did before it ended still counts.
        let runs = program.is_running();
        match listener.accept() {
            Ok((socket, _)) => return Stream::adopt(attempt, socket),
            Err(_) if runs && Instant::now() < deadline => thread::sleep(ACCEPT_POLL),
            Err(_) => return Err(Failure::broken("the client did not connect")),
        }
    }
}

fn registration(attempt: &Attempt, client: &Client) -> Outcome {
    Scene::greeted(attempt, client)?.registration().map(drop)
}

fn greeted_first(attempt: &Attempt, client: &Client) -> Outcome {
    let mut scene = Scene::start(attempt, client)?;
    scene.talk.expect_silence()
}

fn plain_form(attempt: &Attempt, client: &Client) -> Outcome {
    let (value, bytes) = Scene::greeted(attempt, client)?.registration()?;
    let expected = encode(&value).expect("what was read can be written");
    if bytes == expected {
        return Ok(());
    }
    let (expected, bytes) = (shown(&expected), shown(&bytes));
    Err(Failure::broken(format!(
        "expected the bytes {expected}; received {bytes}"
    )))
}

fn lines(attempt: &Attempt, client: &Client) -> Outcome {
    let mut scene = Scene::greeted(attempt, client)?;
    let (port, addr) = (scene.port, scene.addr);
    scene.registration()?;
    scene.talk.stream.send(golden::ACK)?;
    // Both only now: a program may keep its lines back until it ends.
    scene.expect_line(&format!(
        "{{'clientid': {port}}} has successfully connected to {}/{}",
        addr.ip(),
        addr.port()
    ))?;
    scene.expect_line(PASSED)
}

fn client_id(value: Value) -> Value {
    Value::Dict(vec![(Value::from("clientid"), value)])
}

fn dict_in_dict(attempt: &Attempt, client: &Client) -> Outcome {
    understands(attempt, client, |port| client_id(client_id(port)))
}

fn bare_integer(attempt: &Attempt, client: &Client) -> Outcome {
    understands(attempt, client, |port| port)
}

/// The client goes on after this greeting as after the plain one.
fn understands(attempt: &Attempt, client: &Client, greeting: fn(Value) -> Value) -> Outcome {
    let mut scene = Scene::start(attempt, client)?;
    let port = Value::Int(scene.port.into());
    scene.greet(&greeting(port))?;
    scene.registration()?;
    scene.talk.stream.send(golden::ACK)?;
    scene.expect_line(PASSED)
}

fn greeting_in_pieces(attempt: &Attempt, client: &Client) -> Outcome {
    let mut scene = Scene::start(attempt, client)?;
    let greeting = golden::greeting(scene.port);
    let (first, rest) = greeting.split_at(15);
    scene.talk.stream.send(first)?;
    scene.talk.expect_silence()?;
    scene.talk.stream.send(rest)?;
    scene.registration().map(drop)
}

fn text_ack(attempt: &Attempt, client: &Client) -> Outcome {
    acknowledged_by(attempt, client, &Value::from("received"))
}

fn dict_ack(attempt: &Attempt, client: &Client) -> Outcome {
    let entry = (Value::from("status"), Value::from("ok"));
    acknowledged_by(attempt, client, &Value::Dict(vec![entry]))
}

fn acknowledged_by(attempt: &Attempt, client: &Client, answer: &Value) -> Outcome {
    let mut scene = Scene::greeted(attempt, client)?;
    scene.registration()?;
    let answer = encode(answer).expect("an answer is short");
    scene.talk.stream.send(&answer)?;
    scene.expect_line(PASSED)
}

fn closed_before_greeting(attempt: &Attempt, client: &Client) -> Outcome {
    let mut scene = Scene::start(attempt, client)?;
    scene.talk.stream.finish()?;
    scene.expect_failure(Duration::ZERO)
}

fn closed_before_ack(attempt: &Attempt, client: &Client) -> Outcome {
    let mut scene = Scene::greeted(attempt, client)?;
    scene.registration()?;
    scene.talk.stream.finish()?;
    scene.expect_failure(Duration::ZERO)
}

fn no_greeting(attempt: &Attempt, client: &Client) -> Outcome {
    let wait = known(client.wait)?;
    Scene::start(attempt, client)?.expect_failure(wait)
}

fn no_ack(attempt: &Attempt, client: &Client) -> Outcome {
    let wait = known(client.wait)?;
    let mut scene = Scene::greeted(attempt, client)?;
    scene.registration()?;
    scene.expect_failure(wait)
}

fn known(wait: Option<Duration>) -> Result<Duration, Failure> {
    wait.ok_or_else(|| {
        Failure::skipped("how long the client waits is not known; give it to examine it")
    })
}

/// A text in place of the id may be refused; printed as it is it must not be.
fn escaped_greeting(attempt: &Attempt, client: &Client) -> Outcome {
    let mut scene = Scene::start(attempt, client)?;
    scene.greet(&Value::from("12\x1b[2J\u{9b}31m\u{202e}"))?;
    let _ = scene.talk.receive("a registration");
    drop(scene.talk);
    let reply_max = attempt.limits.reply_max;
    let _ = scene.program.expect_exit(reply_max);
    let output = scene.program.output();
    if output.contains(['\x1b', '\u{9b}', '\u{202e}']) {
        return Err(Failure::broken(
            "the client printed control characters of the greeting as they came",
        ));
    }
    Ok(())
}

/// If the client executes the greeting, it connects to a listener of ours.
fn executed_greeting(attempt: &Attempt, client: &Client) -> Outcome {
    let no_listener = |error| Failure::skipped(format!("cannot listen for the call: {error}"));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(no_listener)?;
    let port = listener.local_addr().map_err(no_listener)?.port();
    listener.set_nonblocking(true).map_err(no_listener)?;
    let mut scene = Scene::start(attempt, client)?;
    scene.talk.stream.send(&golden::call_back(port))?;
    // It may speak without having read the greeting, so that alone says nothing.
    let deadline = attempt.reply_deadline()?;
    while Instant::now() < deadline {
        let heard = scene.talk.stream.arrival(1024, Instant::now() + CALL_POLL);
        if listener.accept().is_ok() {
            return Err(Failure::broken(
                "the client executed the greeting: it connected to where the greeting told it to",
            ));
        }
        if matches!(heard, Arrival::End | Arrival::Reset) {
            break;
        }
    }
    Ok(())
}
