//! The arguments of `ahoy check hello` and `ahoy check hello-client`.

use std::time::Duration;

use ahoy_check::case::Column;
use ahoy_check::hello::{Client, Target, client_column, column};

use crate::cmd::{Hint, Misuse, resolve};

/// The course's times, for an examination in real time.
const LEASE: Duration = Duration::from_secs(30);
const IDLE: Duration = Duration::from_secs(120);
const REPLY: Duration = Duration::from_secs(15);

#[derive(clap::Args)]
pub(super) struct ServerArgs {
    /// The server, as HOST:PORT.
    #[arg(default_value = "127.0.0.1:5000")]
    addr: String,
    /// Examine it over TCP only (or give both; both is the default).
    #[arg(long)]
    tcp: bool,
    /// Examine it over UDP only (or give both; both is the default).
    #[arg(long)]
    udp: bool,
    /// How long the server keeps an id in use, in milliseconds; examined if given.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    lease_ms: Option<u64>,
    /// How long the server waits for requests before it exits, in milliseconds; examined if given.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    idle_ms: Option<u64>,
    /// Examine the course's own times, 30 s and 120 s; takes about eight minutes.
    #[arg(long, conflicts_with_all = ["lease_ms", "idle_ms"])]
    real_time: bool,
    /// The server was started with --protect.
    #[arg(long)]
    protect: bool,
}

#[derive(clap::Args)]
pub(super) struct ClientArgs {
    /// The client speaks TCP; without this, UDP.
    #[arg(long)]
    tcp: bool,
    /// How long the client waits for a reply, in milliseconds; examined if given.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    client_reply_ms: Option<u64>,
    /// Examine the course's own time, 15 s; takes about a minute.
    #[arg(long, conflicts_with = "client_reply_ms")]
    real_time: bool,
    /// The client prints its lines without the time.
    #[arg(long)]
    no_time: bool,
    /// The client and its arguments, with {ip}, {port} and {id} where they belong; without any of
    /// them `HELLO {ip} {port} {id}` is appended.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(super) fn server(args: &ServerArgs) -> anyhow::Result<Column> {
    let both = args.tcp == args.udp;
    let ms = |ms: Option<u64>| ms.map(Duration::from_millis);
    Ok(column(&Target {
        addr: resolve(args.addr.as_str())?,
        tcp: args.tcp || both,
        udp: args.udp || both,
        lease: ms(args.lease_ms).or(args.real_time.then_some(LEASE)),
        idle: ms(args.idle_ms).or(args.real_time.then_some(IDLE)),
        protect: args.protect,
    }))
}

pub(super) fn client(args: &ClientArgs, only_list: bool) -> anyhow::Result<Column> {
    if args.command.is_empty() && !only_list {
        let misuse = Misuse("no client to examine".to_owned());
        let hint = "put its command behind --, as in: check hello-client -- python3 client.py";
        return Err(anyhow::Error::new(misuse).context(Hint(hint.to_owned())));
    }
    let reply = args.client_reply_ms.map(Duration::from_millis);
    Ok(client_column(&Client {
        command: args.command.clone(),
        tcp: args.tcp,
        reply: reply.or(args.real_time.then_some(REPLY)),
        timestamps: !args.no_time,
    }))
}
