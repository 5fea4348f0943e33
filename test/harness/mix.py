"""Clients that start every kind of transaction while the coordinator may die at any moment, with a
note of each request and its answer; and what must hold afterwards.

    party = Party()                          participants, by name: yes, no, look, slow, clumsy, dozy
    mix = Mix(assentd, party, shop)          runs until the first request gets no answer
    ... the coordinator dies ...
    mix.check_written_ahead(database)
    ... it is back ...
    mix.check(assentd)
"""

import itertools
import json
import threading

import requests

from .load import DECIDED, QUICK, agreed, told
from .participant import Answer, Participant
from .wait import wait_until

ENDED = ("committed", "aborted", "mixed")
KINDS = ("pair", "refused", "single", "tried", "look", "slow", "clumsy", "grown", "undone", "frozen",
         "left", "empty", "declined", "thawed", "kept", "taken_back", "steps", "back", "onward", "held",
         "doubted", "vouched")
ABORTED = ("refused", "undone", "left", "declined", "thawed", "taken_back", "back", "doubted")
VOTES = ("prepare", "try", "action", "can_commit", "pre_commit")
TOLD = {"2pc": {"committed": {"commit"}, "aborted": {"rollback"}},
        "tcc": {"committed": {"confirm"}, "aborted": {"cancel"}},
        "saga": {"committed": set(), "aborted": {"compensate"}},
        "3pc": {"committed": {"do_commit"}, "aborted": {"abort"}}}
PLENTY = 1000000  # of everything in the shop at first
AMPLE_MS = 600000  # no deadline may pass because the machine is busy
THREE = {"mode": "3pc", "phase_timeout_ms": AMPLE_MS}


def fill(shop):
    shop.stock.db.query("UPDATE stock SET n = %s", PLENTY)
    shop.account.db.query("UPDATE account SET balance = %s", PLENTY)


class Party(Participant):
    """What they do follows from their names: `yes`; `no` refuses; `look` is read-only; `slow` has
    to be asked twice to prepare or try; `clumsy` answers the first decision with a mistake (an alert,
    closed by the second); `sorry` refuses to confirm what it has tried; `dozy` wants to hear the
    decision again, but later; `shy` can commit and refuses to pre-commit, and so does `firm`, which
    takes no intent, as if it had told a peer that it has pre-committed. Two branches of one transaction are told apart by a suffix: yes-2."""

    def arrived(self, call):
        super().arrived(call)
        role, gid = call.name.split("-")[0], call.headers["Assent-Gid"]
        first = len(self.calls(call.name, call.op, gid)) == 1
        if role == "no" and call.op in VOTES:
            return Answer(409, '{"reason":"no"}')
        if role == "sorry" and call.op == "confirm":
            return Answer(409)
        if role in ("shy", "firm") and call.op == "pre_commit":
            return Answer(409)
        if role == "firm" and call.headers["Assent-Intent"]:
            return Answer(409, '{"outcome":"pre_committed"}')
        if role == "look" and call.op in VOTES:
            return Answer(200, '{"vote":"read_only"}')
        if role == "slow" and call.op in VOTES and first:
            return Answer(503)
        if role == "clumsy" and call.op in DECIDED and first:
            return Answer(400)
        if role == "dozy" and call.op in DECIDED and first:
            return Answer(503, headers={"Retry-After": "3"})
        return Answer(200, '{"n":%d}' % len(gid) if call.op == "action" else b"")


class Note:
    """One request. `status` is None when no answer came."""

    def __init__(self, gid, what, path, method, body, headers):
        self.gid, self.what = gid, what
        self.path, self.method, self.body, self.headers = path, method, body, headers
        self.status = self.json = None

    def __repr__(self):
        return "<%s %s: %s %s>" % (self.what, self.gid, self.status, self.json)

    def send(self, session, url, timeout):
        reply = session.request(self.method, url + self.path, data=self.body, timeout=timeout,
                                headers=self.headers)
        self.status, self.json = reply.status_code, reply.json()
        return self

    @property
    def late_is_fine(self):
        """The deadline of these is short: a branch may come too late."""
        return self.what == "enlist" and "-left-" in self.gid

    @property
    def taken(self):
        return self.status in (200, 201, 202)


