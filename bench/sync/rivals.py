"""The programs that are compared: how each is started on two folders, and told of a change."""

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
import xml.etree.ElementTree as xml
from pathlib import Path

import machine
from machine import free_port, need, wait_for


class Rival:
    name = "?"
    # Whether it notices changes by itself, on both sides.
    watches = True

    def __init__(self, place, source, destination, args):
        self.place, self.source, self.destination = place, source, destination
        self.args = args
        self.processes = []
        # Where each side runs: words before a command, and an address.
        self.nets = [([], "127.0.0.1")] * 2
        # More destinations, one for each net after the second.
        self.others = []

    def spawn(self, command, side=0, **more):
        log = open(self.place / f"log-{len(self.processes)}", "wb")
        more = {"stdout": log, "stderr": log} | more
        command = [*self.nets[side][0], *command]
        process = subprocess.Popen([str(word) for word in command], **more)
        self.processes.append(process)
        return process

    def go(self):
        """Brings the destination to what the source is now."""

    def wait_done(self):
        """Waits until it says itself that it is done."""

    def check_alive(self):
        for process in self.processes:
            if process.poll() not in (None, 0):
                raise SystemExit(f"Error: {self.name} ended with {process.returncode}; "
                                 f"see {self.place} (--keep)")

    def pids(self):
        return list(machine.family(process.pid for process in self.processes))

    def cpu_seconds(self):
        return machine.cpu_seconds(process.pid for process in self.processes)

    def stop(self):
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def probe(self):
        """A small file goes through first: whoever has to connect or to scan has done it then."""
        (self.source / "probe").write_text("probe")
        for folder in [self.destination, *self.others]:
            wait_for(f"{self.name}: the first file", lambda: (folder / "probe").exists())


HOMES = ["one", "two", "three", "four", "five"]


class Ahoy(Rival):
    """Its defaults but for the address it listens at, and no look around the local network."""

    name = "ahoy"

    @staticmethod
    def check(args):
        if not os.access(args.ahoy, os.X_OK):
            sys.exit(f"Error: no binary at {args.ahoy}\nHint: cargo build --release")

    def start(self):
        ticket = self.spawn_ahoy("one", "share", self.source, wait_for_ticket=True)
        for side, folder in enumerate([self.destination, *self.others], 1):
            self.spawn_ahoy(HOMES[side], "join", ticket, folder)
        self.probe()

    def environment(self, home):
        return os.environ | {"AHOY_HOME": str(self.place / f"home-{home}")}

    def spawn_ahoy(self, home, *words, wait_for_ticket=False):
        side = HOMES.index(home)
        listen = f"{self.nets[side][1]}:0"
        command = [self.args.ahoy, *words, "--json", "--no-mdns", "--listen", listen]
        env = self.environment(home)
        process = self.spawn(command, side, stdout=subprocess.PIPE, env=env)
        ticket = None
        while wait_for_ticket and ticket is None:
            line = process.stdout.readline()
            if not line:
                raise SystemExit("Error: ahoy printed no ticket")
            ticket = json.loads(line).get("ticket")
        # Somebody has to read what it prints.
        threading.Thread(target=process.stdout.read, daemon=True).start()
        return ticket

    def status(self, home="one"):
        command = [self.args.ahoy, "status", "--json"]
        said = subprocess.run(command, capture_output=True, env=self.environment(home))
        shares = json.loads(said.stdout or "{}").get("shares") or [{}]
        return shares[0]

    def wait_done(self):
        # On both sides: said to be in sync is said to be durable.
        for home in HOMES[:2 + len(self.others)]:
            wait_for("ahoy in sync", lambda home=home: self.status(home).get("state") == "in_sync",
                     self.args.limit_s)


