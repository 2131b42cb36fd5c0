#!/usr/bin/env python3
"""A program swaps a directory and a link that leads out of the folder while ahoy writes and reads
there, again and again.

    trust/swaps.py [--swaps 1000000]

On B `d` and a link to a directory outside are exchanged by one system call each time, in bursts, while
A's user rewrites files in `d`. Nothing may be written, changed or removed outside, and nothing from
there may be sent to A: the files outside have the names that A writes, and contents that nobody else
has."""

import argparse
import ctypes
import os
import sys
import threading
import time

from machines import Machine, Place, binary, tree, wait_until

EXCHANGE = 2
AT_FDCWD = -100
SECRET = b"nobody inside may see this"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--swaps", type=int, default=1_000_000)
    parser.add_argument("--ahoy")
    parser.add_argument("--work")
    args = parser.parse_args()
    libc = ctypes.CDLL(None, use_errno=True)
    with Place(args.work) as place:
        a, b = Machine(place, "a", binary(args.ahoy)), Machine(place, "b", binary(args.ahoy))
        # The link is synced like any other; from A's folder it leads nowhere, so that what A's user
        # writes does not go there either.
        b.folder = place / "deep" / "b"
        outside = place / "deep" / "outside"
        outside.mkdir(parents=True)
        for n in range(20):
            (outside / f"f{n}").write_bytes(SECRET)
        try:
            ticket = a.share()
            (a.folder / "d").mkdir()
            b.join(ticket)
            wait_until(lambda: "d does not arrive", (b.folder / "d").exists)
            d, bait = os.fsencode(b.folder / "d"), os.fsencode(b.folder / "bait")
            os.symlink("../outside", bait)
            written = [0]
            stop = threading.Event()

            def user():
                while not stop.is_set():
                    n = written[0]
                    try:
                        with open(a.folder / f"d/f{n % 20}", "wb") as file:
                            file.write(b"%d " % n * (20_000 if n % 5 == 0 else 20))
                        written[0] += 1
                    except OSError:
                        pass
                    time.sleep(0.002)

            writer = threading.Thread(target=user)
            writer.start()
            start = time.monotonic()
            swaps = failed = arrived = 0
            last = {}
            while swaps < args.swaps:
                for _ in range(997):
                    if libc.renameat2(AT_FDCWD, d, AT_FDCWD, bait, EXCHANGE) == 0:
                        swaps += 1
                    else:
                        failed += 1
                        if not os.path.lexists(bait):
                            os.symlink("../outside", bait)
                for name in os.listdir(b.folder):
                    path = b.folder / name
                    if path.is_dir() and not path.is_symlink() and name != ".ahoy":
                        now = {f: (path / f).stat().st_mtime_ns for f in os.listdir(path)}
                        arrived += len(now.items() - last.items())
                        last = now
                time.sleep(0.003)
            seconds = time.monotonic() - start
            stop.set()
            writer.join()
            have = {name: (outside / name).read_bytes() for name in os.listdir(outside)}
            escapes = sum(data != SECRET for data in have.values()) + abs(len(have) - 20)
            leaks = sum(SECRET in data for data in tree(a.folder).values())
        finally:
            b.stop()
            a.stop()
    print(f"swaps: {swaps:,} in {seconds:.0f} s ({failed:,} that found one of the two gone), "
          f"{written[0]:,} files written by A, {arrived:,} seen to arrive on B; "
          f"{escapes} escapes, {leaks} leaks")
    sys.exit(1 if escapes or leaks else 0)


if __name__ == "__main__":
    main()
