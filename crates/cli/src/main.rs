//! The roof: parses the command line, prints, and sees every floor; decides nothing about protocols.

mod cmd;
mod live;
mod words;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Keep folders the same on all your machines, with nobody in between.
#[derive(Parser)]
#[command(name = "ahoy", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

/// One verb, one file under `cmd/`; each has `Args` and `run(Args) -> anyhow::Result<ExitCode>`.
#[derive(Subcommand)]
enum Verb {
    Share(cmd::share::Args),
    Join(cmd::join::Args),
    Sync(cmd::sync::Args),
    Status(cmd::status::Args),
    Peers(cmd::peers::Args),
    Ls(cmd::ls::Args),
    Ticket(cmd::ticket::Args),
    Check(cmd::check::Args),
    Web(cmd::web::Args),
}

/// Exit codes: 0 fine, 1 the answer is no, 2 misuse (clap's own, and `Misuse`), 3 broke.
fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome: anyhow::Result<ExitCode> = match cli.verb {
        Verb::Share(args) => cmd::share::run(args),
        Verb::Join(args) => cmd::join::run(args),
        Verb::Sync(args) => cmd::sync::run(args),
        Verb::Status(args) => cmd::status::run(args),
        Verb::Peers(args) => cmd::peers::run(args),
        Verb::Ls(args) => cmd::ls::run(args),
        Verb::Ticket(args) => cmd::ticket::run(args),
        Verb::Check(args) => cmd::check::run(args),
        Verb::Web(args) => cmd::web::run(args),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprint!("{}", cmd::explain(&error));
            let misuse = error.downcast_ref::<cmd::Misuse>().is_some();
            ExitCode::from(if misuse { 2 } else { 3 })
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_verbs_and_their_options_do_not_clash() {
        super::Cli::command().debug_assert();
    }
}
