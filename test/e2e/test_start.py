"""Starting: what is wrong is said in one line that tells what to do, and nothing is left behind."""

import os
import re
import shutil
import signal
import socket

import pytest

from harness.client import Client
from harness.participant import Answer, Gate
from harness.postgres import PrivatePostgres
from harness.system import Assentd, binary
from harness.wait import wait_until


OPEN = "--allow-unauthenticated"


def run(guard, *args, env=None, timeout=30):
    return guard.run([binary("assentd")] + list(args), env=env, timeout=timeout)


def complaint(done):
    """The line that says what is wrong: the last on stderr. Nothing on stdout, exit not 0."""
    assert done.returncode not in (0, None) and done.returncode > 0, done
    assert done.stdout == "", done.stdout
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert lines, "it said nothing"
    return lines[-1]


def nothing_left(guard):
    """No PostgreSQL of this guard's, no lock file."""
    for root, _, files in os.walk(guard.dir):
        assert "postmaster.pid" not in files, root


@pytest.fixture(scope="module")
def postgres(session_guard):
    return PrivatePostgres(session_guard, "ext").start()


def test_help(guard):
    done = run(guard, "--help")
    assert done.returncode == 0 and done.stderr == ""
    for option in ("--config", "--listen", "--database", "--dev", "--dev-dir",
                   "--participant-allow", "--log-level", "--allow-unauthenticated", "migrate"):
        assert option in done.stdout, option


def test_version(guard):
    done = run(guard, "--version")
    assert done.returncode == 0 and re.match(r"assentd \d+\.\d+\.\d+", done.stdout)


@pytest.mark.parametrize("args, hint", [
    (["--lisen", "127.0.0.1:0"], "listen"), (["--databse", "x"], "database"),
    (["--dev-dri", "x"], "dev-dir"), (["--devdir=/x"], "dev-dir"), (["--xyzzy"], "--help"),
    (["migrte"], "--help"), (["-x"], "--help"), (["--"], "--help")])
def test_wrong_option(guard, args, hint):
    line = complaint(run(guard, *args)).replace("_", "-")
    assert hint in line and args[0].split("=")[0].strip("-") in line


@pytest.mark.parametrize("args", [["--listen"], ["--listen", "nonsense", "--dev"],
                                  ["--listen", "127.0.0.1:99999", "--dev"],
                                  ["--listen", "example.com:80", "--dev"],
                                  ["--log-level", "loud", "--dev"],
                                  ["--participant-allow", "nonsense", "--dev"],
                                  ["--dev", "surplus"], ["--dev", "--config", "/nonexistent"]])
def test_wrong_value(guard, args):
    line = complaint(run(guard, *args, "--dev-dir", guard.path("d")) if "--dev" in args
                     else run(guard, *args))
    assert len(line) > 20
    nothing_left(guard)


def test_nothing_to_go_by(guard):
    """Neither --dev nor --database."""
    line = complaint(run(guard, "--listen", "127.0.0.1:0"))
    assert "--database" in line and "--dev" in line


@pytest.mark.parametrize("text, word", [
    ("lisen = 127.0.0.1:0\n", "listen"), ("listen 127.0.0.1:0\n", "key = value"),
    ("\n# comment\nlog_level = loud\n", "log_level")])
def test_wrong_config_file(guard, text, word):
    path = guard.path("assentd.conf")
    with open(path, "w", encoding="ascii") as f:
        f.write(text)
    line = complaint(run(guard, "--config", path, "--dev", "--dev-dir", guard.path("d")))
    assert word in line and path in line
    assert ":%d" % len(text.splitlines()) in line or "line %d" % len(text.splitlines()) in line
    nothing_left(guard)


def test_port_in_use(guard):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        line = complaint(run(guard, "--dev", "--dev-dir", guard.path("d"), "--listen", address))
    assert address in line and "in use" in line
    nothing_left(guard)


def test_no_postgres_there(guard):
    line = complaint(run(guard, "--database", "host=%s dbname=x" % guard.dir,
                         "--listen", "127.0.0.1:0", OPEN))
    assert guard.dir in line


def test_bad_conninfo(guard):
    line = complaint(run(guard, "--database", "hots=/tmp", "--listen", "127.0.0.1:0", OPEN))
    assert "hots" in line


