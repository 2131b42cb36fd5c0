"""Compares counts of instructions with those that were recorded: what is a change, and what is noise.

Only decisions, no programs are run here; compare_test.py tries them.
"""

# The same source counts the same to within this on any x86_64 processor.
TOLERANCE = 0.03

# Another compiler, C library or valgrind makes other code of the same source.
TOLERANCE_FOREIGN = 0.25

# What the counts depend on beside the source.
TOOLS = ("rustc", "libc", "cpu")

UPDATE = "bench/instructions/run --record"


def compare(recorded, counted):
    """Lines to print, and whether everything is as recorded.

    Both are `{"tools": {name: version}, "counts": {case: instructions}}`.
    """
    foreign = [
        f"{name} {recorded['tools'].get(name)} then, {counted['tools'].get(name)} now"
        for name in TOOLS
        if recorded["tools"].get(name) != counted["tools"].get(name)
    ]
    tolerance = TOLERANCE_FOREIGN if foreign else TOLERANCE
    lines, slower, faster, other = [], [], [], []
    before, now = recorded["counts"], counted["counts"]
    for case in sorted(before.keys() | now.keys()):
        if case not in now:
            other.append(case)
            lines.append(f"{case:<16} is recorded, but is no case any more")
        elif case not in before:
            other.append(case)
            lines.append(f"{case:<16} {now[case]:>14,}  is not recorded yet")
        else:
            change = now[case] / before[case] - 1
            verdict = "as recorded"
            if change > tolerance:
                slower.append(case)
                verdict = "SLOWER"
            elif change < -tolerance:
                faster.append(case)
                verdict = "FASTER"
            lines.append(
                f"{case:<16} {now[case]:>14,}  {change:+7.2%} of {before[case]:,}: {verdict}"
            )
    if foreign:
        lines.append(
            f"Only changes over {tolerance:.0%} count, because the tools are not those of the "
            f"record: {'; '.join(foreign)}"
        )
    if slower:
        lines.append(f"Error: {', '.join(slower)} takes more instructions than it did")
        lines.append(f"Hint: make it as quick as it was, or if that is its price: {UPDATE}")
    elif faster or other:
        lines.append(f"Error: {', '.join(faster + other)} is not as recorded")
        lines.append(f"Hint: {UPDATE}, and commit what it writes")
    return lines, not (slower or faster or other)


def totals(profile):
    """The instructions in a profile that callgrind has written."""
    for line in profile.splitlines():
        name, _, value = line.partition(":")
        if name in ("totals", "summary") and value.split():
            return int(value.split()[0])
    raise ValueError("there are no totals in this profile")
