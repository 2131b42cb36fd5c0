"""The rows of the table: what is done to the source, and when it counts as arrived.

Each row is a class with the rivals that it makes sense for. `run` makes the load, starts the rival
on fresh folders, does the work, and gives a dictionary: `seconds` (wall), `cpu_seconds` and `peak_mib`
(all processes of the rival together, while the clock ran), `wire_kib` (both directions, headers
included), and what else the row measures.
"""

import os
import random
import shutil
import statistics
import subprocess
import time
from pathlib import Path

import loads
import machine
from machine import wait_for

COPIES = ("ahoy", "cp", "rsync", "rsync-best", "syncthing")
SYNCED = ("ahoy", "rsync", "syncthing")
WATCHING = ("ahoy", "syncthing", "syncthing-default")


class Row:
    """Something to be measured."""

    rivals = SYNCED
    # How often it is looked whether everything is there, seconds.
    pause = 0.005

    def __init__(self, args):
        self.args = args

    def run(self, rival_class, place):
        source, destination = place / "source", place / "destination"
        source.mkdir()
        destination.mkdir()
        self.prepare(place)
        # What the generator wrote is on the disk before anyone is timed.
        os.sync()
        rival = rival_class(place, source, destination, self.args)
        try:
            self.arrange(rival, place)
            rival.start()
            return self.work(rival, place, source, destination)
        finally:
            rival.stop()

    def arrange(self, rival, place):
        """Says where the sides run."""

    def prepare(self, place):
        """Makes the data beside the source folder, on the same file system."""

    def work(self, rival, place, source, destination):
        raise NotImplementedError

    def timed(self, rival, change, is_there):
        """The clock runs from the change until the destination shows it, and another until the
        rival itself says that it is done. Processor time and bytes go on until the second."""
        cpu, wire = rival.cpu_seconds(), machine.wire_bytes()
        peaks = machine.Peaks(rival.pids)
        change()
        start = time.perf_counter()
        rival.go()
        deadline = start + self.args.limit_s
        while not is_there():
            if time.perf_counter() > deadline:
                raise SystemExit(f"Error: {rival.name} did not finish in {self.args.limit_s} s")
            rival.check_alive()
            time.sleep(self.pause)
        seconds = time.perf_counter() - start
        rival.wait_done()
        done = time.perf_counter() - start
        # A last word, an acknowledgement, a commit.
        time.sleep(0.3)
        return {
            "seconds": round(seconds, 4),
            "done_seconds": round(done, 3),
            "cpu_seconds": round(rival.cpu_seconds() - cpu, 2),
            "peak_mib": round(peaks.end()),
            "wire_kib": round((machine.wire_bytes() - wire) / 1024, 1),
        }

    def same(self, rival, source, destination):
        # Without following links, and none of the rival's own directories, which are above.
        found = subprocess.run(["diff", "-rq", "--no-dereference", source, destination])
        if found.returncode != 0:
            raise SystemExit(f"Error: {rival.name} delivered something else")

    def bring(self, rival, change, shape, there):
        """Something that is to be there before the clock starts."""
        change()
        rival.go()

        def arrived():
            rival.check_alive()
            return shape.is_at(there)

        wait_for(f"{rival.name}: the load", arrived, self.args.limit_s)
        rival.wait_done()
        time.sleep(2)


class New(Row):
    """One rename moves the load into the source folder; every byte is compared afterwards."""

    rivals = COPIES

    def work(self, rival, place, source, destination):
        load, there = place / "load", destination / "load"
        shape = loads.Shape(load)
        result = self.timed(rival, lambda: load.rename(source / "load"),
                            lambda: shape.is_at(there))
        self.same(rival, source / "load", there)
        return result


class Big(New):
    """1 GiB in one file"""

    pause = 0.002

    def prepare(self, place):
        loads.big(place / "load", self.args.big_bytes)


