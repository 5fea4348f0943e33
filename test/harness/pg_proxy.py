"""Between assentd and PostgreSQL: knows where a message of the protocol (3.0) begins and ends, and
can break the connection there.

    proxy = PgProxy(cluster.port)
    proxy.arm(Fault("backend", 7))       before the 7th message from now on is passed on: cut
    proxy.arm(Fault("frontend", "S"))    before the next Sync
    proxy.fired.wait(10)

Faults meet the session of one application, the journal's unless told otherwise.
"""

import socket
import struct
import threading

JOURNAL = "assentd journal"


class Fault:
    """`which`: a number, counted from 1 from when the fault is armed, or a message's type.
    `how`: cut (FIN), reset (RST), half (of the message, then RST), hold (nothing passes any more
    in either direction, and the connection stays). `skip`: messages of that type that pass.
    `times`: sessions that it meets."""

    def __init__(self, side, which, how="cut", application=JOURNAL, skip=0, times=1):
        assert side in ("frontend", "backend") and how in ("cut", "reset", "half", "hold")
        self.side, self.which, self.how = side, which, how
        self.application, self.times, self.skip = application, times, skip
        self.seen = 0

    def meets(self, side, kind):
        if side != self.side:
            return False
        self.seen += 1
        if self.which == kind and self.skip > 0:
            self.skip -= 1
            return False
        return self.which in (self.seen, kind)


class _Closed(Exception):
    pass


def _reset(sock):
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass
    _close(sock)


def _close(sock):
    # The other thread may sit in recv: a close alone would not wake it.
    for act in (lambda: sock.shutdown(socket.SHUT_RDWR), sock.close):
        try:
            act()
        except OSError:
            pass


class _Reader:
    """Whole messages out of a stream: (type, bytes); the first of a client has no type."""

    def __init__(self, sock, typed):
        self.sock, self.typed, self.data = sock, typed, bytearray()

    def _need(self, n):
        while len(self.data) < n:
            more = self.sock.recv(65536)
            if not more:
                raise _Closed
            self.data += more

    def next(self):
        head = 1 if self.typed else 0
        self._need(head + 4)
        size = head + struct.unpack_from("!I", self.data, head)[0]
        self._need(size)
        kind = chr(self.data[0]) if self.typed else "startup"
        message = bytes(self.data[:size])
        del self.data[:size]
        self.typed = True
        return kind, message

    def more(self):
        """Whether another whole message is here already."""
        if len(self.data) < 5:
            return False
        return len(self.data) >= 1 + struct.unpack_from("!I", self.data, 1)[0]


class _Session:
    def __init__(self, proxy, client, server):
        self.proxy, self.client, self.server = proxy, client, server
        self.application = None
        self.held = False

    def run(self):
        for side, source, target in (("frontend", self.client, self.server),
                                     ("backend", self.server, self.client)):
            threading.Thread(target=self._pump, args=(side, source, target), daemon=True).start()

    def end(self, how="cut"):
        for sock in (self.client, self.server):
            (_close if how == "cut" else _reset)(sock)
        self.proxy.forget(self)

    def _pump(self, side, source, target):
        reader = _Reader(source, typed=side == "backend")
        out = bytearray()
        try:
            while True:
                kind, message = reader.next()
                if kind == "startup":
                    words = message[8:].split(b"\0")
                    names = dict(zip(words[::2], words[1::2]))
                    self.application = names.get(b"application_name", b"").decode()
                how = self.proxy.judge(self, side, kind)
                if how:
                    target.sendall(out + (message[:len(message) // 2] if how == "half" else b""))
                    if how != "hold":
                        self.end(how)
                        self.proxy.fired.set()
                        return
                    self.held = True
                    self.proxy.fired.set()
                if self.held:
                    out.clear()
                    continue  # it is read, so that a half-open connection is not noticed
                out += message
                if not reader.more():
                    target.sendall(out)
                    out.clear()
        except (OSError, _Closed):
            if not self.held:
                self.end()
            elif side == "frontend":
                _close(self.client)


class PgProxy:
    def __init__(self, port):
        self.target = ("127.0.0.1", port)
        self.fired = threading.Event()
        self.seen = []  # (side, type) of what was counted since arm
        self._lock = threading.Lock()
        self._fault = None
        self._sessions = []
        self._listen(0)

    def _listen(self, port):
        self.listener = socket.create_server(("127.0.0.1", port))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def _accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self.target, timeout=5)
                server.settimeout(None)
            except OSError:
                _reset(client)
                continue
            for sock in (client, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            session = _Session(self, client, server)
            with self._lock:
                self._sessions.append(session)
            session.run()

    def arm(self, fault):
        """None: everything passes."""
        with self._lock:
            self.fired.clear()
            self.seen = []
            self._fault = fault

    def judge(self, session, side, kind):
        with self._lock:
            fault = self._fault
            if fault is None or session.held or session.application != fault.application:
                return None
            self.seen.append((side, kind))
            if not fault.meets(side, kind):
                return None
            fault.times -= 1
            if fault.times == 0:
                self._fault = None
            return fault.how

    def forget(self, session):
        with self._lock:
            if session in self._sessions:
                self._sessions.remove(session)

    def cut(self, application=None, how="reset"):
        """All sessions, or those of one application."""
        with self._lock:
            sessions = [s for s in self._sessions if application in (None, s.application)]
        for session in sessions:
            session.end(how)
        return len(sessions)

    def hold(self, application=None):
        """Nothing passes any more on what is open; nobody is told."""
        with self._lock:
            for session in self._sessions:
                if application in (None, session.application):
                    session.held = True

    def refuse(self):
        """No connections from now on; those that are open stay."""
        _close(self.listener)

    def accept(self):
        self._listen(self.port)

    def close(self):
        self.refuse()
        self.cut()
