"""What is put into the source folder: made from a generator that nobody can compress."""

import os
import random
import subprocess
from pathlib import Path


def big(load, count):
    """One file of so many bytes."""
    load.mkdir()
    with open(load / "file", "wb") as file:
        while count > 0:
            piece = min(count, 1 << 20)
            file.write(random.randbytes(piece))
            count -= piece


def files(load, count, size, directories):
    """So many files of one size, spread evenly."""
    load.mkdir()
    each = -(-count // directories)
    for number in range(count):
        directory = load / f"d{number // each:04}"
        if number % each == 0:
            directory.mkdir()
        (directory / f"f{number:06}").write_bytes(random.randbytes(size))


def tree(load, count):
    """A tree in the shape of a large source tree: directories in directories, ten files in each,
    sizes log-normal around 3 KiB (90 % below 20 KiB, the largest some MiB), some of them empty,
    some links."""
    dice = random.Random(7)
    load.mkdir()
    directories = [load]
    for number in range(count // 10):
        parent = directories[dice.randrange(max(0, len(directories) - 400), len(directories))]
        directory = parent / f"part-{number:05}"
        if len(str(directory)) > len(str(load)) + 200:
            directory = load / f"part-{number:05}"
        directory.mkdir()
        directories.append(directory)
        for file in range(10):
            path = directory / f"source_{file}.rs"
            if dice.random() < 0.005:
                path.symlink_to("source_0.rs")
                continue
            size = 0 if dice.random() < 0.01 else int(dice.lognormvariate(8.0, 1.5))
            path.write_bytes(random.randbytes(min(size, 8 << 20)))


def repository(load, count):
    """A git repository with two far commits, of which `near` is checked out."""
    load.mkdir()
    git = ["git", "-C", str(load), "-c", "user.name=bench", "-c", "user.email=bench@localhost",
           "-c", "gc.auto=0", "-c", "commit.gpgsign=false"]
    run = lambda *words: subprocess.run([*git, *words], check=True, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
    run("init", "--initial-branch=near")
    fill(load, "old", count // 3, 1000)
    fill(load, "both", count // 6, 1000)
    run("add", ".")
    run("commit", "-m", "near")
    run("checkout", "-b", "far")
    subprocess.run(["rm", "-r", str(load / "old")], check=True)
    fill(load, "new", count // 3, 1000)
    fill(load, "both", count // 6, 1000)
    run("add", ".")
    run("commit", "-m", "far")
    run("checkout", "near")


def fill(load, name, count, size):
    for number in range(count):
        directory = load / name / f"d{number // 100:04}"
        if number % 100 == 0:
            directory.mkdir(parents=True, exist_ok=True)
        (directory / f"f{number:06}").write_bytes(random.randbytes(size))


class Shape:
    """What a tree looks like from outside, and whether another one looks the same by now: asked
    often and cheaply, for what was complete is not looked at again while nothing else is."""

    def __init__(self, load):
        self.all = {}
        for directory, dirs, names in os.walk(load):
            inside = {name: os.lstat(os.path.join(directory, name)).st_size for name in names}
            inside |= {name: None for name in dirs if not os.path.islink(f"{directory}/{name}")}
            self.all[str(Path(directory).relative_to(load))] = inside
        self.todo = list(self.all)

    def is_at(self, there):
        """Ends at the first thing that is missing or too much, and begins there the next time; at
        the end everything is looked at once more, for some of it may have changed meanwhile."""
        return self.look(there, self.todo) and self.look(there, list(self.all))

    def look(self, there, todo):
        while todo:
            relative = todo[-1]
            try:
                with os.scandir(Path(there) / relative) as entries:
                    found = {entry.name: None if entry.is_dir(follow_symlinks=False)
                             else entry.stat(follow_symlinks=False).st_size for entry in entries}
            except (FileNotFoundError, NotADirectoryError):
                return False
            found.pop(".ahoy", None)
            if found != self.all[relative]:
                return False
            todo.pop()
        return True
