"""Machines for the trials of this directory: homes, folders, processes of ahoy on the loopback, and
files that show by themselves whether they are whole."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT_S = float(os.environ.get("AHOY_TRUST_LIMIT_S", 60))


def binary(given):
    """The ahoy to try: the one that was named, or the newer of the two that cargo built."""
    if given:
        return given
    built = [ROOT / "target" / kind / "ahoy" for kind in ("release", "debug")]
    built = sorted((b for b in built if b.exists()), key=lambda b: b.stat().st_mtime)
    if not built:
        sys.exit("Error: no binary of ahoy\nHint: cargo build --release, or --ahoy PATH")
    return str(built[-1])


class Place:
    """A directory for one trial, away from everything else, removed at the end."""

    def __init__(self, where=None, keep=False):
        self.path = Path(tempfile.mkdtemp(prefix="ahoy-trust-", dir=where))
        self.keep = keep

    def __enter__(self):
        return self.path

    def __exit__(self, kind, *_):
        if self.keep or kind is not None:
            print(f"kept {self.path}", file=sys.stderr)
        else:
            shutil.rmtree(self.path, ignore_errors=True)


class Machine:
    """One device with one folder."""

    def __init__(self, place, name, ahoy):
        self.name, self.ahoy = name, ahoy
        self.home, self.folder = place / f"home-{name}", place / name
        self.log = open(place / f"log-{name}", "ab")
        self.process = None
        # What it has said of itself: its last state, and what it has brought (with --verbose).
        self.state, self.brought, self.lock = None, [], threading.Lock()

    def start(self, *words, before=()):
        """Starts `ahoy words`; `before` is put in front of the command line."""
        env = os.environ | {"AHOY_HOME": str(self.home)}
        env.pop("AHOY_LISTEN", None)
        command = [*before, self.ahoy, *map(str, words), "--json", "--no-mdns"]
        command += ["--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log,
            start_new_session=True,
        )
        return self.process

    def share(self):
        """Shares the folder; the ticket."""
        self.folder.mkdir(exist_ok=True)
        self.start("share", self.folder)
        for line in self.process.stdout:
            ticket = json.loads(line).get("ticket")
            if ticket:
                self.drain()
                return ticket
        sys.exit("Error: ahoy printed no ticket")

    def join(self, ticket):
        self.start("join", ticket, self.folder)
        self.drain()

    def sync(self, *words, before=()):
        self.start("sync", self.folder, *words, before=before)
        self.drain()

    def drain(self):
        """Somebody has to read what it prints."""
        self.state = None
        self.listener = threading.Thread(
            target=self.listen, args=(self.process.stdout,), daemon=True)
        self.listener.start()

    def listen(self, lines):
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue  # It was killed in the middle of a word.
            if event.get("event") == "brought":
                with self.lock:
                    self.brought.append((event["path"], event["removed"]))
            elif event.get("event") == "state":
                self.state = event["state"]

    def news(self):
        """What it has brought since this was last asked: path, and whether it was removed."""
        with self.lock:
            said, self.brought = self.brought, []
        return said

    def ask(self, *words):
        env = os.environ | {"AHOY_HOME": str(self.home)}
        command = [self.ahoy, *map(str, words)]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=LIMIT_S)

    def stop(self, how=signal.SIGTERM):
        """Ends it, and whatever it was started under; its exit code."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            os.killpg(self.process.pid, how)
        try:
            code = self.process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            raise AssertionError(f"{self.name} did not end when asked to") from None
        self.process = None
        return code


def sealed(label, size):
    """Lines of about that size, sealed."""
    line = f"{label}\n".encode()
    return seal(line * max(1, size // len(line)))


def seal(body):
    """These bytes after a line with their hash."""
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def is_whole(data):
    seal, _, body = data.partition(b"\n")
    return hashlib.sha256(body).hexdigest().encode() == seal


def tree(folder):
    """What people see of a folder: path to content, b'/' of a directory, link target with ->."""
    seen = {}
    stack = [""]
    while stack:
        at = stack.pop()
        for entry in os.scandir(folder / at):
            path = f"{at}/{entry.name}" if at else entry.name
            if path == ".ahoy":
                continue
            if entry.is_symlink():
                seen[path] = b"->" + os.readlink(os.fsencode(entry.path))
            elif entry.is_dir():
                seen[path] = b"/"
                stack.append(path)
            else:
                seen[path] = Path(entry.path).read_bytes()
    return seen


def litter(folder):
    """Temporary files that a finished run should not have left."""
    state = folder / ".ahoy"
    left = []
    for directory, _, files in os.walk(state):
        inside = Path(directory).relative_to(state)
        if str(inside) not in (".",):
            left += [str(inside / name) for name in files]
    return left


def wait_until(what, is_so, limit_s=LIMIT_S, pause_s=0.01):
    """Waits; the seconds that it took. Raises with what `what()` says."""
    start = time.monotonic()
    while not is_so():
        if time.monotonic() - start > limit_s:
            raise AssertionError(what())
        time.sleep(pause_s)
    return time.monotonic() - start
