"""What each row is held to. Times are seconds, ratios those of medians."""

import statistics

# (row, words, what of ahoy, against which rival, at most)
GOALS = (
    ("big", "time, ahoy to rsync", "seconds", "rsync", 1.0),
    ("small", "time, ahoy to rsync", "seconds", "rsync", 1.0),
    ("small", "time, ahoy to Syncthing", "seconds", "syncthing", 1 / 15),
    ("many", "time, ahoy to rsync", "seconds", "rsync", 1.0),
    ("many", "time, ahoy to Syncthing", "seconds", "syncthing", 1 / 15),
    ("tree", "time, ahoy to rsync", "seconds", "rsync", 1.0),
    ("edit", "seconds", "seconds", None, 1.0),
    ("edit", "KiB on the wire", "wire_kib", None, 64),
    ("insert", "KiB on the wire", "wire_kib", None, 512),
    ("move", "seconds", "seconds", None, 0.3),
    ("move", "KiB on the wire", "wire_kib", None, 8),
    ("burst", "seconds", "seconds", None, 5),
    ("checkout", "seconds", "seconds", None, 5),
    ("latency", "p50, seconds", "seconds", None, 0.01),
    ("latency", "p99, ms", "p99_ms", None, 50),
    ("million", "first scan, seconds", "seconds", None, 15),
    ("million", "restart, seconds", "restart_seconds", None, 4),
    ("million", "resident, MiB", "peak_mib", None, 64),
    ("million", "processor time in 30 idle seconds", "idle_cpu_seconds", None, 0.05),
    ("far", "seconds (5,000 files a second)", "seconds", None, 2),
    ("pair", "times one copy's time", "of_one_copy", None, 1.25),
    ("pair", "sent by the seeder, times the size", "seeder_sent", None, 1.15),
    ("swarm", "times one copy's time", "of_one_copy", None, 1.25),
    ("swarm", "sent by the seeder, times the size", "seeder_sent", None, 1.15),
)


def table(row, results):
    """The lines of the goals of a row, as far as it was measured; `results` as `--json` has."""
    lines = []
    for _, words, what, rival, most in (goal for goal in GOALS if goal[0] == row):
        ours = median(results, row, "ahoy", what)
        theirs = median(results, row, rival, what) if rival else 1
        if ours is None or not theirs:
            continue
        measured = ours / theirs
        lines.append(f"| {words} | {most:.4g} | {measured:.4g} | "
                     f"{'met' if measured <= most else 'missed'} |")
    return ["| goal | at most | measured | |", "|---|---|---|---|", *lines] if lines else []


def median(results, row, rival, what):
    values = [one[what] for one in results
              if one["row"] == row and one["rival"] == rival and what in one]
    return statistics.median(values) if values else None
