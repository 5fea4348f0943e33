"""Configuration: one table from file, environment and flags; what SIGHUP changes; who is told."""

import configparser
import json
import os
import re
import shutil
import signal
import socket
import subprocess

import pytest

from harness.client import Client
from harness.contract import ROOT
from harness.participant import Answer, Gate
from harness.system import Assentd, binary
from harness.wait import wait_until

SECRET = "whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQ="


def assentd(guard, *args, env=None):
    return guard.run([binary("assentd")] + list(args), env=env)


def write(path, *lines, mode=0o600):
    """As a whole, as an editor does it."""
    with open(path + ".new", "w", encoding="utf-8") as f:
        f.write("".join(line + "\n" for line in lines))
    os.chmod(path + ".new", mode)
    os.rename(path + ".new", path)
    return path


def values(text):
    """{key: (value, source)} of --print-config."""
    return {key: (value, source) for key, value, source in re.findall(
        r"^(\S+) = (.*?)  # (.*)$", text, re.M)}


class Configured(Assentd):
    """assentd --dev with a configuration file."""

    def __init__(self, guard, *lines, name="conf"):
        super().__init__(guard, name)
        self.path = guard.path(name + ".conf")
        self.configure(*lines)
        self.args = ["--config", self.path]

    def configure(self, *lines):
        write(self.path, *lines)

    def said(self, text):
        return text in self.process.stderr()

    def reload(self, *lines, expect="reload: the configuration was read again"):
        n = self.process.stderr().count(expect)
        self.configure(*lines)
        self.process.popen.send_signal(signal.SIGHUP)
        wait_until(lambda: self.process.stderr().count(expect) > n, 30, expect)


def named(name, branch_id="a"):
    return {"id": branch_id, "participant": name}


def body(*branches, **members):
    return dict({"mode": "2pc", "branches": list(branches), "timeout_ms": 60000,
                 "retry": {"initial_ms": 20, "cap_ms": 100}}, **members)


def test_print_config_says_where_each_value_comes_from(guard):
    path = write(guard.path("c"), "# comment", "node = from-file", "log_level = debug",
                 "participant.stock = http://10.0.0.1:7481/stock concurrency=4",
                 "participant.account = http://10.0.0.2/a")
    done = assentd(guard, "--config", path, "--print-config", "--log-level=warn", env={
        "ASSENT_NODE": "from-environment", "ASSENT_PARTICIPANT_ACCOUNT": "http://10.0.0.3/b"})
    assert done.returncode == 0 and done.stderr == ""
    shown = values(done.stdout)
    assert shown["node"] == ("from-environment", "ASSENT_NODE")
    assert shown["log_level"] == ("warn", "command line")
    assert shown["in_flight_max"] == ("20000", "default")
    assert shown["participant.stock"] == (
        "http://10.0.0.1:7481/stock concurrency=4", path + " line 4")
    assert shown["participant.account"] == ("http://10.0.0.3/b", "ASSENT_PARTICIPANT_ACCOUNT")
    assert shown["config"] == (path, "command line")


@pytest.mark.parametrize("conninfo", [
    "host=/tmp dbname=d user=u password=s3cret-word", "password='s3cret-word \\' x' dbname=d",
    "postgresql://u:s3cret-word@host:5432/d", "postgres://host/d?user=u&password=s3cret-word",
    "postgresql://u:s3cret%2dword@host/d?sslpassword=s3cret-word",
    "dbname=postgresql://u:s3cret-word@host/d", "password=a s3cret-word", "password='s3cret-word",
    "postgresql://u:s3cret-word%@host/d", "postgresql://[s3cret-word",
    "password = s3cret-word dbnme=d"])
def test_print_config_masks_passwords(guard, conninfo):
    done = assentd(guard, "--print-config", env={"ASSENT_DATABASE": conninfo})
    said = done.stdout + done.stderr
    assert "s3cret" not in said and "word" not in re.sub("pass(file|word)", "", said)
    if done.returncode == 0:
        assert "***" in values(done.stdout)["database"][0]


