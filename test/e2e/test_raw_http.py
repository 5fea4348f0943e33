"""Bytes that are hardly HTTP, made from fixed seeds: the daemon answers or hangs up, serves
everybody else meanwhile, and writes nothing of them into its log."""

import contextlib
import json
import random
import re
import socket
import threading

import pytest

SECRET = "s3cr3t-payload-marker"
SEEDS = range(12)
BODY = json.dumps({"mode": "2pc", "branches": [
    {"id": "a", "participant": "http://127.0.0.1:1/a", "payload": SECRET}]}).encode()


def probe(address, n):
    """Somebody else asks n times and is answered: the daemon has been through n turns."""
    with socket.create_connection(address, timeout=10) as other:
        for _ in range(n):
            other.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while not answer.endswith(b'{"status":"ok"}'):
                data = other.recv(4096)
                assert data, answer
                answer += data


def exchange_once(shared, raw, deadline_s):
    """The answer, or None when the daemon says nothing within the deadline."""
    host, port = shared.listen.split(":")
    answer = b""
    with socket.create_connection((host, int(port)), timeout=deadline_s) as client:
        try:
            client.sendall(raw)
            probe((host, int(port)), 2 + len(raw) // 10000)
            client.shutdown(socket.SHUT_WR)
            while len(answer) < 1 << 20:
                data = client.recv(65536)
                if not data:
                    break
                answer += data
        except TimeoutError:
            return None
        except OSError:
            pass
    return answer


def exchange(shared, raw, deadline_s=5):
    """Sends the bytes, says no more, and reads until the daemon has said all; b"" when it says
    nothing. An end that comes together with the last bytes is only noticed at the idle timeout,
    whatever the probes before it do: then once more. Seen beyond that, rarely and late in a long
    session: a head of 8000 query members is held without an answer until client_timeout_s frees
    the connection (test_slow_clients.py has that); others are not held up, which is checked
    around every test here."""
    for _ in range(2):
        answer = exchange_once(shared, raw, deadline_s)
        if answer is not None:
            return answer
    return b""


def ticks(pid):
    """Processor time so far, in hundredths of a second."""
    with open("/proc/%d/stat" % pid, encoding="ascii") as f:
        return sum(map(int, f.read().rsplit(")", 1)[1].split()[11:13]))


def statuses(answer):
    return [int(s) for s in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer)]


class Others:
    """Another client, all the time: every request of its own must be answered soon."""

    def __init__(self, api):
        self.api, self.stopping, self.n, self.failure = api, threading.Event(), 0, None
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.stopping.is_set():
            try:
                assert self.api.get("/livez", timeout=10).status == 200
                self.n += 1
            except Exception as error:  # pylint: disable=broad-except
                self.failure = error
                return

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.stopping.set()
        self.thread.join(10)
        assert self.failure is None, self.failure
        assert self.n > 0


@pytest.fixture(autouse=True)
def unharmed(shared, api, request):
    """Around each test: nothing stored, nobody else held up, nothing logged."""
    pid, before = shared.process.pid, len(shared.process.stderr())
    rows = shared.db.value("SELECT count(*) FROM assent.txn")
    with Others(api) if "costs" not in request.node.name else contextlib.nullcontext():
        yield
    assert shared.process.running() and shared.process.pid == pid
    assert shared.db.value("SELECT count(*) FROM assent.txn") == rows
    log = shared.process.stderr()[before:]
    assert SECRET not in log and "\x00" not in log
    assert all(line.isprintable() for line in log.splitlines())


def post(body, *headers, length=None, path=b"/v1/transactions", method=b"POST"):
    lines = [method + b" " + path + b" HTTP/1.1", b"Host: x", b"Content-Type: application/json"]
    if length is not False:
        lines.append(b"Content-Length: %d" % (len(body) if length is None else length))
    return b"\r\n".join(lines + list(headers)) + b"\r\n\r\n" + body


