//! The cases for a hello client: it is started against a scripted server, fed, and listened to.
//!
//! The prompt's words are free, and so is where it is printed; the prints are found wherever they
//! stand in the output, but must end their line.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use ahoy_wire::hello::{HelloId, MESSAGE_BYTES_MAX, Part, Request};

use super::requirements::*;
use crate::attempt::{Attempt, left, shown, try_again};
use crate::case::{Column, Failure, Outcome};
use crate::program::Program;
use crate::stream::{Arrival, Stream};

/// Starting an interpreter may take this long before the first request comes.
const START_MAX: Duration = Duration::from_secs(10);

/// How often a listener is asked whether somebody has connected; std has no accept with a deadline.
const ACCEPT_POLL: Duration = Duration::from_millis(2);

/// How often a client that is silent is asked whether it still runs.
const REQUEST_POLL: Duration = Duration::from_millis(50);

/// `YYYY-MM-DD HH:MM:SS.ffffff`, digits as 0.
const TIMESTAMP: &str = "0000-00-00 00:00:00.000000";

/// The client under examination.
#[derive(Clone, Debug)]
pub struct Client {
    /// Program and arguments; `{ip}`, `{port}` and `{id}` are filled in. If none of them occurs,
    /// `HELLO {ip} {port} {id}` is appended, as the course gives the command line.
    pub command: Vec<String>,
    /// Whether it speaks TCP; else UDP.
    pub tcp: bool,
    /// How long it waits for a reply; None: it is not examined.
    pub reply: Option<Duration>,
    /// Whether its prints end with the time.
    pub timestamps: bool,
}

/// The column of cases for `client`.
#[must_use]
pub fn client_column(client: &Client) -> Column {
    let mut client = client.clone();
    let has_places = |word: &String| word.contains('{');
    if !client.command.iter().any(has_places) {
        let places = ["HELLO", "{ip}", "{port}", "{id}"];
        client.command.extend(places.map(str::to_owned));
    }
    let title = client.command.join(" ");
    let reply = client.reply.unwrap_or_default();
    let case = |script: fn(&Attempt, &Client) -> Outcome| {
        let client = client.clone();
        move |attempt: &Attempt| script(attempt, &client)
    };
    let start = START_MAX;
    let mut column = Column::new("hello-client", title)
        .slow_case(&HELLO_23, "request", start, case(request))
        .slow_case(&HELLO_38, "plain-request", start, case(plain_request))
        .slow_case(&HELLO_30, "established", start, case(established))
        .slow_case(&HELLO_31, "times", start, case(times))
        .slow_case(&HELLO_26, "line-end", start, case(line_end))
        .slow_case(&HELLO_41, "other-id", start + reply, case(other_id))
        .slow_case(&HELLO_28, "reset", start, case(reset))
        .slow_case(&HELLO_28, "refusal", start + reply * 3, case(refusal))
        .slow_case(&HELLO_29, "three-resets", start, case(three_resets))
        .slow_case(&HELLO_32, "end-of-input", start, case(end_of_input))
        .slow_case(&HELLO_33, "bad-ids", start * 4, case(bad_ids))
        .slow_case(&HELLO_39, "exit-status", start * 2, case(exit_status))
        .slow_case(&HELLO_27, "silent-server", start + reply * 3, case(silence))
        .slow_case(&HELLO_27, "each-try", start + reply * 5, case(silent_tries));
    if client.tcp {
        column = column
            .slow_case(&HELLO_24, "side-ended", start, case(side_ended))
            .slow_case(&HELLO_25, "left-open", start, case(left_open));
    }
    column
}

/// The scripted server's socket.
enum Port {
    Udp(UdpSocket),
    Tcp(TcpListener),
}

/// One request as it came, and the way to answer it.
struct Asked<'a> {
    bytes: Vec<u8>,
    from: SocketAddr,
    stream: Option<Stream<'a>>,
    /// The client ended its side before it was answered.
    ended: bool,
}

/// A client that was started with an id, and the server that it was told to ask.
struct Scene<'a> {
    attempt: &'a Attempt,
    port: Port,
    program: Program<'a>,
    timestamps: bool,
    id: String,
}

