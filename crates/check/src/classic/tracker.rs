//! The cases for a tracker: the examiner plays its peers, in both generations.
//!
//! Ports and names are made up and differ from case to case, so that what a tracker remembers of
//! one case does not show in another. Nobody dials the ports.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use ahoy_wire::classic::{DIRECTORY_BYTES_MAX, Objects};
use serde_json::Value;

use super::requirements::*;
use crate::attempt::{Attempt, shown};
use crate::case::{Column, Failure, Outcome};
use crate::stream::{Arrival, Stream};

/// One read takes at most this many bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// The tracker under examination.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it is.
    pub addr: SocketAddr,
    /// It speaks the older generation: its answers need no line end.
    pub bare: bool,
    /// After how much silence it forgets a peer, if that is to be examined.
    pub timeout: Option<Duration>,
}

/// The column of cases for `target`.
#[must_use]
pub fn column(target: &Target) -> Column {
    let addr = target.addr;
    let case = |script: fn(&Attempt, SocketAddr) -> Outcome| {
        move |attempt: &Attempt| script(attempt, addr)
    };
    let mut column = Column::new("tracker", addr.to_string())
        .case(&CLASSIC_11, "keep-alive", case(keep_alive))
        .case(&CLASSIC_4, "init", case(init))
        .case(&CLASSIC_4, "one-answer", case(one_answer))
        .case(&CLASSIC_1, "no-line-end", case(no_line_end))
        .case(&CLASSIC_1, "two-in-a-segment", case(two_in_a_segment))
        .case(&CLASSIC_1, "in-pieces", case(in_pieces))
        .case(&CLASSIC_3, "members", case(members))
        .case(&CLASSIC_3, "fraction", case(fraction))
        .case(&CLASSIC_5, "address", case(address))
        .case(&CLASSIC_5, "newest", case(newest))
        .case(&CLASSIC_5, "first-of-equals", case(first_of_equals))
        .case(&CLASSIC_7, "unfit-entry", case(unfit_entry))
        .case(&CLASSIC_8, "garbage", case(garbage))
        .case(&CLASSIC_10, "two-ports", case(two_ports))
        .case(&CLASSIC_10, "reconnected", case(reconnected))
        .case(&CLASSIC_12, "replaced", case(replaced))
        .case(&CLASSIC_14, "next-holder", case(next_holder))
        .case(&CLASSIC_17, "silent-connection", case(silent_connection));
    if !target.bare {
        column = column.case(&CLASSIC_2, "line-end", case(line_end));
    }
    if let Some(timeout) = target.timeout {
        // A reference tracker looks for silent peers every 10 s only.
        let patience = timeout + Duration::from_secs(12);
        column = column.slow_case(&CLASSIC_13, "forgotten", patience, move |attempt| {
            forgotten(attempt, addr, timeout)
        });
    }
    column
}

/// A peer that the examiner plays.
struct Guest<'a> {
    stream: Stream<'a>,
    objects: Objects,
    port: u16,
}

impl<'a> Guest<'a> {
    fn connect(attempt: &'a Attempt, addr: SocketAddr) -> Result<Self, Failure> {
        Ok(Self {
            stream: Stream::connect(attempt, addr)?,
            objects: Objects::new(DIRECTORY_BYTES_MAX),
            port: port(),
        })
    }

    fn say(&mut self, text: &str) -> Outcome {
        self.stream.send(text.as_bytes())
    }

    fn init_text(&self, files: &[(&str, i64)]) -> String {
        let files = files
            .iter()
            .map(|(name, mtime)| serde_json::json!({"name": name, "mtime": mtime}));
        let files: Vec<Value> = files.collect();
        serde_json::json!({"port": self.port, "files": files}).to_string()
    }

    fn init(&mut self, files: &[(&str, i64)]) -> Result<Value, Failure> {
        let text = self.init_text(files);
        self.say(&format!("{text}\n"))?;
        self.answer()
    }

    fn alive(&mut self) -> Result<Value, Failure> {
        let text = format!("{{\"port\": {}}}\n", self.port);
        self.say(&text)?;
        self.answer()
    }

    /// The next directory.
    fn answer(&mut self) -> Result<Value, Failure> {
        loop {
            match self.objects.next_object() {
                Ok(Some(object)) => {
                    return serde_json::from_slice(object).map_err(|error| {
                        Failure::broken(format!("the answer is no JSON: {error}"))
                    });
                }
                Ok(None) => {}
                Err(error) => return Err(Failure::broken(format!("the tracker {error}"))),
            }
            let deadline = self.stream_deadline()?;
            match self.stream.arrival(PIECE_BYTES, deadline) {
                Arrival::Bytes(bytes) => self.objects.push(&bytes),
                Arrival::End => return Err(Failure::broken("no answer, but the end")),
                Arrival::Reset => return Err(Failure::broken("no answer, but a reset")),
                Arrival::Nothing => return Err(Failure::broken("no answer in time")),
            }
        }
    }

    fn stream_deadline(&self) -> Result<std::time::Instant, Failure> {
        self.stream.attempt().reply_deadline()
    }