def test_postgres_refuses(guard, postgres):
    for what, word in (("dbname=nowhere user=assent", "nowhere"),
                       ("dbname=postgres user=nobody-here", "nobody-here")):
        line = complaint(run(guard, "--database", "host=%s %s" % (postgres.socket_dir, what),
                             "--listen", "127.0.0.1:0", OPEN))
        assert word in line


def test_not_migrated(guard, postgres):
    database = postgres.create("empty")
    line = complaint(run(guard, "--database", database.conninfo, "--listen", "127.0.0.1:0", OPEN))
    assert "assentd migrate" in line
    assert database.value("SELECT count(*) FROM pg_namespace WHERE nspname = 'assent'") == 0


def test_migrate_an_external_database(guard, postgres, part, gid):
    database = postgres.create("external")
    for _ in range(2):
        done = run(guard, "migrate", "--database", database.conninfo)
        assert done.returncode == 0, done.stderr
    cluster = database.value("SELECT id FROM assent.cluster")
    argv = [binary("assentd"), "--database", database.conninfo, "--listen", "127.0.0.1:0", OPEN,
            "--participant-allow", "http://127.0.0.1:%d" % part.port]
    process = guard.spawn("assentd", argv)
    client = Client(process.ready_url())
    body = {"mode": "2pc", "branches": [part.branch("a"), part.branch("b")]}
    assert client.put(gid, body, wait=10)["outcome"] == "committed"
    assert client.decision(gid)["cluster"] == cluster
    other = {"mode": "2pc", "branches": [{"id": "b", "participant": "http://127.0.0.1:1"}]}
    assert client.put(gid + "x", other)["code"] == "participant_not_allowed"
    process.terminate()
    assert process.wait() == 0
    assert database.value("SELECT outcome FROM assent.transactions WHERE gid = %s",
                          gid) == "committed"


def test_participants_must_be_allowed(guard, postgres, part, gid):
    """In production nobody may be called until the operator says so."""
    database = postgres.create("closed")
    assert run(guard, "migrate", "--database", database.conninfo).returncode == 0
    process = guard.spawn("assentd", [binary("assentd"), "--database", database.conninfo,
                                      "--listen", "127.0.0.1:0", OPEN])
    client = Client(process.ready_url())
    reply = client.put(gid, {"mode": "2pc", "branches": [part.branch("a")]})
    assert (reply.status, reply["code"]) == (422, "participant_not_allowed")
    assert not part.calls()


def test_newer_schema(guard, postgres):
    """A database that a later version has migrated is left alone."""
    database = postgres.create("newer")
    assert run(guard, "migrate", "--database", database.conninfo).returncode == 0
    table, column = version_table(database)
    database.query("INSERT INTO %s (%s) SELECT max(%s) + 1 FROM %s" % (
        table, column, column, table))
    for args in (["--listen", "127.0.0.1:0", OPEN], None):
        done = run(guard, "--database", database.conninfo, *args) if args else \
            run(guard, "migrate", "--database", database.conninfo)
        assert "newer" in complaint(done)


def version_table(database):
    rows = database.query(
        "SELECT c.table_schema || '.' || c.table_name, c.column_name FROM"
        " information_schema.columns c WHERE c.table_schema = 'assent' AND c.column_name ="
        " 'version'")
    assert len(rows) == 1, rows
    return rows[0]


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "0.0.0.0:0"])
def test_nobody_opens_it_by_accident(guard, postgres, listen):
    """Without tokens it takes a word to serve, on loopback too."""
    database = postgres.create("open" + listen[0])
    assert run(guard, "migrate", "--database", database.conninfo).returncode == 0
    args = ["--database", database.conninfo, "--listen", listen]
    line = complaint(run(guard, *args))
    assert OPEN in line and "--token-file" in line and listen in line
    line = complaint(run(guard, *args, OPEN, "--token-file", "/nonexistent"))
    assert "contradict" in line
    process = guard.spawn("assentd", [binary("assentd")] + args + [OPEN])
    port = process.ready_url().rsplit(":", 1)[1]
    assert Client("http://127.0.0.1:" + port).get("/livez").status == 200


