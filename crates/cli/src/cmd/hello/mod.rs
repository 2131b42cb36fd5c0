//! `ahoy hello`: the server that grants ids for a while, and the client that asks for one.
//!
//! The rules are numbered in spec/hello.md. [`client`] has the prompts and prints of the course;
//! this file has the arguments and the server's log, which is quiet unless asked.

mod client;
mod log;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use ahoy_host::drive::{Ending, Sockets};
use ahoy_host::{hello, listen, runtime, stop};
use ahoy_logic::hello::{Config, LEASES_MAX, Protect};
use ahoy_wire::hello::IdShape;
use anyhow::Context;
use clap::{Subcommand, ValueEnum};

use super::{Hint, host_and_port, resolve};
use crate::printer;
use log::Log;

/// Grant connection ids for a while, or ask for one.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Grant ids over UDP and TCP; exit when nobody has asked for long enough.
    Server(ServerArgs),
    /// Ask a server for an id; exit 1 after three failed tries.
    Client(client::ClientArgs),
}

/// The times and prints of the schools that teach this protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Preset {
    /// 15 s for a reply, 30 s for an id, 120 s of idle time; prints end with the time.
    #[default]
    Classic,
    /// 60 s, 60 s and 300 s; prints without the time.
    #[value(alias = "60", alias = "60/60/300", alias = "60-60-300")]
    Sixty,
}

/// Which ids are ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// Exactly four digits.
    Digits4,
    /// Any word of up to 36 printable ASCII characters.
    Token,
}

#[derive(clap::Args)]
struct ServerArgs {
    /// Serve UDP only (or give both; both is the default).
    #[arg(long, env = "AHOY_HELLO_UDP")]
    udp: bool,
    /// Serve TCP only (or give both).
    #[arg(long, env = "AHOY_HELLO_TCP")]
    tcp: bool,
    /// The address to listen on; 0.0.0.0 or :: for all.
    ip: String,
    /// The port, the same for both; 0 for any free one.
    port: u16,
    /// Which school's times to use where no option gives another.
    #[arg(long, value_enum, default_value_t, env = "AHOY_HELLO_PRESET")]
    preset: Preset,
    /// An id is in use for this long, in milliseconds [default: 30000].
    #[arg(long, value_name = "MS", env = "AHOY_HELLO_LEASE_MS",
          value_parser = clap::value_parser!(u64).range(1..))]
    lease_ms: Option<u64>,
    /// Exit after this long without a request, in milliseconds; 0: never [default: 120000].
    #[arg(long, value_name = "MS", env = "AHOY_HELLO_IDLE_MS")]
    idle_ms: Option<u64>,
    /// Close a connection that has not brought its request after this long, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 30_000, env = "AHOY_HELLO_REQUEST_MS",
          value_parser = clap::value_parser!(u64).range(1..))]
    request_ms: u64,
    /// Which ids are ids.
    #[arg(long, value_enum, default_value_t = Shape::Token, env = "AHOY_HELLO_ID_SHAPE")]
    id_shape: Shape,
    /// At most this many ids are in use at a time.
    #[arg(long, value_name = "N", default_value_t = 10_000, env = "AHOY_HELLO_LEASES",
          value_parser = clap::value_parser!(u32).range(1..=LEASES_MAX as i64))]
    leases: u32,
    /// At most this many clients may be connected without having asked; the oldest makes room.
    #[arg(long, value_name = "N", default_value_t = 1024, env = "AHOY_HELLO_CLIENTS",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    clients: u32,
    /// Go beyond the course against abuse: the owner of an id may ask again, one source gets only
    /// so many ids, and no datagram is answered by a longer one (clients need --protect too).
    #[arg(long, env = "AHOY_HELLO_PROTECT")]
    protect: bool,
    /// With --protect: at most this many ids for one address (IPv6: for one /64).
    #[arg(long, value_name = "N", default_value_t = 16, requires = "protect",
          value_parser = clap::value_parser!(u32).range(1..))]
    quota: u32,
    /// Print every request and what became of it.
    #[arg(long, short, env = "AHOY_HELLO_VERBOSE")]
    verbose: bool,
    /// Print every event as a line of JSON.
    #[arg(long, conflicts_with = "verbose", env = "AHOY_HELLO_JSON")]
    json: bool,
}

