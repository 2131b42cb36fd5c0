//! The cases for a peer: it is started in a folder of its own, and the examiner plays its tracker,
//! the holders that it fetches from, and the peers that ask it for files.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use ahoy_wire::classic::{MESSAGE_BYTES_MAX, Objects, header, read_request};
use serde_json::{Value, json};

use super::requirements::*;
use crate::attempt::{Attempt, shown};
use crate::case::{Column, Failure, Outcome};
use crate::program::Program;
use crate::stream::{Arrival, Stream};

/// Starting an interpreter and connecting may take this long.
const START_MAX: Duration = Duration::from_secs(10);

/// How often a listener is asked whether somebody has connected; std has no accept with a deadline.
const POLL: Duration = Duration::from_millis(5);

/// A file that every folder has at the start.
const OWN: (&str, &[u8], u64) = ("own file é.txt", b"own content\n", 1_700_000_000);

/// What is fetched.
const FAR: &[u8] = b"content from afar\n";

/// The time of what is fetched.
const FAR_TIME: u64 = 1_771_289_241;

/// The peer under examination.
#[derive(Clone, Debug)]
pub struct Client {
    /// Program and arguments; `{ip}` and `{port}` of the tracker and the folder `{dir}` are filled
    /// in. Without the first two `{ip} {port}` is appended; without the last the program is
    /// started inside the folder.
    pub command: Vec<String>,
    /// Whether it is to serve requests of the newer generation.
    pub lines: bool,
    /// Whether it is to serve requests of the older generation.
    pub bare: bool,
    /// The longest time between two of its messages to the tracker.
    pub interval: Duration,
}

/// The column of cases for `client`.
#[must_use]
pub fn client_column(client: &Client) -> Column {
    let mut client = client.clone();
    let names_tracker = |word: &String| word.contains("{ip}") || word.contains("{port}");
    if !client.command.iter().any(names_tracker) {
        client.command.extend(["{ip}", "{port}"].map(str::to_owned));
    }
    let title = client.command.join(" ");
    let patience = START_MAX + client.interval * 4;
    let case = |script: fn(&mut Scene<'_>) -> Outcome| {
        let client = client.clone();
        move |attempt: &Attempt| script(&mut Scene::start(attempt, &client)?)
    };
    let mut column = Column::new("peer", title)
        .slow_case(&CLASSIC_30, "init", patience, case(init))
        .slow_case(&CLASSIC_30, "keep-alive", patience, case(keep_alive))
        .slow_case(&CLASSIC_33, "announced", patience, case(announced))
        .slow_case(&CLASSIC_53, "missing", patience, case(missing))
        .slow_case(
            &CLASSIC_6,
            "asked-for-another-folder",
            patience,
            case(asked_outside),
        )
        .slow_case(
            &CLASSIC_33,
            "asked-for-a-program",
            patience,
            case(asked_excluded),
        )
        .slow_case(&CLASSIC_56, "silent-client", patience, case(silent_client))
        .slow_case(&CLASSIC_31, "absent", patience, case(absent))
        .slow_case(
            &CLASSIC_31,
            "older-and-newer",
            patience,
            case(older_and_newer),
        )
        .slow_case(&CLASSIC_34, "time", patience, case(time))
        .slow_case(
            &CLASSIC_6,
            "told-of-another-folder",
            patience,
            case(told_outside),
        )
        .slow_case(
            &CLASSIC_33,
            "told-of-a-program",
            patience,
            case(told_excluded),
        )
        .slow_case(&CLASSIC_37, "dead-holder", patience, case(dead_holder))
        .slow_case(
            &CLASSIC_39,
            "tracker-gone",
            patience + START_MAX * 3,
            case(tracker_gone),
        );
    if client.lines {
        column = column
            .slow_case(&CLASSIC_50, "served", patience, case(served_in_lines))
            .slow_case(&CLASSIC_58, "too-few", patience, case(too_few));
    }
    if client.bare {
        column = column.slow_case(&CLASSIC_51, "served", patience, case(served_bare));
    }
    column
}

/// A peer that was started, connected, and has said its first message.
struct Scene<'a> {
    attempt: &'a Attempt,
    tracker: TcpListener,
    stream: Stream<'a>,
    objects: Objects,
    first: Value,
    interval: Duration,
    lines: bool,
    _program: Program<'a>,
    folder: Folder,
}

/// The peer's folder; deleted with everything around it.
struct Folder(PathBuf);

