//! `ahoy confirm`: the user's word that what has disappeared from a folder is meant to be gone.

use std::path::PathBuf;
use std::process::ExitCode;

use ahoy_host::sync::home::Home;
use ahoy_host::sync::status::{Reply, Request, ask};
use anyhow::anyhow;

use super::say;
use super::status::{find_one, strange};
use crate::live::hinted;
use crate::live::lines::plain;

/// Say that what has disappeared from a folder is meant to be deleted on all other machines too;
/// exit 1 if nothing waits for that word.
///
/// When more than half of a share of over 100 files disappears at once, or the folder is found
/// empty, ahoy deletes nothing elsewhere before it hears this. To take it back instead, put the
/// files back.
#[derive(clap::Args)]
pub struct Args {
    /// The folder, or one inside it.
    dir: PathBuf,
}

/// Tells the process that syncs it.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let home = Home::from_env().map_err(|error| hinted(error.hint(), error))?;
    let (socket, share) = find_one(&home, Some(&args.dir))?;
    match ask(&socket, &Request::Confirm)? {
        Reply::Confirmed { waited: true } => {
            say(&format!(
                "what has disappeared from {} is deleted elsewhere too",
                plain(&share.name)
            ));
            Ok(ExitCode::SUCCESS)
        }
        Reply::Confirmed { waited: false } => {
            say(&format!("nothing waits in {}", plain(&share.name)));
            Ok(ExitCode::from(1))
        }
        Reply::Refused { reason } => Err(anyhow!(reason)),
        Reply::Status { .. }
        | Reply::Ls { .. }
        | Reply::NoSuchPath
        | Reply::Ticket { .. }
        | Reply::Scrub { .. }
        | Reply::Limited
        | Reply::Stopping => Err(strange()),
    }
}
