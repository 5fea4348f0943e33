"""https: served to those who ask for it, and nobody is kept waiting by a handshake."""

import socket
import ssl
import subprocess

import pytest

from harness.client import Client
from harness.guard import Guard
from harness.system import Assentd
from harness.tokens import Tokens, write_secret
from test_start import complaint, run


def certificate(guard, name):
    """A self-signed certificate for 127.0.0.1: its file and its key's."""
    cert, key = guard.path(name + ".crt"), guard.path(name + ".key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", cert, "-days",
                    "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
                   check=True, capture_output=True)
    return cert, key


class Secured(Assentd):
    def ready(self, deadline_s=30):
        url = self.process.ready_url(deadline_s)
        assert url.startswith("https://")
        self.client = Client(url, self.token, self.ca)
        self.port = int(url.rsplit(":", 1)[1])
        return self


@pytest.fixture(scope="module")
def world():
    with Guard() as guard:
        tokens = Tokens(guard.path("tokens"))
        cert, key = certificate(guard, "tls")
        assentd = Secured(guard, args=["--tls-certificate", cert, "--tls-key", key,
                                       "--token-file", tokens.path])
        assentd.token, assentd.ca = tokens.token["submit"], cert
        yield assentd.start()
        assert assentd.stop() == 0


def context(world, version=None):
    made = ssl.create_default_context(cafile=world.ca)
    if version:
        made.set_ciphers("ALL:@SECLEVEL=0")
        made.minimum_version = made.maximum_version = version
    return made


def connect(world, version=None):
    plain = socket.create_connection(("127.0.0.1", world.port), 10)
    return context(world, version).wrap_socket(plain, server_hostname="127.0.0.1")


def test_transaction_over_https(world, part, gid):
    body = {"mode": "2pc", "branches": [part.branch("a"), part.branch("b")],
            "labels": {"l%d" % i: "x" * 255 for i in range(16)}}
    assert world.client.put(gid, body, wait=10)["outcome"] == "committed"
    for _ in range(50):
        assert world.client.txn(gid)["outcome"] == "committed"


def test_large_bodies(world, part, gid):
    """Many TLS records both ways; more than one read of the socket gives."""
    branch = part.branch("a", payload="x" * 900000)
    reply = world.client.put(gid, {"mode": "2pc", "branches": [branch]}, wait=20)
    assert reply["outcome"] == "committed"
    assert len(part.calls(gid=gid)[0].body) == 900002
    assert world.client.put(gid + "x", b" " * (1 << 20) + b"{}", valid=False)[
        "code"] == "body_too_large"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions(world, version):
    with connect(world, version) as s:
        s.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert s.recv(100).startswith(b"HTTP/1.1 200")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_versions_are_refused(world, version):
    with pytest.raises((ssl.SSLError, ConnectionError)):
        connect(world, version).close()
    test_versions(world, ssl.TLSVersion.TLSv1_2)


def test_plain_http_is_not_served(world):
    with socket.create_connection(("127.0.0.1", world.port), 10) as s:
        s.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            assert b"200" not in s.recv(1000)
        except ConnectionError:
            pass
    assert world.client.get("/livez").status == 200


def test_handshakes_keep_nobody_waiting(world):
    """A hundred begun and left: others are served."""
    begun = [socket.create_connection(("127.0.0.1", world.port), 10) for _ in range(100)]
    for i, s in enumerate(begun):
        s.sendall(b"\x16\x03\x01\x02\x00\x01"[:i % 7])
    for _ in range(5):
        with connect(world) as s:
            s.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert s.recv(100).startswith(b"HTTP/1.1 200")
    for s in begun:
        s.close()


def test_wrong_files(guard):
    cert, key = certificate(guard, "one")
    _, other = certificate(guard, "two")
    garbage = write_secret(guard.path("garbage"), "not PEM\n")
    shared = write_secret(guard.path("shared"), open(key, encoding="ascii").read(), 0o644)

    def start(*args):
        return complaint(run(guard, "--dev", "--dev-dir", guard.path("d"), "--listen",
                             "127.0.0.1:0", *args))
    assert "go together" in start("--tls-key", key)
    assert "go together" in start("--tls-certificate", cert)
    for files in ((cert, other), (garbage, key), (cert, garbage)):
        line = start("--tls-certificate", files[0], "--tls-key", files[1])
        assert all(f in line for f in files) and "PEM" in line
    assert "chmod 600 " + shared in start("--tls-certificate", cert, "--tls-key", shared)
    assert guard.path("no") in start("--tls-certificate", guard.path("no"), "--tls-key", key)
