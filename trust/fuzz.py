#!/usr/bin/env python3
"""Fuzzing: every target of `fuzz/`, the same processor time each, in turns.

    trust/fuzz.py [--minutes 60] [--jobs 2] [--target NAME ...]

Minutes are processor time of the target itself, so other work on the machine takes nothing away. What
was spent is kept in `--work` (`tally.json`), and the same command goes on from there after it was
ended with Ctrl-C. At the end, what `fuzz/corpus` did not reach yet is added to it. Needs cargo-fuzz;
the compiler's unstable options are asked of the stable one, so no other toolchain."""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading

from machines import ROOT

SLICE_S = 180
TARGETS = sorted(path.stem for path in (ROOT / "fuzz/fuzz_targets").glob("*.rs"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--target", action="append", choices=TARGETS)
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()) / "ahoy-fuzz")
    args = parser.parse_args()
    binaries = build()
    tally = Tally(args.work / "tally.json", args.target or TARGETS, args.minutes * 60)
    signal.signal(signal.SIGTERM, lambda *_: tally.stop())
    signal.signal(signal.SIGINT, lambda *_: tally.stop())
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as jobs:
        for done in [jobs.submit(fuzz, tally, binaries, args.work) for _ in range(args.jobs)]:
            done.result()
    if not tally.is_stopped:
        for target in tally.targets:
            added = merge(binaries / target, target, args.work)
            print(f"  {target}: {added} inputs added to the corpus", file=sys.stderr, flush=True)
    for target in tally.targets:
        spent = tally.of(target)
        print(f"{target:>10} {spent['cpu_s'] / 60:6.1f} min {spent['runs']:>13,} runs {spent['found']} found")
    sys.exit(1 if tally.failing else 0)


def build():
    """Builds all targets; the directory that they are in."""
    environment = os.environ | {"RUSTC_BOOTSTRAP": "1"}
    # What is fuzzed has no unsafe code, so the address sanitizer would find nothing and cost much.
    subprocess.run(["cargo", "fuzz", "build", "--sanitizer", "none"], check=True, cwd=ROOT, env=environment)
    return next((ROOT / "fuzz/target").glob("*-linux-*/release"))


class Tally:
    """How long each target ran and how often; whoever had the least is next."""

    def __init__(self, path, targets, enough_s):
        self.path, self.targets, self.enough_s = path, targets, enough_s
        self.spent = json.loads(path.read_text()) if path.exists() else {}
        self.lock, self.at_work, self.is_stopped = threading.Lock(), {}, False
        # Left until what was found is mended: they would find it again.
        self.failing = set()

    def of(self, target):
        return self.spent.setdefault(target, {"cpu_s": 0.0, "runs": 0, "found": 0})

    def take(self, start):
        """Starts a slice of the target that has had the least, if any has not had enough."""
        with self.lock:
            waiting = [it for it in self.targets if it not in self.at_work and self.is_short(it)]
            if self.is_stopped or not waiting:
                return None
            target = min(waiting, key=lambda it: self.of(it)["cpu_s"])
            self.at_work[target] = start(target, self.enough_s - self.of(target)["cpu_s"])
            return target

    def is_short(self, target):
        return self.of(target)["cpu_s"] < self.enough_s - 1 and target not in self.failing

    def add(self, target, cpu_s, runs, failed):
        with self.lock:
            spent = self.of(target)
            spent["cpu_s"] += cpu_s
            spent["runs"] += runs
            spent["found"] += failed
            if failed:
                self.failing.add(target)
            del self.at_work[target]
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fresh = self.path.with_suffix(".new")
            fresh.write_text(json.dumps(self.spent, indent=1))
            fresh.replace(self.path)

    def stop(self):
        self.is_stopped = True
        for running in list(self.at_work.values()):
            running.send_signal(signal.SIGINT)


def fuzz(tally, binaries, work):
    def start(target, left_s):
        found = work / "corpus" / target
        found.mkdir(parents=True, exist_ok=True)
        limits = [f"-max_total_time={max(1, min(SLICE_S, int(left_s)))}", "-timeout=60", "-print_final_stats=1"]
        return subprocess.Popen(
            [binaries / target, found, ROOT / "fuzz/corpus" / target, *limits, f"-artifact_prefix={work}/{target}-"],
            stdout=subprocess.DEVNULL, stderr=open(work / f"{target}.log", "wb"), start_new_session=True)

    while target := tally.take(start):
        running = tally.at_work[target]
        _, status, usage = os.wait4(running.pid, 0)
        code = running.returncode = os.waitstatus_to_exitcode(status)
        told = (work / f"{target}.log").read_text(errors="replace")
        runs = max((int(n) for n in re.findall(r"(?:^#|units: +)(\d+)", told, re.MULTILINE)), default=0)
        failed = code != 0 and not (tally.is_stopped and "run interrupted" in told)
        if failed:
            (work / f"{target}.failed.log").write_text(told)
            print(f"  {target}: exit {code}, see {work}/{target}.failed.log", file=sys.stderr, flush=True)
        tally.add(target, usage.ru_utime + usage.ru_stime, runs, failed)


def merge(binary, target, work):
    """Adds what reaches something new to the corpus in the repository; how many inputs."""
    corpus = ROOT / "fuzz/corpus" / target
    before = len(list(corpus.iterdir()))
    subprocess.run([binary, "-merge=1", corpus, work / "corpus" / target],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return len(list(corpus.iterdir())) - before


if __name__ == "__main__":
    main()
