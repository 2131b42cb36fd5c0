#!/usr/bin/env python3
"""Times ahoy against rsync and Syncthing on this machine, over the loopback, in one run.

    cargo build --release && bench/sync/compare.py

Workloads:
  big      one file of 1 GiB
  small    20,000 files of 4 KiB in 200 directories
  latency  one small file, written again and again on alternating sides

For `big` and `small` the data is made beforehand, beside the source folder on the same file system,
and the clock runs from the moment at which one rename moves it into the source folder (for rsync:
from the start of the rsync command) until everything stands complete, under its final name, in the
destination. Every run has fresh folders, fresh state, and fresh processes; the order of the rivals is
shuffled in every round, and nothing is deleted before the end, because deleting slows down the next
run on some file systems. After the clock has stopped, every byte is compared.

Rivals:
  ahoy       `ahoy share` and `ahoy join`, their defaults but for --listen and --no-mdns
  rsync      `rsync -a` to an rsync daemon; no encryption, no watching, nothing made durable
  syncthing  two instances, watcher delay 1 s (its least), only the loopback: no discovery, relays,
             NAT traversal, crash reports, usage reports or upgrades

It prints least, median and largest of each, and the ratios of the medians. CPU seconds are those of
both processes of a rival together.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import xml.etree.ElementTree as xml
from pathlib import Path

HERE = Path(__file__).resolve().parent
START_LIMIT_S = 60
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def main():
    args = arguments()
    rivals = {"ahoy": Ahoy, "rsync": Rsync, "syncthing": Syncthing}
    chosen = [name for name in args.rivals.split(",") if name]
    unknown = [name for name in chosen if name not in rivals]
    if unknown:
        sys.exit(f"Error: unknown rival {unknown[0]}\nHint: choose from {', '.join(rivals)}")
    for name in chosen:
        rivals[name].check(args)
    shuffle = random.Random(args.seed)
    results = []
    work = Path(tempfile.mkdtemp(prefix="ahoy-bench-", dir=args.work))
    try:
        for workload in args.workloads.split(","):
            for number in range(args.rounds):
                order = [n for n in chosen if workload != "latency" or n != "rsync"]
                shuffle.shuffle(order)
                for name in order:
                    place = work / f"{workload}-{number}-{name}"
                    place.mkdir()
                    result = run(rivals[name], workload, place, args)
                    result |= {"rival": name, "workload": workload, "round": number}
                    results.append(result)
                    shown = {k: v for k, v in result.items() if k != "samples_ms"}
                    print(json.dumps(shown), file=sys.stderr, flush=True)
        report(results, chosen, args)
    finally:
        if args.keep:
            print(f"kept {work}", file=sys.stderr)
        else:
            shutil.rmtree(work, ignore_errors=True)


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = HERE.parent.parent / "target/release/ahoy"
    parser.add_argument("--ahoy", default=str(default), help="the binary (target/release/ahoy)")
    parser.add_argument("--rivals", default="ahoy,rsync,syncthing")
    parser.add_argument("--workloads", default="big,small,latency")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--big-bytes", type=int, default=1 << 30)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--file-bytes", type=int, default=4096)
    parser.add_argument("--directories", type=int, default=200)
    parser.add_argument("--edits", type=int, default=50, help="writes per run of `latency`")
    parser.add_argument("--limit-s", type=int, default=600, help="give up a run after this")
    parser.add_argument("--seed", type=int, default=None, help="of the order")
    parser.add_argument("--work", default=None, help="make the working directory here")
    parser.add_argument("--json", default=None, help="write all results to this file")
    parser.add_argument("--keep", action="store_true", help="keep the working directory")
    return parser.parse_args()


# One run


def run(rival_class, workload, place, args):
    source, destination = place / "source", place / "destination"
    source.mkdir()
    destination.mkdir()
    load = None
    if workload != "latency":
        load = place / "load"
        make_load(workload, load, args)
        # What the generator wrote is on the disk before anyone is timed.
        os.sync()
    rival = rival_class(place, source, destination, args)
    try:
        rival.start()
        if workload == "latency":
            return latency(rival, source, destination, args)
        return transfer(rival, workload, load, source, destination, args)
    finally:
        rival.stop()


def make_load(workload, load, args):
    """The data, from a generator that no rival can compress or deduplicate."""
    load.mkdir()
    if workload == "big":
        with open(load / "file", "wb") as file:
            left = args.big_bytes
            while left > 0:
                count = min(left, 1 << 20)
                file.write(random.randbytes(count))
                left -= count
        return
    per_directory = -(-args.files // args.directories)
    for number in range(args.files):
        directory = load / f"d{number // per_directory:04}"
        if number % per_directory == 0:
            directory.mkdir()
        (directory / f"f{number:06}").write_bytes(random.randbytes(args.file_bytes))


def transfer(rival, workload, load, source, destination, args):
    arrival = Arrival(load, destination / "load")
    cpu = rival.cpu_seconds()
    start = time.perf_counter()
    rival.go(load, source / "load")
    deadline = start + args.limit_s
    pause = 0.002 if workload == "big" else 0.005
    while not arrival.complete():
        if time.perf_counter() > deadline:
            raise SystemExit(f"Error: {rival.name} did not finish {workload} in {args.limit_s} s")
        rival.check_alive()
        time.sleep(pause)
    seconds = time.perf_counter() - start
    rival.wait_done()
    cpu = rival.cpu_seconds() - cpu
    if subprocess.run(["diff", "-rq", source / "load", destination / "load"]).returncode != 0:
        raise SystemExit(f"Error: {rival.name} delivered something else")
    return {"seconds": round(seconds, 4), "cpu_seconds": round(cpu, 2)}


class Arrival:
    """Whether everything is there, asked often and cheaply: what was complete is not looked at
    again, and the first thing that is missing ends the look."""

    def __init__(self, load, destination):
        self.todo = []
        for directory, _, files in os.walk(load):
            there = destination / Path(directory).relative_to(load)
            sizes = {name: os.path.getsize(os.path.join(directory, name)) for name in files}
            self.todo.append((there, sizes))

    def complete(self):
        while self.todo:
            there, sizes = self.todo[-1]
            try:
                with os.scandir(there) as entries:
                    found = {e.name: e.stat().st_size for e in entries if e.name in sizes}
            except FileNotFoundError:
                return False
            if found != sizes:
                return False
            self.todo.pop()
        return True


def latency(rival, source, destination, args):
    """Milliseconds from the close of a file on one side until the other side has its content."""
    samples = []
    for number in range(args.edits):
        here, there = (source, destination) if number % 2 == 0 else (destination, source)
        content = f"edit {number} {random.random()}".encode()
        with open(here / "note", "wb") as file:
            file.write(content)
        start = time.perf_counter()
        deadline = start + 60
        while True:
            try:
                if (there / "note").read_bytes() == content:
                    break
            except FileNotFoundError:
                pass
            if time.perf_counter() > deadline:
                raise SystemExit(f"Error: {rival.name}: an edit did not arrive in 60 s")
            time.sleep(0.0002)
        samples.append((time.perf_counter() - start) * 1000)
        # A pause, so that every edit is one of its own.
        time.sleep(random.uniform(0.2, 0.4))
    samples.sort()
    return {
        "seconds": round(statistics.median(samples) / 1000, 6),
        "p99_ms": round(samples[min(len(samples) - 1, int(len(samples) * 0.99))], 2),
        "max_ms": round(samples[-1], 2),
        "samples_ms": [round(sample, 3) for sample in samples],
    }


# The rivals


class Rival:
    name = "?"

    def __init__(self, place, source, destination, args):
        self.place, self.source, self.destination = place, source, destination
        self.args = args
        self.processes = []

    def spawn(self, command, **more):
        log = open(self.place / f"log-{len(self.processes)}", "wb")
        more = {"stdout": log, "stderr": log} | more
        process = subprocess.Popen([str(word) for word in command], **more)
        self.processes.append(process)
        return process

    def go(self, load, source):
        os.rename(load, source)

    def wait_done(self):
        pass

    def check_alive(self):
        for process in self.processes:
            if process.poll() not in (None, 0):
                raise SystemExit(f"Error: {self.name} ended with {process.returncode}; "
                                 f"see {self.place} (--keep)")

    def cpu_seconds(self):
        return sum(cpu_seconds(process.pid) for process in self.processes)

    def stop(self):
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def probe(self):
        """A small file goes through first: whoever has to connect or to scan has done it then."""
        (self.source / "probe").write_text("probe")
        wait_for(f"{self.name}: the first file", lambda: (self.destination / "probe").exists())


class Ahoy(Rival):
    name = "ahoy"

    @staticmethod
    def check(args):
        if not os.access(args.ahoy, os.X_OK):
            sys.exit(f"Error: no binary at {args.ahoy}\nHint: cargo build --release")

    def start(self):
        ticket = self.spawn_ahoy("one", "share", self.source, wait_for_ticket=True)
        self.spawn_ahoy("two", "join", ticket, self.destination)
        self.probe()

    def spawn_ahoy(self, home, *words, wait_for_ticket=False):
        env = os.environ | {"AHOY_HOME": str(self.place / f"home-{home}")}
        command = [self.args.ahoy, *words, "--json", "--no-mdns", "--listen", "127.0.0.1:0"]
        process = self.spawn(command, stdout=subprocess.PIPE, env=env)
        ticket = None
        while wait_for_ticket and ticket is None:
            line = process.stdout.readline()
            if not line:
                raise SystemExit("Error: ahoy printed no ticket")
            ticket = json.loads(line).get("ticket")
        # Somebody has to read what it prints.
        threading.Thread(target=process.stdout.read, daemon=True).start()
        return ticket


class Rsync(Rival):
    name = "rsync"

    @staticmethod
    def check(_args):
        need("rsync")

    def start(self):
        self.port = free_port()
        config = self.place / "rsyncd.conf"
        user = f"uid = {os.getuid()}\ngid = {os.getgid()}\n" if os.getuid() == 0 else ""
        config.write_text(
            f"address = 127.0.0.1\nport = {self.port}\nuse chroot = no\n{user}"
            f"[there]\npath = {self.destination}\nread only = no\n"
        )
        self.spawn(["rsync", "--daemon", "--no-detach", f"--config={config}"])
        wait_for("the rsync daemon", lambda: can_connect(self.port))
        (self.source / "probe").write_text("probe")
        subprocess.run(self.command(), check=True)

    def command(self):
        return ["rsync", "-a", f"{self.source}/", f"rsync://127.0.0.1:{self.port}/there/"]

    def go(self, load, source):
        os.rename(load, source)
        self.client = subprocess.Popen(self.command())

    def wait_done(self):
        if self.client.wait() != 0:
            raise SystemExit("Error: rsync failed")

    def check_alive(self):
        super().check_alive()
        if self.client.poll() not in (None, 0):
            raise SystemExit("Error: rsync failed")

    def cpu_seconds(self):
        # The daemon's and the client's children are ours when they have ended.
        spent = os.times()
        return super().cpu_seconds() + spent.children_user + spent.children_system


class Syncthing(Rival):
    name = "syncthing"
    FOLDER = "bench"

    @staticmethod
    def check(_args):
        need("syncthing")

    def start(self):
        sides = [Side(self.place / "home-one", self.source),
                 Side(self.place / "home-two", self.destination)]
        for side in sides:
            side.generate()
        for side in sides:
            side.configure(sides)
            env = os.environ | {"STNOUPGRADE": "1", "STNORESTART": "1", "HOME": str(side.home)}
            command = ["syncthing", "serve", f"--home={side.home}", "--no-browser",
                       "--no-restart", "--no-upgrade", "--logfile=-"]
            self.spawn(command, env=env)
        for side in sides:
            wait_for("syncthing's connection", lambda s=side: s.is_ready(len(sides) - 1))
        self.probe()


class Side:
    """One of the two Syncthings."""

    def __init__(self, home, folder):
        self.home, self.folder = home, folder
        self.port, self.gui = free_port(), free_port()
        self.key = "bench"
        self.id = None

    def generate(self):
        command = ["syncthing", "generate", f"--home={self.home}", "--no-default-folder",
                   "--skip-port-probing"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.id = xml.parse(self.home / "config.xml").getroot().find("device").get("id")

    def configure(self, sides):
        path = self.home / "config.xml"
        tree = xml.parse(path)
        root = tree.getroot()
        for old in root.findall("folder") + root.findall("device"):
            root.remove(old)
        folder = xml.SubElement(root, "folder", {
            "id": Syncthing.FOLDER, "path": str(self.folder), "type": "sendreceive",
            "rescanIntervalS": "3600", "fsWatcherEnabled": "true", "fsWatcherDelayS": "1",
        })
        for side in sides:
            xml.SubElement(folder, "device", {"id": side.id})
            device = xml.SubElement(root, "device", {"id": side.id, "compression": "metadata"})
            xml.SubElement(device, "address").text = f"tcp://127.0.0.1:{side.port}"
        gui = root.find("gui")
        gui.find("address").text = f"127.0.0.1:{self.gui}"
        set_text(gui, "apikey", self.key)
        options = root.find("options")
        for listen in options.findall("listenAddress"):
            options.remove(listen)
        for name, value in {
            "listenAddress": f"tcp://127.0.0.1:{self.port}",
            "globalAnnounceEnabled": "false",
            "localAnnounceEnabled": "false",
            "relaysEnabled": "false",
            "natEnabled": "false",
            "crashReportingEnabled": "false",
            "urAccepted": "-1",
            "autoUpgradeIntervalH": "0",
            "startBrowser": "false",
            "reconnectionIntervalS": "1",
        }.items():
            set_text(options, name, value)
        tree.write(path)

    def is_ready(self, peers):
        """Connected, scanned, and nothing to do."""
        try:
            connections = self.ask("/rest/system/connections")["connections"]
            state = self.ask(f"/rest/db/status?folder={Syncthing.FOLDER}")["state"]
        except (OSError, ValueError, KeyError):
            return False
        return sum(c["connected"] for c in connections.values()) >= peers and state == "idle"

    def ask(self, path):
        request = urllib.request.Request(f"http://127.0.0.1:{self.gui}{path}",
                                         headers={"X-API-Key": self.key})
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.load(answer)


def set_text(parent, name, value):
    child = parent.find(name)
    if child is None:
        child = xml.SubElement(parent, name)
    child.text = value


# The machine


def need(program):
    if shutil.which(program) is None:
        sys.exit(f"Error: {program} is not installed\nHint: apt-get install {program}")


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def can_connect(port):
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def wait_for(what, is_so):
    deadline = time.monotonic() + START_LIMIT_S
    while not is_so():
        if time.monotonic() > deadline:
            raise SystemExit(f"Error: no sign of {what} in {START_LIMIT_S} s")
        time.sleep(0.02)


def cpu_seconds(pid):
    """Of a process and all below it; those that have ended count with their parents."""
    stats = {}
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                stats[int(directory.name)] = (directory / "stat").read_text()
            except OSError:
                continue
    # After the name in brackets: state, parent, ...; fields 14 to 17 are utime, stime, and those
    # of children that have ended (proc(5)).
    fields = {number: text.rsplit(")", 1)[1].split() for number, text in stats.items()}
    family = {pid}
    while more := {n for n, f in fields.items() if int(f[1]) in family} - family:
        family |= more
    spent = [int(ticks) for n in family if n in fields for ticks in fields[n][11:15]]
    return sum(spent) / TICKS_PER_S


# The report


def report(results, chosen, args):
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1) + "\n")
    versions = {"rsync": ["rsync", "--version"], "syncthing": ["syncthing", "--version"],
                "ahoy": [args.ahoy, "--version"]}
    for name in chosen:
        text = subprocess.run(versions[name], capture_output=True, text=True).stdout
        print(f"# {name}: {text.splitlines()[0] if text else '?'}")
    print(f"# {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, {args.rounds} rounds, "
          f"work in {args.work or tempfile.gettempdir()}")
    print(f"{'workload':<10}{'rival':<11}{'min s':>10}{'median s':>10}{'max s':>10}{'CPU s':>8}"
          "  of the median")
    for workload in args.workloads.split(","):
        medians = {}
        for name in chosen:
            mine = [r for r in results if (r["workload"], r["rival"]) == (workload, name)]
            if mine:
                medians[name] = statistics.median(r["seconds"] for r in mine)
        for name, median in medians.items():
            mine = [r for r in results if (r["workload"], r["rival"]) == (workload, name)]
            seconds = [r["seconds"] for r in mine]
            cpu = [r["cpu_seconds"] for r in mine if "cpu_seconds" in r]
            cpu = f"{statistics.median(cpu):8.2f}" if cpu else " " * 8
            ratios = [f"{median / other:.2f} x {rival}" for rival, other in medians.items()
                      if rival != name]
            print(f"{workload:<10}{name:<11}{min(seconds):10.4f}{median:10.4f}"
                  f"{max(seconds):10.4f}{cpu}  {', '.join(ratios)}")
        if workload == "latency":
            for name in medians:
                mine = [r for r in results if (r["workload"], r["rival"]) == (workload, name)]
                samples = sorted(s for r in mine for s in r["samples_ms"])
                at = lambda share: samples[min(len(samples) - 1, int(len(samples) * share))]
                print(f"# {name}: {len(samples)} edits, p50 {at(0.5):.2f} ms, p90 {at(0.9):.2f} ms, "
                      f"p99 {at(0.99):.2f} ms, max {samples[-1]:.2f} ms")


if __name__ == "__main__":
    main()