class Small(New):
    """20,000 files of 4 KiB in 200 directories"""

    def prepare(self, place):
        loads.files(place / "load", self.args.files, 4096, max(1, self.args.files // 100))


class Many(New):
    """100,000 files of 4 KiB in 1,000 directories"""

    def prepare(self, place):
        count = self.args.files * 5
        loads.files(place / "load", count, 4096, max(1, count // 100))


class Tree(New):
    """a source tree of 80,000 files of mixed sizes"""

    def prepare(self, place):
        loads.tree(place / "load", self.args.files * 4)


class Edit(Row):
    """8 bytes changed in the middle of 1 GiB"""

    pause = 0.002

    def prepare(self, place):
        loads.big(place / "load", self.args.big_bytes)

    def work(self, rival, place, source, destination):
        load, file = place / "load", source / "load" / "file"
        there = destination / "load" / "file"
        self.bring(rival, lambda: load.rename(source / "load"), loads.Shape(load),
                   destination / "load")
        result = self.timed(rival, lambda: self.change(file), lambda: self.is_there(file, there))
        self.same(rival, source / "load", destination / "load")
        return result

    def change(self, file):
        self.at = self.args.big_bytes // 2
        self.new = random.randbytes(8)
        with open(file, "r+b") as opened:
            opened.seek(self.at)
            opened.write(self.new)

    def is_there(self, file, there):
        try:
            if os.path.getsize(there) != os.path.getsize(file):
                return False
            with open(there, "rb") as opened:
                opened.seek(self.at)
                return opened.read(8) == self.new
        except FileNotFoundError:
            return False


class Insert(Edit):
    """one byte inserted at the front of 1 GiB"""

    def change(self, file):
        # As editors save: a new file, and a rename.
        aside = file.parent.parent.parent / "edited"
        with open(aside, "wb") as new, open(file, "rb") as old:
            new.write(b"!")
            shutil.copyfileobj(old, new, 1 << 20)
        aside.rename(file)
        self.at, self.new = 0, open(file, "rb").read(8)


class Move(Row):
    """a directory of 20,000 files in 200 directories renamed"""

    pause = 0.002

    def prepare(self, place):
        loads.files(place / "load", self.args.files, 4096, max(1, self.args.files // 100))

    def work(self, rival, place, source, destination):
        shape = loads.Shape(place / "load")
        self.bring(rival, lambda: (place / "load").rename(source / "load"), shape,
                   destination / "load")
        shape = loads.Shape(source / "load")
        old, new = source / "load", source / "moved"
        result = self.timed(
            rival, lambda: old.rename(new),
            lambda: not (destination / "load").exists() and shape.is_at(destination / "moved"))
        self.same(rival, new, destination / "moved")
        return result


class Burst(Row):
    """30,000 files deleted and 30,000 made, beside 40,000 that stay"""

    def prepare(self, place):
        loads.files(place / "load", self.args.files * 3 // 2, 1000, 300)
        # If more than half of a share goes at once, ahoy asks first (`ahoy confirm`).
        loads.fill(place / "load", "stays", self.args.files * 2, 100)

    def work(self, rival, place, source, destination):
        self.bring(rival, lambda: (place / "load").rename(source / "load"),
                   loads.Shape(place / "load"), destination / "load")
        shape = self.change(rival, source / "load")
        result = self.timed(rival, lambda: None, lambda: shape.is_at(destination / "load"))
        self.same(rival, source / "load", destination / "load")
        return result

    def change(self, _rival, load):
        # A piece of each in turn, as builds do.
        for number, directory in enumerate(sorted(load.glob("d*"))):
            shutil.rmtree(directory)
            loads.fill(load, f"n{number:04}", self.args.files * 3 // 2 // 300, 1000)
        return loads.Shape(load)


class Checkout(Burst):
    """git checkout of a far commit: 10,000 files gone, 10,000 new, 5,000 changed"""

    def prepare(self, place):
        loads.repository(place / "load", self.args.files * 3 // 2)

    def change(self, _rival, load):
        subprocess.run(["git", "-C", load, "checkout", "-q", "far"], check=True)
        return loads.Shape(load)


class Latency(Row):
    """write on A to visible on B, 4 KiB, 20 a second"""

    rivals = WATCHING

    def work(self, rival, place, source, destination):
        samples = []
        cpu, begun = rival.cpu_seconds(), time.perf_counter()
        peaks = machine.Peaks(rival.pids)
        slow = rival.name != "ahoy"
        count = self.args.edits // (100 if slow else 1)
        due = time.perf_counter()
        for number in range(max(count, 3)):
            name = f"note-{number % 100}"
            content = random.randbytes(4096)
            (source / name).write_bytes(content)
            start = time.perf_counter()
            while not holds(destination / name, content):
                if time.perf_counter() > start + 60:
                    raise SystemExit(f"Error: {rival.name}: an edit did not arrive in 60 s")
                time.sleep(0.0002)
            samples.append((time.perf_counter() - start) * 1000)
            due = max(due + 0.05, time.perf_counter())
            time.sleep(max(0, due - time.perf_counter()))
        took = time.perf_counter() - begun
        samples.sort()
        at = lambda share: samples[min(len(samples) - 1, int(len(samples) * share))]
        return {
            "seconds": round(statistics.median(samples) / 1000, 6),
            "p99_ms": round(at(0.99), 2),
            "max_ms": round(samples[-1], 2),
            "edits": len(samples),
            "cpu_seconds": round(rival.cpu_seconds() - cpu, 2),
            "took_seconds": round(took, 1),
            "peak_mib": round(peaks.end()),
        }


def holds(path, content):
    try:
        return path.stat().st_size == len(content) and path.read_bytes() == content
    except FileNotFoundError:
        return False


class Million(Row):
    """1 million files: first scan, restart, idle"""

    rivals = ("ahoy", "syncthing")

    def run(self, rival_class, place):
        # The same files for all rounds and rivals: nobody changes them.
        count = self.args.files * 50
        folder = place.parent / "million"
        if not folder.exists():
            loads.files(folder, count, 16, max(1, count // 1000))
            os.sync()
        (place / "source").mkdir()
        (place / "destination").mkdir()
        rival = rival_class(place, folder, place / "destination", self.args)
        one = Alone(rival, folder, count)
        try:
            first = one.start()
            one.end()
            again = one.start()
            time.sleep(5)
            cpu = rival.cpu_seconds()
            time.sleep(self.args.idle_s)
            idle = rival.cpu_seconds() - cpu
            mib = sum(machine.resident_mib(pid) for pid in rival.pids())
        finally:
            rival.stop()
            shutil.rmtree(folder / ".ahoy", ignore_errors=True)
            shutil.rmtree(folder / ".stfolder", ignore_errors=True)
        return {"seconds": round(first, 2), "restart_seconds": round(again, 2),
                "idle_cpu_seconds": round(idle, 2), "peak_mib": round(mib)}


class Alone:
    """One machine of a rival, until it knows all files."""

    def __init__(self, rival, folder, count):
        self.rival, self.folder, self.count = rival, folder, count
        self.is_new = True

    def start(self):
        start = time.perf_counter()
        rival = self.rival
        if rival.name == "ahoy":
            words = ["share"] if self.is_new else ["sync"]
            rival.spawn_ahoy("one", *words, self.folder, wait_for_ticket=self.is_new)
            known = lambda: (s := rival.status()).get("files") == self.count \
                and s.get("state") != "scanning"
        else:
            import rivals
            if self.is_new:
                rival.sides = [rivals.Side(rival, rival.place / "home-one", self.folder)]
                rival.sides[0].generate()
                rival.sides[0].configure(rival.sides)
            home = rival.sides[0].home
            env = os.environ | {"STNOUPGRADE": "1", "STNORESTART": "1", "HOME": str(home)}
            rival.spawn(["syncthing", "serve", f"--home={home}", "--no-browser", "--no-restart",
                         "--no-upgrade", "--logfile=-"], env=env)

            def known():
                try:
                    state = rival.sides[0].state()
                except (OSError, ValueError, KeyError):
                    return False
                return state["localFiles"] == self.count and state["state"] == "idle"
        self.is_new = False
        wait_for(f"{rival.name}: all files", known, self.rival.args.limit_s)
        return time.perf_counter() - start

    def end(self):
        self.rival.stop()
        self.rival.processes.clear()


class Far(New):
    """100 ms round trip: 10,000 files of 10 KiB"""

    rivals = ("ahoy", "rsync")
    nodes, delay_ms, uplink_mbit = 2, 50, 0

    def prepare(self, place):
        count = self.args.files // 2
        loads.files(place / "load", count, 10240, max(1, count // 100))

    def run(self, rival_class, place):
        program = place / "far"
        source = Path(__file__).resolve().parent / "far.c"
        subprocess.run(["cc", "-O2", "-o", program, source], check=True)
        words = [program, self.nodes, self.delay_ms, self.uplink_mbit, 1500]
        self.far = subprocess.Popen([str(word) for word in words], stdin=subprocess.PIPE,
                                    stdout=subprocess.PIPE, text=True)
        try:
            self.pids = self.far.stdout.readline().split()
            return super().run(rival_class, place)
        finally:
            self.far.stdin.close()
            self.far.wait(10)

    def arrange(self, rival, place):
        rival.nets = [(["nsenter", f"--net=/proc/{pid}/ns/net"], f"10.66.0.{number}")
                      for number, pid in enumerate(self.pids, 1)]

    def sent(self):
        """Bytes that each node has sent."""
        self.far.stdin.write("\n")
        self.far.stdin.flush()
        return [int(word) for word in self.far.stdout.readline().split()[::2]]

    def work(self, rival, place, source, destination):
        before = sum(self.sent())
        result = super().work(rival, place, source, destination)
        return result | {"wire_kib": round((sum(self.sent()) - before) / 1024, 1)}


class Swarm(Far):
    """100 MB in 100 files to 4 machines, uplinks of 100 Mbit/s"""

    rivals = ("ahoy",)
    nodes, delay_ms, uplink_mbit = 5, 5, 100

    def prepare(self, place):
        loads.files(place / "load", 100, 1_000_000, 10)

    def arrange(self, rival, place):
        super().arrange(rival, place)
        rival.others = [place / f"destination-{number}" for number in range(2, self.nodes)]
        for folder in rival.others:
            folder.mkdir()

    def work(self, rival, place, source, destination):
        load = place / "load"
        shapes = [(loads.Shape(load), there / "load") for there in [destination, *rival.others]]
        before = self.sent()[0]
        result = self.timed(rival, lambda: load.rename(source / "load"),
                            lambda: all(shape.is_at(there) for shape, there in shapes))
        for _, there in shapes:
            self.same(rival, source / "load", there)
        one_copy = 100e6 * 8 / (self.uplink_mbit * 1e6)
        return result | {"of_one_copy": round(result["seconds"] / one_copy, 2),
                         "seeder_sent": round((self.sent()[0] - before) / 100e6, 2)}


class Pair(Swarm):
    """100 MB in 100 files to 1 machine, uplinks of 100 Mbit/s"""

    nodes = 2


ALL = {"big": Big, "small": Small, "many": Many, "tree": Tree, "edit": Edit, "insert": Insert,
       "move": Move, "burst": Burst, "checkout": Checkout, "latency": Latency, "million": Million,
       "far": Far, "pair": Pair, "swarm": Swarm}
