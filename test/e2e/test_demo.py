"""What `make run` shows, taken at its word: the lines it prints are run as they stand."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys

import pytest

from harness.contract import ROOT
from harness.system import BUILD
from harness.wait import wait_until

DEMO = os.path.join(ROOT, "test", "demo", "demo.py")


class Run:
    """A run of the demonstration with its output in a file."""

    def __init__(self, path, once=False, env=None, command=None, **options):
        self.path = path
        settings = dict(os.environ, BUILD=BUILD)
        settings.pop("ONCE", None)
        settings.pop("MAKELEVEL", None)
        if once:
            settings["ONCE"] = "1"
        settings.update(env or {})
        with open(path, "wb") as out:
            self.popen = subprocess.Popen(
                command or [sys.executable, DEMO], stdout=out, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, env=settings, start_new_session=True, **options)

    def output(self):
        with open(self.path, encoding="utf-8") as f:
            return f.read()

    def wait_for(self, text, deadline_s=200):
        def look():
            if text in self.output():
                return True
            assert self.popen.poll() is None, self.output()
            return False
        wait_until(look, deadline_s, lambda: "%r in:\n%s" % (text, self.output()))

    def directory(self):
        return re.search(r"(/tmp/assent-demo-\w+)", self.output())[1]

    def table(self):
        rows = [[c.strip() for c in line.split(" | ")]
                for line in self.output().splitlines() if line.count(" | ") == 3]
        assert rows[0] == ["scenario", "expected", "seen", "ok"]
        assert len({line.index(" | ") for line in self.output().splitlines()
                    if line.count(" | ") == 3}) == 1
        return rows[2:]

    def nothing_left(self, deadline_s=40):
        directory = self.directory()
        wait_until(lambda: not os.path.exists(directory), deadline_s, "%s to go" % directory)
        wait_until(lambda: not named(directory), deadline_s,
                   lambda: "the processes %s to go" % named(directory))
        assert not os.path.exists(directory + "-log"), self.output()


def named(directory):
    """Processes with the directory in their command line."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/cmdline" % name, "rb") as f:
                    if directory.encode() in f.read():
                        found.append(name)
            except OSError:
                pass
    return found


@pytest.fixture
def start(guard):
    runs = []

    def run(*args, **options):
        runs.append(Run(guard.path("demo%d" % len(runs)), *args, **options))
        return runs[-1]
    yield run
    for one in runs:
        if one.popen.poll() is None:
            os.killpg(one.popen.pid, signal.SIGKILL)
        one.popen.wait()


def check_table(rows):
    assert len(rows) == 13
    for scenario, expected, seen, ok in rows:
        assert expected == seen and ok == "ok", scenario
        assert re.fullmatch(r"(committed|aborted) +orders=\d+ tea=\d+ balance=\d+ coupons=\d+ held=0",
                            seen)
    # In each mode one order went through and one did not; the others all did.
    assert [r[2].split()[0] for r in rows].count("committed") == 9
    assert rows[-1][2].split() == "committed orders=9 tea=82 balance=660 coupons=8 held=0".split()


def first_free():
    """One of the usual ports, taken. Somebody else's demonstration may run, and may end meanwhile."""
    for port, name in ((7470, "assentd"), (7480, "order"), (7481, "stock"), (7482, "account")):
        try:
            return port, name, socket.create_server(("127.0.0.1", port))
        except OSError:
            pass
    return 0, "", contextlib.nullcontext()


def test_once(start):
    """Also with a usual port taken: it says so and takes another one."""
    port, name, taken = first_free()
    with taken:
        run = start(once=True)
        assert run.popen.wait(200) == 0, run.output()
        assert not port or "port %d (%s) is in use" % (port, name) in run.output()
        check_table(run.table())
        run.nothing_left()


def test_once_as_an_ordinary_user(start, guard):
    """From a copy, because the checkout of one user may be closed to another."""
    for name in ("test/demo", "test/harness", "api"):
        shutil.copytree(os.path.join(ROOT, name), guard.path("copy", name))
    shutil.copytree(os.path.join(BUILD, "bin"), guard.path("copy", "build", "bin"))
    somebody = {"user": "nobody", "group": "nogroup", "extra_groups": []}
    run = start(once=True, env={"BUILD": guard.path("copy", "build")},
                command=[sys.executable, guard.path("copy", "test", "demo", "demo.py")],
                **(somebody if os.geteuid() == 0 else {}))
    assert run.popen.wait(200) == 0, run.output()
    check_table(run.table())
    run.nothing_left()


def test_what_it_prints_works(start):
    run = start()
    run.wait_for("Serving.")
    check_table(run.table())
    curls = [line.strip() for line in run.output().splitlines() if line.startswith("  curl ")]
    assert len(curls) == 2
    placed, shown = (subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True,
                                    timeout=60, check=True) for line in curls)
    assert json.loads(placed.stdout)["outcome"] == "committed", placed
    assert json.loads(shown.stdout)["gid"] == "order-1"
    again = subprocess.run(["/bin/sh", "-c", curls[0]], capture_output=True, text=True, timeout=60,
                           check=True)
    assert again.stdout == placed.stdout
    os.killpg(run.popen.pid, signal.SIGINT)
    assert run.popen.wait(30) == 0, run.output()
    assert "Traceback" not in run.output()
    run.nothing_left()


@pytest.mark.parametrize("moment, signum", [
    ("starting the coordinator", signal.SIGKILL), ("starting the services", signal.SIGTERM),
    ("running 13 scenarios", signal.SIGHUP), ("Serving.", signal.SIGKILL)])
def test_signals_leave_nothing(start, moment, signum):
    run = start()
    run.wait_for(moment)
    os.kill(run.popen.pid, signum)
    run.popen.wait(30)
    assert "Traceback" not in run.output()
    run.nothing_left()


def test_killed_make_leaves_nothing(start):
    """A shell in the place of make: its death is no signal to the script."""
    run = start(env={"MAKELEVEL": "1"},
                command=["/bin/sh", "-c", "%s %s; true" % (sys.executable, DEMO)])
    run.wait_for("running 13 scenarios")
    os.kill(run.popen.pid, signal.SIGKILL)
    run.popen.wait(10)
    run.nothing_left()


def test_not_built(start):
    run = start(env={"BUILD": "/nonexistent"})
    assert run.popen.wait(30) == 1
    assert "/nonexistent/bin/assentd" in run.output() and "make" in run.output()


def test_a_program_that_fails(start, guard):
    """The reason is shown, not only where to look for it."""
    os.mkdir(guard.path("bin"))
    for name in ("assentd", "order", "stock", "account", "coupon"):
        path = guard.path("bin", name)
        with open(path, "w", encoding="ascii") as f:
            f.write("#!/bin/sh\necho 'no such luck' >&2\nexit 3\n")
        os.chmod(path, 0o755)
    run = start(env={"BUILD": guard.dir})
    assert run.popen.wait(30) == 1
    assert "no such luck" in run.output() and "Traceback" not in run.output()
    logs = run.directory() + "-log"
    assert os.listdir(logs)
    shutil.rmtree(logs)
    run.nothing_left()