def test_secrets_are_read_but_not_shown(guard):
    secret = write(guard.path("secret"), SECRET)
    path = write(guard.path("c"), "database = dbname=x",
                 "participant.stock = http://10.0.0.1/ secret=" + secret,
                 "allow_unauthenticated = yes")
    for flag in ("--check-config", "--print-config"):
        done = assentd(guard, "--config", path, flag)
        assert done.returncode == 0 and "c2VjcmV0" not in done.stdout + done.stderr
    for mode in (0o644, 0o604, 0o666):
        os.chmod(secret, mode)
        done = assentd(guard, "--config", path, "--check-config")
        assert done.returncode == 1 and "line 2" in done.stderr and secret in done.stderr
        assert "c2VjcmV0" not in done.stderr


@pytest.mark.parametrize("line, hint", [
    ("lisen = 127.0.0.1:0", "listen"), ("log_format = xml", "logfmt or json"),
    ("participant.stock = http://a/ concurency=3", 'did you mean "concurrency"'),
    ("participant.stock = http://a/ concurrency=1", "from 2 to 10000"),
    ("participant.stock = http://a/ queue=", "queue"),
    ("participant.stock = http://a/ secret=relative", "secret=/FILE"),
    ("participant.stock = http://a/ secret=/nowhere/x", "No such file"),
    ("participant.stock =", "address is missing"), ("participant.stock = ftp://a/", "http://"),
    ("participant.Stock = http://a/", "a-z"), ("participant. = http://a/", "a-z"),
    ("participant_allow = nonsense", "http://"), ("database = hots=x", "hots"),
    ("node = again", "set before, on line 1"), ("participant.a = http://b/", "set before")])
def test_check_config_names_file_and_line(guard, line, hint):
    path = write(guard.path("c"), "node = n", "participant.a = http://a/", line)
    env = {} if line.startswith("database") else {"ASSENT_DATABASE": "dbname=x"}
    done = assentd(guard, "--config", path, "--check-config", env=env)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and path + " line 3: " in done.stderr
    assert hint in done.stderr


def test_check_config_says_ok(guard):
    path = write(guard.path("c"), "database = dbname=x", "log_format = json",
                 "allow_unauthenticated = yes",
                 "participant.a = http://a:1/b/ concurrency=2 queue=7")
    done = assentd(guard, "--config", path, "--check-config")
    assert (done.returncode, done.stdout, done.stderr) == (0, "configuration ok\n", "")


def test_names_stand_for_addresses(guard, part, gids):
    """Also when the address moves, when the name goes away for a while, and over a restart."""
    address = "participant.shop_1 = " + part.url("shop")
    daemon = Configured(guard, address, "participant_allow = http://10.0.0.1").start()
    first = gids()
    reply = daemon.client.put(first, body(named("shop_1")), wait=10)
    assert (reply["outcome"], reply["branches"][0]["participant"]) == ("committed", "shop_1")
    # Below a registered address a URL needs no rule; beside it, it does.
    below = part.url("shop") + "/deeper"
    assert daemon.client.put(gids(), body(named(below)), wait=10)["outcome"] == "committed"
    for url in (part.url("shopping"), part.url("shop") + "/../x", part.url("shop") + "/%2e%2e/x"):
        reply = daemon.client.put(gids(), body(named(url)))
        assert (reply.status, reply["code"]) == (422, "participant_not_allowed"), url
    evil = dict(named("shop_1"), ops={"commit": part.url("evil")})
    assert daemon.client.put(gids(), body(evil))["code"] == "participant_not_allowed"

    part.on("shop", "commit", Answer(503))
    gid = gids()
    daemon.client.put(gid, body(named("shop_1"), named("shop_1", "b")))
    part.wait_calls(2, "shop", "commit")
    daemon.reload("# the name is gone")
    wait_until(lambda: "operator" in str(daemon.client.txn(gid)["branches"][0]["last_error"]),
               10, "the calls to be refused")
    daemon.kill9()
    daemon.configure("participant.shop_1 = " + part.url("moved") + "/")
    daemon.start()
    assert daemon.client.ended(gid)["outcome"] == "committed"
    assert {c.name for c in part.calls(op="commit", gid=gid)} == {"shop", "moved"}
    assert daemon.stop() == 0


