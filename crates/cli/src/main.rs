//! The roof: parses the command line, prints, and sees every floor; decides nothing about
//! protocols.

mod cmd;
mod live;
mod printer;
mod rate;
mod words;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

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
    Confirm(cmd::confirm::Args),
    Limit(cmd::limit::Args),
    Scrub(cmd::scrub::Args),
    Check(cmd::check::Args),
    Sim(cmd::sim::Args),
    Tracker(cmd::tracker::Args),
    Classic(cmd::classic::Args),
    Web(cmd::web::Args),
    Echo(cmd::echo::Args),
    Enroll(cmd::enroll::Args),
    Hello(cmd::hello::Args),
}

/// Exit codes: 0 fine, 1 the answer is no, 2 misuse (clap's own, and `Misuse`), 3 broke.
fn main() -> ExitCode {
    let cli = Cli::parse();
    // What an imagined machine has to warn of is nobody's trouble.
    let is_imagined = matches!(cli.verb, Verb::Sim(_));
    log_to_stderr(if is_imagined {
        LevelFilter::ERROR
    } else {
        LevelFilter::WARN
    });
    let outcome: anyhow::Result<ExitCode> = match cli.verb {
        Verb::Share(args) => cmd::share::run(args),
        Verb::Join(args) => cmd::join::run(args),
        Verb::Sync(args) => cmd::sync::run(args),
        Verb::Status(args) => cmd::status::run(args),
        Verb::Peers(args) => cmd::peers::run(args),
        Verb::Ls(args) => cmd::ls::run(args),
        Verb::Ticket(args) => cmd::ticket::run(args),
        Verb::Confirm(args) => cmd::confirm::run(args),
        Verb::Limit(args) => cmd::limit::run(args),
        Verb::Scrub(args) => cmd::scrub::run(args),
        Verb::Check(args) => cmd::check::run(args),
        Verb::Sim(args) => cmd::sim::run(args),
        Verb::Tracker(args) => cmd::tracker::run(args),
        Verb::Classic(args) => cmd::classic::run(args),
        Verb::Web(args) => cmd::web::run(args),
        Verb::Echo(args) => cmd::echo::run(args),
        Verb::Enroll(args) => cmd::enroll::run(args),
        Verb::Hello(args) => cmd::hello::run(args),
    };
    let code = match outcome {
        Ok(code) => code,
        Err(error) => {
            cmd::complain(cmd::explain(&error).trim_end());
            let misuse = error.downcast_ref::<cmd::Misuse>().is_some();
            ExitCode::from(if misuse { 2 } else { 3 })
        }
    };
    printer::finish();
    code
}

/// What the floors below report, on standard error: from `level` on, or what `AHOY_LOG` asks
/// for (`AHOY_LOG=debug`, `AHOY_LOG=ahoy_host=trace`).
fn log_to_stderr(level: LevelFilter) {
    let warnings = EnvFilter::builder().with_default_directive(level.into());
    let filter = warnings.with_env_var("AHOY_LOG").from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| printer::LogWriter)
        // Otherwise it would complain on the same standard error, and panic if nobody reads it.
        .log_internal_errors(false)
        .init();
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_verbs_and_their_options_do_not_clash() {
        super::Cli::command().debug_assert();
    }
}
