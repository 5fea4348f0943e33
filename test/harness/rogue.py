"""A scripted participant below HTTP: it has the socket, and does with it what a broken server, proxy
or network does.

    rogue = Rogue()
    rogue.on("a", "prepare", raw(b"HTTP/1.1 200 OK\r\n", "reset"), ok)
    rogue.on("a", "commit", lambda line: line.send(reply(409)))

A play is a function of the `Line` on which the call came. If it returns with the line open, the
next call is read from it: connections are kept. The last play of a script repeats; without one, and
for an Answer, it is a plain participant.
"""

import select
import socket
import ssl
import struct
import threading
from email.parser import BytesParser

from .participant import Call, Gate, Participant


def reply(status=200, body=b"", *headers, length=None):
    """A whole answer; `length` is what it says of its body."""
    lines = ["HTTP/1.1 %03d Whatever" % status,
             "Content-Length: %s" % (len(body) if length is None else length)]
    return "\r\n".join(lines + list(headers) + ["", ""]).encode() + body


def ok(line):
    line.send(reply())


def raw(data, end=None):
    """These bytes; then the line stays open, is closed, or is reset."""
    def play(line):
        line.send(data)
        if end:
            getattr(line, end)()
    return play


def forever(data, every_s=0.0, head=b""):
    """For as long as somebody is there to read it."""
    def play(line):
        line.send(head + data)
        while not line.gone(every_s):
            line.send(data)
        line.close()
    return play


def silent(line):
    """Until the caller gives up."""
    while not line.gone(60):
        pass
    line.close()


def behind(gate, play):
    def wait(line):
        gate.wait()
        play(line)
    wait.gate = gate
    return wait


class Closed(OSError):
    """Nothing more can be said here."""


class Request:
    """What harness.participant.Call asks of a handler."""

    def __init__(self, head, address):
        first, _, rest = head.partition(b"\r\n")
        self.command, self.path, _ = first.decode("latin-1").split(" ", 2)
        self.headers = BytesParser().parsebytes(rest, headersonly=True)
        self.client_address = address


class Line:
    """A connection to us."""

    def __init__(self, sock, address):
        self.sock, self.address, self.data = sock, address, b""
        self.n_call = 0  # that came here
        self.open = True

    def _more(self):
        data = self.sock.recv(65536)
        if not data:
            raise Closed
        self.data += data

    def read(self):
        while b"\r\n\r\n" not in self.data:
            self._more()
        head, _, self.data = self.data.partition(b"\r\n\r\n")
        request = Request(head, self.address)
        length = int(request.headers.get("Content-Length") or 0)
        while len(self.data) < length:
            self._more()
        body, self.data = self.data[:length], self.data[length:]
        self.n_call += 1
        return request, body

    def send(self, data):
        self.sock.sendall(data)

    def gone(self, within_s):
        """Whether the caller hung up, waiting that long for it."""
        if not select.select([self.sock], [], [], within_s)[0]:
            return False
        try:
            return not self.sock.recv(65536)
        except OSError:
            return True

    def close(self):
        self.open = False
        # Another thread may sit in recv, and the descriptor's number may be taken at once.
        for act in (lambda: self.sock.shutdown(socket.SHUT_RDWR), self.sock.close):
            try:
                act()
            except OSError:
                pass

    def reset(self):
        self.open = False
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.sock.close()
        except OSError:
            pass


class Rogue(Participant):
    """`tls`: a server's SSLContext. `greeting`: what it says before it is asked."""

    def __init__(self, tls=None, greeting=b""):
        self.tls, self.greeting = tls, greeting
        self.lines = []
        super().__init__()

    def _serve(self, port):
        self._listener = socket.create_server(("127.0.0.1", port), backlog=256)
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def url(self, name, op=None):
        base = "%s://127.0.0.1:%d/%s" % ("https" if self.tls else "http", self.port, name)
        return base + "/" + op if op else base

    def on(self, name, op, *plays):
        with self._lock:
            self._script[(name, op)] = list(plays)
            self._gates += [p.gate for p in plays if isinstance(getattr(p, "gate", None), Gate)]

    def _accept(self):
        while True:
            try:
                sock, address = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._converse, args=(sock, address), daemon=True).start()

    def _converse(self, sock, address):
        line = None
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls:
                sock = self.tls.wrap_socket(sock, server_side=True)
            line = Line(sock, address)
            line.send(self.greeting)
            with self._lock:
                self.lines.append(line)
            while line.open:
                request, body = line.read()
                parts = request.path.strip("/").split("/")
                play = self.arrived(Call("/".join(parts[:-1]), parts[-1], request, body))
                if callable(play):
                    play(line)
                else:
                    line.send(reply(play.status, play.body))
        except (OSError, ValueError, ssl.SSLError):
            pass
        finally:
            (line or Line(sock, address)).close()

    def close(self):
        for gate in self._gates:
            gate.open()
        # accept in another thread ends with a shutdown, not with a close.
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()
        with self._lock:
            lines = list(self.lines)
        for line in lines:
            line.close()
        self._thread.join()