@pytest.mark.parametrize("more", [[], ["--allow-unauthenticated"]])
def test_dev_beyond_loopback(guard, more):
    line = complaint(run(guard, "--dev", "--dev-dir", guard.path("d"), "--listen", "0.0.0.0:0",
                         *more))
    assert "--dev" in line and "127.0.0.1" in line
    nothing_left(guard)


def test_dev_directory_with_too_long_a_path(guard):
    line = complaint(run(guard, "--dev", "--dev-dir", guard.path("x" * 100), "--listen",
                         "127.0.0.1:0"))
    assert "--dev-dir" in line
    nothing_left(guard)


def test_dev_directory_that_cannot_be(guard):
    path = guard.path("file")
    with open(path, "w", encoding="ascii"):
        pass
    line = complaint(run(guard, "--dev", "--dev-dir", path + "/d", "--listen", "127.0.0.1:0"))
    assert path in line


@pytest.mark.usefixtures("unmade")
def test_ready_line_is_all_there_is_on_stdout(guard):
    assentd = Assentd(guard).start()
    assert assentd.process.stdout() == "ready %s\n" % assentd.url
    assert "not for production" in assentd.process.stderr()
    assert assentd.stop() == 0
    assert assentd.process.stdout() == "ready %s\n" % assentd.url
    nothing_left(guard)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_second_daemon_on_the_same_directory(guard, part, gid, end):
    """It waits for the shards, and goes on with the work when the first one ends."""
    hold = Gate()
    part.on("b", "prepare", Answer(gate=hold), Answer(200))
    first = Assentd(guard).start()
    body = {"mode": "2pc", "retry": {"initial_ms": 20, "cap_ms": 200}, "timeout_ms": 60000,
            "branches": [part.branch("a"), part.branch("b")]}
    first.client.put(gid, body)
    part.wait_calls(2)
    postmaster = first.postmaster_pid()
    second = guard.spawn("second", [binary("assentd"), "--dev", "--dev-dir", first.dir,
                                    "--listen", "127.0.0.1:0"])
    wait_until(lambda: "another node owns" in second.stderr(), 20, "the second one to wait")
    assert second.stdout() == ""
    first.process.terminate(end)
    first.process.wait()
    client = Client(second.ready_url())
    assert client.ended(gid)["outcome"] == "committed"
    hold.open()
    assert first.postmaster_pid() == postmaster
    second.terminate()
    assert second.wait() == 0
    assert first.postmaster_pid() == 0


@pytest.mark.usefixtures("unmade")
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_signal_while_it_starts(guard, signum):
    """Whenever it comes: the daemon ends and takes its PostgreSQL with it."""
    assentd = Assentd(guard)
    process = assentd.spawn()
    wait_until(lambda: os.path.exists(assentd.dir + "/data") or not process.running(), 60,
               "initdb to end")
    process.terminate(signum)
    process.wait(30)
    wait_until(lambda: assentd.postmaster_pid() == 0, what="PostgreSQL to stop")
    Assentd(guard).start()


def test_stop_does_not_wait_for_ever(fresh):
    """A backend that stands still keeps PostgreSQL's fast shutdown from ending, and until it ends
    nobody is let in again."""
    backend = fresh.db.value("SELECT pg_backend_pid()")
    postmaster = fresh.postmaster_pid()
    os.kill(backend, signal.SIGSTOP)
    assert fresh.stop(60) == 0
    assert postmaster and fresh.postmaster_pid() == 0
    fresh.start()


def test_dev_as_an_ordinary_user(guard, part, gid):
    """With a copy of the program: the checkout of one user may be closed to another."""
    home, program = guard.path("home"), guard.path("assentd")
    os.mkdir(home, 0o700)
    shutil.copy(binary("assentd"), program)
    somebody = "nobody" if os.geteuid() == 0 else None
    if somebody:
        shutil.chown(home, somebody)
    process = guard.spawn("assentd", [program, "--dev", "--dev-dir", home + "/d", "--listen",
                                      "127.0.0.1:0"], user=somebody)
    client = Client(process.ready_url())
    body = {"mode": "2pc", "branches": [part.branch("a"), part.branch("b")]}
    assert client.put(gid, body, wait=10)["outcome"] == "committed"
    process.terminate()
    assert process.wait() == 0