/// How a scripted holder answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Right,
    TooFew,
}

impl Folder {
    fn new() -> Result<Self, Failure> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ahoy-check-{}-{number}", std::process::id());
        let folder = Self(std::env::temp_dir().join(name));
        let made = fs::create_dir(&folder.0).and_then(|()| fs::create_dir(folder.dir()));
        made.map_err(|error| Failure::skipped(format!("no folder to try it in: {error}")))?;
        Ok(folder)
    }

    fn dir(&self) -> PathBuf {
        self.0.join("shared")
    }

    fn write(&self, name: &str, content: &[u8], secs: u64) -> Outcome {
        let path = self.dir().join(name);
        let written = fs::write(&path, content).and_then(|()| {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(secs);
            fs::File::options()
                .write(true)
                .open(&path)?
                .set_modified(time)
        });
        written.map_err(|error| Failure::skipped(format!("cannot write a file: {error}")))
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.dir().join(name)).ok()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl<'a> Scene<'a> {
    fn start(attempt: &'a Attempt, client: &Client) -> Result<Self, Failure> {
        let folder = Folder::new()?;
        folder.write(OWN.0, OWN.1, OWN.2)?;
        folder.write("program.py", b"pass\n", OWN.2)?;
        folder.write("library.so", b"\x7fELF", OWN.2)?;
        let inner = fs::create_dir(folder.dir().join("inner"));
        inner.map_err(|error| Failure::skipped(format!("cannot make a folder: {error}")))?;
        fs::write(folder.0.join("secret"), "secret\n")
            .map_err(|error| Failure::skipped(format!("cannot write a file: {error}")))?;
        let tracker = listener()?;
        let port = addr_of(&tracker)?.port().to_string();
        let dir = folder.dir();
        let dir_text = dir.to_string_lossy().into_owned();
        let places = [("ip", "127.0.0.1"), ("port", &*port), ("dir", &*dir_text)];
        let names_dir = client.command.iter().any(|word| word.contains("{dir}"));
        let inside: Option<&Path> = (!names_dir).then_some(&*dir);
        let program = Program::start_in(attempt, &client.command, &places, inside)?;
        let stream = accept(attempt, &tracker, START_MAX)?;
        let mut scene = Self {
            attempt,
            tracker,
            stream,
            objects: Objects::new(MESSAGE_BYTES_MAX),
            first: Value::Null,
            interval: client.interval,
            lines: client.lines,
            _program: program,
            folder,
        };
        scene.first = scene.message(START_MAX)?;
        Ok(scene)
    }

    /// The next message of the peer to its tracker.
    fn message(&mut self, wait: Duration) -> Result<Value, Failure> {
        let deadline = self.attempt.deadline_in(wait)?;
        loop {
            match self.objects.next_object() {
                Ok(Some(object)) => {
                    return serde_json::from_slice(object).map_err(|error| {
                        Failure::broken(format!("the message is no JSON: {error}"))
                    });
                }
                Ok(None) => {}
                Err(error) => return Err(Failure::broken(format!("the peer {error}"))),
            }
            match self.stream.arrival(64 * 1024, deadline) {
                Arrival::Bytes(bytes) => self.objects.push(&bytes),
                Arrival::End | Arrival::Reset => {
                    return Err(Failure::broken("it closed its connection to the tracker"));
                }
                Arrival::Nothing => return Err(Failure::broken("no message in time")),
            }
        }
    }

    fn answer(&mut self, directory: &Value) -> Outcome {
        let end = if self.lines { "\n" } else { "" };
        self.stream.send(format!("{directory}{end}").as_bytes())
    }

    /// Answers each message with this directory, and each request for a file as the holder does,
    /// until `done`; the names that were asked for.
    fn play(
        &mut self,
        directory: &Value,
        holder: &TcpListener,
        manner: Manner,
        wait: Duration,
        mut done: impl FnMut(&Folder) -> bool,
    ) -> Result<Vec<String>, Failure> {
        let until = self.attempt.deadline_in(wait)?;
        let mut asked = Vec::new();
        self.answer(directory)?;
        while !done(&self.folder) && Instant::now() < until {
            if let Ok(_message) = self.message(POLL * 10) {
                self.answer(directory)?;
            }
            if let Some(mut stream) = accept_now(self.attempt, holder)? {
                asked.extend(serve(&mut stream, manner)?);
            }
        }
        Ok(asked)
    }

    /// The address at which the peer said that it serves.
    fn serving(&self) -> Result<SocketAddr, Failure> {
        let port = self.first["port"]
            .as_u64()
            .and_then(|port| u16::try_from(port).ok());
        let port = port.ok_or_else(|| Failure::broken("its first message has no port"))?;
        Ok((Ipv4Addr::LOCALHOST, port).into())
    }

    /// Asks the peer for a file; everything that it answers.
    fn ask(&self, request: &[u8]) -> Result<Vec<u8>, Failure> {
        let mut stream = Stream::connect(self.attempt, self.serving()?)?;
        stream.send(request)?;
        let mut all = Vec::new();
        loop {
            let deadline = self.attempt.reply_deadline()?;
            match stream.arrival(64 * 1024, deadline) {
                Arrival::Bytes(bytes) => all.extend_from_slice(&bytes),
                // Some leave the connection open after the last byte.
                Arrival::End | Arrival::Reset | Arrival::Nothing => return Ok(all),
            }
        }
    }

    /// How long a file may take: a message, its answer, and the fetch.
    fn fetch_max(&self) -> Duration {
        self.interval * 2 + self.attempt.limits.reply_max * 2
    }
}

