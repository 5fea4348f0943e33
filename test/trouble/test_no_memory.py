"""An allocation fails, ours or a library's: assentd ends at once, says why, and what anybody was
told stays true. A test program that fails them one by one is test/unit/test_no_memory.c.
"""

import json
import os
import struct
import subprocess

from harness.load import Load, agreed, alive, two
from harness.system import BUILD, Assentd, binary
from harness.wait import wait_until

SHIM = os.path.join(BUILD, "test", "no_memory.so")
OUT_OF_MEMORY = 71  # EX_OSERR
# Every one of them allocates for every transaction; jansson does it by a function of ours.
WHOSE = ["assentd", "libcurl", "libmicrohttpd", "libpq"]


class Note:
    """What the shim reads; test/shim/no_memory.c."""

    def __init__(self, guard):
        self.path = guard.path("note")
        self.env = {"LD_PRELOAD": SHIM, "NO_MEMORY_IN": "assentd", "NO_MEMORY_FILE": self.path}
        with open(self.path, "wb") as f:
            f.write(bytes(64))

    def fail(self, nth, whose=""):
        """The count comes last: it makes the shim look at the rest."""
        with open(self.path, "r+b", buffering=0) as f:
            f.seek(8)
            f.write(struct.pack("=Q48s", 0, whose.encode()))
            f.seek(0)
            f.write(struct.pack("=Q", nth))

    def failed(self):
        with open(self.path, "rb") as f:
            return struct.unpack("=QQ", f.read(16))[1]


def test_ends_and_goes_on_from_what_is_stored(guard, part):
    note = Note(guard)
    assentd = Assentd(guard)
    assentd.env = note.env
    assentd.start()
    load = Load(assentd, lambda gid: two(part))
    try:
        for number, whose in enumerate(WHOSE):
            before = load.n("committed")
            wait_until(lambda: load.n("committed") > before + 5, 30, "commits to go on")
            note.fail(40 + 7 * number, whose)
            assert assentd.process.wait(20) == OUT_OF_MEMORY
            assert note.failed() == 1
            last = assentd.process.stderr().splitlines()[-1]
            assert last.startswith("assentd: out of memory: "), last
            assert alive(assentd.postmaster_pid())
            assentd.start()
        before = load.n("committed")
        wait_until(lambda: load.n("committed") > before + 5, 30, "commits to go on")
    finally:
        load.stop()
    load.check(assentd)
    agreed(part)
    assert assentd.stop() == 0


def test_no_allocation_is_done_without(guard):
    """All those of a short run: the libraries' beginnings, the configuration, the answer."""
    note = Note(guard)
    nth, status = 0, OUT_OF_MEMORY
    while status == OUT_OF_MEMORY:
        nth += 1
        form = ("logfmt", "json")[nth % 2]
        note.fail(nth)
        end = subprocess.run([binary("assentd"), "--print-config", "--log-format", form],
                             env=guard.environment(note.env), capture_output=True, text=True,
                             timeout=30, check=False)
        status = end.returncode
        assert note.failed() == (status != 0), nth
        if status:
            line = end.stderr.splitlines()[-1]
            text = line.startswith("{") and json.loads(line)["msg"] or line
            assert "out of memory: " in text
    assert status == 0 and nth > 50, end.stderr