class Lost(Exception):
    """No answer came, or it is not ready: the coordinator is dead or dying."""


class Client:
    """One thread: one kind of transaction after the other, each kind a method."""

    def __init__(self, mix, kinds, number):
        self.mix, self.number = mix, number
        self.kinds = kinds[number % len(kinds):] + kinds[:number % len(kinds)]
        self.session = requests.Session()
        self.session.trust_env = False
        self.last = None  # an ended submission, to be repeated

    def run(self):
        try:
            for n in itertools.count():
                if self.mix.over.is_set():
                    return
                kind = self.kinds[n % len(self.kinds)]
                gid = "%s-%s-%d-%d" % (self.mix.name, kind, self.number, n)
                getattr(self, kind)(gid)
                if self.last and n % 3 == 0:
                    self.ask(*self.last)
        except Lost:
            self.mix.over.set()

    def ask(self, gid, what, path, method="POST", body=None, wait=None):
        headers = {"Content-Type": "application/json"} if body else {}
        if wait:
            headers["Prefer"] = "wait=%d" % wait
        note = Note(gid, what, path, method, body and json.dumps(body).encode(), headers)
        self.mix.notes.append(note)
        try:
            note.send(self.session, self.mix.url, 20)
        except (requests.RequestException, ValueError):
            note.status = note.json = None
            raise Lost from None
        if note.status == 503:
            raise Lost
        return note

    def submit(self, gid, *names, wait=10, **members):
        body = dict({"mode": "2pc", "retry": QUICK, "timeout_ms": AMPLE_MS,
                     "branches": [self.mix.party.branch(n) for n in names]}, **members)
        args = (gid, "submit", "/v1/transactions/" + gid, "PUT", body, wait)
        if self.ask(*args).status == 200:
            self.last = args

    def pair(self, gid):
        self.submit(gid, "yes", "yes-2")

    def refused(self, gid):
        self.submit(gid, "yes", "no")

    def single(self, gid):
        self.submit(gid, "yes")

    def look(self, gid):
        self.submit(gid, "yes", "look", "yes-2")

    def slow(self, gid):
        self.submit(gid, "slow", "yes")

    def clumsy(self, gid):
        self.submit(gid, "clumsy", "yes")

    def tried(self, gid):
        self.submit(gid, "slow", "look", "clumsy", mode="tcc")

    def declined(self, gid):
        self.submit(gid, "yes", "no", mode="tcc")

    def kept(self, gid):
        """Its confirms could be undone, and need not."""
        self.submit(gid, "slow", "clumsy", mode="tcc", on_confirm_failure="cancel")

    def taken_back(self, gid):
        self.submit(gid, "yes", "sorry", mode="tcc", on_confirm_failure="cancel")

    def onward(self, gid):
        self.submit(gid, "slow", "yes", mode="saga", recovery="forward")

    def held(self, gid):
        """Three phases."""
        self.submit(gid, "slow", "look", "clumsy", **THREE)

    def doubted(self, gid):
        self.submit(gid, "slow", "shy", **THREE)

    def vouched(self, gid):
        self.submit(gid, "firm", "firm-2", **THREE)

    def parked(self, gid):
        """Nobody may wait for it."""
        self.submit(gid, "yes", "dozy", wait=None)

    def steps(self, gid):
        """The second is built from the result of the first."""
        two = self.mix.party.branch("slow", payload={"n": "{{steps.yes.result.n}}"})
        self.submit(gid, "yes", mode="saga",
                    branches=[self.mix.party.branch("yes"), two, self.mix.party.branch("yes-2")])

    def back(self, gid):
        self.submit(gid, "yes", "clumsy", "no", mode="saga")

    def begin(self, gid, timeout_ms=AMPLE_MS, mode="2pc"):
        body = {"mode": mode, "interactive": True, "retry": QUICK, "timeout_ms": timeout_ms}
        if mode == "2pc":
            body["vote_timeout_ms"] = AMPLE_MS
        return self.ask(gid, "begin", "/v1/transactions/" + gid, "PUT", body).taken

    def enlist(self, gid, name):
        path = "/v1/transactions/%s/branches" % gid
        return self.ask(gid, "enlist", path, body=self.mix.party.branch(name)).taken

    def grown(self, gid):
        if self.begin(gid) and self.enlist(gid, "yes") and self.enlist(gid, "yes-2"):
            self.ask(gid, "commit", "/v1/transactions/%s/commit" % gid, wait=10)

    def undone(self, gid):
        if self.begin(gid) and self.enlist(gid, "yes"):
            self.ask(gid, "rollback", "/v1/transactions/%s/rollback" % gid)

    def frozen(self, gid):
        """Whoever tries the branches is no business of the coordinator's."""
        if (self.begin(gid, mode="tcc") and self.enlist(gid, "yes")
                and self.enlist(gid, "clumsy")):
            self.ask(gid, "commit", "/v1/transactions/%s/commit" % gid, wait=10)

    def thawed(self, gid):
        if self.begin(gid, mode="tcc") and self.enlist(gid, "yes"):
            self.ask(gid, "rollback", "/v1/transactions/%s/rollback" % gid)

    def left(self, gid):
        if self.begin(gid, timeout_ms=100):
            self.enlist(gid, "yes")

    def empty(self, gid):
        if self.begin(gid):
            self.ask(gid, "commit", "/v1/transactions/%s/commit" % gid)