impl<'a> Scene<'a> {
    fn start(attempt: &'a Attempt, client: &Client, id: &str) -> Result<Self, Failure> {
        let port = Port::bind(client.tcp, (Ipv4Addr::LOCALHOST, 0).into())?;
        let addr = port.addr()?;
        Self::start_at(attempt, client, id, addr, port)
    }

    /// Starts the client with an address that need not be the scripted server's.
    fn start_at(
        attempt: &'a Attempt,
        client: &Client,
        id: &str,
        addr: SocketAddr,
        port: Port,
    ) -> Result<Self, Failure> {
        let (ip, number) = (addr.ip().to_string(), addr.port().to_string());
        let places = [("ip", ip.as_str()), ("port", number.as_str()), ("id", id)];
        Ok(Self {
            attempt,
            port,
            program: Program::start(attempt, &client.command, &places)?,
            timestamps: client.timestamps,
            id: id.to_owned(),
        })
    }

    /// Waits for the next request.
    fn asked(&mut self) -> Result<Asked<'a>, Failure> {
        let deadline = self.attempt.deadline_in(START_MAX)?;
        loop {
            // A client that has ended will ask for nothing any more.
            let runs = self.program.is_running();
            let slice = self.attempt.deadline_in(REQUEST_POLL)?;
            if let Some(asked) = self.asked_until(slice)? {
                return Ok(asked);
            }
            if !runs {
                return Err(Failure::broken(
                    "the client ended instead of sending a request",
                ));
            }
            if Instant::now() >= deadline {
                return Err(Failure::broken("the client sent no request"));
            }
        }
    }

    fn asked_until(&self, deadline: Instant) -> Result<Option<Asked<'a>>, Failure> {
        match &self.port {
            Port::Udp(socket) => Ok(receive(self.attempt, socket, deadline)),
            Port::Tcp(listener) => match accept(listener, deadline) {
                Some((socket, from)) => {
                    let stream = Stream::adopt(self.attempt, socket)?;
                    self.read_request(stream, from).map(Some)
                }
                None => Ok(None),
            },
        }
    }

    fn read_request(&self, mut stream: Stream<'a>, from: SocketAddr) -> Result<Asked<'a>, Failure> {
        let mut bytes = Vec::new();
        let mut ended = false;
        loop {
            match Request::from_part(&bytes) {
                Part::Whole(_) | Part::Invalid(_) => break,
                Part::Open(_) | Part::Incomplete => {}
            }
            let deadline = self.attempt.reply_deadline()?;
            match stream.arrival(MESSAGE_BYTES_MAX, deadline) {
                Arrival::Bytes(more) => bytes.extend_from_slice(&more),
                Arrival::End => {
                    ended = true;
                    break;
                }
                Arrival::Reset | Arrival::Nothing => break,
            }
        }
        Ok(Asked {
            bytes,
            from,
            stream: Some(stream),
            ended,
        })
    }

    /// Answers and, over TCP, closes as a server of the course does.
    fn answer(&self, asked: Asked<'a>, reply: &[u8]) -> Result<(), Failure> {
        drop(self.answer_and_keep(asked, reply)?);
        Ok(())
    }

    fn answer_and_keep(
        &self,
        asked: Asked<'a>,
        reply: &[u8],
    ) -> Result<Option<Stream<'a>>, Failure> {
        match (&self.port, asked.stream) {
            (Port::Udp(socket), _) => {
                self.attempt.sent(reply);
                let sent = socket.send_to(reply, asked.from);
                sent.map_err(|error| Failure::broken(format!("cannot answer: {error}")))?;
                Ok(None)
            }
            (Port::Tcp(_), Some(mut stream)) => {
                stream.send(reply)?;
                Ok(Some(stream))
            }
            (Port::Tcp(_), None) => Ok(None),
        }
    }

    fn ok(&self, asked: Asked<'a>) -> Result<SocketAddr, Failure> {
        let from = asked.from;
        let reply = format!("OK {} {} {}", self.id, from.ip(), from.port());
        self.answer(asked, reply.as_bytes())?;
        Ok(from)
    }

    fn reset(&self, asked: Asked<'a>) -> Outcome {
        self.answer(asked, format!("RESET {}", self.id).as_bytes())
    }

    /// Gives the client another id at its prompt.
    fn enter(&mut self, id: &str) {
        self.program.input(&format!("{id}\n"));
        self.id = id.to_owned();
    }

    /// Waits for a print, for at most `wait`.
    fn expect_print(&self, text: &str, wait: Duration) -> Outcome {
        let timestamps = self.timestamps;
        let awaited = if timestamps {
            format!("\"{text} on <time>\" at the end of a line")
        } else {
            format!("\"{text}\" at the end of a line")
        };
        let printed = |output: &str| has_print(output, text, timestamps);
        self.program.output_until(&awaited, wait, printed).map(drop)
    }

    fn expect_error(&self, wait: Duration) -> Outcome {
        self.expect_print(&format!("Connection Error {}", self.id), wait)
    }

    fn expect_established(&self, from: SocketAddr) -> Outcome {
        let text = format!(
            "Connection established {} {} {}",
            self.id,
            from.ip(),
            from.port()
        );
        self.expect_print(&text, self.attempt.limits.reply_max)
    }

    fn expect_exit(&mut self) -> Result<ExitStatus, Failure> {
        self.program.expect_exit(self.attempt.limits.reply_max)
    }

    fn reply_max(&self) -> Duration {
        self.attempt.limits.reply_max
    }
}

