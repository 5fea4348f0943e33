"""What clients wanted and what they were told, in the order in which it happened.

Every line goes to a file before anything else is done with it, so that a story can be read after
the end. A *plan* is what one global transaction should do; its handle stands in the transaction's
label `plan`, by which it is found when its gid was never learned.
"""

import json
import threading
import time
from dataclasses import dataclass, field, replace

ENDED = ("committed", "aborted", "mixed")


# Rows with less than anybody asks for.
POOR = {"stock": "scarce", "account": "99", "coupon": "none"}


@dataclass(frozen=True)
class Work:
    """One branch: takes `amount` from `row` of `service`. No two branches take the same amount
    from the same row, so an effect says whose it is. A coupon lessens the amount by an odd number;
    all others are even."""
    branch: str
    service: str
    row: str
    amount: int
    discount: int = 0

    @property
    def key(self):
        return (self.service, self.row, self.amount - self.discount)

    @property
    def is_poor(self):
        return POOR.get(self.service) == self.row

    def of_the_poor(self):
        return replace(self, row=POOR[self.service])


@dataclass
class Plan:
    handle: str
    kind: str
    works: list
    gid: str = None
    refused: bool = False  # a branch of it asks for more than there is
    mode: str = "2pc"
    undo_confirms: bool = False  # on_confirm_failure is `cancel`
    waits: bool = False  # on_timeout is `wait`: no branch ends by itself on a guess
    request: tuple = None  # method, path, body, headers: to be repeated byte for byte


@dataclass
class Told:
    sent: float
    got: float
    what: str
    status: int  # 0: no answer
    state: str = None
    outcome: str = None
    more: dict = field(default_factory=dict)

    def __str__(self):
        return "%10.3f %8.3f s  %-16s %s %s %s %s" % (
            self.sent, self.got - self.sent, self.what, self.status or "no answer",
            self.state or "", self.outcome or "", self.more or "")


class Book:
    def __init__(self, path=None):
        self.began = time.monotonic()
        self.plans, self.told, self.problems = {}, {}, []
        self._file = open(path, "w", encoding="utf-8") if path else None
        self._lock = threading.Lock()
        self._amount = 100
        self._number = self._coupon = 0
        self.recent = []

    def now(self):
        return time.monotonic() - self.began

    def _write(self, **line):
        if self._file:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()

    def amount(self):
        with self._lock:
            self._amount += 2
            return self._amount

    def coupon(self):
        with self._lock:
            self._coupon += 1
            return self._coupon

    def number(self):
        with self._lock:
            self._number += 1
            return self._number

    def plan(self, plan):
        with self._lock:
            self.plans[plan.handle] = plan
            self.told[plan.handle] = []
            self.recent = self.recent[-400:] + [plan]
            self._write(at=self.now(), plan=plan.handle, kind=plan.kind, gid=plan.gid,
                        works=[w.key for w in plan.works])
        return plan

    def tell(self, plan, told):
        with self._lock:
            self.told[plan.handle].append(told)
            self._write(sent=told.sent, got=told.got, handle=plan.handle, what=told.what,
                        status=told.status, state=told.state, outcome=told.outcome, **told.more)

    def problem(self, name, text, gid=None):
        """Something that must never be seen, whatever is broken just now."""
        with self._lock:
            self.problems.append((name, gid, text))
            self._write(at=self.now(), problem=name, gid=gid, text=text)

    def fault(self, text):
        with self._lock:
            self._write(at=self.now(), fault=text)

    def events(self, handle):
        with self._lock:
            return list(self.told[handle])

    def known(self, handle):
        """The last outcome that was told, `stored` without one, or None."""
        found = None
        for told in self.events(handle):
            if told.outcome in ENDED:
                return told.outcome
            if told.state:
                found = "stored"
        return found

    def count(self):
        """Plans by what is known of them."""
        with self._lock:
            handles = list(self.plans)
        n = {"submitted": len(handles), "committed": 0, "aborted": 0, "stored": 0, "unknown": 0}
        for handle in handles:
            known = self.known(handle) or "unknown"
            n[known] = n.get(known, 0) + 1
        return n
