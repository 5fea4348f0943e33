"""The tests' own tools: a tool that cannot fail would make every test green."""

import http.client
import os
import signal
import socket
import subprocess
import sys

import pytest
import requests

from harness.guard import Guard
from harness.participant import Answer, Participant
from harness.postgres import PrivatePostgres
from harness.process import Exited
from harness.wait import wait_until

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

VICTIM = """
import os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it would be ignored
sys.path.insert(0, %r)
from harness.guard import Guard
from harness.postgres import PrivatePostgres
guard = Guard()
server = PrivatePostgres(guard).start()
child = guard.spawn("sh", ["sh", "-c", "setsid sleep 1000 & exec sleep 1000"])
print(guard.dir, guard.token, server.process.pid, child.pid, flush=True)
sys.stdin.read()
""" % HERE


def ours(*marks):
    """Processes that have one of the marks in their command line or environment."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            for what in ("cmdline", "environ"):
                try:
                    with open("/proc/%s/%s" % (name, what), "rb") as f:
                        text = f.read()
                        found += [int(name) for m in marks if m.encode() in text]
                except OSError:
                    pass
    return found


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_nothing_survives(signum):
    victim = subprocess.Popen([sys.executable, "-c", VICTIM], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True, start_new_session=True)
    directory, token, postmaster, child = victim.stdout.readline().split()
    assert os.path.isdir(directory) and int(postmaster) in ours(directory)
    wait_until(lambda: int(child) in ours(token) and len(set(ours(token))) >= 4, 30,
               "the child and its child to run")
    os.killpg(victim.pid, signum)
    victim.wait(10)
    victim.stdin.close()
    victim.stdout.close()
    wait_until(lambda: not os.path.exists(directory), 40, "the directory to go")
    wait_until(lambda: not ours(directory, token), 20, "the processes to go")


def test_close_leaves_nothing():
    with Guard() as guard:
        PrivatePostgres(guard).start()
        assert ours(guard.dir)
    assert not os.path.exists(guard.dir) and not ours(guard.dir)


def test_process_that_ends_before_it_is_ready(guard):
    process = guard.spawn("false", ["sh", "-c", "echo something is wrong >&2; exit 3"])
    with pytest.raises(Exited, match="(?s)status 3.*something is wrong"):
        process.ready_url()


def test_process_that_is_never_ready(guard):
    process = guard.spawn("sleep", ["sh", "-c", "echo ready http://no-line-end | tr -d '\\n';"
                                    " exec sleep 1000"])
    with pytest.raises(AssertionError, match="in vain"):
        process.ready_url(0.2)


def test_environment_is_clean(guard, monkeypatch):
    monkeypatch.setenv("PGHOST", "example.com")
    monkeypatch.setenv("ASSENT_LISTEN", "0.0.0.0:1")
    out = guard.run(["env"]).stdout
    assert "PGHOST" not in out and "ASSENT_LISTEN" not in out


def test_scripted_answers(part):
    part.on("a", "prepare", Answer(503, "no", {"X": "1"}), Answer(200))
    url = part.url("a", "prepare")
    replies = [requests.post(url, data=b"\x00body", timeout=5) for _ in range(3)]
    assert [r.status_code for r in replies] == [503, 200, 200]
    assert (replies[0].text, replies[0].headers["X"]) == ("no", "1")
    assert [c.body for c in part.calls("a")] == [b"\x00body"] * 3
    assert requests.post(part.url("b", "commit"), timeout=5).status_code == 200


def test_the_port_of_a_participant_that_is_gone():
    """It refuses, and is given to nobody else, but it may come back."""
    gone = Participant()
    requests.post(gone.url("a", "prepare"), timeout=20)
    gone.close()
    with pytest.raises(requests.ConnectionError):
        requests.post(gone.url("a", "prepare"), timeout=20)
    with pytest.raises(OSError):
        socket.socket().bind(("127.0.0.1", gone.port))
    gone.reopen()
    assert requests.post(gone.url("a", "prepare"), timeout=20).status_code == 200
    gone.close()


@pytest.mark.parametrize("kind", ["reset", "close", "half", "garbage"])
def test_broken_answers(part, kind):
    part.on("a", "prepare", Answer(200, "x" * 10, kind=kind))
    connection = http.client.HTTPConnection("127.0.0.1", part.port, timeout=5)
    with pytest.raises((OSError, http.client.HTTPException)):
        connection.request("POST", "/a/prepare")
        connection.getresponse().read()
    connection.close()
