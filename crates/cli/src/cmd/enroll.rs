//! `ahoy enroll`: the registration server of the courses' pickle exercises, and its client.
//!
//! Standard output carries the lines of the course, byte for byte, and nothing else; what goes
//! wrong is told on standard error. The messages are in `wire/enroll.rs`, the decisions in
//! `logic/enroll.rs`, sockets and records in `host/enroll`.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use ahoy_host::drive::Sockets;
use ahoy_host::enroll::client::{self, ClientError, Step};
use ahoy_host::enroll::record::{OpenError, Record};
use ahoy_host::enroll::{self, Notice};
use ahoy_host::{listen, runtime, stop};
use ahoy_logic::enroll::Options;
use ahoy_wire::enroll::{BACKLOG, PORT_DEFAULT, Registration, Sid};
use ahoy_wire::pickle::Value;
use anyhow::Context;
use clap::Subcommand;

use super::{Hint, Misuse, complain, explain, host_and_port, resolve, say};
use crate::printer;

mod console;

use console::{Console, Report, connected_to, say_json};

/// Register students over pickles, or be registered.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Take registrations; a pickle from outside is read as data and never executed.
    Server(ServerArgs),
    /// Register at a server; exit 1 if it does not acknowledge.
    Client(ClientArgs),
}

/// Where a server listens.
#[derive(clap::Args)]
struct Place {
    /// The host to listen on or to register at.
    #[arg(default_value = "127.0.0.1", env = "AHOY_ENROLL_HOST")]
    host: String,
    /// Its port; a server takes any free one for 0.
    #[arg(default_value_t = PORT_DEFAULT, env = "AHOY_ENROLL_PORT")]
    port: u16,
}

#[derive(clap::Args)]
struct ServerArgs {
    #[command(flatten)]
    place: Place,
    /// Serve this many clients at once: 1 is one after the other (10 may wait), N is many.
    #[arg(long, value_name = "1|N", default_value = "N", env = "AHOY_ENROLL_CLIENTS",
          value_parser = clients)]
    clients: usize,
    /// Keep registrations in this file, which ends in .jsonl or .csv; each is on the disk before it
    /// is acknowledged.
    #[arg(long, value_name = "FILE", env = "AHOY_ENROLL_RECORD")]
    record: Option<PathBuf>,
    /// Drop a client whose next registration is not complete after this long, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 60_000, env = "AHOY_ENROLL_IDLE_MS",
          value_parser = clap::value_parser!(u64).range(1..))]
    idle_ms: u64,
    /// Also print who connected and who left, on standard error.
    #[arg(long, short, env = "AHOY_ENROLL_VERBOSE")]
    verbose: bool,
    /// Print one JSON object for everything that happens, instead of the lines of the course.
    #[arg(long, env = "AHOY_ENROLL_JSON")]
    json: bool,
}

#[derive(clap::Args)]
struct ClientArgs {
    #[command(flatten)]
    place: Place,
    /// The student's name.
    #[arg(long, env = "AHOY_ENROLL_NAME")]
    name: String,
    /// The student's name on GitHub.
    #[arg(long, env = "AHOY_ENROLL_GITHUB_USERNAME")]
    github_username: String,
    /// The student's id; it is sent as a number if it is one and begins with no zero.
    #[arg(long, env = "AHOY_ENROLL_SID", allow_hyphen_values = true)]
    sid: String,
    /// Send the id as text even if it is a number.
    #[arg(long, env = "AHOY_ENROLL_SID_TEXT")]
    sid_text: bool,
    /// Give up when the server does not greet or acknowledge within this long, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 15_000, env = "AHOY_ENROLL_WAIT_MS",
          value_parser = clap::value_parser!(u64).range(1..))]
    wait_ms: u64,
    /// Print what happened as one JSON object, instead of the lines of the course.
    #[arg(long, env = "AHOY_ENROLL_JSON")]
    json: bool,
}

/// The most clients that may be asked for at once.
const CLIENTS_MAX: usize = 1_000_000;

fn clients(text: &str) -> Result<usize, String> {
    if text.eq_ignore_ascii_case("n") {
        return Ok(Options::default().clients_max);
    }
    match text.parse() {
        Ok(count @ 1..=CLIENTS_MAX) => Ok(count),
        _ => Err(format!("a number from 1 to {CLIENTS_MAX}, or N for many")),
    }
}

/// Runs the role that the arguments name.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.role {
        Role::Server(args) => serve(&args),
        Role::Client(args) => register(&args),
    }
}