class Cp(Rival):
    """Not a rival: what the disk can do."""

    name = "cp"
    watches = False
    client = None

    @staticmethod
    def check(_args):
        pass

    def start(self):
        self.before = os.times()

    def command(self):
        inside = [path for path in self.source.iterdir()]
        return ["cp", "-a", *inside, self.destination]

    def go(self):
        self.client = subprocess.Popen([str(word) for word in self.command()])

    def pids(self):
        running = [self.client.pid] if self.client and self.client.poll() is None else []
        return list(machine.family([p.pid for p in self.processes] + running))

    def wait_done(self):
        if self.client.wait() != 0:
            raise SystemExit(f"Error: {self.name} failed")

    def check_alive(self):
        super().check_alive()
        if self.client.poll() not in (None, 0):
            raise SystemExit(f"Error: {self.name} failed")

    def cpu_seconds(self):
        # The children that have ended are counted with us; nothing else has been waited for.
        spent = os.times()
        return super().cpu_seconds() + spent.children_user + spent.children_system


class Rsync(Cp):
    """`rsync -a` to its daemon: no encryption, no watching, nothing made durable."""

    name = "rsync"
    options = []

    @staticmethod
    def check(_args):
        need("rsync")

    def start(self):
        self.port = free_port()
        self.address = self.nets[1][1]
        config = self.place / "rsyncd.conf"
        user = f"uid = {os.getuid()}\ngid = {os.getgid()}\n" if os.getuid() == 0 else ""
        config.write_text(
            f"address = {self.address}\nport = {self.port}\nuse chroot = no\n{user}"
            f"munge symlinks = no\n[there]\npath = {self.destination}\nread only = no\n"
        )
        self.spawn(["rsync", "--daemon", "--no-detach", f"--config={config}"], 1)
        (self.source / "probe").write_text("probe")
        wait_for("the rsync daemon", self.gets_through)

    def gets_through(self):
        return subprocess.run(self.command(), stderr=subprocess.DEVNULL).returncode == 0

    def command(self):
        return [*self.nets[0][0], "rsync", "-a", "--delete", *self.options, f"{self.source}/",
                f"rsync://{self.address}:{self.port}/there/"]


class RsyncBest(Rsync):
    """Whole files where there are no old ones, written in place: the least it can do."""

    name = "rsync-best"
    options = ["--inplace", "--no-inc-recursive"]


class Syncthing(Rival):
    """Two instances on the loopback only: no discovery, relays, crash reports, or upgrades."""

    name = "syncthing"
    FOLDER = "bench"
    # The least it can be set to.
    watcher_delay_s = 1
    tuned = {}

    @staticmethod
    def check(_args):
        need("syncthing")

    def start(self):
        self.sides = [Side(self, self.place / "home-one", self.source),
                      Side(self, self.place / "home-two", self.destination)]
        for side in self.sides:
            side.generate()
        for side in self.sides:
            side.configure(self.sides)
            env = os.environ | {"STNOUPGRADE": "1", "STNORESTART": "1", "HOME": str(side.home)}
            command = ["syncthing", "serve", f"--home={side.home}", "--no-browser",
                       "--no-restart", "--no-upgrade", "--logfile=-"]
            self.spawn(command, env=env)
        for side in self.sides:
            wait_for("syncthing's connection", lambda s=side: s.is_ready(len(self.sides) - 1))
        self.probe()


class SyncthingDefault(Syncthing):
    """Its watcher as it comes."""

    name = "syncthing-default"
    watcher_delay_s = 10


class Side:
    """One of the Syncthings."""

    def __init__(self, rival, home, folder):
        self.rival, self.home, self.folder = rival, home, folder
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
        config = xml.parse(path)
        root = config.getroot()
        for old in root.findall("folder") + root.findall("device"):
            root.remove(old)
        folder = xml.SubElement(root, "folder", {
            "id": Syncthing.FOLDER, "path": str(self.folder), "type": "sendreceive",
            "rescanIntervalS": "3600", "fsWatcherEnabled": "true",
            "fsWatcherDelayS": str(self.rival.watcher_delay_s),
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
        config.write(path)

    def state(self):
        return self.ask(f"/rest/db/status?folder={Syncthing.FOLDER}")

    def is_ready(self, peers):
        """Connected, scanned, and nothing to do."""
        try:
            connections = self.ask("/rest/system/connections")["connections"]
            state = self.state()["state"]
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


ALL = {rival.name: rival for rival in (Ahoy, Cp, Rsync, RsyncBest, Syncthing, SyncthingDefault)}
