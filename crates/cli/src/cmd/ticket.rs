//! `ahoy ticket`: asks a share that runs for a ticket.

use std::path::PathBuf;
use std::process::ExitCode;

use ahoy_host::sync::home::Home;
use ahoy_host::sync::status::{Reply, Request, ask};
use anyhow::anyhow;

use super::say;
use super::status::{find_one, strange};
use crate::live::hinted;

/// Print a ticket of a share that is being synced on this device.
#[derive(clap::Args)]
pub struct Args {
    /// The folder, or one inside it; needed if several are being synced.
    dir: Option<PathBuf>,
    /// Print a ticket that lets others read but not change.
    #[arg(long)]
    read_only: bool,
}

/// Prints it alone on its line.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let home = Home::from_env().map_err(|error| hinted(error.hint(), error))?;
    let (socket, _) = find_one(&home, args.dir.as_deref())?;
    match ask(
        &socket,
        &Request::Ticket {
            read_only: args.read_only,
        },
    )? {
        Reply::Ticket { ticket } => say(&ticket),
        Reply::Refused { reason } => return Err(anyhow!(reason)),
        Reply::Status { .. }
        | Reply::Ls { .. }
        | Reply::NoSuchPath
        | Reply::Confirmed { .. }
        | Reply::Scrub { .. }
        | Reply::Limited
        | Reply::Stopping => {
            return Err(strange());
        }
    }
    Ok(ExitCode::SUCCESS)
}