fn serve(args: &ServerArgs) -> anyhow::Result<ExitCode> {
    let options = Options {
        clients_max: args.clients,
        idle_max: Duration::from_millis(args.idle_ms),
    };
    let record = args.record.as_deref().map(open_record).transpose()?;
    let listener = bind(args)?;
    let port = listener.local_addr()?.port();
    let console = Console {
        json: args.json,
        verbose: args.verbose,
        idle_ms: args.idle_ms,
    };
    let sockets = Sockets {
        listeners: vec![listener],
        ..Sockets::default()
    };
    let host = args.place.host.clone();
    printer::detach().context("no thread to print with")?;
    let service = async {
        let stop = stop::requested()?;
        console.listening(&host, port);
        let tell = move |notice: Notice| console.tell(&notice);
        enroll::serve(options, sockets, record, tell, stop).await
    };
    runtime::block_on(service)
        .flatten()
        .context("the enroll server broke down")?;
    Ok(ExitCode::SUCCESS)
}

fn open_record(path: &Path) -> anyhow::Result<Record> {
    let now = || jiff::Timestamp::now().to_string();
    Record::open(path, now).map_err(|error| match error {
        OpenError::Name { .. } => anyhow::Error::new(Misuse(error.to_string())).context(Hint(
            "name it .jsonl for JSON lines or .csv for a spreadsheet".to_owned(),
        )),
        OpenError::Foreign { .. } | OpenError::InUse { .. } => {
            anyhow::Error::new(error).context(Hint("name another file".to_owned()))
        }
        OpenError::Io { .. } => error.into(),
    })
}

/// enroll-1, enroll-3: one client at a time lets ten wait, many at once lets nobody wait for long.
fn bind(args: &ServerArgs) -> anyhow::Result<TcpListener> {
    let place = &args.place;
    let addr = resolve(&host_and_port(&place.host, place.port))?;
    let backlog = match args.clients {
        1 => BACKLOG,
        _ => listen::BACKLOG_DEFAULT,
    };
    listen::tcp(addr, backlog)
        .with_context(|| format!("cannot listen on {addr}"))
        .context(Hint(
            "choose another port, or 0 for any free one".to_owned(),
        ))
}

fn register(args: &ClientArgs) -> anyhow::Result<ExitCode> {
    let place = &args.place;
    let addr = resolve(&host_and_port(&place.host, place.port))?;
    let registration = Registration {
        student_name: args.name.clone(),
        github_username: args.github_username.clone(),
        sid: sid(&args.sid, args.sid_text),
    };
    let wait = Duration::from_millis(args.wait_ms);
    let mut greeted = None;
    let outcome = client::register(addr, &registration, wait, |greeting| {
        if !args.json {
            say(&connected_to(greeting, &place.host, place.port));
        }
        greeted = Some(greeting.clone());
    });
    if args.json {
        say_json(&Report::of(&outcome, greeted.as_ref()));
    }
    match outcome {
        Ok(answer) => {
            if !args.json {
                say("Data acknowledged by server and you passed the test");
            }
            if answer != Value::Int(1) {
                let answer = answer.repr().to_string();
                complain(&format!(
                    "Note: the server acknowledged with {answer}, not with 1"
                ));
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => failed(error, place),
    }
}

/// A number, if that does not lose anything of what was typed.
fn sid(text: &str, as_text: bool) -> Sid {
    match text.parse::<i128>() {
        Ok(number) if !as_text && number.to_string() == text => Sid::Number(number),
        _ => Sid::Text(text.to_owned()),
    }
}

/// Exit 1 if there was a server that did not do its part, 3 if there was none (enroll-18).
fn failed(error: ClientError, place: &Place) -> anyhow::Result<ExitCode> {
    let hint = match &error {
        ClientError::Connect { .. } => {
            let hint = format!(
                "start a server: ahoy enroll server {} {}",
                place.host, place.port
            );
            return Err(anyhow::Error::new(error).context(Hint(hint)));
        }
        ClientError::TooLong(_) => {
            return Err(anyhow::Error::new(Misuse(error.to_string())));
        }
        ClientError::Io(_) => return Err(error.into()),
        ClientError::Silent {
            step: Step::Greeting,
            ..
        } => "it may be serving someone else; try again, or wait longer with --wait-ms",
        ClientError::Silent {
            step: Step::Acknowledgement,
            ..
        } => "some servers never acknowledge; its console says whether it knows you",
        ClientError::Cut { .. } => "its console may say why",
        ClientError::Garbled { .. } | ClientError::Greeting(_) => {
            "is it an enroll server? see what it does: ahoy check enroll HOST:PORT"
        }
        ClientError::Refused { .. } => "see what it does: ahoy check enroll HOST:PORT",
    };
    let error = anyhow::Error::new(error).context(Hint(hint.to_owned()));
    complain(explain(&error).trim_end());
    Ok(ExitCode::from(1))
}
