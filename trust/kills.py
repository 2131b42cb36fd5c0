#!/usr/bin/env python3
"""Ends ahoy at every system call of a run, or fails one, and shows that nothing comes of it.

    trust/kills.py                 killed at every system call, one after the other
    trust/kills.py --points 40     at so many of them, spread evenly
    trust/kills.py --errors        every (system call, errno) pair fails, at three places each

One round: users change both folders while B does not run. B starts under strace, which kills it at
the n-th call of one kind that a thread makes (or fails that call), while it takes in A's changes and
sends its own. What is then in B's folder must be whole files, old or new. B starts again without
strace, and within the limit both folders must be exactly what the users made of them, with no
temporary file left. The points are counted in a run that is only watched: all kinds of calls, for
each as often as the busiest thread makes it."""

import argparse
import collections
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

from machines import LIMIT_S, Machine, Place, binary, is_whole, litter, seal, sealed, tree, wait_until

# Calls that fail in life, with what they fail with.
ERRORS = {
    "openat": "EACCES EMFILE ENFILE ENOSPC EIO ENOMEM EROFS EINTR ENOENT",
    "openat2": "EACCES EMFILE ENFILE ENOSPC EIO ENOMEM EROFS EAGAIN ENOSYS ENOENT",
    "read": "EIO EINTR EAGAIN", "pread64": "EIO EINTR", "readv": "EIO",
    "write": "ENOSPC EIO EDQUOT EINTR EPIPE", "pwrite64": "ENOSPC EIO EDQUOT EINTR",
    "writev": "ENOSPC EIO ECONNRESET", "fsync": "EIO ENOSPC EDQUOT", "fdatasync": "EIO ENOSPC",
    "syncfs": "EIO ENOSPC", "ftruncate": "EIO ENOSPC EINTR", "fallocate": "ENOSPC EOPNOTSUPP EIO",
    "renameat": "EIO ENOSPC EACCES EXDEV EROFS", "renameat2": "EIO ENOSPC EACCES EXDEV EINVAL",
    "rename": "EIO ENOSPC EACCES", "unlinkat": "EIO EACCES EROFS EBUSY", "unlink": "EIO EACCES",
    "mkdirat": "ENOSPC EIO EACCES EDQUOT EMLINK", "mkdir": "ENOSPC EIO EACCES",
    "symlinkat": "ENOSPC EIO EPERM", "linkat": "EPERM ENOSPC EIO EMLINK",
    "fchmod": "EPERM EIO EROFS", "fchmodat": "EPERM EIO", "utimensat": "EPERM EIO EROFS",
    "statx": "EACCES EIO ENOMEM", "fstat": "EIO", "newfstatat": "EACCES EIO",
    "getdents64": "EIO ENOENT ENOMEM", "readlinkat": "EIO EACCES", "fstatfs": "EIO",
    "inotify_add_watch": "ENOSPC ENOMEM EACCES", "inotify_init1": "EMFILE ENFILE ENOMEM",
    "flock": "EINTR ENOLCK EWOULDBLOCK", "fcntl": "EAGAIN ENOLCK", "lseek": "EIO",
    "connect": "ECONNREFUSED ETIMEDOUT EINTR ENETUNREACH", "socket": "EMFILE ENOBUFS",
    "accept4": "EMFILE ECONNABORTED ENOBUFS", "sendto": "ECONNRESET EPIPE ENOBUFS EINTR",
    "recvfrom": "ECONNRESET EINTR ETIMEDOUT", "sendmsg": "ECONNRESET ENOBUFS",
    "recvmsg": "ECONNRESET EINTR", "poll": "EINTR ENOMEM", "ppoll": "EINTR ENOMEM",
    "epoll_wait": "EINTR", "bind": "EADDRINUSE EACCES", "listen": "EADDRINUSE",
    "getrandom": "EINTR", "copy_file_range": "EXDEV EIO ENOSPC EOPNOTSUPP", "pipe2": "EMFILE",
    "mmap": "ENOMEM", "clone3": "EAGAIN", "eventfd2": "EMFILE", "ioctl": "EIO ENOTTY",
}

# The start of the program, before it is ahoy: a kill there shows nothing about it.
NOT_OURS = {"execve", "arch_prctl", "set_tid_address", "exit", "exit_group", "restart_syscall"}

# Bytes that compress and repeat nowhere, the same in every round.
STEADY = random.Random(1).randbytes(1_500_000)