    /// Nothing more comes than an end of line.
    fn expect_no_more(&mut self) -> Outcome {
        let quiet = self.stream.attempt().limits.quiet;
        let deadline = self.stream.attempt().deadline_in(quiet)?;
        loop {
            match self.stream.arrival(PIECE_BYTES, deadline) {
                Arrival::Nothing => break,
                Arrival::Bytes(bytes) => self.objects.push(&bytes),
                Arrival::End | Arrival::Reset => {
                    return Err(Failure::broken("the connection was closed"));
                }
            }
        }
        let next = self.objects.next_object().map(|object| object.is_some());
        match next {
            Ok(false) if self.objects.held_bytes() == 0 => Ok(()),
            Ok(_) => Err(Failure::broken(
                "more came than one answer for each message",
            )),
            Err(error) => Err(Failure::broken(format!("the tracker {error}"))),
        }
    }
}

fn keep_alive(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let mut guest = Guest::connect(attempt, addr)?;
    is_object(&guest.alive()?)
}

fn init(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let mut guest = Guest::connect(attempt, addr)?;
    let name = name("ä b");
    let directory = guest.init(&[(&name, 1_771_289_241)])?;
    listed(&directory, &name, guest.port, 1_771_289_241)
}

fn address(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let mut guest = Guest::connect(attempt, addr)?;
    let name = name("address");
    let directory = guest.init(&[(&name, 1)])?;
    let ip = directory[&name]["ip"].as_str().unwrap_or_default();
    let own = guest.stream.local_addr()?.ip().to_canonical();
    if ip.parse() == Ok(own) {
        return Ok(());
    }
    let ip = shown(ip.as_bytes());
    let why = format!("the holder's ip is {ip}, and we came from {own}");
    Err(Failure::broken(why))
}

fn one_answer(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let mut guest = Guest::connect(attempt, addr)?;
    guest.init(&[])?;
    guest.expect_no_more()?;
    guest.alive()?;
    guest.expect_no_more()
}

fn line_end(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let mut guest = Guest::connect(attempt, addr)?;
    guest.init(&[(&name("é"), 1)])?;
    guest.expect_no_more()?;
    if guest.objects.lines() {
        Ok(())
    } else {
        Err(Failure::broken("the answer does not end with a line end"))
    }
}

fn no_line_end(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let mut guest = Guest::connect(attempt, addr)?;
    let text = guest.init_text(&[]);
    guest.say(&text)?;
    is_object(&guest.answer()?)
}

fn two_in_a_segment(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    for between in ["\n", ""] {
        let mut guest = Guest::connect(attempt, addr)?;
        let name = name("two");
        let init = guest.init_text(&[(&name, 7)]);
        let port = guest.port;
        guest.say(&format!("{init}{between}{{\"port\": {port}}}{between}"))?;
        for _ in 0..2 {
            listed(&guest.answer()?, &name, port, 7)?;
        }
        guest.expect_no_more()?;
    }
    Ok(())
}

fn in_pieces(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let mut guest = Guest::connect(attempt, addr)?;
    let name = name("pieces } {");
    let text = guest.init_text(&[(&name, 7)]);
    let (head, tail) = text.split_at(text.len() / 2);
    guest.say(head)?;
    guest.expect_no_more()?;
    guest.say(tail)?;
    listed(&guest.answer()?, &name, guest.port, 7)?;
    guest.expect_no_more()
}

fn members(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let mut guest = Guest::connect(attempt, addr)?;
    let name = name("members");
    let port = guest.port;
    guest.say(&format!(
        "{{\"version\": [2, {{}}], \"files\": [{{\"size\": 3, \"mtime\": 9, \
         \"name\": \"{name}\"}}], \"port\": {port}}}\n"
    ))?;
    listed(&guest.answer()?, &name, port, 9)
}

fn fraction(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let mut guest = Guest::connect(attempt, addr)?;
    let (name, port) = (name("fraction"), guest.port);
    guest.say(&format!(
        "{{\"port\": {port}, \"files\": [{{\"name\": \"{name}\", \"mtime\": 9.75}}]}}\n"
    ))?;
    listed(&guest.answer()?, &name, port, 9)
}

fn newest(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let (mut old, mut new) = (
        Guest::connect(attempt, addr)?,
        Guest::connect(attempt, addr)?,
    );
    let name = name("newest");
    old.init(&[(&name, 100)])?;
    listed(&new.init(&[(&name, 200)])?, &name, new.port, 200)?;
    listed(&old.alive()?, &name, new.port, 200)?;
    let mut older = Guest::connect(attempt, addr)?;
    listed(&older.init(&[(&name, 150)])?, &name, new.port, 200)
}

fn first_of_equals(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let (mut first, mut second) = (
        Guest::connect(attempt, addr)?,
        Guest::connect(attempt, addr)?,
    );
    let name = name("equals");
    first.init(&[(&name, 100)])?;
    listed(&second.init(&[(&name, 100)])?, &name, first.port, 100)
}

