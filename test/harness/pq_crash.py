"""Kills a service at a chosen SQL statement: test/shim/pq_crash.c preloaded over its libpq.

    crash = PqCrash(guard, service)      crash.aim(3, "sent"); service.start()
    crash.arm()                          from here on statements count
    crash.wait()                         until it has died of it
    crash.disarm(); service.start()      and it lives again
"""

import os
import signal

from .system import BUILD
from .wait import wait_until

WHEN = ("before", "sent", "after")
SHIM = os.path.join(BUILD, "test", "pq_crash.so")
# Locks in this database that somebody else holds or waits for; a prepared transaction has no pid.
LOCKS = """
SELECT count(*) FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND l.pid IS DISTINCT FROM pg_backend_pid()
   AND (l.pid IS NULL OR a.backend_type = 'client backend')"""


class PqCrash:
    _number = 0

    def __init__(self, guard, service, sweep=True):
        """`sweep`: whether the looks of the service's own sweep count."""
        PqCrash._number += 1
        self.sweep = sweep
        base = guard.path("crash-%d" % PqCrash._number)
        self.service, self.arm_path, self.log_path = service, base + ".arm", base + ".log"

    def aim(self, at=0, when="after", from_start=False):
        """Before the service's next start."""
        env = {"LD_PRELOAD": SHIM, "PQ_CRASH_LOG": self.log_path, "PQ_CRASH_AT": str(at),
               "PQ_CRASH_WHEN": when, "PQ_CRASH_SWEEP": "on" if self.sweep else "off"}
        if not from_start:
            env["PQ_CRASH_ARM"] = self.arm_path
        self.service.env = env

    def arm(self):
        remove(self.log_path)
        with open(self.arm_path, "w", encoding="ascii"):
            pass

    def disarm(self):
        remove(self.arm_path)

    def armed(self):
        return os.path.exists(self.arm_path)

    def died(self):
        """Whether it has. It must not end in any other way."""
        process = self.service.process
        if process.running():
            return False
        assert process.popen.returncode == -signal.SIGKILL, process.last_lines()
        return True

    def wait(self, deadline_s=20):
        wait_until(self.died, deadline_s, lambda: "%s to reach statement %s; it has seen:\n%s" % (
            self.service.name, self.service.env["PQ_CRASH_AT"], "\n".join(self.statements())))

    def statements(self):
        """What was counted since it was armed, each as a line."""
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as f:
                return f.read().splitlines()
        except FileNotFoundError:
            return []


def remove(path):
    try:
        os.remove(path)
    except FileNotFoundError:
        pass