fn init(scene: &mut Scene<'_>) -> Outcome {
    let files = scene.first["files"].as_array().cloned().unwrap_or_default();
    let own = files.iter().find(|file| file["name"] == OWN.0);
    let mtime = own.map(|own| own["mtime"].as_f64().map(f64::floor));
    if mtime == Some(Some(OWN.2 as f64)) {
        scene.serving().map(drop)
    } else {
        Err(unexpected(
            &scene.first,
            "the file of its folder with its time",
        ))
    }
}

fn keep_alive(scene: &mut Scene<'_>) -> Outcome {
    let port = scene.first["port"].clone();
    for _ in 0..2 {
        scene.answer(&json!({}))?;
        let message = scene.message(scene.interval * 2)?;
        if message["port"] != port {
            return Err(unexpected(&message, "a message with the same port"));
        }
    }
    Ok(())
}

fn announced(scene: &mut Scene<'_>) -> Outcome {
    let files = scene.first["files"].as_array().cloned().unwrap_or_default();
    let excluded = ["program.py", "library.so", "inner"];
    match files
        .iter()
        .find(|file| excluded.iter().any(|name| file["name"] == *name))
    {
        Some(file) => Err(unexpected(
            file,
            "no programs and no folders among its files",
        )),
        None => Ok(()),
    }
}

fn served_in_lines(scene: &mut Scene<'_>) -> Outcome {
    let expected = [&header(OWN.1.len() as u64), OWN.1].concat();
    let answer = scene.ask(format!("{}\n", OWN.0).as_bytes())?;
    same(&answer, &expected)
}

fn served_bare(scene: &mut Scene<'_>) -> Outcome {
    let answer = scene.ask(OWN.0.as_bytes())?;
    same(&answer, OWN.1)
}

fn missing(scene: &mut Scene<'_>) -> Outcome {
    let end = if scene.lines { "\n" } else { "" };
    let answer = scene.ask(format!("no such file{end}").as_bytes())?;
    same(&answer, b"")
}

fn asked_outside(scene: &mut Scene<'_>) -> Outcome {
    let absolute = scene.folder.0.join("secret").to_string_lossy().into_owned();
    let end = if scene.lines { "\n" } else { "" };
    for name in ["../secret", &absolute, "inner/../../secret"] {
        let answer = scene.ask(format!("{name}{end}").as_bytes())?;
        if answer.windows(6).any(|part| part == b"secret") {
            let name = shown(name.as_bytes());
            return Err(Failure::broken(format!(
                "it served {name}, outside its folder"
            )));
        }
    }
    Ok(())
}

fn asked_excluded(scene: &mut Scene<'_>) -> Outcome {
    let end = if scene.lines { "\n" } else { "" };
    let answer = scene.ask(format!("program.py{end}").as_bytes())?;
    same(&answer, b"")
}

fn silent_client(scene: &mut Scene<'_>) -> Outcome {
    let silent = Stream::connect(scene.attempt, scene.serving()?)?;
    let answer = if scene.lines {
        scene.ask(format!("{}\n", OWN.0).as_bytes())?
    } else {
        scene.ask(OWN.0.as_bytes())?
    };
    drop(silent);
    if answer.ends_with(OWN.1) {
        Ok(())
    } else {
        same(&answer, OWN.1)
    }
}

