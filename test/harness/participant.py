"""A scripted participant: a real HTTP server that answers what the test says and records all.

    p = Participant()
    p.on("stock", "prepare", Answer(503, headers={"Retry-After": "1"}), Answer(200))
    p.url("stock")         the branch's address
    p.calls("stock")       what came, in order of arrival

The last answer of a script repeats; without a script everything is answered 200 with no body.
"""

import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .wait import wait_until


class Gate:
    """Holds answers back until it is opened. `reached` counts who came to it."""

    def __init__(self):
        self._event = threading.Event()
        self.reached = 0

    def open(self):
        self._event.set()

    def wait(self):
        self.reached += 1
        self._event.wait(120)

    def wait_reached(self, deadline_s=20):
        wait_until(lambda: self.reached, deadline_s, "a call to be held back")


class Answer:
    """`kind`: plain; reset (RST instead of an answer); close (FIN instead of an answer); half
    (half of the announced body); garbage (not HTTP)."""

    def __init__(self, status=200, body=b"", headers=None, gate=None, kind="plain"):
        self.status = status
        self.body = body.encode() if isinstance(body, str) else body
        self.headers = headers or {}
        self.gate = gate
        self.kind = kind


class Call:
    def __init__(self, name, op, handler, body):
        self.name, self.op, self.body = name, op, body
        self.method, self.path = handler.command, handler.path
        self.headers, self.client = handler.headers, handler.client_address
        self.connection = getattr(handler, "connection", None)
        self.at = time.monotonic()

    def __repr__(self):
        return "<%s/%s attempt %s>" % (self.name, self.op, self.headers.get("Assent-Attempt"))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body go in two packets; the second would wait for the acknowledgement of the first.
    disable_nagle_algorithm = True

    def do_any(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        parts = self.path.strip("/").split("/")
        name, op = "/".join(parts[:-1]), parts[-1]
        answer = self.server.participant.arrived(Call(name, op, self, body))
        if answer.gate:
            answer.gate.wait()
        getattr(self, "_answer_" + answer.kind)(answer)

    do_POST = do_GET = do_PUT = do_any

    def _head(self, answer, length):
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def _answer_plain(self, answer):
        try:
            self._head(answer, len(answer.body))
            self.wfile.write(answer.body)
        except OSError:
            self.close_connection = True  # the caller may hang up on a huge body

    def _answer_half(self, answer):
        self._head(answer, 2 * len(answer.body) + 2)
        self.wfile.write(answer.body)
        self.close_connection = True

    def _answer_garbage(self, _answer):
        self.wfile.write(b"\x00\xff\x16\x03 this is not HTTP\r\n\r\n")
        self.close_connection = True

    def _answer_close(self, _answer):
        self.close_connection = True

    def _answer_reset(self, _answer):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def finish(self):
        try:
            super().finish()
        except (OSError, ValueError):
            pass

    def log_message(self, *_args):
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    participant = None

    def handle_error(self, *_args):
        pass  # resets are part of the game

    def shutdown_request(self, request):
        try:
            super().shutdown_request(request)
        except OSError:
            pass


class Ports:
    """Of participants that are gone. Nobody listens there, and nobody else gets them: transactions
    that a test has left undecided go on calling, and would reach another test's participant."""

    MAX = 600
    _kept = {}

    @classmethod
    def keep(cls, port):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            sock.close()
            return
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        cls._kept[port] = sock
        if len(cls._kept) > cls.MAX:
            cls.free(next(iter(cls._kept)))

    @classmethod
    def free(cls, port):
        if port in cls._kept:
            cls._kept.pop(port).close()


class Participant:
    def __init__(self):
        self._lock = threading.Lock()
        self._script = {}
        self._calls = []
        self._gates = []
        self._serve(0)

    def _serve(self, port):
        self.server = _Server(("127.0.0.1", port), _Handler)
        self.server.participant = self
        self.port = self.server.server_address[1]
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.02,),
                                        daemon=True)
        self._thread.start()

    def reopen(self):
        """After a close, at the same address."""
        Ports.free(self.port)
        self._serve(self.port)

    def url(self, name, op=None):
        base = "http://127.0.0.1:%d/%s" % (self.port, name)
        return base + "/" + op if op else base

    def branch(self, name, branch_id=None, **members):
        return dict({"id": branch_id or name.split("/")[-1], "participant": self.url(name)},
                    **members)

    def on(self, name, op, *answers):
        with self._lock:
            self._script[(name, op)] = list(answers)
            self._gates += [a.gate for a in answers if a.gate]

    def arrived(self, call):
        with self._lock:
            self._calls.append(call)
            script = self._script.get((call.name, call.op))
            if not script:
                return Answer()
            return script.pop(0) if len(script) > 1 else script[0]

    def calls(self, name=None, op=None, gid=None):
        with self._lock:
            return [c for c in self._calls
                    if (name is None or c.name == name) and (op is None or c.op == op)
                    and (gid is None or c.headers.get("Assent-Gid") == gid)]

    def wait_calls(self, n, name=None, op=None, deadline_s=10):
        wait_until(lambda: len(self.calls(name, op)) >= n, deadline_s,
                   lambda: "%d calls %s/%s, got %s" % (n, name, op, self.calls()))
        return self.calls(name, op)

    def forget(self):
        """What came so far."""
        with self._lock:
            self._calls.clear()

    def close(self):
        for gate in self._gates:
            gate.open()
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()
        Ports.keep(self.port)