class World:
    """Two machines and what their users have made of the folder."""

    def __init__(self, place, ahoy):
        self.a, self.b = Machine(place, "a", ahoy), Machine(place, "b", ahoy)
        self.want = {}
        self.round = 0
        ticket = self.a.share()
        for n in range(6):
            self.write(self.a, f"old-{n}", 300)
        for n in range(3):
            self.mkdir(self.a, f"dir-{n}")
            self.write(self.a, f"dir-{n}/inside", 300)
        self.edit(self.a, "edited")
        self.put(self.a, "steady", seal(STEADY[:200_000]))
        self.b.join(ticket)
        self.settle("at the start")
        self.b.stop()

    # What users do, on disk and on paper.

    def write(self, machine, path, size):
        self.put(machine, path, sealed(f"{path} {self.round} {random.random()}", size))

    def edit(self, machine, path):
        """A big file of which little changes: the rest is taken from the older version."""
        middle = len(STEADY) // 2
        note = f"{self.round:20} {random.random():.15f}\n".encode()
        self.put(machine, path, seal(STEADY[:middle] + note + STEADY[middle:]))

    def copy(self, machine, path, to):
        """What B can take from its own folder."""
        self.put(machine, to, self.want[path])

    def put(self, machine, path, data):
        fresh = machine.folder.parent / f"fresh-{machine.name}"
        fresh.write_bytes(data)
        os.rename(fresh, machine.folder / path)
        self.want[path] = data

    def mkdir(self, machine, path):
        (machine.folder / path).mkdir()
        self.want[path] = b"/"

    def rename(self, machine, old, new):
        os.rename(machine.folder / old, machine.folder / new)
        for path in [p for p in self.want if p == old or p.startswith(old + "/")]:
            self.want[new + path[len(old):]] = self.want.pop(path)

    def remove(self, machine, path):
        if self.want.pop(path) == b"/":
            (machine.folder / path).rmdir()
        else:
            (machine.folder / path).unlink()

    def link(self, machine, path, target):
        os.symlink(target, machine.folder / path)
        self.want[path] = b"->" + target.encode()

    def deeds(self):
        """The same kinds of things each time, with fresh contents."""
        self.round += 1
        n = self.round
        a, b = self.a, self.b
        files = sorted(p for p, what in self.want.items() if what[:1] not in (b"/", b"-"))
        top = [p for p in files if "/" not in p and p.startswith("old")]
        self.write(a, f"old-a{n}", 400)
        self.write(a, f"old-big{n}", 90_000)
        self.write(a, top[0], 500)
        self.edit(a, "edited")
        for old in [p for p in self.want if p.startswith("copy-")]:
            self.remove(a, old)
        self.copy(a, "steady", f"copy-{n}")
        self.write(b, f"old-b{n}", 400)
        self.write(b, top[1], 500)
        self.rename(a, top[2], f"old-r{n}")
        self.remove(a, top[3])
        self.remove(b, top[4])
        self.mkdir(a, f"new-{n}")
        self.write(a, f"new-{n}/inside", 300)
        self.link(a, f"link-{n}", f"to-{n}")
        dirs = sorted(p for p, what in self.want.items() if what == b"/" and p.startswith("dir"))
        self.rename(a, dirs[0], f"dir-r{n}")
        for old in [p for p in self.want if p.startswith("link-") and p != f"link-{n}"]:
            self.remove(a, old)
        for old in [p for p in self.want if p.startswith("new-") and f"new-{n}" not in p and "/" in p]:
            self.remove(a, old)
            self.remove(a, old.split("/")[0])
        for old in [p for p in top[5:] if "big" in p]:
            self.remove(a, old)
        (a.folder / top[0]).chmod(0o600 if n % 2 else 0o644)

    # What must hold.

    def differences(self):
        said = []
        for machine in (self.a, self.b):
            try:
                have = tree(machine.folder)
            except (FileNotFoundError, NotADirectoryError):
                return ["it is still changing"]
            for path in sorted(have.keys() | self.want.keys()):
                if have.get(path) != self.want.get(path):
                    short = lambda what: None if what is None else what[:90]
                    said.append(f"{machine.name}/{path}: {short(have.get(path))} "
                                f"instead of {short(self.want.get(path))}")
        return said

    def settle(self, where, limit_s=LIMIT_S):
        """Both folders become what the users made of them, and B has nothing under way."""
        seconds = wait_until(
            lambda: f"{where}: no convergence: {self.differences()[:6]}",
            lambda: not self.differences(), limit_s,
        )
        # What it has not noted it cannot know to be deleted, if the user now does that.
        wait_until(lambda: f"{where}: B says {self.b.state}",
                   lambda: self.b.state == "in_sync", limit_s)
        wait_until(lambda: f"{where}: left in .ahoy: {litter(self.b.folder)}",
                   lambda: not litter(self.b.folder), limit_s)
        return seconds

    def whole(self, where):
        for path, data in tree(self.b.folder).items():
            if data[:1] not in (b"/", b"-") and not is_whole(data):
                raise AssertionError(f"{where}: b/{path} is not whole: {data[:80]}")

    def attempt(self, options, until, where):
        """B runs under strace until `until(process)`, or until everything has arrived."""
        self.deeds()
        trace = self.b.folder.parent / "trace"
        shutil.rmtree(trace, ignore_errors=True)
        trace.mkdir()
        # Not with --seccomp-bpf: strace 6.1 then sends a signal at the first call only.
        before = ["strace", "-f", "--quiet=all", *options(trace)]
        self.b.sync(before=before)
        until(self.b.process)
        ended = self.b.process.poll() is not None
        self.b.stop(signal.SIGKILL)
        self.whole(where)
        self.b.sync()
        seconds = self.settle(where)
        self.b.stop()
        return ended, seconds

    def close(self):
        self.b.stop(signal.SIGKILL)
        self.a.stop(signal.SIGKILL)


