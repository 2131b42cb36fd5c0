"""A disk drive with a volatile cache, whose power can be cut: a file of FUSE beneath a loop device.

A drive may forget whatever was written since the last flush that it has answered, in any order, and
may have written part of it. This one keeps a log of what was written since, so that a cut leaves what
was flushed and nothing else (`nothing`), with some of the later writes (`some`), or with parts of them
(`torn`). After the cut it answers nobody, as a machine without power runs no program; then, when
everybody is dead, it takes what is left in the kernel and drops it. It knows nothing of ahoy."""

import ctypes
import errno
import multiprocessing
import os
import random
import select
import stat
import struct
import subprocess
import sys

SECTOR = 512
WRITE_MAX = 1 << 20
GETATTR, SETATTR, OPEN, READ, WRITE, RELEASE, FSYNC, FLUSH, INIT = 3, 4, 14, 15, 16, 18, 20, 25, 26
UNANSWERED = {2, 36, 42}  # Forget, interrupt, batch forget.
HEADER = struct.Struct("<IIQQIIIHH")
BIG_WRITES, MAX_PAGES, DIRECT_IO = 1 << 5, 1 << 22, 1


class Drive:
    """A drive of `size` bytes; `attach` makes a block device of it."""

    def __init__(self, place, size):
        self.file, self.device = place / "drive", None
        self.file.touch()
        channel = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={channel},rootmode={stat.S_IFREG:o},user_id=0,group_id=0"
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"drive", str(self.file).encode(), b"fuse", 0, options.encode()):
            sys.exit(f"Error: no FUSE here: {os.strerror(ctypes.get_errno())}")
        self.control, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("fork").Process(
            target=lambda: Server(channel, theirs, size).run(), daemon=True)
        self.process.start()
        os.close(channel)

    def say(self, *words):
        self.control.send(words)
        return self.control.recv()

    def attach(self):
        made = subprocess.run(["losetup", "--show", "--direct-io=on", "-f", str(self.file)],
                              check=True, capture_output=True, text=True)
        self.device = made.stdout.strip()
        return self.device

    def detach(self):
        if self.device:
            subprocess.run(["losetup", "-d", self.device], check=True)
            self.device = None

    def cut(self, how, seed):
        """Nothing is answered from here on; how many writes were not flushed, and how many stay."""
        return self.say("cut", how, seed)

    def drain(self):
        """What waits for the drive goes on, and into nothing."""
        return self.say("drain")

    def revive(self):
        """The power is back. Flushes that were answered so far."""
        return self.say("revive")

    def close(self):
        if self.process.is_alive():
            self.say("drain")
        self.detach()
        subprocess.run(["umount", str(self.file)], check=False)
        self.process.terminate()


class Server:
    """Answers the kernel's requests about the one file that there is."""

    def __init__(self, channel, control, size):
        self.channel, self.control = channel, control
        self.now = bytearray(size)
        self.flushed = bytearray(size)
        self.log = []
        self.after = None
        self.state, self.waiting, self.flushes = "on", [], 0

    def run(self):
        try:
            while True:
                ready, _, _ = select.select([self.channel, self.control], [], [])
                if self.control in ready:
                    self.control.send(self.order(*self.control.recv()))
                elif self.channel in ready:
                    self.request(os.read(self.channel, WRITE_MAX + 8192))
        except (EOFError, KeyboardInterrupt, OSError):
            pass  # It has been unmounted, or whoever wanted it has gone.

    def order(self, what, how=None, seed=None):
        if what == "cut":
            self.state = "cut"
            return self.lose(how, random.Random(seed))
        self.state = {"drain": "drained", "revive": "on"}[what]
        for request in self.waiting:
            self.request(request)
        self.waiting = []
        if what == "revive":
            self.now, self.flushed, self.log = self.after, bytearray(self.after), []
        return self.flushes

    def lose(self, how, dice):
        """What is on the disk when the power comes back."""
        left, stay = bytearray(self.flushed), 0
        for offset, data in self.log:
            if how == "nothing" or dice.random() < 0.5:
                continue
            if how == "torn" and dice.random() < 0.5:
                data = data[:dice.randrange(len(data) // SECTOR + 1) * SECTOR]
            left[offset:offset + len(data)] = data
            stay += 1
        self.after = left
        return len(self.log), stay

    def request(self, data):
        _, opcode, unique, *_ = HEADER.unpack_from(data)
        if opcode in UNANSWERED:
            return
        if self.state == "cut":
            self.waiting.append(data)
            return
        error, body = self.answer(opcode, data, HEADER.size)
        head = struct.pack("<IiQ", 16 + len(body), -error, unique)
        try:
            os.write(self.channel, head + body)
        except OSError as failed:
            if failed.errno != errno.ENOENT:  # It was interrupted.
                raise

    def answer(self, opcode, data, at):
        if opcode == INIT:
            flags = BIG_WRITES | MAX_PAGES
            return 0, struct.pack("<IIIIHHIIHHI28x", 7, 31, WRITE_MAX, flags, 16, 12, WRITE_MAX, 1,
                                  WRITE_MAX // 4096, 0, 0)
        if opcode in (GETATTR, SETATTR):
            attributes = struct.pack("<QQQQQQIIIIIIIIII", 1, len(self.now), len(self.now) // SECTOR, 0, 0,
                                     0, 0, 0, 0, stat.S_IFREG | 0o600, 1, 0, 0, 0, 4096, 0)
            return 0, struct.pack("<QII", 3600, 0, 0) + attributes
        if opcode == OPEN:
            return 0, struct.pack("<QIi", 1, DIRECT_IO, 0)
        if opcode == READ:
            _, offset, size = struct.unpack_from("<QQI", data, at)
            return 0, bytes(self.now[offset:offset + size])
        if opcode == WRITE:
            _, offset, size = struct.unpack_from("<QQI", data, at)
            piece = data[at + 40:at + 40 + size]
            if self.state == "on":
                self.now[offset:offset + size] = piece
                self.log.append((offset, piece))
            return 0, struct.pack("<II", size, 0)
        if opcode == FSYNC:
            if self.state == "on":
                for offset, piece in self.log:
                    self.flushed[offset:offset + len(piece)] = piece
                self.log = []
                self.flushes += 1
            return 0, b""
        if opcode in (FLUSH, RELEASE):
            return 0, b""
        return errno.ENOSYS, b""