impl Port {
    fn bind(tcp: bool, addr: SocketAddr) -> Result<Self, Failure> {
        let port = if tcp {
            TcpListener::bind(addr)
                .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
                .map(Self::Tcp)
        } else {
            UdpSocket::bind(addr).map(Self::Udp)
        };
        port.map_err(|error| Failure::skipped(format!("no socket for the server: {error}")))
    }

    fn addr(&self) -> Result<SocketAddr, Failure> {
        let addr = match self {
            Self::Udp(socket) => socket.local_addr(),
            Self::Tcp(listener) => listener.local_addr(),
        };
        addr.map_err(|error| Failure::skipped(format!("the server's socket is gone: {error}")))
    }
}

impl Asked<'_> {
    /// The id that was asked for.
    fn id(&self) -> Result<HelloId, Failure> {
        let request = Request::from_whole(&self.bytes).map_err(|fault| {
            let bytes = shown(&self.bytes);
            Failure::broken(format!("{bytes} is no request: {fault}"))
        })?;
        Ok(request.id)
    }

    fn expect_id(&self, id: &str) -> Outcome {
        let got = self.id()?;
        if got.as_str() == id {
            return Ok(());
        }
        Err(Failure::broken(format!(
            "the user gave id {id}, the request says {got}"
        )))
    }
}

fn request(attempt: &Attempt, client: &Client) -> Outcome {
    let mut scene = Scene::start(attempt, client, "0042")?;
    scene.asked()?.expect_id("0042")
}

fn plain_request(attempt: &Attempt, client: &Client) -> Outcome {
    let mut scene = Scene::start(attempt, client, "0042")?;
    let mut asked = scene.asked()?;
    if let Some(stream) = &mut asked.stream {
        // Something behind the request may come a moment later.
        let until = attempt.deadline_in(attempt.limits.quiet)?;
        if let Arrival::Bytes(more) = stream.arrival(MESSAGE_BYTES_MAX, until) {
            asked.bytes.extend_from_slice(&more);
        }
    }
    if asked.bytes == b"HELLO 0042" {
        return Ok(());
    }
    let bytes = shown(&asked.bytes);
    Err(Failure::broken(format!(
        "the plain request is \"HELLO 0042\", got {bytes}"
    )))
}

fn established(attempt: &Attempt, client: &Client) -> Outcome {
    let mut scene = Scene::start(attempt, client, "0042")?;
    let asked = scene.asked()?;
    let from = scene.ok(asked)?;
    scene.expect_established(from)?;
    scene.expect_exit().map(drop)
}