fn unfit_entry(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let mut guest = Guest::connect(attempt, addr)?;
    let (good, bad) = (name("good"), format!("../{}", name("bad")));
    let directory = guest.init(&[(&bad, 5), (&good, 6)])?;
    listed(&directory, &good, guest.port, 6)?;
    match directory.get(&bad) {
        None => Ok(()),
        Some(_) => Err(Failure::broken(format!(
            "it lists {}",
            shown(bad.as_bytes())
        ))),
    }
}

fn garbage(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let mut bystander = Guest::connect(attempt, addr)?;
    let name = name("bystander");
    bystander.init(&[(&name, 3)])?;
    for text in ["{\"port\": oops}\n", "{\"files\": []}\n", "{\"port\": 0}\n"] {
        let mut guest = Guest::connect(attempt, addr)?;
        guest.say(text)?;
        guest.stream.expect_end()?;
    }
    listed(&bystander.alive()?, &name, bystander.port, 3)
}

fn two_ports(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let (mut one, mut two) = (
        Guest::connect(attempt, addr)?,
        Guest::connect(attempt, addr)?,
    );
    let (first, second) = (name("one"), name("two"));
    one.init(&[(&first, 1)])?;
    let directory = two.init(&[(&second, 2)])?;
    listed(&directory, &first, one.port, 1)?;
    listed(&directory, &second, two.port, 2)
}

fn reconnected(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let mut before = Guest::connect(attempt, addr)?;
    let name = name("again");
    before.init(&[(&name, 4)])?;
    let mut again = Guest::connect(attempt, addr)?;
    again.port = before.port;
    listed(&again.alive()?, &name, again.port, 4)?;
    drop(before);
    attempt.pause(attempt.limits.quiet)?;
    listed(&again.alive()?, &name, again.port, 4)
}

fn replaced(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let mut guest = Guest::connect(attempt, addr)?;
    let (before, after) = (name("before"), name("after"));
    guest.init(&[(&before, 1)])?;
    let directory = guest.init(&[(&after, 1)])?;
    listed(&directory, &after, guest.port, 1)?;
    match directory.get(&before) {
        None => Ok(()),
        Some(_) => Err(Failure::broken(
            "a file is still listed that its peer has no more",
        )),
    }
}

fn next_holder(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let (mut old, mut new) = (
        Guest::connect(attempt, addr)?,
        Guest::connect(attempt, addr)?,
    );
    let name = name("next");
    old.init(&[(&name, 100)])?;
    new.init(&[(&name, 200)])?;
    listed(&new.init(&[])?, &name, old.port, 100)
}

fn silent_connection(attempt: &Attempt, addr: SocketAddr) -> Outcome {
    let _silent = Guest::connect(attempt, addr)?;
    let mut halfway = Guest::connect(attempt, addr)?;
    halfway.say("{\"port\": ")?;
    let mut guest = Guest::connect(attempt, addr)?;
    is_object(&guest.alive()?)
}

fn forgotten(attempt: &Attempt, addr: SocketAddr, timeout: Duration) -> Outcome {
    let (mut silent, mut alive) = (
        Guest::connect(attempt, addr)?,
        Guest::connect(attempt, addr)?,
    );
    let (gone, shared) = (name("gone"), name("shared"));
    silent.init(&[(&gone, 1), (&shared, 2)])?;
    alive.init(&[(&shared, 1)])?;
    let steps = 4;
    for step in 0..=steps {
        if step == steps - 1 {
            listed(&alive.alive()?, &gone, silent.port, 1)?;
        }
        attempt.pause(timeout / steps)?;
        alive.alive()?;
    }
    let until = attempt.deadline_in(Duration::from_secs(11))?;
    loop {
        let directory = alive.alive()?;
        if directory.get(&gone).is_none() {
            return listed(&directory, &shared, alive.port, 1);
        }
        if std::time::Instant::now() > until {
            return Err(Failure::broken("a silent peer is still listed"));
        }
        attempt.pause(attempt.limits.quiet)?;
    }
}

fn is_object(directory: &Value) -> Outcome {
    if directory.is_object() {
        Ok(())
    } else {
        Err(Failure::broken("the answer is no object"))
    }
}

/// The directory lists the file with this holder and time, and the time is a whole number.
fn listed(directory: &Value, name: &str, port: u16, mtime: i64) -> Outcome {
    let entry = &directory[name];
    let is_right =
        entry["port"].as_u64() == Some(port.into()) && entry["mtime"].as_i64() == Some(mtime);
    if is_right {
        return Ok(());
    }
    let found = entry.to_string();
    Err(Failure::broken(format!(
        "expected {name} at port {port} with time {mtime}; the directory has {}",
        shown(found.as_bytes())
    )))
}

/// Numbers that no earlier case has used.
fn number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn port() -> u16 {
    let base = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let base = base.map_or(0, |since| since.as_secs() % 400 * 100);
    let port = 20_000 + (base + u64::from(number())) % 40_000;
    u16::try_from(port).expect("below 60,000")
}

fn name(word: &str) -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let nanos = since.map_or(0, |since| since.as_nanos());
    format!("ahoy-check {word} {nanos:x}.{}", number())
}
