"""Allocations of the running daemon fail, ours and those of its libraries.

It may refuse (503), drop a connection, or lose its session and take the shards anew. It does not
hang, does not die of our own code, and whatever anybody was told stays true. A library that cannot
live without memory dies like kill -9: after the restart the same must hold.
"""

import os
import re
import struct
import time

import pytest

from harness.load import Load, agreed, two
from harness.system import BUILD, Assentd
from harness.wait import wait_until

SHIM = os.path.join(BUILD, "test", "no_memory.so")


class Starved(Assentd):
    """One in `rate` of its allocations fails; 0 for none."""

    def __init__(self, guard, seed):
        super().__init__(guard)
        self.seed, self.n_death = seed, 0
        self.note = guard.path("rate")
        with open(self.note, "wb") as f:
            f.write(bytes(16))
        os.chmod(self.note, 0o666)

    def spawn(self, *args):
        argv = [self.program, "--dev", "--dev-dir", self.dir, "--listen", self.listen, *args]
        self.process = self.guard.spawn(self.name, argv, env={
            "LD_PRELOAD": SHIM, "NO_MEMORY_IN": "assentd", "NO_MEMORY_FILE": self.note,
            "NO_MEMORY_SEED": str(self.seed)})
        return self.process

    def rate(self, one_in):
        with open(self.note, "r+b") as f:
            f.write(struct.pack("=Q", one_in))

    def failed(self):
        """Allocations that failed so far."""
        with open(self.note, "rb") as f:
            return struct.unpack("=QQ", f.read())[1]

    def revive(self):
        """After a death, which must not have been our own doing.

        libcurl 7.88 goes on with what it has freed when its multi handle finds no memory: seen as
        a division by zero in curl_multi_socket_action under AddressSanitizer, and as glibc's words
        about a heap that is not sound, wherever the next allocation happens to be. Our own code is
        swept under AddressSanitizer, by test/unit/test_no_memory.c.
        """
        if self.process.running():
            return
        self.rate(0)
        words = self.process.stderr()
        assert "Assertion" not in words, words[-2000:]
        self.n_death += 1
        if re.search(r"^(\w+\(\): |corrupted |double free)", words, re.M):
            self.start()
            return
        places = re.findall(r"^(\S+?)\(", words.partition("died here:")[2], re.M)
        outside = [p for p in places if not re.search(r"no_memory\.so|libc\.so", p)]
        assert outside and "assentd" not in outside[0], words[-3000:]
        self.start()


@pytest.mark.parametrize("seed", [1])
def test_everything_said_stays_true(guard, part, seed):
    assentd = Starved(guard, seed).start()
    load = Load(assentd, lambda gid: two(part))
    try:
        wait_until(lambda: load.n("committed") >= 20, 20, "the load to begin")
        for one_in in (2000, 400, 60):
            seen, failed, until = len(load.told), assentd.failed(), time.monotonic() + 2
            assentd.rate(one_in)
            wait_until(lambda: not assentd.process.running() or time.monotonic() > until
                       or len(load.told) > seen + 150, 20, "requests to be tried")
            assentd.rate(0)
            assert assentd.failed() > failed
            assentd.revive()
            before = load.n("committed")
            wait_until(lambda: load.n("committed") > before + 5, 30, "commits to go on")
    finally:
        assentd.rate(0)
        load.stop()
    found = load.check(assentd)
    assert "committed" in found.values()
    agreed(part)
    if not assentd.n_death:
        assert assentd.stop() == 0
