//! `ahoy sync`: goes on with folders that are shared already.

use std::path::PathBuf;
use std::process::ExitCode;

use ahoy_host::sync::home::Home;

use super::{complain, explain};
use crate::live::{self, TicketWish, hinted};

/// Keep folders in sync that were shared or joined before, until stopped.
#[derive(clap::Args)]
pub struct Args {
    /// The folders.
    #[arg(required = true, num_args = 1..=FOLDERS_MAX)]
    dir: Vec<PathBuf>,
    #[command(flatten)]
    live: live::Foreground,
}

/// Most folders of one process; each has threads of its own.
const FOLDERS_MAX: usize = 64;

/// Runs until stopped. A folder that cannot be used is reported, and the others go on.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let home = Home::from_env().map_err(|error| hinted(error.hint(), error))?;
    let (mut claims, mut broken) = (Vec::new(), false);
    for dir in &args.dir {
        match home
            .resume(dir)
            .map_err(|error| hinted(error.hint(), error))
        {
            Ok(mut claim) => {
                args.live.keep_in(&mut claim)?;
                claims.push(claim);
            }
            Err(error) if args.dir.len() == 1 => return Err(error),
            Err(error) => {
                broken = true;
                complain(explain(&error).trim_end());
            }
        }
    }
    if claims.is_empty() {
        return Ok(ExitCode::from(3));
    }
    let code = live::run(&home, claims, &args.live, TicketWish::Nothing)?;
    Ok(if broken { ExitCode::from(3) } else { code })
}
