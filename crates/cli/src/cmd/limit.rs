//! `ahoy limit`: changes how fast a running process may send and receive.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ahoy_host::sync::home::Home;
use ahoy_host::sync::status::{Reply, Request, ask};
use anyhow::anyhow;

use super::say;
use super::status::{find, find_one, strange};
use crate::live::hinted;
use crate::live::lines::limit_words;
use crate::rate::{self, Cap};

/// Change how fast a folder that is being synced is sent and received, at once and for the next
/// time; without --up and --down, say what holds now.
///
/// The limits are those of the process: all folders that it syncs share them.
#[derive(clap::Args)]
pub struct Args {
    /// The folder, or one inside it; needed if several are being synced.
    dir: Option<PathBuf>,
    /// Send at most so many bytes per second, such as 500K, 2M or 10Mbit/s; 0 for no limit.
    #[arg(long, value_name = "RATE", value_parser = rate::cap)]
    up: Option<Cap>,
    /// Receive at most so many bytes per second.
    #[arg(long, value_name = "RATE", value_parser = rate::cap)]
    down: Option<Cap>,
}

/// Tells the process, for each of its folders, so that each remembers it.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let home = Home::from_env().map_err(|error| hinted(error.hint(), error))?;
    let (_, share) = find_one(&home, args.dir.as_deref())?;
    let mut limits = share.limits;
    if let Some(Cap(up)) = args.up {
        limits.up = up;
    }
    if let Some(Cap(down)) = args.down {
        limits.down = down;
    }
    if args.up.is_some() || args.down.is_some() {
        let all = find(&home, None)?;
        for (socket, _) in all.iter().filter(|(_, it)| it.process == share.process) {
            tell(socket, &Request::Limit { limits })?;
        }
    }
    say(&limit_words(&limits).unwrap_or_else(|| "no limits".to_owned()));
    Ok(ExitCode::SUCCESS)
}

fn tell(socket: &Path, request: &Request) -> anyhow::Result<()> {
    match ask(socket, request)? {
        Reply::Limited => Ok(()),
        Reply::Refused { reason } => Err(anyhow!(reason)),
        Reply::Status { .. }
        | Reply::Ls { .. }
        | Reply::NoSuchPath
        | Reply::Ticket { .. }
        | Reply::Confirmed { .. }
        | Reply::Scrub { .. }
        | Reply::Stopping => Err(strange()),
    }
}
