"""Fixtures: one assentd for all tests that leave it alone, fresh ones for those that do not."""

import itertools
import os
import sys

import pytest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from harness.cluster import Cluster  # noqa: E402
from harness.guard import Guard  # noqa: E402
from harness.participant import Participant  # noqa: E402
from harness.postgres import PrivatePostgres  # noqa: E402
from harness.system import Assentd, binary  # noqa: E402

_number = itertools.count(1)


def pytest_sessionstart(session):
    if not os.access(binary("assentd"), os.X_OK):
        pytest.exit("%s is missing: run make first (BUILD names the build directory)"
                    % binary("assentd"), returncode=3)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if not report.failed:
        return
    guards = {id(g): g for g in item.funcargs.values() if isinstance(g, Guard)}
    for value in item.funcargs.values():
        guard = getattr(value, "guard", None)
        if isinstance(guard, Guard):
            guards[id(guard)] = guard
    for guard in guards.values():
        guard.keep_logs = True
        lines = ["logs are kept in %s-log" % guard.dir]
        for process in guard.processes[-6:]:
            status = "runs" if process.running() else "status %s" % process.popen.returncode
            try:
                last = process.last_lines(12)
            except FileNotFoundError:
                last = "its logs are gone"  # it belongs to another guard, which has ended
            lines.append("--- %s (%s)\n%s" % (process.name, status, last))
        report.sections.append(("processes", "\n".join(lines)))


@pytest.fixture(scope="session")
def session_guard():
    with Guard() as guard:
        yield guard


@pytest.fixture(scope="session", autouse=True)
def template(session_guard):
    made = Assentd(session_guard, "template").start()
    assert made.stop() == 0, made.process.last_lines()
    Assentd.template = made.dir
    yield made.dir
    Assentd.template = None


@pytest.fixture
def unmade(monkeypatch):
    """Every assentd of this test makes its database by itself."""
    monkeypatch.setattr(Assentd, "template", None)


@pytest.fixture(scope="session")
def shared(session_guard):
    """The assentd that nobody kills; it must end well, too."""
    assentd = Assentd(session_guard).start()
    yield assentd
    assert assentd.stop() == 0, assentd.process.last_lines()


@pytest.fixture(scope="session")
def cluster(session_guard):
    """A PostgreSQL to be broken. Whoever breaks it mends it."""
    return Cluster(session_guard, "cluster").init().start()


@pytest.fixture(scope="module")
def pg():
    """A PostgreSQL of the module's own, for what runs without a coordinator."""
    with Guard() as guard:
        yield PrivatePostgres(guard).start()


@pytest.fixture
def api(shared):
    return shared.client


@pytest.fixture
def guard():
    with Guard() as guard:
        yield guard


@pytest.fixture
def fresh(guard):
    """An assentd of the test's own, to be killed and restarted."""
    return Assentd(guard).start()


@pytest.fixture
def part():
    participant = Participant()
    yield participant
    participant.close()


@pytest.fixture
def gid(request):
    """Never used before in this session, and says which test it belongs to."""
    return "%s-%d" % (request.function.__name__[5:60], next(_number))


@pytest.fixture
def gids(request):
    return lambda: "%s-%d" % (request.function.__name__[5:60], next(_number))