def test_unknown_names(guard, part, gid):
    daemon = Configured(guard, "participant.stock = " + part.url("s")).start()
    for name, hint in (("stok", 'did you mean "stock"'), ("warehouse", "the operator")):
        reply = daemon.client.put(gid, body(named(name)))
        assert (reply.status, reply["code"]) == (422, "participant_unknown")
        assert hint in reply["detail"]
        assert reply["errors"][0]["pointer"] == "/branches/0/participant"
    for text in ("Stock", "stock/x", "s" * 33, "stock:80", ""):
        reply = daemon.client.put(gid, body(named(text)), valid=False)
        assert (reply.status, reply["code"]) == (422, "invalid_identifier"), text
    assert not part.calls()


def test_limits_belong_to_the_name(guard, part, gids):
    """Two places, one of them for second phases: one first phase at a time, and another name at
    the same host and port is not held up."""
    hold = Gate()
    part.on("slow", "prepare", Answer(gate=hold))
    daemon = Configured(guard, "participant.slow = %s concurrency=2 queue=2" % part.url("slow"),
                        "participant.fast = " + part.url("fast")).start()
    waiting = [gids() for _ in range(3)]
    for gid in waiting:
        daemon.client.put(gid, body(named("slow"), named("slow", "b")))
    part.wait_calls(1, "slow")
    both = body(named("fast"), named("fast", "b"))
    assert daemon.client.put(gids(), both, wait=10)["outcome"] == "committed"
    assert len(part.calls("slow")) == 1
    wait_until(lambda: any("too many calls wait" in str(b["last_error"]) for g in waiting
                           for b in daemon.client.txn(g)["branches"]), 10, "a full queue")
    hold.open()
    for gid in waiting:
        assert daemon.client.ended(gid)["outcome"] == "committed"


def test_no_vote_is_asked_for_after_the_decision(guard, part, gids):
    """It waited for a place while its transaction was rolled back: that call is not made, and
    those behind it are."""
    hold, far = Gate(), Gate()
    part.on("slow", "prepare", Answer(gate=hold))
    part.on("far", "rollback", Answer(gate=far))
    part.on("no", "prepare", Answer(409))
    daemon = Configured(guard, "participant.slow = %s concurrency=2" % part.url("slow"),
                        "participant.far = " + part.url("far"),
                        "participant.no = " + part.url("no")).start()
    first, refused, last = [gids() for _ in range(3)]
    daemon.client.put(first, body(named("slow"), named("far", "b")))
    part.wait_calls(1, "slow", "prepare")
    daemon.client.put(refused, body(named("slow"), named("no", "b"), named("far", "c")))
    part.wait_calls(1, "slow", "rollback")
    part.wait_calls(1, "far", "rollback")
    daemon.client.put(last, body(named("slow"), named("far", "b")))
    hold.open()
    for gid in (first, last):
        assert daemon.client.ended(gid)["outcome"] == "committed"
    assert [c.op for c in part.calls("slow") if c.headers["Assent-Gid"] == refused] == ["rollback"]
    far.open()
    assert daemon.client.ended(refused)["outcome"] == "aborted"
    made = daemon.client.get("/v1/transactions/%s/history" % refused)["attempts"]
    assert [a["op"] for a in made if a["branch"] == "a"] == ["rollback"]