fn absent(scene: &mut Scene<'_>) -> Outcome {
    let name = "from afar é.bin";
    let holder = listener()?;
    let directory = json!({name: entry(&holder, FAR_TIME)?});
    let wait = scene.fetch_max();
    scene.play(&directory, &holder, Manner::Right, wait, |folder| {
        folder.read(name).as_deref() == Some(FAR)
    })?;
    same(&scene.folder.read(name).unwrap_or_default(), FAR)
}

fn older_and_newer(scene: &mut Scene<'_>) -> Outcome {
    let holder = listener()?;
    scene.folder.write("kept.txt", b"kept", FAR_TIME + 5)?;
    let directory = json!({
        OWN.0: entry(&holder, OWN.2 + 1)?,
        "kept.txt": entry(&holder, FAR_TIME)?,
    });
    let wait = scene.fetch_max();
    let asked = scene.play(&directory, &holder, Manner::Right, wait, |folder| {
        folder.read(OWN.0).as_deref() == Some(FAR)
    })?;
    same(&scene.folder.read(OWN.0).unwrap_or_default(), FAR)?;
    if asked.iter().any(|name| name == "kept.txt") {
        return Err(Failure::broken(
            "it fetched a file that was newer in its folder",
        ));
    }
    same(&scene.folder.read("kept.txt").unwrap_or_default(), b"kept")
}

fn time(scene: &mut Scene<'_>) -> Outcome {
    let holder = listener()?;
    let directory = json!({"timed": entry(&holder, FAR_TIME)?});
    let mtime = |folder: &Folder| {
        let meta = fs::metadata(folder.dir().join("timed"));
        meta.map(|meta| meta.mtime()).ok()
    };
    let wanted = i64::try_from(FAR_TIME).ok();
    let wait = scene.fetch_max();
    scene.play(&directory, &holder, Manner::Right, wait, |folder| {
        mtime(folder) == wanted
    })?;
    let found = mtime(&scene.folder);
    if found == wanted {
        return Ok(());
    }
    Err(Failure::broken(format!(
        "expected time {FAR_TIME}; the file has {found:?}"
    )))
}

fn told_outside(scene: &mut Scene<'_>) -> Outcome {
    let holder = listener()?;
    let absolute = scene
        .folder
        .0
        .join("absolute")
        .to_string_lossy()
        .into_owned();
    let directory = json!({
        "../outside": entry(&holder, FAR_TIME)?,
        absolute: entry(&holder, FAR_TIME)?,
        "inner/deeper": entry(&holder, FAR_TIME)?,
    });
    let wait = scene.fetch_max();
    let evil = |folder: &Folder| {
        let places = ["outside", "absolute", "shared/inner/deeper"];
        places.iter().any(|place| folder.0.join(place).exists())
    };
    let asked = scene.play(&directory, &holder, Manner::Right, wait, evil)?;
    if evil(&scene.folder) {
        return Err(Failure::broken(
            "it wrote where a name in the directory led it",
        ));
    }
    match asked.first() {
        None => Ok(()),
        Some(name) => {
            let name = shown(name.as_bytes());
            Err(Failure::broken(format!("it asked for {name}")))
        }
    }
}

fn told_excluded(scene: &mut Scene<'_>) -> Outcome {
    let holder = listener()?;
    let directory = json!({"program.py": entry(&holder, FAR_TIME)?});
    let wait = scene.fetch_max();
    let changed = |folder: &Folder| folder.read("program.py").as_deref() != Some(b"pass\n");
    scene.play(&directory, &holder, Manner::Right, wait, changed)?;
    same(
        &scene.folder.read("program.py").unwrap_or_default(),
        b"pass\n",
    )
}

fn dead_holder(scene: &mut Scene<'_>) -> Outcome {
    let (dead, holder) = (listener()?, listener()?);
    let directory = json!({
        "a wanted": entry(&dead, FAR_TIME)?,
        "wanted": entry(&holder, FAR_TIME)?,
        "z wanted": entry(&dead, FAR_TIME)?,
    });
    drop(dead);
    let wait = scene.fetch_max();
    scene.play(&directory, &holder, Manner::Right, wait, |folder| {
        folder.read("wanted").as_deref() == Some(FAR)
    })?;
    same(&scene.folder.read("wanted").unwrap_or_default(), FAR)
}

