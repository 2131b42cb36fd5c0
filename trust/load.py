#!/usr/bin/env python3
"""kill -9 at random moments under load: the test of `crates/cli/tests/sync/crash.rs`, again and again.

    trust/load.py [--cycles 200]

The receiver, the sender, or either of two that both edit is killed 20 times in each run of the test;
each run has another seed, so other moments. 200 cycles are ten runs of all three."""

import argparse
import json
import os
import subprocess
import sys
import time

from machines import ROOT

CYCLES_OF_A_RUN = 20


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cycles", type=int, default=200)
    parser.add_argument("--first-seed", type=int, default=1)
    args = parser.parse_args()
    test = build()
    runs, start = -(-args.cycles // CYCLES_OF_A_RUN), time.monotonic()
    failed, passed = [], 0
    for seed in range(args.first_seed, args.first_seed + runs):
        ended = subprocess.run(
            [test, "crash::", "--test-threads", "1"], capture_output=True, text=True,
            env=os.environ | {"AHOY_TEST_SEED": str(seed)}, cwd=ROOT / "crates/cli", check=False)
        passed += ended.stdout.count(" ... ok\n")
        if ended.returncode != 0:
            failed.append(seed)
            print(ended.stdout[-4000:], file=sys.stderr)
        print(f"  seed {seed}: {'failed' if ended.returncode else 'fine'}", file=sys.stderr, flush=True)
    minutes = (time.monotonic() - start) / 60
    print(f"load: {runs * CYCLES_OF_A_RUN} cycles of each test, {passed * CYCLES_OF_A_RUN} kills and more in "
          f"{passed} runs, in {minutes:.0f} min; {len(failed)} failed{f': seeds {failed}' if failed else ''}")
    sys.exit(1 if failed else 0)


def build():
    words = ["cargo", "test", "-p", "ahoy-cli", "--test", "sync", "--no-run", "--message-format=json"]
    built = subprocess.run(words, check=True, capture_output=True, text=True, cwd=ROOT)
    for line in built.stdout.splitlines():
        made = json.loads(line)
        if made.get("executable") and made["target"]["name"] == "sync":
            return made["executable"]
    sys.exit("Error: cargo built no test")


if __name__ == "__main__":
    main()
