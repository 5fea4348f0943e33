"""A participant of three-phase commit is killed at every SQL statement of its calls, of a peer's
question and of its sweep. And who is believed.

As in test_sdk_calls.py the test is the coordinator, and `ledger` (test/sdk/ledger.c) the participant.
"""

import json
import os

import pytest
import requests

from harness.participant import Answer, Participant
from harness.signature import call_headers, signed
from harness.system import BUILD, Service
from harness.wait import wait_until
from harness.walks import walked
from test_sdk_calls import Ledger

# Calls and answers as in test_sdk_calls.py; nobody dies of those before a bar. "intent" is an abort
# with Assent-Intent: true, "status" a peer's question, "tick" a sweep that finds the branch past its
# time, and what the coordinator says to it is the word behind the colon.
WALKS = {
    "commit": ("can_commit=200 pre_commit=200 pre_commit=200 do_commit=200 abort=409",
               {"pre_commit": 1}),
    "abort": ("pre_commit=200 | abort=200 pre_commit=409", {}),
    "intent": ("pre_commit=200 | intent=200", {}),
    "refused": ("| can_commit!=409 pre_commit!=409 intent=200", {}),
    "vouched": ("pre_commit=200 | status=200 intent=409 do_commit=200", {"pre_commit": 1}),
    "polled": ("can_commit=200 | status=200 pre_commit=409", {}),
    "unknown": ("| do_commit=409 pre_commit=409", {}),
    "swept commit": ("pre_commit=200 | tick:commit=200", {"pre_commit": 1}),
    "swept abort": ("pre_commit=200 | tick:abort=200", {}),
    "alone": ("pre_commit=200 | tick:silent=200 do_commit=200", {"pre_commit": 1}),
    "expired": ("can_commit=200 | tick:pending=200 pre_commit=409", {}),
    "swept 2pc": ("prepare=200 | tick:commit=200", {"prepare": 1}),
    "swept 2pc abort": ("prepare=200 | tick:abort=200 rollback=200 prepare=409", {}),
}
# What a 409 says. A refusal (with a "!") binds nobody and says nothing.
OUTCOME = {"do_commit": ("aborted",), "pre_commit": ("aborted",), "prepare": ("aborted",),
           "abort": ("committed",), "intent": ("pre_committed", "committed")}
DUE = """UPDATE assent_participant.branch
            SET due_at = now() - interval '1 s', vote_deadline_at = now() - interval '1 s'"""


class ThreePhase(Ledger):
    """One ledger, and the coordinator and the peer that it asks."""

    def __init__(self, guard, pg, name):
        self.others, self.aborted = Participant(), set()
        super().__init__(guard, pg, name, ["--coordinator", "http://127.0.0.1:%d" %
                                           self.others.port])
        self.swept()

    def swept(self):
        """It has, for the first time since it started; until then its statements would count."""
        wait_until(lambda: requests.get(self.service.url + "/ticks", timeout=20,
                                        headers={"Connection": "close"}).json() >= 1,
                   20, "a first sweep")

    def restart(self):
        super().restart()
        self.swept()

    def call(self, gid, op, timeout_ms=20000):
        if op == "status":
            return self.send("GET", "/ledger/status", {}, params={
                "cluster": "c0ffee00", "namespace": "default", "gid": gid, "branch": "stock"})
        if op.startswith("tick"):
            return self.tick(gid, op.partition(":")[2])
        path = {"intent": "abort"}.get(op, op.rstrip("!"))
        self.attempts[gid, path] += 1
        headers = dict(call_headers(gid, path, self.attempts[gid, path]))
        headers["Assent-Timeout-Ms"] = str(timeout_ms)
        headers["Assent-Hold-Ms"] = "3600000"
        headers["Assent-Peers"] = "peer=http://127.0.0.1:%d/peer/status" % self.others.port
        if op == "intent":
            headers["Assent-Intent"] = "true"
        return self.send("POST", "/ledger/" + path, headers, json={"refuse": op.endswith("!")})

    def send(self, method, path, headers, **more):
        """Status and body; None when the service died of it."""
        try:
            reply = requests.request(method, self.service.url + path, timeout=150,
                                     headers=dict(headers, Connection="close"), **more)
        except requests.ConnectionError:
            self.crash.wait()
            return None
        assert reply.status_code in (200, 409, 503), (path, reply.status_code, reply.text)
        return reply.status_code, reply.content

    def tick(self, gid, word):
        """Nobody has come to finish it. The peer would commit."""
        if word != "silent":
            self.others.on("v1/transactions/" + gid, "decision", Answer(200, json.dumps(
                {"gid": gid, "cluster": "c0ffee00", "decision": word})))
        self.others.on("peer", "status?cluster=c0ffee00&namespace=default&gid=%s&branch=peer" % gid,
                       Answer(200, json.dumps({"cluster": "c0ffee00", "gid": gid, "branch": "peer",
                                               "state": "pre_committed"})))
        self.db.query(DUE + " WHERE gid = %s", gid)
        answer = self.send("POST", "/tick", {})
        if answer and answer[0] == 200:
            report = json.loads(answer[1])
            assert (report["failed"], report["orphans"]) == (0, 0), report
        return answer

    def check_answer(self, gid, op, status, body):
        """What was said stays said, whatever died in between."""
        if op.startswith("tick"):
            return
        if status == 409 and op in OUTCOME:
            assert json.loads(body)["outcome"] in OUTCOME[op], (op, body)
        elif op.endswith("!"):
            assert status == 409 and (b"outcome" not in body or gid in self.aborted), (op, body)
        if op == "intent" and status == 200:
            self.aborted.add(gid)
        if op == "status":
            state = json.loads(body)["state"]
            assert state == self.results.setdefault((gid, op), state)
        elif status == 200 and op in ("pre_commit", "prepare"):
            self.check_result(gid, op, body)

    def check_result(self, gid, op, body):
        if body == b"" and ("settle" in self.aimed_at or "PREPARE TRANSACTION" in self.aimed_at):
            return  # lost right after PREPARE TRANSACTION
        super().check_result(gid, op, body)

    def run(self, steps, effects):
        """As Ledger.run; armed at the bar."""
        gid = "%s-%d" % (self.name, next(self.number))
        before, bar, after = steps.rpartition("|")
        if bar:
            self.crash.disarm()
            self.do(gid, before)
            self.crash.arm()
        op, status = self.do(gid, after)
        found = self.crash.statements()
        assert self.insist(gid, op) == status
        self.check(gid, effects)
        return found

    def do(self, gid, steps):
        op, status = None, None
        for op, wanted in (step.rsplit("=", 1) for step in steps.split()):
            status = self.insist(gid, op)
            assert status == int(wanted), (op, status)
        return op, status

    def insist(self, gid, op, timeout_ms=20000):
        def look():
            answer = self.call(gid, op, timeout_ms)
            if answer is None:
                self.restart()
            return answer if answer and answer[0] != 503 else None
        status, body = wait_until(look, 40, "an answer to %s of %s" % (op, gid))
        self.check_answer(gid, op, status, body)
        return status


