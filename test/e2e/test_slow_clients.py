"""Clients that are slow, large, or many and idle: they lose their connection, nobody else does."""

import select
import socket
import threading

import pytest

from harness.guard import Guard
from harness.system import Assentd
from harness.wait import wait_until

HEAD = b"PUT /v1/transactions/x HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def hasty():
    """It waits for a second only."""
    with Guard() as guard:
        yield Assentd(guard, args=["--client-timeout-s", "1"]).start()


def connect(assentd):
    host, port = assentd.listen.rsplit(":", 1)
    return socket.create_connection((host, int(port)), 10)


def closed(s):
    """Whether the server has ended it; what it said before does not matter."""
    try:
        while select.select([s], [], [], 0)[0]:
            if not s.recv(65536):
                return True
    except ConnectionError:
        return True
    return False


@pytest.mark.parametrize("text", [b"", b"G", b"GET /livez HTTP/1.1\r\nHos", HEAD,
                                  HEAD + b"Content-Length: 100\r\n\r\n{",
                                  HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{"],
                         ids=["nothing", "byte", "header", "head", "body", "chunk"])
@pytest.mark.parametrize("dribble", [False, True])
def test_half_sent_requests(hasty, text, dribble):
    """Also when a byte comes ever so often."""
    with connect(hasty) as s:
        s.sendall(text)

        def gone():
            if dribble:
                try:
                    s.sendall(b"\r\n" if not text else b"x" if b"5\r\n" not in text else b"1")
                except ConnectionError:
                    return True
            return closed(s)
        wait_until(gone, 8, "the connection to be closed")
    assert hasty.client.get("/livez").status == 200


def test_waiting_for_an_answer_is_not_idle(hasty, part, gid):
    """A client that asked to wait is served although it takes longer than the timeout."""
    body = {"mode": "2pc", "timeout_ms": 60000, "branches": [
        {"id": "a", "participant": "http://127.0.0.1:1"}, part.branch("b")]}
    assert hasty.client.put(gid, body, wait=3).status == 202


@pytest.mark.parametrize("text", [
    b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: " + b"h" * 200000 + b"\r\n\r\n",
    b"GET /" + b"p" * 200000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /livez HTTP/1.1\r\n" + b"X-H: v\r\n" * 50000 + b"\r\n"],
    ids=["header", "path", "headers"])
def test_oversized_heads(shared, text):
    with connect(shared) as s:
        try:
            s.sendall(text)
            first = s.recv(20)
        except ConnectionError:
            first = b""
        assert first == b"" or first[9:10] == b"4", first
        wait_until(lambda: closed(s), 8, "the connection to be closed")
    assert shared.client.get("/livez").status == 200


def test_ten_thousand_idle_connections(guard, part, gids):
    """More than there are places: newcomers get in, and who is served goes on being served."""
    assentd = Assentd(guard, args=["--connection-max", "1000"]).start()
    served, stop, idle = [], threading.Event(), []

    def serve():
        while not stop.is_set():
            assert assentd.client.get("/livez").status == 200
            served.append(1)
    worker = threading.Thread(target=serve)
    worker.start()
    try:
        for _ in range(10000):
            idle.append(connect(assentd))
            if len(idle) > 3000:
                idle.pop(0).close()
        before = len(served)
        gid = gids()
        with connect(assentd) as s:
            s.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert s.recv(100).startswith(b"HTTP/1.1 200")
        body = {"mode": "2pc", "branches": [part.branch("a"), part.branch("b")]}
        assert assentd.client.put(gid, body, wait=10)["outcome"] == "committed"
        wait_until(lambda: len(served) > before + 10, what="the served one to be served")
    finally:
        stop.set()
        worker.join(20)
        for s in idle:
            s.close()
    assert assentd.stop() == 0
