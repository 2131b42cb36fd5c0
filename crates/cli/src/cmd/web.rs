//! `ahoy web DIR`: serves the files of a folder over HTTP.
//!
//! Binds, prints where, and hands over to the server's loop. Which answer a request gets is
//! decided in `logic::web`; how it is sent, in `host::web`.

use std::fs::{self, OpenOptions};
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use ahoy_host::descriptors;
use ahoy_host::web::log::AccessLog;
use ahoy_host::web::stop::{Stop, stop_on_signals};
use ahoy_host::web::{self, Config, Counts, ServeError, WORKERS_MAX};
use ahoy_logic::web::{Limits, Site};
use anyhow::{Context, anyhow};

use super::{Hint, resolve, say};
use crate::printer;

/// Serve the files of a folder over HTTP.
#[derive(clap::Args)]
pub struct Args {
    /// The folder to serve.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Listen here, as ADDRESS:PORT; may be repeated. Port 0 takes any free one.
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "127.0.0.1:8080",
        env = "AHOY_WEB_LISTEN",
        value_delimiter = ','
    )]
    listen: Vec<String>,
    /// Answer 404 for a folder without index.html, instead of showing what is in it.
    #[arg(long, env = "AHOY_WEB_NO_LISTING")]
    no_listing: bool,
    /// Serve names that begin with a dot, too.
    #[arg(long, env = "AHOY_WEB_DOTFILES")]
    dotfiles: bool,
    /// Write one line for each request in the common log format: a file to append to, `-` for
    /// standard output, or `off`.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "-",
        env = "AHOY_WEB_ACCESS_LOG"
    )]
    access_log: String,
    /// Serve HTTPS with this certificate chain (PEM).
    #[arg(long, value_name = "FILE", requires = "key", env = "AHOY_WEB_CERT")]
    cert: Option<PathBuf>,
    /// The private key of the certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "cert", env = "AHOY_WEB_KEY")]
    key: Option<PathBuf>,
    /// Serve with this many threads.
    #[arg(long, value_name = "N", env = "AHOY_WEB_WORKERS", default_value_t = default_workers(),
          value_parser = parse_workers)]
    workers: usize,
    /// Keep at most this many connections; beyond, those silent for longest are closed.
    #[arg(long, value_name = "N", default_value_t = 16_384, env = "AHOY_WEB_CONNECTIONS",
          value_parser = parse_connections)]
    connections: usize,
    /// Close a connection after this long without a request.
    #[arg(long, value_name = "SECONDS", default_value = "60", env = "AHOY_WEB_IDLE",
          value_parser = parse_seconds)]
    idle: Duration,
    /// Give a request this long to arrive once it has begun.
    #[arg(long, value_name = "SECONDS", default_value = "10", env = "AHOY_WEB_REQUEST",
          value_parser = parse_seconds)]
    request: Duration,
    /// Give up an answer of which the client has taken nothing for this long.
    #[arg(long, value_name = "SECONDS", default_value = "60", env = "AHOY_WEB_STALL",
          value_parser = parse_seconds)]
    stall: Duration,
    /// On SIGTERM, wait at most this long for answers under way.
    #[arg(long, value_name = "SECONDS", default_value = "10", env = "AHOY_WEB_DRAIN",
          value_parser = parse_seconds)]
    drain: Duration,
    /// Answer about a file for this long without looking at the disk again.
    #[arg(long, value_name = "MS", default_value_t = 200, env = "AHOY_WEB_CACHE_MS",
          value_parser = clap::value_parser!(u64).range(0..=3_600_000))]
    cache_ms: u64,
}

/// Serves until SIGTERM or SIGINT.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = config(&args)?;
    descriptors::raise();
    let stop = Arc::new(Stop::new()?);
    let listeners = args
        .listen
        .iter()
        .map(|text| listen(text))
        .collect::<Result<Vec<_>, _>>()?;
    let access_log = open_access_log(&args.access_log)?;
    printer::detach().context("no thread to print with")?;
    stop_on_signals(stop.clone()).context("cannot wait for signals")?;
    let scheme = if config.tls.is_some() {
        "https"
    } else {
        "http"
    };
    for listener in &listeners {
        say(&format!(
            "Serving {} at {scheme}://{}/",
            args.dir.display(),
            listener.local_addr()?
        ));
    }
    let outcome = web::serve(&config, listeners, access_log.as_ref(), &stop);
    let dropped = access_log.map_or(0, AccessLog::finish);
    let counts = outcome.map_err(explain)?;
    say(&summary(&counts, dropped));
    Ok(ExitCode::SUCCESS)
}

