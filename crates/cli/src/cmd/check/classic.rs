//! The arguments of `ahoy check tracker` and `ahoy check peer`.

use std::time::Duration;

use ahoy_check::case::Column;
use ahoy_check::classic::{Client, Target, client_column, column};

use super::{Hint, Misuse, resolve};

#[derive(clap::Args)]
pub(super) struct TrackerArgs {
    /// The tracker, as HOST:PORT.
    #[arg(default_value = "127.0.0.1:7447")]
    addr: String,
    /// It speaks the older generation: its answers need not end with a line end.
    #[arg(long)]
    bare: bool,
    /// The silence after which it forgets a peer, in milliseconds; examined if given.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    timeout_ms: Option<u64>,
}

#[derive(clap::Args)]
pub(super) struct PeerArgs {
    /// It serves requests of the newer generation only (or give both; both is the default).
    #[arg(long)]
    lines: bool,
    /// It serves requests of the older generation only (or give both).
    #[arg(long)]
    bare: bool,
    /// The longest time between two of its messages to the tracker, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 5_000,
          value_parser = clap::value_parser!(u64).range(1..=600_000))]
    interval_ms: u64,
    /// The peer and its arguments, with {ip} and {port} of the tracker and the folder {dir} where
    /// they belong. Without the first two, {ip} {port} is appended; without the last it is started
    /// inside the folder, so name the program by its whole path.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(super) fn tracker(args: &TrackerArgs) -> anyhow::Result<Column> {
    Ok(column(&Target {
        addr: resolve(&args.addr)?,
        bare: args.bare,
        timeout: args.timeout_ms.map(Duration::from_millis),
    }))
}

pub(super) fn peer(args: &PeerArgs, only_list: bool) -> anyhow::Result<Column> {
    if args.command.is_empty() && !only_list {
        let misuse = Misuse("no peer to examine".to_owned());
        let hint = "put its command behind --, as in: check peer -- python3 /home/me/peer.py";
        return Err(anyhow::Error::new(misuse).context(Hint(hint.to_owned())));
    }
    let both = args.lines == args.bare;
    Ok(client_column(&Client {
        command: args.command.clone(),
        lines: args.lines || both,
        bare: args.bare || both,
        interval: Duration::from_millis(args.interval_ms),
    }))
}
