"""Clients that are slow, large, or many and idle: they lose their connection, nobody else does."""

import contextlib
import json
import os
import select
import socket
import threading

import pytest

from harness.guard import Guard
from harness.system import Assentd, binary
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
        wait_until(gone, 30, "the connection to be closed")
    assert hasty.client.get("/livez").status == 200


def test_waiting_for_an_answer_is_not_idle(hasty, part, gid):
    """A client that asked to wait is served although it takes longer than the timeout."""
    body = {"mode": "2pc", "timeout_ms": 60000, "branches": [
        {"id": "a", "participant": "http://127.0.0.1:1"}, part.branch("b")]}
    assert hasty.client.put(gid, body, wait=3).status == 202


@pytest.mark.parametrize("gone", [False, True])
def test_those_who_wait_leave_room(guard, gone):
    """One participant is dead, and all who submit ask to wait: more than there are connections. They
    do not keep out who asks for something else, not even when they have left."""
    assentd = Assentd(guard, args=["--connection-max", "32"]).start()
    body = json.dumps({"mode": "2pc", "timeout_ms": 60000, "branches": [
        {"id": b, "participant": "http://127.0.0.1:1"} for b in "ab"]}).encode()
    request = (b"PUT /v1/transactions/g%d HTTP/1.1\r\nHost: x\r\nPrefer: wait=60\r\n"
               b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s")
    with contextlib.ExitStack() as stack:
        clients = []
        for i in range(40):
            s = stack.enter_context(connect(assentd))
            s.sendall(request % (i, len(body), body))
            clients.append(s)
            if i >= 16:  # half of them wait; it is answered at once what became of the others
                assert s.recv(20).startswith(b"HTTP/1.1 202")
            else:
                wait_until(lambda n=i: assentd.state("g%d" % n), 10, "g%d to be stored" % i)
        if gone:
            for s in clients:
                s.close()
        assert assentd.client.get("/livez").status == 200
        assert assentd.client.get("/v1/transactions/g0/decision")["decision"] == "pending"
        if not gone:
            assert not select.select(clients[:16], [], [], 0)[0]


def test_few_descriptors(guard, part, gid):
    """More idle clients than the process may have open files: it can still call participants."""
    program = guard.path("few")
    with open(program, "w", encoding="ascii") as f:
        f.write('#!/bin/sh\nulimit -n 300\nexec %s "$@"\n' % binary("assentd"))
    os.chmod(program, 0o755)
    assentd = Assentd(guard, program=program).start()
    with contextlib.ExitStack() as stack:
        for _ in range(400):
            stack.enter_context(connect(assentd))
        # As many are open as ever will be: the newest one has been served.
        assert assentd.client.get("/livez").status == 200
        body = {"mode": "2pc", "branches": [part.branch("a"), part.branch("b")]}
        assert assentd.client.put(gid, body, wait=10)["outcome"] == "committed"
    assert "instead of connection_max" in assentd.process.last_lines(40)


def test_many_large_bodies(fresh, part, gids):
    """They do not fill the memory before anybody can say whether they are wanted; small ones come
    in beside them, and what they took is free when they have gone."""
    def large():
        body = {"mode": "2pc", "branches": [part.branch("a", payload="x" * 1000000)]}
        return fresh.client.put(gids(), body)
    start = HEAD + b"Content-Length: 1048576\r\n\r\n" + b"x" * 1048575
    with contextlib.ExitStack() as stack:
        for _ in range(127):
            stack.enter_context(connect(fresh)).sendall(start)

        def refusal():
            stack.enter_context(connect(fresh)).sendall(start)
            reply = large()
            return reply if reply.status == 503 else None
        refused = wait_until(refusal, 30, "a refusal")
        assert refused["code"] == "overloaded" and refused.headers["Retry-After"] == "1"
        body = {"mode": "2pc", "branches": [part.branch("a", payload="x" * 6000)]}
        assert fresh.client.put(gids(), body).status in (200, 202)
    wait_until(lambda: large().status in (200, 202), 30, "room for a large body")


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
        wait_until(lambda: closed(s), 30, "the connection to be closed")
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
