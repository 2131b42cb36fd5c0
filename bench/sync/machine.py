"""What a run needs of the machine: a network of its own, processes and what they cost, waiting."""

import ctypes
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

START_LIMIT_S = 60
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
CLONE_NEWNET = 0x40000000


def need(program, package=None):
    if shutil.which(program) is None:
        sys.exit(f"Error: {program} is not installed\nHint: apt-get install {package or program}")


def own_network():
    """Puts this process into a network of its own with nothing but a loopback, so that all that
    passes there is the rival's; whether that was possible (it takes root)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        return False
    return subprocess.run(["ip", "link", "set", "lo", "up"]).returncode == 0


def wire_bytes():
    """What has passed on the loopback: both directions together, headers included."""
    for line in Path("/proc/self/net/dev").read_text().splitlines():
        name, _, counters = line.partition(":")
        if name.strip() == "lo":
            return int(counters.split()[0])
    return 0


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_for(what, is_so, limit_s=START_LIMIT_S):
    deadline = time.monotonic() + limit_s
    while not is_so():
        if time.monotonic() > deadline:
            raise SystemExit(f"Error: no sign of {what} in {limit_s} s")
        time.sleep(0.02)


def family(pids):
    """These processes and all below them, with the fields of /proc/PID/stat after the name."""
    fields = {}
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                text = (directory / "stat").read_text()
            except OSError:
                continue
            # After the name in brackets: state, parent, ... (proc(5)).
            fields[int(directory.name)] = text.rsplit(")", 1)[1].split()
    found = {pid for pid in pids if pid in fields}
    while more := {n for n, f in fields.items() if int(f[1]) in found} - found:
        found |= more
    return {pid: fields[pid] for pid in found}


def cpu_seconds(pids):
    """Of processes and all below them; those that have ended count with their parents."""
    # Fields 14 to 17 are utime, stime, and those of children that have ended.
    spent = [int(ticks) for f in family(pids).values() for ticks in f[11:15]]
    return sum(spent) / TICKS_PER_S


def resident_mib(pid):
    """Now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0


class Peaks:
    """The largest resident memory of each process of a family, looked at ten times a second."""

    def __init__(self, pids):
        self.pids, self.of = pids, {}
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self):
        while not self.stop.wait(0.1):
            self.look()

    def look(self):
        pids = self.pids()
        for pid in pids:
            try:
                # Now and not the peak: what went before the clock started does not count.
                mib = resident_mib(pid)
            except OSError:
                continue
            self.of[pid] = max(self.of.get(pid, 0), mib)

    def end(self):
        """MiB, all processes together."""
        self.look()
        self.stop.set()
        self.thread.join()
        return sum(self.of.values())


def description(work):
    """The machine in a few words, for the head of a table."""
    model = "?"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    mount = subprocess.run(["findmnt", "-no", "FSTYPE,OPTIONS", "-T", work],
                           capture_output=True, text=True).stdout.strip()
    mount = " ".join(mount.split())
    control = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    kernel = os.uname().release
    return (f"{os.cpu_count()} CPUs ({model}), {gib:.0f} GiB, Linux {kernel}, {mount}, "
            f"TCP {control}, load {os.getloadavg()[0]:.1f}")
