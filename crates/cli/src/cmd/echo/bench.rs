//! `ahoy echo client --bench`: round-trip percentiles and throughput of an echo server.

use std::net::SocketAddr;
use std::time::Duration;

use ahoy_host::echo::bench::{self, Load, Throughput};
use ahoy_host::echo::client::ClientError;
use ahoy_wire::echo::{DATAGRAM_BYTES_MAX, PROBE_HEAD_BYTES};
use hdrhistogram::Histogram;
use serde_json::json;

use crate::cmd::say;

/// The longest round trip that is told apart, in nanoseconds: a minute.
const ROUND_TRIP_NS_MAX: u64 = 60_000_000_000;

/// Digits that a percentile keeps.
const DIGITS: u8 = 3;

/// The percentiles that are printed.
const PERCENTILES: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 99.99];

#[derive(clap::Args)]
pub(super) struct BenchArgs {
    /// Measure the server: round trips one at a time, then as much as goes.
    #[arg(long = "bench", conflicts_with = "text", env = "AHOY_ECHO_BENCH")]
    pub(super) wanted: bool,
    /// The size of a measured message, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 64, env = "AHOY_ECHO_SIZE",
          value_parser = clap::value_parser!(u32)
              .range(PROBE_HEAD_BYTES as i64..=DATAGRAM_BYTES_MAX as i64))]
    size: u32,
    /// How long each of the two phases lasts, in seconds.
    #[arg(long, value_name = "S", default_value_t = 3, env = "AHOY_ECHO_SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Datagrams on their way at once in the second phase.
    #[arg(long, value_name = "N", default_value_t = 64, env = "AHOY_ECHO_WINDOW",
          value_parser = clap::value_parser!(u64).range(1..=65_536))]
    window: u64,
    /// Print the figures as one JSON object for each transport.
    #[arg(long, env = "AHOY_ECHO_JSON")]
    json: bool,
}

/// Measures over the transports that were asked for, both when none was, and prints.
pub(super) fn run(
    args: &BenchArgs,
    addr: SocketAddr,
    (tcp, udp): (bool, bool),
    wait: Duration,
) -> Result<(), ClientError> {
    let load = Load {
        message_bytes: args.size as usize,
        phase: Duration::from_secs(args.seconds),
        window: args.window,
        wait,
    };
    if tcp || !udp {
        let mut times = histogram();
        let through = bench::stream(addr, load, |took| record(&mut times, took))?;
        print("TCP", args, &times, through);
    }
    if udp || !tcp {
        let mut times = histogram();
        let through = bench::datagrams(addr, load, |took| record(&mut times, took))?;
        print("UDP", args, &times, through);
    }
    Ok(())
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(ROUND_TRIP_NS_MAX, DIGITS).expect("the bounds are constants in range")
}

fn record(times: &mut Histogram<u64>, took: Duration) {
    times.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
}

fn print(transport: &str, args: &BenchArgs, times: &Histogram<u64>, through: Throughput) {
    let seconds = through.took.as_secs_f64();
    let mib_per_s = through.bytes as f64 / seconds / f64::from(1 << 20);
    let messages_per_s = through.messages as f64 / seconds;
    if args.json {
        let percentiles: serde_json::Map<_, _> = PERCENTILES
            .iter()
            .map(|p| (format!("p{p}"), times.value_at_percentile(*p).into()))
            .collect();
        let figures = json!({
            "transport": transport,
            "message_bytes": args.size,
            "round_trips": times.len(),
            "round_trip_ns": percentiles,
            "round_trip_ns_max": times.max(),
            "mib_per_s": mib_per_s,
            "messages_per_s": messages_per_s,
            "lost": through.lost,
        });
        say(&figures.to_string());
        return;
    }
    say(&format!("{transport}, {} bytes a message", args.size));
    say(&format!("  round trips   {:>12}", times.len()));
    for percentile in PERCENTILES {
        let us = times.value_at_percentile(percentile) as f64 / 1000.0;
        say(&format!("  {:13} {us:>12.1} us", format!("p{percentile}")));
    }
    say(&format!(
        "  longest       {:>12.1} us",
        times.max() as f64 / 1000.0
    ));
    if transport == "UDP" {
        say(&format!(
            "  messages      {messages_per_s:>12.0} /s, {} at once",
            args.window
        ));
        say(&format!("  lost          {:>12}", through.lost));
    }
    say(&format!("  throughput    {mib_per_s:>12.1} MiB/s each way"));
}
