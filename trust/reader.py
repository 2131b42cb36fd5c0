#!/usr/bin/env python3
"""A program on B reads a file in a tight loop while A rewrites it, again and again.

    trust/reader.py [--rewrites 10000]

A replaces the file as editors do, by a rename; every version has another length, every seventh does
not travel with its record but is fetched. The next one is written as soon as B shows the last. The
readers count what they must never see: no file, a short or a mixed one, or a version that is older
than one they have seen; and at the end nothing else may be in the folders."""

import argparse
import multiprocessing
import os
import sys
import time

from machines import Machine, Place, binary, is_whole, sealed, tree, wait_until


def read(path, stop, latest, out):
    counts = {"reads": 0, "missing": 0, "short_or_mixed": 0, "older": 0, "versions": 0}
    last = -1
    while not stop.is_set():
        for _ in range(50):
            counts["reads"] += 1
            try:
                with open(path, "rb") as file:
                    data = file.read()
            except FileNotFoundError:
                counts["missing"] += 1
                continue
            if not is_whole(data):
                counts["short_or_mixed"] += 1
                continue
            number = int(data.split(b"\n", 2)[1].split()[1])
            if number < last:
                counts["older"] += 1
            elif number > last:
                counts["versions"] += 1
                last = number
                with latest.get_lock():
                    latest.value = max(latest.value, number)
    out.put(counts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rewrites", type=int, default=10_000)
    parser.add_argument("--readers", type=int, default=1)
    parser.add_argument("--ahoy")
    parser.add_argument("--work")
    args = parser.parse_args()
    ahoy = binary(args.ahoy)
    with Place(args.work) as place:
        a, b = Machine(place, "a", ahoy), Machine(place, "b", ahoy)
        try:
            ticket = a.share()
            b.join(ticket)

            publish(a, sealed("version 0", 100))
            wait_until(lambda: "the first version does not arrive", (b.folder / "note").exists)
            stop, out = multiprocessing.Event(), multiprocessing.Queue()
            latest = multiprocessing.Value("q", -1)
            path = str(b.folder / "note")
            readers = [
                multiprocessing.Process(target=read, args=(path, stop, latest, out), daemon=True)
                for _ in range(args.readers)
            ]
            for reader in readers:
                reader.start()
            start = time.monotonic()
            for number in range(1, args.rewrites):
                wait_until(lambda: f"version {number - 1} does not arrive: {standing(a, b)}",
                           lambda: latest.value >= number - 1, pause_s=0.0002)
                size = 100_000 + number % 1000 if number % 7 == 0 else 100 + number * 37 % 3000
                publish(a, sealed(f"version {number}", size))
                if number % 1000 == 0:
                    seconds = time.monotonic() - start
                    print(f"  {number:,} rewrites in {seconds:.0f} s", file=sys.stderr, flush=True)
            wait_until(lambda: "the last version does not arrive",
                       lambda: latest.value == args.rewrites - 1)
            seconds = time.monotonic() - start
            stop.set()
            counts = [out.get() for _ in readers]
            for reader in readers:
                reader.join()
            beside = {name for machine in (a, b) for name in tree(machine.folder)} - {"note"}
        finally:
            b.stop()
            a.stop()
    total = {key: sum(count[key] for count in counts) for key in counts[0]}
    bad = total["missing"] + total["short_or_mixed"] + total["older"] + len(beside)
    print(f"reader: {args.rewrites:,} rewrites in {seconds:.0f} s, {total['reads']:,} reads, "
          f"{total['versions']:,} versions seen; {total['missing']} missing, "
          f"{total['short_or_mixed']} short or mixed, {total['older']} older than before, "
          f"{len(beside)} conflict copies")
    sys.exit(1 if bad else 0)


def standing(*machines):
    return [machine.ask("status", machine.folder, "--json").stdout for machine in machines]


def publish(machine, data):
    fresh = machine.folder.parent / "fresh"
    fresh.write_bytes(data)
    os.rename(fresh, machine.folder / "note")


if __name__ == "__main__":
    main()