/// Runs the role that the arguments name.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.role {
        Role::Server(args) => serve(&args),
        Role::Client(args) => client::run(&args),
    }
}

impl Preset {
    fn lease(self) -> Duration {
        match self {
            Self::Classic => Duration::from_secs(30),
            Self::Sixty => Duration::from_secs(60),
        }
    }

    fn idle(self) -> Duration {
        match self {
            Self::Classic => Duration::from_secs(120),
            Self::Sixty => Duration::from_secs(300),
        }
    }

    fn reply(self) -> Duration {
        match self {
            Self::Classic => Duration::from_secs(15),
            Self::Sixty => Duration::from_secs(60),
        }
    }

    fn timestamps(self) -> bool {
        match self {
            Self::Classic => true,
            Self::Sixty => false,
        }
    }
}

impl From<Shape> for IdShape {
    fn from(shape: Shape) -> Self {
        match shape {
            Shape::Digits4 => Self::FourDigits,
            Shape::Token => Self::Token,
        }
    }
}

fn serve(args: &ServerArgs) -> anyhow::Result<ExitCode> {
    let log = Log::new(args.verbose, args.json);
    let config = config(args, log.wants_notes());
    let (sockets, addr) = bind(args)?;
    let mut on_note = log;
    printer::detach().context("no thread to print with")?;
    let service = async {
        // Whoever reads that we listen may send a signal at once.
        let stop = stop::requested()?;
        log.listening(
            addr,
            !sockets.datagrams.is_empty(),
            !sockets.listeners.is_empty(),
        );
        hello::serve(config, sockets, move |note| on_note.note(&note), stop).await
    };
    let ending = runtime::block_on(service)
        .flatten()
        .context("the hello server broke down")?;
    log.ended(ending == Ending::Exited);
    Ok(ExitCode::SUCCESS)
}

fn config(args: &ServerArgs, notes: bool) -> Config {
    let ms = Duration::from_millis;
    let idle = args.idle_ms.map_or(args.preset.idle(), ms);
    Config {
        lease: args.lease_ms.map_or(args.preset.lease(), ms),
        idle: (!idle.is_zero()).then_some(idle),
        request: ms(args.request_ms),
        shape: args.id_shape.into(),
        protect: args.protect.then_some(Protect {
            leases_per_source: args.quota,
        }),
        leases_max: args.leases as usize,
        conns_max: args.clients as usize,
        notes,
        ..Config::default()
    }
}

fn bind(args: &ServerArgs) -> anyhow::Result<(Sockets, SocketAddr)> {
    let addr = resolve(&host_and_port(&args.ip, args.port))?;
    let mut sockets = Sockets::default();
    let backlog = listen::BACKLOG_DEFAULT;
    let bound = if args.tcp == args.udp {
        listen::pair(addr, backlog).and_then(|(listener, datagrams)| {
            let bound = listener.local_addr();
            sockets.listeners.push(listener);
            sockets.datagrams.push(datagrams);
            bound
        })
    } else if args.tcp {
        listen::tcp(addr, backlog).and_then(|listener| {
            let bound = listener.local_addr();
            sockets.listeners.push(listener);
            bound
        })
    } else {
        listen::udp(addr).and_then(|datagrams| {
            let bound = datagrams.local_addr();
            sockets.datagrams.push(datagrams);
            bound
        })
    };
    let bound = bound
        .with_context(|| format!("cannot listen on {addr}"))
        .context(Hint(
            "choose an address of this machine and a free port, or port 0 for any".to_owned(),
        ))?;
    Ok((sockets, bound))
}