/// The established line once more, now with its end judged strictly.
fn times(attempt: &Attempt, client: &Client) -> Outcome {
    let mut scene = Scene::start(attempt, client, "0042")?;
    let asked = scene.asked()?;
    scene.ok(asked)?;
    scene.expect_exit()?;
    let output = scene.program.output();
    let line = output
        .lines()
        .find(|line| line.contains("Connection established"));
    let Some(line) = line else {
        return Err(Failure::broken("no line says Connection established"));
    };
    let has_time = ends_with_time(line);
    if client.timestamps && !has_time {
        let line = shown(line.as_bytes());
        let why = format!("the line must end with ' on YYYY-MM-DD HH:MM:SS.ffffff': {line}");
        return Err(Failure::broken(why));
    }
    if !client.timestamps && has_time {
        return Err(Failure::broken("the line ends with a time; it should not"));
    }
    Ok(())
}

fn line_end(attempt: &Attempt, client: &Client) -> Outcome {
    for end in ["\n", "\r\n"] {
        let mut scene = Scene::start(attempt, client, "0042")?;
        let asked = scene.asked()?;
        let from = asked.from;
        let reply = format!("OK 0042 {} {}{end}", from.ip(), from.port());
        scene.answer(asked, reply.as_bytes())?;
        scene.expect_established(from)?;
        scene.expect_exit()?;
    }
    Ok(())
}

/// The wrong reply may be waited out, or be a failed try; it may not be believed.
fn other_id(attempt: &Attempt, client: &Client) -> Outcome {
    let mut scene = Scene::start(attempt, client, "0042")?;
    let asked = scene.asked()?;
    let reply = format!("OK 9042 {} {}", asked.from.ip(), asked.from.port());
    scene.answer(asked, reply.as_bytes())?;
    let believed = |output: &str| output.contains("Connection established");
    let wait = attempt.limits.quiet * 2;
    match scene
        .program
        .output_until("nothing of the kind", wait, believed)
    {
        Ok(_) => Err(Failure::broken(
            "it asked for 0042 and took the OK for 9042 as its own",
        )),
        Err(_) => Ok(()),
    }
}

fn reset(attempt: &Attempt, client: &Client) -> Outcome {
    let mut scene = Scene::start(attempt, client, "0042")?;
    let first = scene.asked()?;
    let first_from = first.from;
    scene.reset(first)?;
    scene.expect_error(scene.reply_max())?;
    scene.enter("0043");
    let second = scene.asked()?;
    second.expect_id("0043")?;
    if second.from == first_from {
        let why = format!("both tries came from {first_from}: not a new socket");
        return Err(Failure::broken(why));
    }
    let from = scene.ok(second)?;
    scene.expect_established(from)?;
    scene.expect_exit().map(drop)
}

/// Nobody listens at first; the second try finds a server.
fn refusal(attempt: &Attempt, client: &Client) -> Outcome {
    let wait = known_reply(client)?;
    let reserved = Port::bind(client.tcp, (Ipv4Addr::LOCALHOST, 0).into())?;
    let addr = reserved.addr()?;
    let elsewhere = Port::bind(client.tcp, (Ipv4Addr::LOCALHOST, 0).into())?;
    drop(reserved);
    let mut scene = Scene::start_at(attempt, client, "0042", addr, elsewhere)?;
    // A client may notice the refusal, or just get no reply.
    let noticed = START_MAX + wait + attempt.limits.reply_max;
    scene.expect_error(noticed)?;
    scene.port = Port::bind(client.tcp, addr)?;
    scene.enter("0043");
    let second = scene.asked()?;
    second.expect_id("0043")?;
    let from = scene.ok(second)?;
    scene.expect_established(from)
}

fn three_resets(attempt: &Attempt, client: &Client) -> Outcome {
    let mut scene = Scene::start(attempt, client, "0042")?;
    for next in ["0043", "0044"] {
        let asked = scene.asked()?;
        asked.expect_id(&scene.id)?;
        scene.reset(asked)?;
        scene.expect_error(scene.reply_max())?;
        scene.enter(next);
    }
    let third = scene.asked()?;
    scene.reset(third)?;
    scene.expect_print("Connection Failure", scene.reply_max())?;
    scene.expect_exit().map(drop)
}

