//! `ahoy echo`: the echo server and client, and the tour of this house for a newcomer.
//!
//! The way of one message: `wire/echo.rs` (sizes) <- `logic/echo.rs` (what goes back) <-
//! `host/drive.rs` and its two loops (sockets) <- here (arguments and printing). `check/echo.rs`
//! examines it.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use ahoy_host::drive::Sockets;
use ahoy_host::echo::client::{self, ClientError};
use ahoy_host::{echo, listen, runtime, stop};
use ahoy_logic::echo::{Note, Options};
use ahoy_wire::echo::PORT_DEFAULT;
use anyhow::Context;
use clap::Subcommand;

use super::{Hint, complain, host_and_port, resolve, say};
use crate::printer;

mod bench;

/// Send back whatever comes, or see whether a server does.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Send everything that comes back to where it came from.
    Server(ServerArgs),
    /// Send text, print what comes back; exit 1 if not all of it does.
    Client(ClientArgs),
}

/// Where a server listens, in the courses' words or in one.
#[derive(clap::Args)]
struct Place {
    /// The host to listen on or to talk to.
    #[arg(default_value = "127.0.0.1", env = "AHOY_ECHO_HOST")]
    host: String,
    /// Its port.
    #[arg(default_value_t = PORT_DEFAULT, env = "AHOY_ECHO_PORT")]
    port: u16,
    /// Use TCP only (or give both; both is the server's default, and TCP the client's).
    #[arg(long, env = "AHOY_ECHO_TCP")]
    tcp: bool,
    /// Use UDP only (or give both).
    #[arg(long, env = "AHOY_ECHO_UDP")]
    udp: bool,
}

#[derive(clap::Args)]
struct ServerArgs {
    #[command(flatten)]
    place: Place,
    /// Listen here, as HOST:PORT; instead of HOST and PORT.
    #[arg(long, value_name = "ADDR", env = "AHOY_ECHO_LISTEN")]
    listen: Option<String>,
    /// Close a connection on which nothing came for this long, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 300_000, env = "AHOY_ECHO_IDLE_MS",
          value_parser = clap::value_parser!(u64).range(1..))]
    idle_ms: u64,
    /// Serve at most this many connections at once; others wait.
    #[arg(long, value_name = "N", default_value_t = 1024, env = "AHOY_ECHO_CLIENTS",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    clients: u32,
    /// Also print who left, and every datagram.
    #[arg(long, short, env = "AHOY_ECHO_VERBOSE")]
    verbose: bool,
}

#[derive(clap::Args)]
struct ClientArgs {
    #[command(flatten)]
    place: Place,
    /// What to send; without it, standard input (over UDP, each line is a datagram).
    text: Vec<String>,
    /// Give up when nothing comes back for this long, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 5_000, env = "AHOY_ECHO_WAIT_MS",
          value_parser = clap::value_parser!(u64).range(1..))]
    wait_ms: u64,
    #[command(flatten)]
    bench: bench::BenchArgs,
}

/// Runs the role that the arguments name.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.role {
        Role::Server(args) => serve(&args),
        Role::Client(args) => ask(&args),
    }
}

fn serve(args: &ServerArgs) -> anyhow::Result<ExitCode> {
    let options = Options {
        idle_max: Duration::from_millis(args.idle_ms),
        connections_max: args.clients as usize,
    };
    let sockets = bind(args)?;
    let verbose = args.verbose;
    printer::detach().context("no thread to print with")?;
    let service = async {
        // Whoever reads that we listen may send a signal at once.
        let stop = stop::requested()?;
        announce(&sockets)?;
        echo::serve(options, sockets, move |note| print(&note, verbose), stop).await
    };
    runtime::block_on(service)
        .flatten()
        .context("the echo server broke down")?;
    Ok(ExitCode::SUCCESS)
}

fn bind(args: &ServerArgs) -> anyhow::Result<Sockets> {
    let place = &args.place;
    let addr = match &args.listen {
        Some(listen) => resolve(listen)?,
        None => resolve(&host_and_port(&place.host, place.port))?,
    };
    let mut sockets = Sockets::default();
    let backlog = listen::BACKLOG_DEFAULT;
    let bound = if place.tcp == place.udp {
        listen::pair(addr, backlog).map(|(listener, datagrams)| {
            sockets.listeners.push(listener);
            sockets.datagrams.push(datagrams);
        })
    } else if place.tcp {
        listen::tcp(addr, backlog).map(|listener| sockets.listeners.push(listener))
    } else {
        listen::udp(addr).map(|datagrams| sockets.datagrams.push(datagrams))
    };
    bound
        .with_context(|| format!("cannot listen on {addr}"))
        .context(Hint(
            "choose another port, or 0 for any free one".to_owned(),
        ))?;
    Ok(sockets)
}