fn too_few(scene: &mut Scene<'_>) -> Outcome {
    let holder = listener()?;
    let directory = json!({"short": entry(&holder, FAR_TIME)?});
    let wait = scene.fetch_max();
    let mut left = Instant::now() + wait;
    let asked = scene.play(&directory, &holder, Manner::TooFew, wait, |folder| {
        // Once it is there it may be taken away again; in the end nothing counts.
        if folder.read("short").is_none() && Instant::now() > left {
            left = Instant::now();
            return true;
        }
        false
    })?;
    if asked.is_empty() {
        return Err(Failure::broken("it never asked for the file"));
    }
    match scene.folder.read("short") {
        None => Ok(()),
        Some(part) => {
            let part = shown(&part);
            Err(Failure::broken(format!(
                "half a file is left in its folder: {part}"
            )))
        }
    }
}

fn tracker_gone(scene: &mut Scene<'_>) -> Outcome {
    scene.answer(&json!({}))?;
    let wait = scene.interval + START_MAX * 3;
    let again = {
        scene.stream.finish()?;
        accept(scene.attempt, &scene.tracker, wait)?
    };
    scene.stream = again;
    scene.objects = Objects::new(MESSAGE_BYTES_MAX);
    scene.first = scene.message(wait)?;
    init(scene)
}

/// Reads one request and answers it in its own generation; the names that were asked for.
fn serve(stream: &mut Stream<'_>, manner: Manner) -> Result<Option<String>, Failure> {
    let mut bytes = Vec::new();
    let deadline = stream.attempt().reply_deadline()?;
    let bare_wait = Duration::from_millis(400);
    let request = loop {
        let wait = if bytes.is_empty() {
            deadline
        } else {
            Instant::now() + bare_wait
        };
        let ended = match stream.arrival(4096, wait) {
            Arrival::Bytes(more) => {
                bytes.extend_from_slice(&more);
                false
            }
            Arrival::End | Arrival::Reset | Arrival::Nothing => true,
        };
        if let Some(request) = read_request(&bytes, ended) {
            break request;
        }
    };
    if bytes.is_empty() {
        return Ok(None);
    }
    let content = match manner {
        Manner::Right => FAR,
        Manner::TooFew => &FAR[..7],
    };
    let answer = match request.generation {
        ahoy_wire::classic::Generation::Lines => [&header(FAR.len() as u64), content].concat(),
        // Without a length there is no too few; such a case offers nothing.
        ahoy_wire::classic::Generation::Bare if manner == Manner::TooFew => Vec::new(),
        ahoy_wire::classic::Generation::Bare => content.to_vec(),
    };
    // A peer that has gone meanwhile is judged by what it has.
    let _ = stream.send(&answer).and_then(|()| stream.finish());
    let text = String::from_utf8_lossy(&bytes);
    Ok(Some(text.trim_end().to_owned()))
}

fn entry(holder: &TcpListener, mtime: u64) -> Result<Value, Failure> {
    let addr = addr_of(holder)?;
    Ok(json!({"ip": "127.0.0.1", "port": addr.port(), "mtime": mtime}))
}

fn listener() -> Result<TcpListener, Failure> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let listener = bound.and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|error| Failure::skipped(format!("no port to listen on: {error}")))
}

fn addr_of(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    let addr = listener.local_addr();
    addr.map_err(|error| Failure::skipped(format!("no port to listen on: {error}")))
}

fn accept<'a>(
    attempt: &'a Attempt,
    listener: &TcpListener,
    wait: Duration,
) -> Result<Stream<'a>, Failure> {
    let deadline = attempt.deadline_in(wait)?;
    loop {
        if let Some(stream) = accept_now(attempt, listener)? {
            return Ok(stream);
        }
        if Instant::now() > deadline {
            return Err(Failure::broken("it did not connect in time"));
        }
        attempt.pause(POLL)?;
    }
}

fn accept_now<'a>(
    attempt: &'a Attempt,
    listener: &TcpListener,
) -> Result<Option<Stream<'a>>, Failure> {
    match listener.accept() {
        Ok((socket, _)) => Stream::adopt(attempt, socket).map(Some),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(Failure::skipped(format!("cannot accept: {error}"))),
    }
}

fn same(found: &[u8], expected: &[u8]) -> Outcome {
    if found == expected {
        return Ok(());
    }
    let (found, expected) = (shown(found), shown(expected));
    Err(Failure::broken(format!(
        "expected {expected}; found {found}"
    )))
}

fn unexpected(found: &Value, expected: &str) -> Failure {
    let found = found.to_string();
    Failure::broken(format!(
        "expected {expected}; found {}",
        shown(found.as_bytes())
    ))
}