fn end_of_input(attempt: &Attempt, client: &Client) -> Outcome {
    let mut scene = Scene::start(attempt, client, "0042")?;
    let asked = scene.asked()?;
    scene.reset(asked)?;
    scene.expect_error(scene.reply_max())?;
    scene.program.end_input();
    let status = scene.expect_exit()?;
    let output = scene.program.output();
    let crash = [
        "Traceback (most recent call last)",
        "panicked at",
        "Exception in thread",
    ];
    if let Some(sign) = crash.iter().find(|sign| output.contains(*sign)) {
        return Err(Failure::broken(format!(
            "it crashed: its output has \"{sign}\""
        )));
    }
    match status.code() {
        Some(0) => Err(Failure::broken(
            "it ended with status 0, as if it had succeeded",
        )),
        Some(_) => Ok(()),
        None => Err(Failure::broken(format!("it crashed: {status}"))),
    }
}

fn bad_ids(attempt: &Attempt, client: &Client) -> Outcome {
    for id in ["123", "12345", "12a4", "-123"] {
        let mut scene = Scene::start(attempt, client, id)?;
        scene.program.end_input();
        let status = scene.program.expect_exit(START_MAX).map_err(|_| {
            Failure::broken(format!(
                "started with id {id}, it goes on as if that were an id"
            ))
        })?;
        let soon = attempt.deadline_in(Duration::from_millis(1))?;
        if scene.asked_until(soon)?.is_some() {
            return Err(Failure::broken(format!("it sent a request for id {id}")));
        }
        if status.success() || scene.program.output().trim().is_empty() {
            let why = format!("id {id} is refused, but neither the status nor a message says so");
            return Err(Failure::broken(why));
        }
    }
    Ok(())
}

fn exit_status(attempt: &Attempt, client: &Client) -> Outcome {
    let mut scene = Scene::start(attempt, client, "0042")?;
    let asked = scene.asked()?;
    scene.ok(asked)?;
    let status = scene.expect_exit()?;
    if !status.success() {
        return Err(Failure::broken(format!(
            "after an OK it ended with {status}"
        )));
    }
    let mut scene = Scene::start(attempt, client, "0042")?;
    for next in ["0043", "0044", ""] {
        let asked = scene.asked()?;
        scene.reset(asked)?;
        if !next.is_empty() {
            scene.enter(next);
        }
    }
    let status = scene.expect_exit()?;
    if status.success() {
        return Err(Failure::broken(
            "after three failed tries it ended with status 0",
        ));
    }
    Ok(())
}

/// No reply at all: neither too impatient nor too patient.
fn silence(attempt: &Attempt, client: &Client) -> Outcome {
    let reply = known_reply(client)?;
    let mut scene = Scene::start(attempt, client, "0042")?;
    wait_out(attempt, &mut scene, reply)
}

/// All three tries, one after the other: a new socket has no time limit of its own accord.
fn silent_tries(attempt: &Attempt, client: &Client) -> Outcome {
    let reply = known_reply(client)?;
    let mut scene = Scene::start(attempt, client, "0042")?;
    for next in ["0043", "0044", ""] {
        wait_out(attempt, &mut scene, reply)?;
        if !next.is_empty() {
            scene.enter(next);
        }
    }
    scene.expect_print("Connection Failure", scene.reply_max())?;
    scene.expect_exit().map(drop)
}

/// Takes the next request without an answer, and judges how long the client waits for one.
fn wait_out(attempt: &Attempt, scene: &mut Scene<'_>, reply: Duration) -> Outcome {
    let asked = scene.asked()?;
    asked.expect_id(&scene.id)?;
    let since = Instant::now();
    let slack = attempt.limits.quiet.max(reply / 10);
    scene.expect_error(reply + slack + attempt.limits.reply_max)?;
    let waited = since.elapsed();
    let (waited_ms, reply_ms) = (waited.as_millis(), reply.as_millis());
    if waited + slack < reply {
        let why = format!("it gave up after {waited_ms} ms; the reply time is {reply_ms} ms");
        return Err(Failure::broken(why));
    }
    if waited > reply + slack {
        let why = format!("it waited for {waited_ms} ms; the reply time is {reply_ms} ms");
        return Err(Failure::broken(why));
    }
    Ok(())
}

