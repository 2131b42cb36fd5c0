"""What the scripts beside this file share: servers and loads pinned apart, rounds, spreads, results.

A script names its runs as (case, rival) and gives a function that measures one. `play` runs all of them
in a new random order in every round. A figure is a median with its range; a goal compares the medians of
two rivals. With `--json FILE` everything measured is written there too. Loopback only; nothing is
installed, what is missing is said.
"""

import argparse
import json
import os
import platform
import random
import shutil
import socket
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
START_SECONDS_MAX = 10


def arguments(description, seconds, rounds=5):
    """The options that every script has."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--seconds", type=float, default=seconds, help="of one run")
    parser.add_argument("--json", metavar="FILE", help="also write everything measured there")
    parser.add_argument("--ahoy", metavar="PATH", help="a release build; made if not given")
    return parser


def need(*tools):
    """Ends with a word about the missing ones of these (program, Debian package)."""
    missing = [package for tool, package in tools if not shutil.which(tool, path=search_path())]
    if missing:
        sys.exit(f"missing: apt-get install {' '.join(missing)}")


def search_path():
    return os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"


def which(tool):
    return shutil.which(tool, path=search_path())


def build_ahoy(options):
    if options.ahoy:
        return os.path.abspath(options.ahoy)
    build = ["cargo", "build", "--release", "--locked", "-p", "ahoy-cli"]
    subprocess.run(build, cwd=ROOT, check=True)
    return f"{target()}/release/ahoy"


def target():
    return os.environ.get("CARGO_TARGET_DIR", f"{ROOT}/target")


def compile_c(source, binary):
    subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-o", binary, source], check=True)


def pin(processor):
    """Words before a command that keep it on one processor: servers on 0, loads on 1."""
    if os.cpu_count() > 1 and shutil.which("taskset"):
        return ["taskset", "-c", str(processor)]
    return []


def free_port(kind=socket.SOCK_DGRAM):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A rival on processor 0, ready once `is_ready` says so; ends with the `with`."""

    def __init__(self, command, is_ready, folder, environment=None):
        self.log = open(f"{folder}/server.log", "w+")
        self.process = subprocess.Popen(
            pin(0) + command,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            cwd=folder,
            env={**os.environ, **(environment or {})},
        )
        deadline = time.monotonic() + START_SECONDS_MAX
        while not is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                sys.exit(f"{command[0]} did not start:\n{open(self.log.name).read()}")
            time.sleep(0.02)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.log.close()

    def cpu_seconds(self):
        return cpu_seconds(self.process.pid)

    def memory_mib(self, what="VmRSS"):
        return memory_mib(self.process.pid, what)


def cpu_seconds(pid):
    """What the kernel charged to a process, all threads, to the nanosecond."""
    # The clock of a process: CPUCLOCK_SCHED in the lowest bits, see clock_getcpuclockid(3).
    return time.clock_gettime((~pid << 3) | 2)


def memory_mib(pid, what):
    with open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith(what + ":"):
                return int(line.split()[1]) / 1024
    return 0.0


def accepts_tcp(port):
    def is_ready():
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True
        except OSError:
            return False

    return is_ready


def answers_udp(port, request):
    def is_ready():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.settimeout(0.1)
            try:
                probe.connect(("127.0.0.1", port))
                probe.send(request)
                return bool(probe.recv(512))
            except OSError:
                return False

    return is_ready


def load(command):
    """Runs a load on processor 1; its one line of word=number as a dictionary."""
    done = subprocess.run(pin(1) + command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return {word.split("=")[0]: float(word.split("=")[1]) for word in done.stdout.split()}


def play(options, runs, measure):
    """All runs once in every round; {(case, rival): [figures, ...]}."""
    results = {}
    runs = list(runs)
    for number in range(options.rounds):
        random.shuffle(runs)
        for case, rival in runs:
            figures = measure(case, rival)
            results.setdefault((case, rival), []).append(figures)
            brief = ", ".join(f"{name} {value:.6g}" for name, value in figures.items())
            print(f"round {number + 1}: {case}: {rival}: {brief}", file=sys.stderr, flush=True)
    return results


def median(results, case, rival, figure):
    return statistics.median(run[figure] for run in results[case, rival])


def spread(results, case, rival, figure, digits=2, scale=1.0):
    values = [run[figure] / scale for run in results[case, rival]]
    middle = statistics.median(values)
    return f"{middle:.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def goal(words, value, wanted, at_least=True, unit=""):
    """One line of the table of goals."""
    met = value >= wanted if at_least else value <= wanted
    return {
        "goal": words,
        "wanted": f"{'at least' if at_least else 'at most'} {wanted:g}{unit}",
        "measured": value,
        "unit": unit,
        "met": met,
    }


def report(options, what, results, goals):
    """Prints the goals, and writes everything to the file that was asked for."""
    print("\n| goal | wanted | measured | |")
    print("|---|---|---|---|")
    for row in goals:
        verdict = "met" if row["met"] else "missed"
        measured = f"{row['measured']:.{4 if row['measured'] < 0.1 else 2}f}"
        if row["measured"] >= 1000:
            measured = f"{row['measured']:,.0f}"
        print(f"| {row['goal']} | {row['wanted']} | {measured}{row['unit']} | {verdict} |")
    if options.json:
        runs = [
            {"case": case, "rival": rival, "runs": figures}
            for (case, rival), figures in results.items()
        ]
        everything = {
            "what": what,
            "machine": machine(),
            "rounds": options.rounds,
            "seconds": options.seconds,
            "results": runs,
            "goals": goals,
        }
        with open(options.json, "w") as file:
            json.dump(everything, file, indent=1)
            file.write("\n")


def machine():
    model = ""
    with open("/proc/cpuinfo") as info:
        for line in info:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return f"{model}, {os.cpu_count()} processors, Linux {platform.release()}"