@pytest.fixture(scope="module")
def walks(pg, request):
    yield from walked(request, lambda n: ThreePhase(pg.guard, pg, "three%d" % n),
                      lambda ledger, name: ledger.walk(ledger.run, *WALKS[name]))


@pytest.mark.parametrize("walk", WALKS)
def test_every_statement(walks, walk):
    assert walks.futures[walk].result(300) >= 2 * 2


# ---- signatures ----

SECRET = "three-phase-secret-of-all-branches"


@pytest.fixture(scope="module")
def locked(pg):
    """A ledger that believes nobody without a signature."""
    path = pg.guard.path("secret")
    with open(path, "w", encoding="ascii") as f:
        f.write(SECRET + "\n")
    os.chmod(path, 0o600)
    service = Service(pg.guard, "ledger", pg.create("locked"), args=[
        "--coordinator", "http://127.0.0.1:1", "--secret-file", path])
    service.program = os.path.join(BUILD, "test", "ledger")
    return service.start()


def abort(service, gid, call_id, intent):
    headers = dict(call_headers(gid, "abort"), Connection="close")
    if intent:
        headers["Assent-Intent"] = "true"
    headers = signed(headers, SECRET, b"", call_id=call_id and "c0ffee00/%s/stock/%s" % (gid, call_id))
    return requests.post(service.url + "/ledger/abort", headers=headers, timeout=60).status_code


def test_an_intent_is_signed_as_what_it_is(locked):
    """One that was captured is no decision when its header is taken away, and the other way."""
    assert abort(locked, "i1", "abort/1", True) == 401
    assert abort(locked, "i1", "pre_abort/1", False) == 401
    assert abort(locked, "i1", "pre_abort/1", True) == 200
    assert abort(locked, "i1", "abort/1", False) == 200


def test_only_peers_may_ask(locked):
    """Whoever may ask may abort."""
    def ask(secret, call_id):
        headers = signed({"Connection": "close"}, secret, b"", call_id=call_id) if call_id else {}
        return requests.get(locked.url + "/ledger/status", headers=headers, timeout=60, params={
            "cluster": "c0ffee00", "namespace": "default", "gid": "i2", "branch": "stock"})
    assert ask(None, None).status_code == 401
    assert ask("another-secret-of-nobody", "c0ffee00/i2/stock/status").status_code == 401
    assert ask(SECRET, "c0ffee00/i3/stock/status").status_code == 401
    assert ask(SECRET, "c0ffee00/i2/stock/status/1").status_code == 401
    assert locked.db.value("SELECT count(*) FROM assent_participant.branch WHERE gid = 'i2'") == 0
    reply = ask(SECRET, "c0ffee00/i2/stock/status")
    assert (reply.status_code, reply.json()["state"]) == (200, "aborted")
    assert requests.get(locked.url + "/ledger/status", timeout=60).status_code == 400