fn config(args: &Args) -> anyhow::Result<Config> {
    let mut boundary_key = [0; 32];
    web::fill_random(&mut boundary_key)?;
    let tls = match (&args.cert, &args.key) {
        (Some(cert), Some(key)) => {
            let config = web::server_tls_config(&read_pem(cert)?, &read_pem(key)?);
            let config = config.map_err(|why| anyhow!("cannot serve HTTPS: {why}"));
            Some(config.context(Hint(
                "--cert wants a PEM certificate chain, --key its PEM private key".to_owned(),
            ))?)
        }
        (Some(_) | None, _) => None,
    };
    Ok(Config {
        root: args.dir.clone(),
        site: Site {
            listing: !args.no_listing,
            dotfiles: args.dotfiles,
            access_log: args.access_log != "off",
            boundary_key,
        },
        limits: Limits {
            idle_max: args.idle,
            request_max: args.request,
            stall_max: args.stall,
            ..Limits::default()
        },
        connections_max: args.connections,
        workers: args.workers,
        cache_validity: Duration::from_millis(args.cache_ms),
        drain_max: args.drain,
        tls,
    })
}

fn listen(text: &str) -> anyhow::Result<TcpListener> {
    let addr = resolve(text)?;
    web::listen(addr).map_err(|error| {
        let kind = error.kind();
        let hint = if kind == io::ErrorKind::AddrInUse {
            "choose another with --listen; port 0 takes any free one"
        } else if kind == io::ErrorKind::PermissionDenied {
            "ports below 1024 need a privilege; try 8080"
        } else {
            "--listen wants an address of this machine, for instance 127.0.0.1:8080"
        };
        anyhow::Error::new(error)
            .context(format!("cannot listen at {addr}"))
            .context(Hint(hint.to_owned()))
    })
}

fn open_access_log(text: &str) -> anyhow::Result<Option<AccessLog>> {
    let log = match text {
        "off" => return Ok(None),
        "-" => AccessLog::start(io::stdout()),
        path => OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .and_then(AccessLog::start),
    };
    log.map(Some)
        .with_context(|| format!("cannot write the access log {text}"))
        .context(Hint(
            "--access-log wants a file to append to, `-`, or `off`".to_owned(),
        ))
}

fn read_pem(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn explain(error: ServeError) -> anyhow::Error {
    let hint = match &error {
        ServeError::Root { .. } => "give an existing folder that you may read",
        ServeError::NoConfinement => "Linux 5.6 or newer is needed",
        ServeError::Loop(_) => "the descriptor limit may be too low; see `ulimit -n`",
    };
    anyhow::Error::new(error).context(Hint(hint.to_owned()))
}

fn summary(counts: &Counts, dropped: u64) -> String {
    let Counts {
        connections,
        requests,
        evicted,
    } = counts;
    let mut text = format!("Stopped after {requests} requests on {connections} connections");
    if *evicted > 0 {
        text.push_str(&format!(", {evicted} of them closed to make room"));
    }
    if dropped > 0 {
        text.push_str(&format!(", {dropped} batches of access log lines lost"));
    }
    text
}

/// One for each core, but few: a static server is rarely short of cores.
fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4))
}

fn parse_workers(text: &str) -> Result<usize, String> {
    parse_count(text, WORKERS_MAX)
}

fn parse_connections(text: &str) -> Result<usize, String> {
    parse_count(text, 1_000_000)
}

fn parse_count(text: &str, max: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if (1..=max).contains(&count) => Ok(count),
        Ok(_) | Err(_) => Err(format!("wants a number from 1 to {max}")),
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let secs: f64 = text
        .parse()
        .map_err(|_| "wants a number of seconds".to_owned())?;
    if (0.001..=86_400.0).contains(&secs) {
        Ok(Duration::from_secs_f64(secs))
    } else {
        Err("wants a number of seconds from 0.001 to 86400".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds() {
        assert_eq!(parse_seconds("0.25"), Ok(Duration::from_millis(250)));
        for bad in ["", "0", "-1", "nan", "inf", "1e99", "ten"] {
            assert!(parse_seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_summary_mentions_only_what_happened() {
        let counts = Counts {
            connections: 2,
            requests: 3,
            evicted: 0,
        };
        assert_eq!(
            summary(&counts, 0),
            "Stopped after 3 requests on 2 connections"
        );
        let counts = Counts {
            evicted: 1,
            ..counts
        };
        assert!(
            summary(&counts, 4)
                .ends_with("1 of them closed to make room, 4 batches of access log lines lost")
        );
    }
}