fn announce(sockets: &Sockets) -> io::Result<()> {
    for listener in &sockets.listeners {
        say(&format!("Listening on {} (TCP)", listener.local_addr()?));
    }
    for datagrams in &sockets.datagrams {
        say(&format!("Listening on {} (UDP)", datagrams.local_addr()?));
    }
    Ok(())
}

/// The line of the courses' example server for each connection, and more on request.
fn print(note: &Note, verbose: bool) {
    match note {
        Note::Connected { peer } => say(&format!("Connected by {}", python_address(*peer))),
        Note::Disconnected {
            peer,
            received_bytes,
        } if verbose => {
            say(&format!(
                "Disconnected: {peer} after {received_bytes} bytes"
            ));
        }
        Note::Idle { peer } if verbose => say(&format!("Closed for silence: {peer}")),
        Note::Datagram { peer, len } if verbose => say(&format!("Datagram: {peer} {len} bytes")),
        Note::Ignored { peer } if verbose => say(&format!("Ignored: datagram from {peer}")),
        Note::Disconnected { .. }
        | Note::Idle { .. }
        | Note::Datagram { .. }
        | Note::Ignored { .. } => {}
    }
}

/// An address as Python prints one.
fn python_address(addr: SocketAddr) -> String {
    match addr {
        SocketAddr::V4(addr) => format!("('{}', {})", addr.ip(), addr.port()),
        SocketAddr::V6(addr) => {
            let (ip, port) = (addr.ip(), addr.port());
            format!("('{ip}', {port}, {}, {})", addr.flowinfo(), addr.scope_id())
        }
    }
}

fn ask(args: &ClientArgs) -> anyhow::Result<ExitCode> {
    let place = &args.place;
    let addr = resolve(&host_and_port(&place.host, place.port))?;
    let wait = Duration::from_millis(args.wait_ms);
    let by_udp = place.udp && !place.tcp;
    let outcome = if args.bench.wanted {
        bench::run(&args.bench, addr, (place.tcp, place.udp), wait)
    } else if by_udp {
        ask_by_datagrams(&args.text.join(" "), addr, wait)
    } else {
        ask_by_stream(&args.text.join(" "), addr, wait)
    };
    match outcome {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(
            error @ (ClientError::Silent { .. } | ClientError::Cut { .. } | ClientError::Differs),
        ) => {
            complain(&format!("Error: {error}"));
            Ok(ExitCode::from(1))
        }
        Err(error @ ClientError::Connect { .. }) => {
            let hint = format!(
                "start a server: ahoy echo server {} {}",
                place.host, place.port
            );
            Err(anyhow::Error::new(error).context(Hint(hint)))
        }
        Err(error @ (ClientError::TooLarge { .. } | ClientError::Io(_))) => Err(error.into()),
    }
}

fn ask_by_stream(text: &str, addr: SocketAddr, wait: Duration) -> Result<(), ClientError> {
    if text.is_empty() {
        client::exchange_stream(addr, io::stdin(), &mut io::stdout(), wait)?;
        return Ok(());
    }
    let input = io::Cursor::new(text.to_owned());
    let mut output = Vec::new();
    client::exchange_stream(addr, input, &mut output, wait)?;
    returned(text.as_bytes(), &output)
}

fn ask_by_datagrams(text: &str, addr: SocketAddr, wait: Duration) -> Result<(), ClientError> {
    let socket = client::open(addr)?;
    if !text.is_empty() {
        let back = client::exchange_datagram(&socket, text.as_bytes(), wait)?;
        return returned(text.as_bytes(), &back);
    }
    for line in io::stdin().lines() {
        let line = line?;
        let back = client::exchange_datagram(&socket, line.as_bytes(), wait)?;
        returned(line.as_bytes(), &back)?;
    }
    Ok(())
}

/// Prints what came back, and objects if it is not what was sent.
fn returned(sent: &[u8], back: &[u8]) -> Result<(), ClientError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(back)?;
    stdout.write_all(b"\n")?;
    if sent == back {
        Ok(())
    } else {
        Err(ClientError::Differs)
    }
}
