//! The arguments of `ahoy check enroll` and `ahoy check enroll-client`.

use std::time::Duration;

use ahoy_check::case::Column;
use ahoy_check::enroll::{Client, Clients, Target, client_column, column};
use clap::ValueEnum;

use crate::cmd::{Hint, Misuse, resolve};

#[derive(clap::Args)]
pub(super) struct ServerArgs {
    /// The server, as HOST:PORT.
    #[arg(default_value = "127.0.0.1:12000")]
    addr: String,
    /// How many clients it serves at once: one after the other, or many.
    #[arg(
        long,
        value_name = "1|N",
        value_enum,
        ignore_case = true,
        default_value_t
    )]
    clients: AtOnce,
    /// The time after which it drops a client without a registration, in milliseconds; examined if
    /// given.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    idle_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum AtOnce {
    /// One at a time; the others wait.
    #[value(name = "1")]
    One,
    /// Many.
    #[default]
    #[value(name = "N")]
    Many,
}

#[derive(clap::Args)]
pub(super) struct ClientArgs {
    /// How long the client waits for the server, in milliseconds; examined if given.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    client_wait_ms: Option<u64>,
    /// The client and its arguments, with {host} and {port} where they belong; without either,
    /// `{host} {port}` is appended.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(super) fn server(args: &ServerArgs) -> anyhow::Result<Column> {
    Ok(column(&Target {
        addr: resolve(args.addr.as_str())?,
        clients: match args.clients {
            AtOnce::One => Clients::One,
            AtOnce::Many => Clients::Many,
        },
        idle: args.idle_ms.map(Duration::from_millis),
    }))
}

pub(super) fn client(args: &ClientArgs, only_list: bool) -> anyhow::Result<Column> {
    if args.command.is_empty() && !only_list {
        let misuse = Misuse("no client to examine".to_owned());
        let hint = "put its command behind --, as in: check enroll-client -- python3 client.py";
        return Err(anyhow::Error::new(misuse).context(Hint(hint.to_owned())));
    }
    Ok(client_column(&Client {
        command: args.command.clone(),
        wait: args.client_wait_ms.map(Duration::from_millis),
    }))
}