class Mix:
    _number = itertools.count(1)

    def __init__(self, assentd, party, shop=None, kinds=KINDS, n=5):
        self.name = "mix%d" % next(self._number)
        self.url, self.party, self.shop = assentd.url, party, shop
        self.notes, self.orders = [], {}
        self.over = threading.Event()
        self._threads = [threading.Thread(target=Client(self, kinds, 2 * i).run) for i in range(n)]
        if shop:
            self._threads += [threading.Thread(target=self._place, args=order)
                              for order in ((7, "tea"), (8, "coffee"))]
        for thread in self._threads:
            thread.start()

    def _place(self, user, sku):
        """Orders of one user, through the order service, which repeats what is not answered."""
        for n in itertools.count():
            if self.over.is_set():
                return
            order_id = "%s-%d-%d" % (self.name, user, n)
            self.orders[order_id] = None
            try:
                self.orders[order_id] = self.shop.place(order_id, sku, 1, user, 1)[0]
            except requests.RequestException:
                return

    def answered(self):
        return [n for n in list(self.notes) if n.status is not None]

    def stop(self):
        self.over.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def check_written_ahead(self, db):
        """With the coordinator dead: what a participant has heard is in the database."""
        calls = self.party.calls()
        state = dict(db.query("SELECT gid, state FROM assent.transactions WHERE gid LIKE %s",
                              self.name + "-%"))
        for call in calls:
            asked = call.op in VOTES or "Assent-One-Phase" in call.headers
            undoable = call.op == "confirm" and "Assent-May-Be-Confirmed" in call.headers
            known = state.get(call.headers["Assent-Gid"])
            if call.op == "pre_commit" or "Assent-Intent" in call.headers:
                assert known not in (None, "active", "asking"), (call, known)
                assert call.op != "abort" or known != "pre_committing", (call, known)
            elif asked:
                assert known not in (None, "active"), (call, call.headers["Assent-Gid"], known)
            else:
                wanted = {"commit": ("committing", "committed"),
                          "confirm": ("confirming", "committed") + undoable * (
                              "cancelling", "aborted"),
                          "cancel": ("cancelling", "aborted"),
                          "compensate": ("compensating", "aborted"),
                          "do_commit": ("committing", "committed"),
                          "abort": ("aborting", "aborted"),
                          "rollback": ("aborting", "aborted")}[call.op]
                assert known in wanted, (call, call.headers["Assent-Gid"], known)

    def check(self, assentd):
        """With the coordinator back: every promise holds, and nothing is left behind."""
        self.stop()
        again = self._repeat(assentd)
        found = self._wait_for_the_end(assentd)
        for note in self.notes + again:
            self._check_note(note, found.get(note.gid))
        heard = {}
        for (gid, _), ops in told(self.party).items():
            heard.setdefault(gid, set()).update(ops)
        for gid, txn in found.items():
            ops = TOLD[txn["mode"]][txn["outcome"]]
            assert heard.get(gid, ops) == ops, (gid, txn, heard[gid])
        agreed(self.party)
        self._check_nothing_left(assentd.db)
        if self.shop:
            self._check_shop(assentd)
        return found

    def _repeat(self, assentd):
        """What was not answered is asked again, in the order it was asked."""
        again = []
        for note in [n for n in self.notes if n.status is None]:
            copy = Note(note.gid, note.what, note.path, note.method, note.body, note.headers)
            again.append(copy.send(assentd.client.session, assentd.url, 30))
            assert copy.taken or copy.status == 409 and note.late_is_fine, copy
        return again

    def _wait_for_the_end(self, assentd):
        for gid in {n.gid for n in self.notes if n.what == "begin"}:
            if assentd.client.get("/v1/transactions/" + gid).json.get("state") == "active":
                reply = assentd.client.request("POST", "/v1/transactions/%s/rollback" % gid)
                assert reply.status in (200, 202, 409), reply
        unfinished = ("SELECT gid, state FROM assent.transactions WHERE ended_at IS NULL"
                      " AND gid ~ '^(order-)?%s-'" % self.name)
        wait_until(lambda: not assentd.db.query(unfinished), 30,
                   lambda: "the end of %s" % assentd.db.query(unfinished))
        found = {}
        for gid in {n.gid for n in self.notes}:
            reply = assentd.client.get("/v1/transactions/" + gid)
            if reply.status != 404:
                found[gid] = reply.json
                assert reply["state"] in ENDED and reply["outcome"] == reply["state"], reply
        return found

    @staticmethod
    def _check_note(note, txn):
        if note.status is None:
            return
        if not note.taken:
            assert note.status == 503 or note.status == 409 and note.late_is_fine, note
            return
        assert txn, ("answered and gone", note)
        said = note.json.get("outcome")
        if said in ENDED:
            assert said == txn["outcome"], (note, txn)
        if note.what == "submit":
            kind = note.gid.split("-")[1]
            assert txn["outcome"] == ("aborted" if kind in ABORTED else "committed"), txn
        elif note.what == "enlist":
            branch = json.loads(note.body)["id"]
            assert branch in [b["id"] for b in txn["branches"]], (note, txn)
        elif note.what == "commit":
            assert txn["outcome"] == "committed", (note, txn)
        elif note.what == "rollback":
            assert txn["outcome"] == "aborted", (note, txn)

    def _check_nothing_left(self, db):
        held = db.query(
            "SELECT pid, count(*) FROM pg_locks WHERE locktype = 'advisory' AND database ="
            " (SELECT oid FROM pg_database WHERE datname = current_database()) GROUP BY pid")
        assert [n for _, n in held] == [64], held
        alerts = db.query("SELECT gid, branch FROM assent.alert_member WHERE closed_at IS NULL"
                          " AND gid LIKE %s", self.name + "-%")
        assert not alerts, alerts

    def _check_shop(self, assentd):
        orders = self.shop.orders()
        for order_id, status in self.orders.items():
            known = assentd.client.get("/v1/transactions/order-" + order_id)
            outcome = known.json["outcome"] if known.status == 200 else None
            assert (order_id in orders) == (outcome == "committed"), (order_id, status, outcome)
            if status in (201, 409):
                assert outcome == {201: "committed", 409: "aborted"}[status], (order_id, outcome)
        for sku, user in (("tea", 7), ("coffee", 8)):
            n = sum(row[1] for row in orders.values() if row[0] == sku)
            paid = sum(row[3] for row in orders.values() if row[2] == user)
            assert (self.shop.goods(sku), self.shop.balance(user)) == (PLENTY - n, PLENTY - paid)
        assert self.shop.prepared() == []
