#!/usr/bin/env python3
"""Real rot: bytes are changed on the disk itself, below the file system.

    trust/rot.py        (root: it mounts an image of 64 MiB through a loop device)

B's folder is on an ext4 image. The image is unmounted, some bytes of some files are changed in it,
and it is mounted again: no time stamp, no size, no inode is another one. After a start, which finds
nothing, `ahoy scrub` must name just these files, repair them from A, and A must never have seen a
changed byte. Then the same with an edit instead, which must be an edit."""

import argparse
import json
import os
import subprocess
import sys

from machines import Machine, Place, binary, sealed, tree, wait_until

FILES, ROTTEN = 60, 7


def run(*words):
    subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ahoy")
    parser.add_argument("--work")
    args = parser.parse_args()
    if os.getuid() != 0:
        sys.exit("Error: mounting takes root")
    with Place(args.work) as place:
        a, b = Machine(place, "a", binary(args.ahoy)), Machine(place, "b", binary(args.ahoy))
        image, mount = place / "image", place / "mount"
        with open(image, "wb") as file:
            file.truncate(64 << 20)
        run("mkfs.ext4", "-q", "-F", image)
        mount.mkdir()
        run("mount", "-o", "loop", image, mount)
        b.folder = mount / "b"
        b.folder.mkdir()
        try:
            trial(a, b, image, mount)
        finally:
            b.stop()
            a.stop()
            subprocess.run(["umount", str(mount)], check=False)


def trial(a, b, image, mount):
    ticket = a.share()
    for n in range(FILES):
        size = 200_000 if n % 10 == 0 else 3_000
        (a.folder / f"f{n}").write_bytes(sealed(f"file {n}", size))
    b.join(ticket)
    want = tree(a.folder)
    wait_until(lambda: "it does not arrive", lambda: tree(b.folder) == want)
    b.stop()
    run("umount", mount)
    rotten = [f"f{n}" for n in range(0, FILES, FILES // ROTTEN)][:ROTTEN]
    data = bytearray(image.read_bytes())
    for name in rotten:
        at = data.find(want[name][:4096])
        assert at >= 0, f"{name} is not in the image in one piece"
        data[at + 1500] ^= 0x40
    image.write_bytes(data)
    run("mount", "-o", "loop", image, mount)
    found = tree(b.folder)
    assert sorted(n for n in want if found[n] != want[n]) == sorted(rotten)
    b.sync()
    status = lambda: json.loads(b.ask("status", "--json", b.folder).stdout or "{}")
    wait_until(lambda: f"not in sync: {status()}",
               lambda: any(s.get("state") == "in_sync" for s in status().get("shares", [])))
    assert tree(a.folder) == want and tree(b.folder) == found, "a start cannot find it"
    ended = b.ask("scrub", b.folder, "--rate", "0", "--json")
    said = json.loads(ended.stdout)
    wait_until(lambda: f"not repaired: {said}", lambda: tree(b.folder) == want)
    assert tree(a.folder) == want, "A has seen it"
    kept = os.listdir(b.folder / ".ahoy/damaged")
    assert ended.returncode == 1 and said["rotten"] == ROTTEN and len(kept) == ROTTEN, said
    again = b.ask("scrub", b.folder, "--rate", "0", "--json")
    assert again.returncode == 0, again.stdout
    edited = sealed("an edit", 3_000)
    (b.folder / "f1").write_bytes(edited)
    wait_until(lambda: "an edit does not arrive",
               lambda: (a.folder / "f1").read_bytes() == edited)
    print(f"rot: {said['files']} files read, {ROTTEN} changed on the device: {said['rotten']} found, "
          f"{said['rotten'] - len(said['unrepaired'])} repaired, 0 sent; an edit was an edit")


if __name__ == "__main__":
    main()