fn side_ended(attempt: &Attempt, client: &Client) -> Outcome {
    let mut scene = Scene::start(attempt, client, "0042")?;
    let mut asked = scene.asked()?;
    if asked.ended {
        return Ok(());
    }
    let Some(stream) = &mut asked.stream else {
        return Err(Failure::broken("the client sent no request over TCP"));
    };
    // Not longer: a client that gives up closes its side as well.
    let until = attempt.deadline_in(attempt.limits.quiet)?;
    loop {
        match stream.arrival(MESSAGE_BYTES_MAX, until) {
            Arrival::Bytes(_) => {}
            Arrival::End => return Ok(()),
            Arrival::Reset => return Err(Failure::broken("it tore the connection down")),
            Arrival::Nothing => {
                let why = "it keeps its side open; a server that reads to the end waits for ever";
                return Err(Failure::broken(why));
            }
        }
    }
}

fn left_open(attempt: &Attempt, client: &Client) -> Outcome {
    let mut scene = Scene::start(attempt, client, "0042")?;
    let asked = scene.asked()?;
    let from = asked.from;
    let reply = format!("OK 0042 {} {}", from.ip(), from.port());
    let _open = scene.answer_and_keep(asked, reply.as_bytes())?;
    scene.expect_established(from)?;
    scene.expect_exit().map(drop)
}

fn known_reply(client: &Client) -> Result<Duration, Failure> {
    client.reply.ok_or_else(|| {
        Failure::skipped("the client's reply time is not known; give it to examine it")
    })
}

fn receive<'a>(attempt: &Attempt, socket: &UdpSocket, deadline: Instant) -> Option<Asked<'a>> {
    let mut buffer = [0; MESSAGE_BYTES_MAX];
    loop {
        socket.set_read_timeout(Some(left(deadline)?)).ok()?;
        match socket.recv_from(&mut buffer) {
            Ok((len, from)) => {
                let bytes = buffer[..len].to_vec();
                attempt.received(&bytes);
                return Some(Asked {
                    bytes,
                    from,
                    stream: None,
                    ended: false,
                });
            }
            // A client that has closed its socket is reported back here; it is no request.
            Err(error) if try_again(&error) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
            Err(_) => return None,
        }
    }
}

fn accept(listener: &TcpListener, deadline: Instant) -> Option<(std::net::TcpStream, SocketAddr)> {
    loop {
        match listener.accept() {
            Ok(accepted) => return Some(accepted),
            Err(error) if try_again(&error) => {
                let rest = left(deadline)?;
                std::thread::sleep(rest.min(ACCEPT_POLL));
            }
            Err(_) => return None,
        }
    }
}

/// Whether a line of `output` ends with `text`, and with a time behind it where there is to be one.
fn has_print(output: &str, text: &str, timestamps: bool) -> bool {
    output.match_indices(text).any(|(at, _)| {
        let rest = output[at + text.len()..].lines().next().unwrap_or_default();
        if timestamps {
            // The form of the time is a requirement of its own.
            rest.starts_with(" on ")
        } else {
            rest.is_empty() || rest.starts_with(" on ")
        }
    })
}

fn ends_with_time(line: &str) -> bool {
    let Some((_, time)) = line.rsplit_once(" on ") else {
        return false;
    };
    let digits_as_zero = |it: char| if it.is_ascii_digit() { '0' } else { it };
    time.chars().map(digits_as_zero).eq(TIMESTAMP.chars())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_are_found_behind_a_prompt_but_only_at_the_end_of_a_line() {
        let time = "2026-01-31 23:59:59.000001";
        let check = |output: &str, timestamps, found| {
            let text = "Connection Error 0042";
            assert_eq!(has_print(output, text, timestamps), found, "{output:?}");
        };
        check(
            &format!("id? Connection Error 0042 on {time}\r\n"),
            true,
            true,
        );
        check("Connection Error 0042\n", true, false);
        check("Connection Error 0042\n", false, true);
        check("Connection Error 00423\n", false, false);
        check("Connection Error 0043 on x\n", true, false);
        assert!(ends_with_time(&format!("Connection Failure on {time}")));
        for bad in [
            "on 2026-01-31 23:59:59",
            "x on 2026-1-31 23:59:59.000001",
            "x",
        ] {
            assert!(!ends_with_time(bad), "{bad}");
        }
    }
}
