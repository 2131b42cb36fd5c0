#!/usr/bin/env python3
"""Power cuts: B's disk forgets everything that was not flushed, at any moment, and B starts again.

    trust/power.py [--cuts 120]        (root: it mounts an ext4 on a drive of its own, see drive.py)
    trust/power.py --without fsync     the control: that call does nothing, which has to be found

B's folder and B's state are on an ext4 with a journal, on a loop device over a drive that can be cut.
Users on A and B write, rewrite, rename and remove files, alone and by the dozen, some with programs
that sync what they write and some not, and at times while ahoy is not running on B. After each cut the disk that is left is mounted, and must have, whole, everything that B had
reported as brought, and nothing short or mixed of what it was sending itself and A has. Then B starts
as after a boot, and both must come to what the users made: what the index claimed and the disk lacked
would show as a deletion or an edit that nobody made."""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from drive import Drive
from machines import Machine, Place, binary, is_whole, litter, sealed, tree, wait_until

DRIVE_BYTES = 192 << 20
FILES_MAX = 80
HOW = ("nothing", "some", "torn")
WHEN = ("busy", "told", "busy", "late")
SYNCING = "fsync fdatasync syncfs sync_file_range msync"


class File:
    """One path in the users' minds: what it held, in order (None: removed), and from which of that
    on something is known to be safe."""

    def __init__(self):
        self.versions, self.safe = [None], 0

    def now(self):
        return self.versions[-1]

    def is_settled(self):
        return self.safe == len(self.versions) - 1

    def may_be(self, data):
        return any(data == version for version in self.versions[self.safe:])


