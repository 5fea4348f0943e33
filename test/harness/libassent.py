"""libassent's initiator, as any program that loads the shared library sees it."""

import ctypes
import json
import os

from .system import BUILD


class Error(ctypes.Structure):
    _fields_ = [("code", ctypes.c_int), ("http_status", ctypes.c_int),
                ("sqlstate", ctypes.c_char * 6), ("text", ctypes.c_char * 256)]


class Result(ctypes.Structure):
    _fields_ = [("gid", ctypes.c_char * 129), ("state", ctypes.c_char * 32),
                ("outcome", ctypes.c_char * 16)]


E_INVALID, E_UNREACHABLE, E_CONFLICT, E_REFUSED = -2, -4, -5, -6
_lib = None


def _load():
    global _lib
    if not _lib:
        _lib = ctypes.CDLL(os.path.join(BUILD, "lib", "libassent.so.0"))
        for name in ("assent_client_new", "assent_txn_new"):
            getattr(_lib, name).restype = ctypes.c_void_p
    return _lib


class Answer:
    """What a function returned and filled."""

    def __init__(self, rc, result, err):
        self.rc, self.state, self.outcome = rc, result.state.decode(), result.outcome.decode()
        self.text, self.http_status = err.text.decode() if rc < 0 else "", err.http_status

    def __repr__(self):
        return "%d %s %s %s" % (self.rc, self.state, self.outcome, self.text)


class Txn:
    def __init__(self, gid, mode, timeout_ms=0):
        self.lib, self.gid = _load(), gid.encode()
        self.p = ctypes.c_void_p(self.lib.assent_txn_new(self.gid, mode.encode(), timeout_ms, None))
        assert self.p

    def add(self, branch, url, payload=None):
        body = None if payload is None else json.dumps(payload).encode()
        assert self.lib.assent_txn_add_branch(self.p, branch.encode(), url.encode(), body, None) == 0
        return self

    def __del__(self):
        self.lib.assent_txn_free(self.p)


class Initiator:
    """Thread-safe, as the C object is; ctypes lets other threads run meanwhile."""

    def __init__(self, *urls, patience_ms=5000):
        self.lib, err = _load(), Error()
        self.p = ctypes.c_void_p(self.lib.assent_client_new(",".join(urls).encode(),
                                                            ctypes.byref(err)))
        assert self.p, err.text
        assert self.lib.assent_client_set_patience(self.p, patience_ms, None) == 0

    def load_secret(self, path):
        err = Error()
        assert self.lib.assent_client_load_secret(self.p, path.encode(), ctypes.byref(err)) == 0, err.text

    def _do(self, name, *args):
        result, err = Result(), Error()
        rc = getattr(self.lib, name)(self.p, *args, ctypes.byref(result), ctypes.byref(err))
        return Answer(rc, result, err)

    def submit(self, txn, wait_ms=20000):
        return self._do("assent_submit", txn.p, wait_ms)

    def begin(self, txn):
        return self._do("assent_begin", txn.p)

    def enlist(self, txn):
        return self._do("assent_enlist", txn.p)

    def try_(self, txn, timeout_ms=10000):
        err = Error()
        rc = self.lib.assent_try(self.p, txn.p, timeout_ms, None, ctypes.byref(err))
        return Answer(rc, Result(), err)

    def commit(self, gid, wait_ms=20000):
        return self._do("assent_request_commit", gid.encode(), wait_ms)

    def rollback(self, gid, wait_ms=20000):
        return self._do("assent_request_rollback", gid.encode(), wait_ms)

    def get(self, gid):
        return self._do("assent_get", gid.encode())

    def wait(self, gid, wait_ms=20000):
        return self._do("assent_wait", gid.encode(), wait_ms)

    def close(self):
        self.lib.assent_client_free(self.p)
        self.p = None
