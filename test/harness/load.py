"""Clients that go on submitting while something breaks, and what must hold afterwards."""

import os
import threading

import requests

from .wait import wait_until

QUICK = {"initial_ms": 20, "cap_ms": 200}


def two(part, **members):
    return dict({"mode": "2pc", "retry": QUICK, "timeout_ms": 60000,
                 "branches": [part.branch("a"), part.branch("b")]}, **members)


DECIDED = ("commit", "rollback", "confirm", "cancel", "compensate", "do_commit", "abort")


def told(part):
    """What each branch of each transaction was told to do in the end."""
    heard = {}
    for call in part.calls():
        open_still = ("Assent-One-Phase" in call.headers or "Assent-Intent" in call.headers
                      or call.op == "confirm" and "Assent-May-Be-Confirmed" in call.headers)
        if call.op in DECIDED and not open_still:
            heard.setdefault((call.headers["Assent-Gid"], call.name), set()).add(call.op)
    return heard


def agreed(part):
    """No branch heard both, and no transaction was committed here and rolled back there."""
    by_gid = {}
    for (gid, _), decisions in told(part).items():
        by_gid.setdefault(gid, set()).update(decisions)
    assert all(len(d) == 1 for d in by_gid.values()), by_gid


def crash(assentd):
    """kill -9 and start again; the private PostgreSQL goes on and is adopted."""
    postmaster = assentd.postmaster_pid()
    assert postmaster
    assentd.kill9()
    os.kill(postmaster, 0)
    assentd.start()
    assert assentd.postmaster_pid() == postmaster


def alive(pid):
    try:
        with open("/proc/%d/stat" % pid, encoding="ascii", errors="replace") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


class Load:
    """Clients that go on submitting; remembers what they were told."""

    def __init__(self, assentd, make_body, n=4, prefix="load"):
        self.url, self.make_body, self.prefix = assentd.url, make_body, prefix
        self.told, self.odd = {}, []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(i,)) for i in range(n)]
        for thread in self._threads:
            thread.start()

    def _run(self, worker):
        session = requests.Session()
        session.trust_env = False
        number = 0
        while not self._stop.is_set():
            gid = "%s-%d-%d" % (self.prefix, worker, number)
            number += 1
            try:
                reply = session.put(self.url + "/v1/transactions/" + gid, json=self.make_body(gid),
                                    headers={"Prefer": "wait=5"}, timeout=10)
            except requests.RequestException:
                self.told[gid] = "lost"
                self._stop.wait(0.02)  # the port is closed: not a busy loop
                continue
            if reply.status_code in (200, 202):
                self.told[gid] = reply.json()["outcome"]
            elif reply.status_code == 503 and "Retry-After" in reply.headers:
                self.told[gid] = "not taken"
                self._stop.wait(0.02)
            else:
                self.odd.append((gid, reply.status_code, reply.text))

    def n(self, outcome):
        return sum(1 for o in list(self.told.values()) if o == outcome)

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
        return self.told

    def check(self, assentd):
        """What was told holds: ask for every gid. Returns the outcomes."""
        assert not self.odd, self.odd[:3]
        wait_until(lambda: assentd.client.get("/readyz").status == 200, 20, "readiness")
        found = {}
        for gid, outcome in self.told.items():
            reply = assentd.client.get("/v1/transactions/" + gid)
            if reply.status == 404:
                assert outcome in ("lost", "not taken"), (gid, outcome)
                continue
            txn = assentd.client.ended(gid)
            found[gid] = txn["outcome"]
            if outcome in ("committed", "aborted"):
                assert txn["outcome"] == outcome, (gid, outcome, txn)
        return found