class World:
    def __init__(self, place, ahoy, seed, without):
        self.dice, self.place, self.without = random.Random(seed), place, without
        self.mount, self.boots, self.number, self.flushes = place / "mount", 0, 0, 0
        self.mount.mkdir()
        self.drive = Drive(place, DRIVE_BYTES)
        subprocess.run(["mkfs.ext4", "-q", "-F", self.drive.attach()], check=True)
        self.plug()
        self.a, self.b = Machine(place, "a", ahoy), Machine(place, "b", ahoy)
        self.b.home, self.b.folder = self.mount / "home", self.mount / "b"
        self.files = {"a": {}, "b": {}}
        ticket = self.a.share()
        self.b.start("join", ticket, self.b.folder, "--verbose", before=self.boot())
        self.b.drain()
        wait_until(lambda: "they do not meet", lambda: self.b.state == "in_sync")

    def boot(self):
        """Words before B's command: another boot id, and the call that is to do nothing."""
        self.boots += 1
        boot = self.place / "boot"
        boot.write_text(f"{self.boots:08x}-0000-4000-8000-000000000000\n")
        bind = f"mount --bind {boot} /proc/sys/kernel/random/boot_id && exec \"$@\""
        words = ["unshare", "-m", "sh", "-c", bind, "boot"]
        if self.without:
            words += ["strace", "-f", "--seccomp-bpf", "--quiet=all", "-o", "/dev/null",
                      "-e", f"inject={self.without}:retval=0"]
        return words

    def plug(self):
        subprocess.run(["mount", self.drive.device, str(self.mount)], check=True)

    def unplug(self):
        subprocess.run(["umount", str(self.mount)], check=True)
        # The name space of a process that was killed may hold it for a moment longer.
        known = Path("/sys/fs/ext4") / Path(self.drive.device).name
        wait_until(lambda: f"{known} is still there", lambda: not known.exists())
        self.drive.detach()

    # What users do.

    def write(self, machine, path, size):
        """As editors do; half of them sync the file, and none its name."""
        self.number += 1
        data = sealed(f"{path} {self.number}", size)
        fresh = machine.folder.parent / f"fresh-{machine.name}"
        with open(fresh, "wb") as file:
            file.write(data)
            if self.dice.random() < 0.5:
                file.flush()
                os.fsync(file.fileno())
        os.rename(fresh, machine.folder / path)
        self.files[machine.name].setdefault(path, File()).versions.append(data)

    def rename(self, machine, path):
        self.number += 1
        files, new = self.files[machine.name], f"{machine.name}-{self.number}"
        os.rename(machine.folder / path, machine.folder / new)
        files.setdefault(new, File()).versions.append(files[path].now())
        files[path].versions.append(None)

    def remove(self, machine, path):
        (machine.folder / path).unlink()
        self.files[machine.name][path].versions.append(None)

    def deed(self, machine):
        files = self.files[machine.name]
        there = [path for path, file in files.items() if file.now() is not None
                 and (machine is self.b or file.is_settled())]
        size = self.dice.choice((200, 200, 5_000, 70_000, 300_000))
        what = self.dice.random()
        if what < 0.1:
            self.number += 1
            name = f"{machine.name}-dir-{self.number}"
            (machine.folder / name).mkdir()
            for n in range(30):
                self.write(machine, f"{name}/{n}", 2_000)
        elif not there or (what < 0.4 and len(there) < FILES_MAX):
            self.write(machine, f"{machine.name}-{self.number}", size)
        elif what < 0.7:
            self.write(machine, self.dice.choice(there), size)
        elif what < 0.85 and machine is self.b:
            self.rename(machine, self.dice.choice(there))
        else:
            self.remove(machine, self.dice.choice(there))

    def note_brought(self):
        """A does not touch a file again before B has reported the last change of it."""
        for path, removed in self.b.news():
            file = self.files["a"].get(path)
            if file is not None and (file.now() is None) == removed:
                file.safe = len(file.versions) - 1

    def note_seen(self, have):
        """What A has from B, B must have for good."""
        for path, file in self.files["b"].items():
            places = [n for n, data in enumerate(file.versions) if data == have.get(path)]
            # What A has never had, it has not seen the end of.
            if places and (path in have or file.safe > 0):
                file.safe = max(file.safe, places[-1])

    # What is going on when the power fails.

    def work(self):
        """Much, on both."""
        end = time.monotonic() + self.dice.uniform(0.05, 2.5)
        while time.monotonic() < end:
            self.deed(self.dice.choice((self.a, self.a, self.b)))
            self.note_brought()
            time.sleep(self.dice.uniform(0, 0.03))
        time.sleep(self.dice.uniform(0, 0.1))

    def tell(self):
        """B's user has done a few things, and A has just got to know."""
        for _ in range(self.dice.randrange(1, 5)):
            self.deed(self.b)
        self.wait_for_a()

    def tell_late(self):
        """The same while ahoy was not running there."""
        self.b.stop()
        for _ in range(self.dice.randrange(1, 5)):
            self.deed(self.b)
        time.sleep(self.dice.uniform(2.1, 4))
        self.start_b()
        self.wait_for_a()

    def wait_for_a(self):
        def knows():
            have = tree_at_rest(self.a.folder)
            return all(have.get(path) == file.now() for path, file in self.files["b"].items())
        wait_until(lambda: "A does not get to know", knows)

    # One cut.

    def cut(self, how, when):
        {"busy": self.work, "told": self.tell, "late": self.tell_late}[when]()
        open_writes, kept = self.drive.cut(how, self.dice.random())
        os.killpg(self.b.process.pid, signal.SIGKILL)
        self.drive.drain()
        self.b.stop(signal.SIGKILL)
        # All that B has said and sent it said and sent before the cut, or needed no disk for.
        self.b.listener.join()
        self.note_brought()
        self.note_seen(tree_at_rest(self.a.folder))
        self.unplug()
        self.flushes = self.drive.revive()
        self.drive.attach()
        self.plug()
        promised = sum(file.safe > 0 for files in self.files.values() for file in files.values())
        left = tree(self.b.folder)
        self.look(left)
        self.b.news()
        self.start_b()
        started = time.monotonic()
        wait_until(lambda: f"B does not get in sync: {self.b.state}",
                   lambda: self.b.state == "in_sync")
        wait_until(lambda: f"no convergence: A {self.a.state}, B {self.b.state}, "
                           f"{self.differences(left)[:6]}",
                   lambda: not self.differences(left), pause_s=0.05)
        wait_until(lambda: f"left in .ahoy: {litter(self.b.folder)}",
                   lambda: not litter(self.b.folder))
        return open_writes, kept, promised, time.monotonic() - started

    def start_b(self):
        self.b.sync("--verbose", before=self.boot())

    def look(self, left):
        """At what the disk has after the cut, before anybody has touched it."""
        for name, files in self.files.items():
            for path, file in files.items():
                data = left.get(path)
                if file.may_be(data) or (name == "b" and self.is_own(file, data)):
                    continue
                raise AssertionError(f"after the cut b/{path} is {short(data)}, and had been "
                                     f"{short(file.versions[file.safe])} for sure")
        for path, data in left.items():
            if path.startswith("a-") and data[:1] != b"/" and not is_whole(data):
                raise AssertionError(f"after the cut b/{path} is not whole: {short(data)}")

    def is_own(self, file, data):
        """B's user made a file that nobody had heard of: of what a program does not sync, the disk
        may have made what it likes. (Of a file that replaces another one, ext4 does not.)"""
        return file.safe == 0 and data is not None and not is_whole(data)

    def differences(self, left):
        """A's and B's folder are the same, and what the users made, as far as it was safe."""
        try:
            a, b = tree(self.a.folder), tree(self.b.folder)
        except (FileNotFoundError, NotADirectoryError):
            return ["it is still changing"]
        said = [f"{path}: {short(a.get(path))} on A, {short(b.get(path))} on B"
                for path in sorted(a.keys() | b.keys()) if a.get(path) != b.get(path)]
        for path, file in self.files["a"].items():
            if a.get(path) != file.now():
                said.append(f"{path}: {short(a.get(path))} instead of {short(file.now())}")
        for path, file in self.files["b"].items():
            data = a.get(path)
            if not file.may_be(data) and not (data == left.get(path) and self.is_own(file, data)):
                said.append(f"{path}: {short(data)}, and had been "
                            f"{short(file.versions[file.safe])} for sure")
        known = self.files["a"].keys() | self.files["b"].keys()
        said += [f"{path} is from nobody" for path, data in a.items()
                 if data != b"/" and path not in known]
        return said

    def forget_the_past(self):
        """Both are the same: that is what there is. And the drive is not to fill up."""
        have = tree(self.a.folder)
        for files in self.files.values():
            for path in list(files):
                if path not in have:
                    del files[path]
                else:
                    files[path].versions, files[path].safe = [None, have[path]], 1
        if self.boots % 6:
            return
        # So that not so many go at once that ahoy would wait for the user's word.
        for machine in (self.a, self.b):
            for path in self.dice.sample(sorted(self.files[machine.name]),
                                         len(self.files[machine.name]) // 4):
                self.remove(machine, path)

    def close(self):
        self.drive.say("drain")
        self.b.stop(signal.SIGKILL)
        self.a.stop()
        subprocess.run(["umount", str(self.mount)], check=False)
        self.drive.close()


def tree_at_rest(folder):
    while True:
        try:
            return tree(folder)
        except (FileNotFoundError, NotADirectoryError):
            pass


def short(data):
    return "missing" if data is None else f"{len(data)} bytes {data[64:100]}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cuts", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--without", choices=[*SYNCING.split(), "all"],
                        help="the control: B's calls of this kind do nothing")
    parser.add_argument("--ahoy")
    parser.add_argument("--work")
    args = parser.parse_args()
    if os.getuid() != 0:
        sys.exit("Error: mounting takes root")
    without = SYNCING.replace(" ", ",") if args.without == "all" else args.without
    if without and not shutil.which("strace"):
        sys.exit("Error: strace is missing\nHint: apt-get install strace")
    began, sums, slowest, done = time.monotonic(), [0, 0, 0], 0.0, 0
    with Place(args.work) as place:
        world = World(place, binary(args.ahoy), args.seed, without)
        try:
            for done in range(1, args.cuts + 1):
                *counts, seconds = world.cut(HOW[done % len(HOW)], WHEN[done % len(WHEN)])
                sums = [total + count for total, count in zip(sums, counts)]
                slowest = max(slowest, seconds)
                world.forget_the_past()
                if done % 10 == 0:
                    print(f"  {done} of {args.cuts}", file=sys.stderr, flush=True)
        except AssertionError as found:
            if not without:
                raise
            print(f"power: without {args.without} found at cut {done}: {found}")
            return
        finally:
            world.close()
    print(f"power: {done} cuts{f' without {args.without}' if without else ''} in "
          f"{time.monotonic() - began:.0f} s, {sums[0]:,} writes were not flushed and {sums[1]:,} of them "
          f"stayed, {world.flushes:,} flushes; {sums[2]:,} files had been promised; 0 lost, 0 not whole, "
          f"0 left over; longest recovery {slowest:.1f} s")
    if without:
        sys.exit("Error: nothing was found although syncing did nothing")


if __name__ == "__main__":
    main()