REQUEST_LINES = {
    "empty": b"\r\n" * 50, "only blanks": b"   \r\n\r\n", "nul": b"GET /\x00livez HTTP/1.1\r\n\r\n",
    "nul in the method": b"G\x00T /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "no version": b"GET /livez\r\n\r\n", "three blanks": b"GET   /livez   HTTP/1.1\r\n\r\n",
    "bare line feeds": b"GET /livez HTTP/1.1\nHost: x\n\n", "no host": b"GET /livez HTTP/1.1\r\n\r\n",
    "bare returns": b"GET /livez HTTP/1.1\rHost: x\r\r", "lower case": b"get /livez http/1.1\r\n\r\n",
    "version 0.9": b"GET /livez HTTP/0.9\r\nHost: x\r\n\r\n",
    "version 3": b"GET /livez HTTP/3.0\r\nHost: x\r\n\r\n",
    "version without end": b"GET /livez HTTP/1." + b"1" * 5000 + b"\r\n\r\n",
    "absolute": b"GET http://x/livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "connect": b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "trace": b"TRACE /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
    "long method": b"X" * 100000 + b" /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "long path": b"GET /" + b"a" * 300000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "long gid": b"GET /v1/transactions/" + b"a" * 30000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "long query": b"GET /livez?" + b"a=b&" * 8000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "many slashes": b"GET " + b"/" * 20000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "bad escapes": b"GET /v1/transactions/%%%2%zz%00%ff HTTP/1.1\r\nHost: x\r\n\r\n",
    "high bytes": b"GET /\xff\xfe\x80livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "bad utf-8 in the query": b"GET /livez?%ff=\xff HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("name", REQUEST_LINES)
def test_request_lines(shared, name):
    answer = exchange(shared, REQUEST_LINES[name])
    assert answer == b"" or statuses(answer), answer[:200]
    assert not [s for s in statuses(answer) if s == 500], answer[:200]


FLOODS = {
    "one long header": b"X: " + b"y" * 500000, "many headers": b"X: y\r\n" * 20000,
    "many distinct": b"".join(b"X-%d: y\r\n" % n for n in range(8000)),
    "one name without end": b"n" * 200000, "empty names": b": y\r\n" * 500,
    "folded": b"X: a\r\n" + b" b\r\n" * 5000, "nuls": b"X: \x00\x00\x00",
    "no colon": b"just words\r\n" * 100, "many lengths": b"Content-Length: 5\r\n" * 50,
    "different lengths": b"Content-Length: 5\r\nContent-Length: 6",
    "length and chunks": b"Content-Length: 5\r\nTransfer-Encoding: chunked",
    "long request id": b"X-Request-Id: " + b"i" * 20000,
    "line end in a request id": b"X-Request-Id: a\rSet-Cookie: b",
    "long preference": b"Prefer: " + b"wait=1," * 3000,
    "huge preference": b"Prefer: wait=" + b"9" * 4000,
    "long key": b"Idempotency-Key: \"" + b"\\\"" * 8000 + b"\"",
    "long token": b"Authorization: Bearer " + b"t" * 20000,
    "long accept": b"Accept: " + b"application/json;q=0.1," * 1000,
}


@pytest.mark.parametrize("name", FLOODS)
@pytest.mark.parametrize("line", [b"GET /problems HTTP/1.1", b"POST /v1/transactions HTTP/1.1"],
                         ids=["GET", "POST"])
def test_header_floods(shared, name, line):
    raw = line + b"\r\nHost: x\r\nContent-Type: application/json\r\n" + FLOODS[name] + b"\r\n\r\n{}"
    answer = exchange(shared, raw)
    assert b"Set-Cookie: b" not in answer.split(b"\r\n\r\n")[0].split(b"\r\n")
    assert not [s for s in statuses(answer) if s >= 500 and s not in (501, 503)], answer[:200]


CHUNKS = {
    "no size": b"\r\n\r\n", "letters": b"zz\r\nhello\r\n0\r\n\r\n", "negative": b"-1\r\n\r\n",
    "huge": b"ffffffffffffffffff\r\nx", "just too large": b"7fffffffffffffff\r\nx",
    "wrong end": b"2\r\nabc\r\n0\r\n\r\n", "cut off": b"5\r\n{\"a",
    "no last": b"2\r\n{}\r\n", "one byte each": b"".join(b"1\r\n%c\r\n" % c for c in BODY[:-1]),
    "trailer flood": b"2\r\n{}\r\n0\r\n" + b"X: y\r\n" * 20000 + b"\r\n",
    "nul sizes": b"\x00\x00\r\n\r\n", "bare line feeds": b"2\n{}\n0\n\n",
    "too much": b"100000\r\n" + b" " * 0x100000 + b"\r\n100000\r\n" + b" " * 0x100000 + b"\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", CHUNKS)
def test_chunks(shared, name):
    answer = exchange(shared, post(CHUNKS[name], b"Transfer-Encoding: chunked", length=False))
    assert not [s for s in statuses(answer) if s < 400 or s >= 500 and s != 501], answer[:200]


@pytest.mark.parametrize("chunk", [b"0" * 100000, b"1;" + b"e" * 100000 + b"\r\nx"],
                         ids=["size", "extension"])
def test_endless_chunk_size_costs_nothing(shared, chunk):
    """The connection waits for its end, or for the idle timeout; the processor does not."""
    host, port = shared.listen.split(":")
    with socket.create_connection((host, int(port)), timeout=1) as client:
        client.sendall(post(chunk, b"Transfer-Encoding: chunked", length=False))
        before = ticks(shared.process.pid)
        try:
            assert client.recv(1000)[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.1 413")
        except TimeoutError:
            pass
        assert ticks(shared.process.pid) - before < 60


BODIES = {
    "lone continuation": b'{"mode":"\x80"}', "overlong": b'{"mode":"\xc0\xaf"}',
    "surrogate": b'{"mode":"\xed\xa0\x80"}', "beyond unicode": b'{"mode":"\xf5\x80\x80\x80"}',
    "cut in a character": b'{"mode":"\xe2\x82', "nul": b'{"mode":"2pc\x00"}',
    "utf-16": '{"mode":"2pc"}'.encode("utf-16"), "only nuls": b"\x00" * 5000,
    "deep": b"[" * 300000, "deep objects": b'{"a":' * 100000, "digits": b"9" * 500000,
    "exponents": b'{"timeout_ms":1e' + b"9" * 100000 + b"}", "quotes": b'"' * 100000,
    "backslashes": b'"' + b"\\" * 99999, "escaped nul": b'{"mode":"2pc\\u0000"}',
    "lone surrogate": b'{"mode":"\\ud800"}', "many members": b"{" + b",".join(
        b'"m%d":0' % n for n in range(20000)) + b"}",
    "same member": b"{" + b",".join([b'"gid":"a"'] * 20000) + b"}",
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies(shared, name):
    answer = exchange(shared, post(BODIES[name]))
    assert statuses(answer) and set(statuses(answer)) <= {400, 422}, answer[:300]
    json.loads(answer.split(b"\r\n\r\n", 1)[1])


@pytest.mark.parametrize("seed", SEEDS)
def test_random_bytes(shared, seed):
    rng = random.Random(seed)
    for _ in range(8):
        raw = rng.randbytes(rng.choice((1, 10, 1000, 100000)))
        answer = exchange(shared, raw)
        assert answer == b"" or statuses(answer) and min(statuses(answer)) >= 400


def mutate(rng, raw):
    """A few bytes replaced, dropped, repeated or swapped with others."""
    raw = bytearray(raw)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(raw))
        choice = rng.randrange(4)
        if choice == 0:
            raw[at] = rng.randrange(256)
        elif choice == 1:
            del raw[at:at + rng.randint(1, 8)]
        elif choice == 2:
            raw[at:at] = raw[at:at + rng.randint(1, 30)] * rng.randint(1, 4)
        else:
            raw[at:at] = rng.choice((b"\r\n", b"\x00", b"\xff", b"%00", b"\"", b"{", b"\\u0000"))
        if not raw:
            raw = bytearray(b"\r\n")
    return bytes(raw)


@pytest.mark.parametrize("seed", SEEDS)
def test_mutated_requests(shared, seed):
    """Nearly good requests; the transaction in them is never good (`mode`)."""
    rng = random.Random(1000 + seed)
    good = [post(BODY.replace(b'"2pc"', b'"9pc"'), b"Prefer: wait=1", b'Idempotency-Key: "k"'),
            post(BODY.replace(b'"2pc"', b'"9pc"'), path=b"/v1/transactions/g", method=b"PUT"),
            b"GET /v1/transactions/g/history?limit=3 HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /problems/not_found HTTP/1.1\r\nHost: x\r\nAccept: application/json;q=0.5\r\n\r\n"]
    for _ in range(15):
        answer = exchange(shared, mutate(rng, rng.choice(good)))
        assert not [s for s in statuses(answer) if s == 500], answer[:300]


@pytest.mark.parametrize("seed", SEEDS[:4])
def test_pipelined_garbage(shared, seed):
    """What follows a good request on its connection does not spoil the answer to it."""
    rng = random.Random(2000 + seed)
    ask = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = exchange(shared, ask * 20 + rng.randbytes(3000))
    assert statuses(answer)[:20] == [200] * 20
    answer = exchange(shared, ask + post(b"{" + rng.randbytes(50)) + ask)
    assert statuses(answer) == [200, 400, 200]


def test_many_who_say_nothing(shared):
    """Slow and silent clients hold their own connection and nothing else."""
    host, port = shared.listen.split(":")
    beginnings = [b"", b"G", b"GET /livez HT", b"GET /livez HTTP/1.1\r\nHost: x\r\nX",
                  post(BODY, length=len(BODY) + 10)]
    clients = [socket.create_connection((host, int(port)), timeout=5) for _ in range(100)]
    for n, client in enumerate(clients):
        client.sendall(beginnings[n % len(beginnings)])
    for _ in range(10):
        assert statuses(exchange(shared, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")) == [200]
    for client in clients:
        client.close()