def test_reload(guard, part, gids):
    daemon = Configured(guard, "participant_allow = http://127.0.0.1:1").start()

    def submit():
        return daemon.client.put(gids(), body(named(part.url("a"))), wait=10)
    assert submit()["code"] == "participant_not_allowed"
    assert not daemon.said("level=debug")

    allow = "participant_allow = http://127.0.0.1:%d" % part.port
    daemon.reload("log_level = debug", allow)
    assert submit()["outcome"] == "committed"
    wait_until(lambda: daemon.said("level=debug"), 10, "a line for debugging")
    assert daemon.said("reload: log_level is now debug") and daemon.said(".conf line 1)")

    # Who was accepted and is not allowed any more is not called, until he is again.
    part.on("b", "prepare", Answer(503))
    gid = gids()
    assert daemon.client.put(gid, body(named(part.url("a")), named(part.url("b"), "b"))).status == 202
    part.wait_calls(1, "b", "prepare")
    daemon.reload("log_level = debug", "participant_allow = http://127.0.0.1:1")
    part.on("b", "prepare", Answer(200))
    wait_until(lambda: daemon.said("is not called: "), 20, "a call that is not made")
    n_calls = len(part.calls("b"))
    seen = daemon.process.stderr().count("is not called: ")
    wait_until(lambda: daemon.process.stderr().count("is not called: ") > seen, 20, "another")
    assert len(part.calls("b")) == n_calls
    daemon.reload("log_level = debug", allow)
    assert daemon.client.ended(gid)["outcome"] == "committed"

    # What is broken changes nothing, not even the lines before the fault.
    daemon.reload("participant_allow =", "nonsense", expect="reload: nothing is changed")
    assert daemon.said("line 2: a line is")
    assert submit()["outcome"] == "committed"

    daemon.reload(allow, "node = other", "connection_max = 99", "in_flight_max = 1")
    assert daemon.said("connection_max = 99") and daemon.said("takes effect after a restart")
    hold = Gate()
    part.on("a", "prepare", Answer(gate=hold))
    under_way = body(named(part.url("a")), named(part.url("a"), "b"))
    gid = gids()
    assert daemon.client.put(gid, under_way).status == 202
    assert submit()["code"] == "overloaded"
    hold.open()
    assert daemon.client.ended(gid)["outcome"] == "committed"
    daemon.configure(allow)
    os.unlink(daemon.path)
    daemon.process.popen.send_signal(signal.SIGHUP)
    wait_until(lambda: daemon.said("No such file"), 10, "the missing file to be noticed")
    assert daemon.stop() == 0


def test_json_log(guard, part, gid):
    daemon = Configured(guard, "log_format = json", "log_level = debug",
                        "participant_allow = http://127.0.0.1:*").start()
    both = body(named(part.url("a")), named(part.url("a"), "b"))
    assert daemon.client.put(gid, both, wait=10)["outcome"] == "committed"
    assert daemon.stop() == 0
    lines = [json.loads(line) for line in daemon.process.stderr().splitlines()]
    assert len(lines) > 4
    for line in lines:
        assert set(line) in ({"ts", "level", "msg"}, {"ts", "level", "gid", "msg"}), line
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["ts"])
        assert line["level"] in ("debug", "info", "warn", "error")
    assert any(line.get("gid") == gid for line in lines)


@pytest.mark.parametrize("abstract", [False, True])
def test_service_manager_is_told(guard, abstract):
    name = guard.path("notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name if abstract else name)
        manager.settimeout(20)
        path = write(guard.path("c"), "# nothing")
        process = guard.spawn("assentd", [
            binary("assentd"), "--dev", "--dev-dir", guard.path("d"), "--listen", "127.0.0.1:0",
            "--config", path], env={"NOTIFY_SOCKET": "@" + name if abstract else name})
        assert b"READY=1" in manager.recv(4096).split(b"\n")
        assert Client(process.ready_url()).get("/readyz").status == 200
        process.terminate(signal.SIGHUP)
        reloading = manager.recv(4096).split(b"\n")
        assert reloading[0] == b"RELOADING=1"
        assert re.fullmatch(rb"MONOTONIC_USEC=\d+", reloading[1])
        assert manager.recv(4096).split(b"\n")[0] == b"READY=1"
        process.terminate()
        assert b"STOPPING=1" in manager.recv(4096).split(b"\n")
        assert process.wait() == 0


def test_unit_file(guard):
    with open(os.path.join(ROOT, "coordinator/assentd.service"), encoding="ascii") as f:
        text = f.read().replace("@prefix@/bin/assentd", binary("assentd"))
    text = text.replace("@prefix@", "/usr")
    path = write(guard.path("assentd.service"), text)
    unit = configparser.RawConfigParser(strict=False, delimiters="=")
    unit.optionxform = str
    unit.read_string(text)
    service = unit["Service"]
    assert service["Restart"] == "on-failure" and unit["Unit"]["StartLimitIntervalSec"] == "0"
    assert service["Type"] == "notify" and service["ExecReload"].endswith("-HUP $MAINPID")
    assert service["NoNewPrivileges"] == "yes" and service["ProtectSystem"] == "strict"
    if shutil.which("systemd-analyze"):
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", path], text=True,
                              capture_output=True, timeout=30, check=False)
        assert (done.returncode, done.stderr) == (0, "")
