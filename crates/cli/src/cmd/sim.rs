//! `ahoy sim`: runs the imagined world, seed by seed, and tells the story of a run that fails.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use ahoy_sim::{Failure, Run, shrink};
use anyhow::{Context, anyhow};

use super::{Hint, Misuse, complain, say};

/// Seeds that are run if none are named.
const SEEDS: u64 = 1000;

/// Most threads.
const JOBS_MAX: usize = 256;

/// After so many seeds there is a word on how far it is.
const PROGRESS_SEEDS: u64 = 1000;

/// Most failing seeds that are remembered; the others are counted.
const FAILURES_MAX: usize = 100;

/// Try the sync engine in an imagined world of bad networks, disks, clocks and users.
#[derive(clap::Args)]
pub struct Args {
    /// Run this seed alone, twice, and tell its story if it fails.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Run these seeds, the last one not included.
    #[arg(long, value_name = "A..B", value_parser = parse_range)]
    seeds: Option<Range>,
    /// Run so many seeds at the same time; as many as there are processors if not given.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Tell the whole run of a seed that fails, not its shortest form.
    #[arg(long, requires = "seed")]
    whole: bool,
}

#[derive(Debug, Clone, Copy)]
struct Range {
    from: u64,
    to: u64,
}

/// Exit 1 if an invariant did not hold.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.seed {
        Some(seed) => one(seed, args.whole),
        None => many(
            args.seeds.unwrap_or(Range { from: 0, to: SEEDS }),
            args.jobs,
        ),
    }
}

fn parse_range(text: &str) -> Result<Range, String> {
    let numbers = text.split_once("..").and_then(|(from, to)| {
        let from = from.trim().parse().ok()?;
        Some(Range {
            from,
            to: to.trim().parse().ok()?,
        })
    });
    let range = numbers.ok_or("write it as FIRST..END, for instance 0..1000")?;
    if range.from < range.to {
        Ok(range)
    } else {
        Err("there is no seed in it".into())
    }
}

fn one(seed: u64, whole: bool) -> anyhow::Result<ExitCode> {
    let run = Run::of(seed);
    say(&format!("seed {seed}: {:?}", run.weather));
    let first = run.play(false);
    if run.play(false) != first {
        return Err(anyhow!("seed {seed} is not the same run twice"));
    }
    let failure = match first {
        Ok(passed) => {
            let trace: String = passed.trace.iter().map(|b| format!("{b:02x}")).collect();
            say(&format!(
                "all is well after {} events, twice the same",
                passed.events
            ));
            say(&format!("trace {trace}"));
            return Ok(ExitCode::SUCCESS);
        }
        Err(failure) => failure,
    };
    say(&format!("seed {seed} fails: {failure}"));
    if whole {
        if let Err(failure) = run.play(true) {
            tell(&failure);
        }
    } else if let Some(shrunk) = shrink(&run) {
        say(&format!(
            "shrunk from {} planned things to {}, with {:?}",
            shrunk.planned, shrunk.kept, shrunk.run.weather
        ));
        tell(&shrunk.failure);
    }
    Ok(ExitCode::from(1))
}

/// The columns: milliseconds, machine, kind of event, what happened.
fn tell(failure: &Failure) {
    for line in &failure.story {
        say(&line.to_string());
    }
    for line in &failure.state {
        say(line);
    }
    say(&format!("{failure}"));
}

fn many(range: Range, jobs: Option<usize>) -> anyhow::Result<ExitCode> {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let jobs = jobs.unwrap_or(processors);
    if !(1..=JOBS_MAX).contains(&jobs) {
        let misuse = Misuse(format!("{jobs} jobs are not possible"));
        let hint = Hint(format!("take a number from 1 to {JOBS_MAX}"));
        return Err(anyhow::Error::new(misuse).context(hint));
    }
    let (next, done) = (AtomicU64::new(range.from), AtomicU64::new(0));
    let (failed, events) = (AtomicU64::new(0), AtomicU64::new(0));
    let failures = Mutex::new(Vec::new());
    let started = Instant::now();
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= range.to {
            return;
        }
        match Run::of(seed).play(false) {
            Ok(passed) => drop(events.fetch_add(passed.events, Ordering::Relaxed)),
            Err(failure) => {
                failed.fetch_add(1, Ordering::Relaxed);
                events.fetch_add(failure.events, Ordering::Relaxed);
                complain(&format!("seed {seed} fails: {failure}"));
                if let Ok(mut failures) = failures.lock()
                    && failures.len() < FAILURES_MAX
                {
                    failures.push(seed);
                }
            }
        }
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        if done.is_multiple_of(PROGRESS_SEEDS) {
            let seconds = started.elapsed().as_secs_f64();
            complain(&format!(
                "{done} of {} seeds, {} failed, {:.0} seeds/s",
                range.to - range.from,
                failed.load(Ordering::Relaxed),
                done as f64 / seconds
            ));
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        threads.into_iter().all(|thread| thread.join().is_ok())
    })
    .then_some(())
    .context("a run panicked; its seed is one of the last ones before")?;
    let failed = failed.into_inner();
    say(&format!(
        "{} seeds ({}..{}), {} events, {failed} failed, {:.1} s",
        range.to - range.from,
        range.from,
        range.to,
        events.into_inner(),
        started.elapsed().as_secs_f64()
    ));
    let mut seeds = failures.into_inner().unwrap_or_default();
    seeds.sort_unstable();
    if let Some(first) = seeds.first() {
        say(&format!("`ahoy sim --seed {first}` tells its story"));
        return Ok(ExitCode::from(1));
    }
    Ok(ExitCode::SUCCESS)
}
