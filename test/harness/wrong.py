"""A participant in another language that keeps every rule of the contract, but for those named.

    w = Wrong("undo_empty")            a rollback (cancel, compensate) without its first phase: 404
    w.address                          what a coordinator, or `assent participant check`, is given

It has all modes. A branch takes {"n": number} goods out of stock, and is refused beyond what is
there. Under 2pc whoever is prepared keeps all others waiting: they are answered 503. FAULTS says what
each fault is; they are of the kind that people make.
"""

import json
import select
import threading
import time
from urllib.parse import parse_qsl

from .participant import Answer, Participant
from .signature import signature

STOCK = 1000
OPS = {"2pc": ("prepare", "commit", "rollback"), "tcc": ("try", "confirm", "cancel"),
       "saga": ("action", None, "compensate"), "3pc": ("pre_commit", "do_commit", "abort")}
FIRST, FINISH, UNDO = ({ops[i]: mode for mode, ops in OPS.items() if ops[i]} for i in range(3))
OVERLAP_S = 0.2  # for how long a call of a racing pair waits for the other

FAULTS = {
    "first": "says no in a way of its own: 200 {\"vote\":\"no\"}",
    "first_repeated": "a repetition does the work again",
    "first_at_once": "looks whether it was done before, and then does it, without a lock",
    "first_late": "works after the deadline",
    "first_late_repeated": "refuses a late repetition of what it has done",
    "first_refused": "a refusal is answered 400",
    "refusal_leaves_nothing": "a refused branch counts as done",
    "undo": "undoing takes an error to be wrong: 500",
    "undo_repeated": "undoing twice is answered 404",
    "undo_at_once": "undoing while somebody else does is answered 409",
    "undo_empty": "undoing what is unknown is answered 404",
    "undo_empty_repeated": "undoing what is unknown is answered 404, the second time",
    "first_after_undo": "forgets that there was nothing to undo",
    "first_again_after_undo": "does again what was undone",
    "first_races_undo": "does not see an undo that comes while it works",
    "first_unread": "a caller who hangs up leaves the branch busy for ever",
    "first_in_time": "waits for others for as long as it takes",
    "undo_has_room": "one thing at a time",
    "other_branch": "does not look at the branch",
    "other_namespace": "does not look at the namespace",
    "other_cluster": "does not look at the cluster",
    "first_restart": "keeps in memory what was undone before it came",
    "finish_restart": "keeps in memory what is prepared",
    "finish": "finishing takes an error to be wrong: 500",
    "finish_repeated": "finishing twice is answered 404",
    "finish_unknown": "finishing what is unknown is answered 200",
    "finish_after_undo": "finishing what was undone is answered 200",
    "undo_after_finish": "undoing what is finished is answered 200",
    "first_after_finish": "a first phase that is repeated at the end is refused",
    "one_phase": "does a repeated commit in one phase again",
    "one_phase_unknown": "does not know one-phase commits",
    "one_phase_late": "commits in one phase after the deadline",
    "one_phase_after_rollback": "commits in one phase what was rolled back",
    "rollback_after_one_phase": "forgets that it committed in one phase",
    "cancel_after_confirm_allowed": "refuses to undo a confirm that may be undone",
    "confirm_after_cancel_allowed": "confirms what was cancelled, if it may be",
    "can_commit_after_abort": "says that it can commit what was aborted",
    "abort_after_can_commit": "forgets the abort of what was only asked",
    "pre_commit_after_do_commit": "says yes to a pre_commit after the end",
    "do_commit_binds": "does not remember that it said aborted to a do_commit",
    "intent": "takes an intent for a question: 409",
    "intent_empty": "does not remember an intent about what it does not know",
    "intent_after_do_commit": "says that it aborted what is committed",
    "status_unknown": "says aborted of what it does not know, and forgets it",
    "status_after_can_commit": "says pre_committed as soon as it was asked",
    "status_after_pre_commit": "does not say of which branch it speaks",
    "status_after_abort": "says 404 of what it has aborted",
    "status_after_do_commit": "says aborted of what it has committed",
    "intent_after_vouching": "aborts on an intent, whatever it has told a peer",
    "abort_after_vouching": "does not abort any more when it has told a peer that it is pre-committed",
    "do_commit_after_vouching": "waits with the commit when it has told a peer that it is pre-committed",
    "status_races_intent": "looks, then says what it saw, without a lock",
    "pre_commit_races_status": "does not look whether a peer's question came while it worked",
    "vouching_restart": "keeps in memory what it has told a peer",
    "status_restart": "keeps in memory that it has aborted because a peer asked",
    "status_unsigned": "believes whoever asks for the status",
    "captured_intent": "takes an intent's signature for one of a decision",
    "call.no_headers": "works without knowing for whom",
    "call.no_gid": "works without a gid",
    "call.no_branch": "works without a branch",
    "call.no_cluster": "works without a cluster",
    "call.unknown_operation": "says yes to what it does not know",
    "signature.missing": "believes who does not sign",
    "signature.wrong": "does not look at the signature",
    "signature.other_body": "does not sign the body",
    "signature.other_operation": "does not compare webhook-id with the headers",
    "signature.other_path": "does not compare the operation with the path",
    "signature.old": "does not look how old it is",
    "signature.future": "does not look whether it is of the future",
    "answers.json": "answers in words",
    "answers.bounded": "tells its life in each answer",
}
IDENTITY = ("Cluster", "Namespace", "Gid", "Branch")


