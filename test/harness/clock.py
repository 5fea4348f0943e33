"""A wall clock that a test sets for processes of its choice, with libfaketime."""

import glob
import os


class Clock:
    """`env` is for the processes; `set` changes what they take for now, at once. Monotonic time
    goes on as it does on a machine whose clock is set."""

    def __init__(self, guard, name="clock"):
        self.path = guard.path(name)
        self.set(0)
        library = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
        assert library, "libfaketime is missing: test/deps.sh test"
        self.env = {"LD_PRELOAD": library[0], "FAKETIME_TIMESTAMP_FILE": self.path,
                    "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                    "DONT_FAKE_MONOTONIC": "1"}

    def set(self, seconds):
        with open(self.path + ".new", "w", encoding="ascii") as f:
            f.write("%+d\n" % seconds)
        os.replace(self.path + ".new", self.path)