def count(world):
    """Calls that a round makes: for each kind as often as the busiest thread."""
    options = lambda trace: ["-ff", "-o", str(trace / "t")]
    trace = world.b.folder.parent / "trace"
    done = lambda process: (wait_until(lambda: "watched", lambda: not world.differences()),
                            time.sleep(0.2))
    world.attempt(options, done, "watched")
    most = collections.Counter()
    for file in trace.iterdir():
        calls = collections.Counter()
        for line in open(file, errors="replace"):
            name = re.match(r"([a-z0-9_]+)\(", line)
            if name:
                calls[name[1]] += 1
        for name, times in calls.items():
            most[name] = max(most[name], times)
    return {name: times for name, times in most.items() if name not in NOT_OURS}


def patient(world, limit_s):
    """Until it has been killed, or everything has arrived without that."""
    def until(process):
        end = time.monotonic() + limit_s
        while process.poll() is None and time.monotonic() < end and world.differences():
            time.sleep(0.02)
    return until


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--points", type=int, default=0, help="this many, spread evenly; 0: all")
    parser.add_argument("--passes", type=int, default=1, help="all of them so often")
    parser.add_argument("--part", default="1/1", help="i/n: only each n-th of them, from the i-th")
    parser.add_argument("--errors", action="store_true")
    parser.add_argument("--minutes", type=float, default=0, help="stop after this long; 0: never")
    parser.add_argument("--ahoy")
    parser.add_argument("--work")
    args = parser.parse_args()
    if not shutil.which("strace"):
        sys.exit("Error: strace is missing\nHint: apt-get install strace")
    end = time.monotonic() + args.minutes * 60 if args.minutes else float("inf")
    part, parts = map(int, args.part.split("/"))
    with Place(args.work) as place:
        world = World(place, binary(args.ahoy))
        try:
            calls = count(world)
            if args.errors:
                points = [(name, error, place) for name in sorted(calls.keys() & ERRORS.keys())
                          for error in ERRORS[name].split() for place in (1, 2, 3)]
            else:
                points = [(name, n) for name, most in sorted(calls.items())
                          for n in range(1, most + 1)]
            everything = len(points)  # Different ones.
            points *= args.passes
            random.Random(args.passes).shuffle(points)
            points = points[part - 1::parts]
            if args.points:
                points = points[:args.points]
            print(f"kills: {everything:,} points in a round: "
                  + ", ".join(f"{name} {most}" for name, most in sorted(calls.items())),
                  file=sys.stderr, flush=True)
            trials(world, points, calls, args, end, everything)
        finally:
            world.close()


def trials(world, points, calls, args, end, everything):
    hit = done = 0
    slowest = 0.0
    start = time.monotonic()
    pairs = set()
    for point in points:
        if time.monotonic() > end:
            break
        if args.errors:
            name, error, at = point
            n = max(1, calls[name] * (2 * at - 1) // 6)
            what = f"error={error}:when={n}..{n + 2}"
            pairs.add((name, error))
        else:
            name, n = point
            what = f"signal=KILL:when={n}"
        options = lambda _: ["-o", "/dev/null", "-e", f"trace={name}", "-e", f"inject={name}:{what}"]
        where = f"{name}:{what}"
        ended, seconds = world.attempt(options, patient(world, 3), where)
        done += 1
        hit += ended
        slowest = max(slowest, seconds)
        if done % 100 == 0:
            print(f"  {done:,} of {len(points):,}, {hit:,} got there, "
                  f"{done / (time.monotonic() - start):.1f}/s", file=sys.stderr, flush=True)
    minutes = (time.monotonic() - start) / 60
    if args.errors:
        print(f"errors: {len(pairs)} (call, errno) pairs at {done} places in {minutes:.0f} min, "
              f"{hit} ended the process; 0 lost, 0 not whole, 0 left over; "
              f"longest recovery {slowest:.1f} s")
    else:
        print(f"kills: {done:,} kills at {everything:,} points in {minutes:.0f} min, {hit:,} of them "
              f"got there; 0 lost, 0 not whole, 0 left over; longest recovery {slowest:.1f} s")
        if hit * 2 < done:
            sys.exit("Error: most of the kills did not happen, so this shows nothing\n"
                     "Hint: see with strace by hand whether it can kill at a call")


if __name__ == "__main__":
    main()