def reply(status, **members):
    return Answer(status, json.dumps(members) if members else b"",
                  {"Content-Type": "application/json"})


class Row:
    """What it knows of a branch, and keeps on its disk."""

    def __init__(self):
        self.state = "new"  # done, undone, finished
        self.n = 0          # taken
        self.answer = None  # to the first phase
        self.empty = False  # there was nothing to undo
        self.one_phase = False
        self.busy = False
        self.undos = 0
        self.asked = self.vouched = self.polled = False


class Wrong(Participant):
    def __init__(self, *faults, secret=None):
        unknown = set(faults) - set(FAULTS)
        assert not unknown, unknown
        self.faults, self.secret = set(faults), secret
        self.rows, self.left, self.serial = {}, STOCK, 0
        self.restarts = 0
        self.turn = threading.Condition()
        self.flying = []  # calls under way, by row and kind
        super().__init__()

    @property
    def address(self):
        return self.url("goods")

    def has(self, fault):
        return fault in self.faults

    def arrived(self, call):
        with self._lock:
            self._calls.append(call)
        call.op, _, query = call.op.partition("?")
        if call.op == "status":
            return self.asked_by_peer(call, dict(parse_qsl(query)))
        if call.op == "restart":
            return self.restart()
        if call.op == "left":
            return Answer(200, "goods:\n%d\n" % self.left)
        answer = self.answer(call)
        if self.has("answers.json") and answer.status == 200 and answer.body:
            answer.body = b"it is done"
        if self.has("answers.bounded") and answer.status == 200:
            answer.body = json.dumps({"life": "x" * 17000, "was": answer.body.decode()}).encode()
        return answer

    def restart(self):
        with self.turn:
            self.restarts += 1
            for key, row in list(self.rows.items()):
                if (self.has("first_restart") and row.empty) or (
                        self.has("finish_restart") and row.state == "done") or (
                        self.has("status_restart") and row.polled and row.empty):
                    del self.rows[key]
                    self.left += row.n
                row.vouched = row.vouched and not self.has("vouching_restart")
        return Answer(200)

    # ---- is it a call, and whose? ----

    def answer(self, call):
        h = call.headers
        op = h.get("Assent-Op", call.op)
        known = {**FIRST, **FINISH, **UNDO}
        lacking = [n for n in IDENTITY if not h.get("Assent-" + n)]
        if len(lacking) == len(IDENTITY) and self.has("call.no_headers"):
            return reply(200)
        if any(not self.has("call.no_" + n.lower()) for n in lacking) or len(lacking) > 1:
            return reply(400, reason="Assent-%s is missing" % lacking[0])
        if lacking:
            return reply(200)
        refusal = self.secret and self.forged(call)
        if refusal:
            return reply(401, reason=refusal)
        if call.op != op and not (self.has("signature.other_path") and self.secret):
            return reply(400, reason="Assent-Op and the path disagree")
        if call.op == "can_commit":
            return self.can_commit(self.row_of([h["Assent-" + n] for n in IDENTITY], "3pc")[0])
        if call.op not in known:
            return reply(200 if self.has("call.unknown_operation") else 404, reason="unknown")
        return self.perform(call, known[call.op])

    def forged(self, call):
        h, has = call.headers, self.has
        if not h.get("webhook-signature"):
            return None if has("signature.missing") else "not signed"
        words = [h["Assent-" + n] for n in IDENTITY + ("Op", "Attempt")]
        if words[1] == "default":
            del words[1]
        intents = ("abort", "pre_abort") if self.has("captured_intent") else ("abort",)
        if h.get("Assent-Intent"):
            intents = ("pre_abort",)
        if words[-2] == "abort" and h["webhook-id"].split("/")[-2] in intents:
            words[-2] = h["webhook-id"].split("/")[-2]
        if h["webhook-id"] != "/".join(words) and not has("signature.other_operation"):
            return "signed for something else"
        return self.signed_wrongly(call)

    def signed_wrongly(self, call):
        h, has = call.headers, self.has
        age = time.time() - int(h["webhook-timestamp"])
        if age > 300 and not has("signature.old") or age < -300 and not has("signature.future"):
            return "signed too long ago, or not yet"
        bodies = [call.body, call.body + b" "] if has("signature.other_body") else [call.body]
        right = [signature(self.secret, h["webhook-id"], h["webhook-timestamp"], b)
                 for b in bodies]
        if h["webhook-signature"] not in right and not (
                has("signature.wrong") and h["webhook-signature"][:7] == right[0][:7]):
            return "signed wrongly"
        return None

    # ---- the branch ----

    def row_of(self, identity, mode):
        key = tuple(w for n, w in zip(IDENTITY, identity)
                    if not self.has("other_" + n.lower())) + (mode,)
        with self.turn:
            return self.rows.setdefault(key, Row()), key

    def perform(self, call, mode):
        row, key = self.row_of([call.headers["Assent-" + n] for n in IDENTITY], mode)
        kind = "first" if call.op in FIRST else "undo" if call.op in UNDO else "finish"
        with self.turn:
            self.flying.append((key, kind))
            self.turn.notify_all()
            try:
                if call.headers.get("Assent-One-Phase") and not self.has("one_phase_unknown"):
                    return self.one_phase(call, row)
                return getattr(self, kind)(call, row, key, mode)
            finally:
                self.flying.remove((key, kind))
                self.turn.notify_all()

    def late(self, call):
        return int(call.headers["Assent-Timeout-Ms"]) <= 0

    def work(self, call, row, state):
        n = json.loads(call.body)["n"]
        if n > self.left:
            if self.has("refusal_leaves_nothing"):
                row.state, row.answer = "done", (409, "not enough")
            return reply(400 if self.has("first_refused") else 409, reason="not enough")
        self.left -= n
        self.serial += 1
        row.n += n
        row.state = state
        row.answer = (200, self.serial)
        if self.has("first"):
            return reply(200, vote="no")
        return reply(200, serial=self.serial)

    def stored(self, row):
        status, what = row.answer
        return reply(status, **{"serial" if status == 200 else "reason": what})

    def overlap(self, key, kind):
        """Lets others in, until a second one of that kind is under way."""
        self.turn.wait_for(lambda: self.flying.count((key, kind)) >= 2, OVERLAP_S)

    def first(self, call, row, key, mode):
        if row.busy:
            return reply(503)
        if row.state == "undone":
            again = "first_after_undo" if row.empty else "first_again_after_undo"
            # Not to a first call that its caller has given up, and that comes when all is over.
            if self.has(again) and (row.empty or call.headers["Assent-Attempt"] != "1"):
                return self.work(call, row, "done")
            return reply(409, reason="undone")
        if mode == "3pc" and row.state == "finished" and not self.has("pre_commit_after_do_commit"):
            return reply(409, outcome="committed")
        if row.state != "new":
            if self.late(call) and self.has("first_late_repeated") or (
                    row.state == "finished" and self.has("first_after_finish")):
                return reply(409, reason="too late")
            if self.has("first_repeated") and row.state == "done" and not self.late(call):
                return self.work(call, row, "done")
            return self.stored(row)
        if self.late(call) and not self.has("first_late"):
            return reply(409, reason="too late")
        held = self.held(key, mode)
        if held:
            return held
        if self.has("first_at_once"):
            self.overlap(key, "first")
        if self.has("first_races_undo"):
            self.turn.wait_for(lambda: row.undos, OVERLAP_S)
        if self.has("first_unread"):
            self.turn.release()
            gone = select.select([call.connection], [], [], OVERLAP_S)[0]
            self.turn.acquire()
            row.busy |= bool(gone)
            if row.busy and not gone:
                return reply(503)
        if self.has("pre_commit_races_status") and mode == "3pc" and not row.asked:
            self.turn.wait_for(lambda: row.polled or row.undos, OVERLAP_S)
        elif row.state == "undone" and not self.has("first_races_undo"):
            return reply(409, reason="undone")
        if row.state == "done" and not self.has("first_at_once"):
            return self.stored(row)
        return self.work(call, row, "done")

    def held(self, key, mode):
        """Under 2pc and 3pc: an answer when another branch has the goods locked."""
        def others():
            return [k for k, r in self.rows.items()
                    if k != key and k[-1] in ("2pc", "3pc") and r.state == "done"]
        if mode not in ("2pc", "3pc") or not others():
            return None
        if self.has("first_in_time"):
            self.turn.wait_for(lambda: not others(), 4)
        if self.has("undo_has_room"):
            self.turn.wait_for(lambda: not others(), 1.6)
        return reply(503) if others() else None

    def finish(self, call, row, key, mode):
        may = call.headers.get("Assent-May-Be-Confirmed")
        if self.has("finish") and row.state == "done":
            return reply(500)
        if row.state == "done":
            if row.vouched and self.has("do_commit_after_vouching"):
                return reply(500)
            row.state = "finished"
            return reply(200)
        if row.state == "finished":
            return reply(404 if self.has("finish_repeated") else 200)
        if row.state == "new" and self.has("finish_unknown"):
            return reply(200)
        if row.state == "undone" and (self.has("finish_after_undo") or (
                may and self.has("confirm_after_cancel_allowed"))):
            return reply(200)
        if mode == "3pc" and row.state == "new" and not self.has("do_commit_binds"):
            row.state, row.empty = "undone", True
        return reply(409, outcome="aborted")

    def undo(self, call, row, key, mode):
        may = call.headers.get("Assent-May-Be-Confirmed")
        intent = call.headers.get("Assent-Intent")
        row.undos += 1
        self.turn.notify_all()
        if intent and row.state == "done" and (
                self.has("intent") or row.vouched and not self.has("intent_after_vouching")):
            return reply(409, outcome="pre_committed")
        if intent and row.state == "finished" and self.has("intent_after_do_commit"):
            return reply(200)
        if row.vouched and not intent and self.has("abort_after_vouching"):
            return reply(409, outcome="pre_committed")
        if row.state == "new" and (intent and self.has("intent_empty") or
                                   row.asked and self.has("abort_after_can_commit")):
            return reply(200)
        if self.has("undo_has_room"):
            self.turn.wait_for(lambda: all(k != "first" for _, k in self.flying), 4)
        if self.has("undo") and row.state == "done":
            return reply(500)
        if row.state == "finished":
            forgets = "rollback_after_one_phase" if row.one_phase else "undo_after_finish"
            if not self.has(forgets) and not (
                    may and not self.has("cancel_after_confirm_allowed")):
                return reply(409, outcome="committed")
        if row.state == "undone":
            if row.empty:
                return reply(404 if self.has("undo_empty_repeated") else 200)
            return reply(404 if self.has("undo_repeated") else 200)
        if row.state == "new":
            if self.has("undo_empty"):
                return reply(404)
            row.empty = True
        if self.has("undo_at_once"):
            self.overlap(key, "undo")
            if self.flying.count((key, "undo")) > 1:
                return reply(409, reason="somebody else does")
        self.left += row.n
        row.n = 0
        row.state = "undone"
        return reply(200)

    def one_phase(self, call, row):
        if row.state == "undone" and not self.has("one_phase_after_rollback"):
            return reply(409, reason="rolled back")
        if row.state == "finished" and not self.has("one_phase"):
            return self.stored(row)
        if self.late(call) and not self.has("one_phase_late"):
            return reply(409, reason="too late")
        row.one_phase = True
        return self.work(call, row, "finished")

    # ---- three-phase commit ----

    def can_commit(self, row):
        if row.state == "undone" and not self.has("can_commit_after_abort"):
            return reply(409, outcome="aborted")
        row.asked = True
        return reply(200)

    def asked_by_peer(self, call, q):
        identity = [q["cluster"], q["namespace"], q["gid"], q["branch"]]
        if self.secret and not (self.has("status_unsigned") or
                                call.headers.get("webhook-signature") and
                                not self.signed_wrongly(call)):
            return reply(401)
        about = {k: q[k] for k in ("cluster", "gid", "branch")}
        row, key = self.row_of(identity, "3pc")
        with self.turn:
            return self.status(row, about)

    def status(self, row, about):
        was = row.state
        row.polled = True
        self.turn.notify_all()
        if was == "new" and row.asked and self.has("status_after_can_commit"):
            return reply(200, state="pre_committed", **about)
        if was == "new" and not self.has("status_unknown"):
            row.state, row.empty = "undone", True
        if was == "done":
            if self.has("status_races_intent"):
                self.turn.wait_for(lambda: row.undos, OVERLAP_S)
            row.vouched = True
            return reply(200, state="pre_committed",
                         **({} if self.has("status_after_pre_commit") else about))
        if was == "finished" and not self.has("status_after_do_commit"):
            return reply(200, state="committed", **about)
        if was == "undone" and self.has("status_after_abort"):
            return reply(404)
        return reply(200, state="aborted", **about)
