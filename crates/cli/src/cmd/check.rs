//! `ahoy check`: examines anyone's implementation of a service, case by case.
//!
//! One variant of [`Service`] for each column; the cases live in `ahoy-check`, which knows nothing
//! of our own servers. Exit 0: accepted; 1: a requirement is broken.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use ahoy_check::attempt::Limits;
use ahoy_check::case::Column;
use ahoy_check::echo;
use ahoy_check::report::{Report, case_text, list_text};
use ahoy_check::runner::{self, UnknownCases};
use ahoy_check::web;
use anyhow::Context;
use clap::{Subcommand, ValueEnum};

use super::{Hint, Misuse, resolve};

mod classic;
mod enroll;
mod hello;

/// Examine a server or client of one of the protocols; exit 1 if it breaks a MUST.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    how: How,
    #[command(subcommand)]
    service: Service,
}

/// How to examine; the same for every service.
#[derive(clap::Args)]
struct How {
    /// Print the cases with their requirements and stop.
    #[arg(long, global = true)]
    list: bool,
    /// Run only this case (`echo-3/after-the-end`) or requirement (`echo-3`); may be repeated.
    #[arg(long, global = true, value_name = "NAME")]
    case: Vec<String>,
    /// Count a broken SHOULD as a failure too.
    #[arg(long, global = true)]
    strict: bool,
    /// Print the report in this form.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Write the report to this file; the text form still goes to the terminal.
    #[arg(long, global = true, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Wait at most this long for each answer, in milliseconds.
    #[arg(long, global = true, value_name = "MS", default_value_t = 2_000,
          value_parser = clap::value_parser!(u64).range(1..=600_000))]
    reply_ms: u64,
    /// Listen this long before believing that nothing comes, in milliseconds.
    #[arg(long, global = true, value_name = "MS", default_value_t = 300,
          value_parser = clap::value_parser!(u64).range(1..=600_000))]
    quiet_ms: u64,
    /// Give up a case after this long, in milliseconds, waits that its rule demands not counted.
    #[arg(long, global = true, value_name = "MS", default_value_t = 20_000,
          value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    case_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One object with everything, the transcripts included.
    Json,
    /// For CI systems.
    Junit,
}

/// One column each.
#[derive(Subcommand)]
enum Service {
    /// Examine an echo server.
    Echo(EchoArgs),
    /// Examine a web server.
    Web(WebArgs),
    /// Examine an enroll server.
    Enroll(enroll::ServerArgs),
    /// Examine an enroll client: start it against a scripted server.
    EnrollClient(enroll::ClientArgs),
    /// Examine a hello server.
    Hello(hello::ServerArgs),
    /// Examine a hello client: start it against a scripted server.
    HelloClient(hello::ClientArgs),
    /// Examine a tracker of the classic file-share swarm.
    Tracker(classic::TrackerArgs),
    /// Examine a peer of the classic file-share swarm: start it against a scripted tracker.
    Peer(classic::PeerArgs),
}

#[derive(clap::Args)]
struct EchoArgs {
    /// The server, as HOST:PORT.
    #[arg(default_value = "127.0.0.1:65432")]
    addr: String,
    /// Examine it over TCP only (or give both; both is the default).
    #[arg(long)]
    tcp: bool,
    /// Examine it over UDP only (or give both; both is the default).
    #[arg(long)]
    udp: bool,
    /// The silence after which the server closes a connection, in milliseconds; examined if given.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    idle_ms: Option<u64>,
}

#[derive(clap::Args)]
struct WebArgs {
    /// The server, as HOST:PORT.
    #[arg(default_value = "127.0.0.1:8080")]
    addr: String,
    /// The path of a file that it serves, best a few kilobytes long.
    #[arg(long, value_name = "PATH", default_value = "/", value_parser = parse_path)]
    path: String,
    /// The path of a folder that it serves, without a slash at its end; examined if given.
    #[arg(long, value_name = "PATH", value_parser = parse_path)]
    folder: Option<String>,
    /// The time that it gives a request to arrive, in milliseconds; examined if given.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    request_ms: Option<u64>,
    /// The time without a request after which it closes, in milliseconds; examined if given.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    idle_ms: Option<u64>,
}

fn parse_path(text: &str) -> Result<String, String> {
    let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
    if text.starts_with('/') && visible {
        Ok(text.to_owned())
    } else {
        Err(
            "wants a path as it stands in an address: it begins with a slash, and anything but \
             visible ASCII is percent-encoded"
                .to_owned(),
        )
    }
}

/// Runs the examination that the arguments ask for.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let column = match args.service {
        Service::Echo(echo) => echo_column(&echo)?,
        Service::Web(web) => web_column(&web)?,
        Service::Enroll(server) => enroll::server(&server)?,
        Service::EnrollClient(client) => enroll::client(&client, args.how.list)?,
        Service::Hello(server) => hello::server(&server)?,
        Service::HelloClient(client) => hello::client(&client, args.how.list)?,
        Service::Tracker(tracker) => classic::tracker(&tracker)?,
        Service::Peer(peer) => classic::peer(&peer, args.how.list)?,
    };
    examine(column, &args.how)
}

fn echo_column(args: &EchoArgs) -> anyhow::Result<Column> {
    let both = args.tcp == args.udp;
    Ok(echo::column(&echo::Target {
        addr: resolve(&args.addr)?,
        tcp: args.tcp || both,
        udp: args.udp || both,
        idle: args.idle_ms.map(Duration::from_millis),
    }))
}

fn web_column(args: &WebArgs) -> anyhow::Result<Column> {
    Ok(web::column(&web::Target {
        addr: resolve(args.addr.as_str())?,
        path: args.path.clone(),
        folder: args.folder.clone(),
        request: args.request_ms.map(Duration::from_millis),
        idle: args.idle_ms.map(Duration::from_millis),
    }))
}

fn examine(column: Column, how: &How) -> anyhow::Result<ExitCode> {
    let column = runner::select(column, &how.case).map_err(|UnknownCases(names)| {
        anyhow::Error::new(Misuse(format!("no such case: {}", names.join(", "))))
            .context(Hint("see them all with --list".to_owned()))
    })?;
    if how.list {
        print(&list_text(&column))?;
        return Ok(ExitCode::SUCCESS);
    }
    let limits = Limits {
        reply_max: Duration::from_millis(how.reply_ms),
        quiet: Duration::from_millis(how.quiet_ms),
        case_max: Duration::from_millis(how.case_ms),
    };
    let live = how.format == Format::Text || how.output.is_some();
    let (service, target) = (column.service.to_owned(), column.target.clone());
    let mut printed = Ok(());
    let mut text = String::new();
    let results = runner::run(column, limits, |result| {
        let lines = case_text(result, how.strict);
        text.push_str(&lines);
        if live && printed.is_ok() {
            printed = print(&lines);
        }
    });
    printed?;
    let report = Report {
        service,
        target,
        strict: how.strict,
        results,
    };
    let summary = format!("{}\n", report.summary());
    if live {
        print(&summary)?;
    }
    let whole = match how.format {
        Format::Text => text + &summary,
        Format::Json => report.json(),
        Format::Junit => report.junit(),
    };
    match &how.output {
        Some(path) => save(path, &whole)?,
        None if !live => print(&whole)?,
        None => {}
    }
    Ok(ExitCode::from(u8::from(!report.accepts())))
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    let printed = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    printed.context("cannot print the report")
}

fn save(path: &Path, text: &str) -> anyhow::Result<()> {
    let place = path.display();
    fs::write(path, text).with_context(|| format!("cannot write the report to {place}"))
}
