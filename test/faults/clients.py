"""Clients as they should be: they repeat what was not answered, byte for byte, and write down
every answer. Some go away in the middle, as real ones do."""

import http.client
import json
import threading

from harness.contract import CONTRACT
from harness.signature import call_headers

from .book import Plan, Told, Work
from .world import DISCOUNT

QUICK = {"initial_ms": 30, "cap_ms": 1000}
AGAIN_S = 0.03
NOBODY = "http://127.0.0.1:1/confirm"  # where no service listens


class Http:
    """One connection. `ask` returns (status, headers, value), or None for no (whole) answer."""

    def __init__(self, address, book, dice=None):
        self.address, self.book, self.dice = address, book, dice
        self.connection = None

    def ask(self, method, path, body=None, headers=None, timeout=20):
        headers = dict(headers or {})
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            if self.connection is None:
                self.connection = http.client.HTTPConnection(self.address, timeout=timeout)
            self.connection.request(method, path, body, headers)
            reply = self.connection.getresponse()
            raw = reply.read()
        except (OSError, http.client.HTTPException):
            self.close()
            return None
        # Each against the contract would cost more than all the rest.
        if self.dice and self.dice.random() < 0.05:
            try:
                CONTRACT.check_response(method, path.split("?")[0], reply.status, reply.headers, raw)
            except AssertionError as e:
                self.book.problem("contract", "%s %s: %s" % (method, path, e))
        try:
            return reply.status, reply.headers, json.loads(raw) if raw else None
        except ValueError:
            self.book.problem("contract", "%s %s answered %r" % (method, path, raw[:200]))
            return None

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class Shopper(threading.Thread):
    """One client after the other, until told to stop. What it began it ends."""

    def __init__(self, world, book, dice, stop, pace_s=0.0):
        super().__init__(daemon=True)
        self.world, self.book, self.dice, self.pace_s = world, book, dice, pace_s
        self.halt = stop
        self.give_up = threading.Event()  # the end of the run waits no longer for this client
        self.http = Http(world.address, book, dice)
        self.services = {name: Http(address, book) for name, address in world.services.items()}

    def run(self):
        kinds = ([self.coordinated] * 6 + [self.keyed] * 3 + [self.interactive] * 4
                 + [self.order] * 3 + [self.reader] * 3 + [self.repeater])
        try:
            while not self.halt.is_set():
                self.dice.choice(kinds)()
                self.halt.wait(self.pace_s * self.dice.random())
        except Exception as e:  # noqa: BLE001 - a client that is gone would test nothing any more
            self.book.problem("harness", "a client broke: %r" % e)
            raise
        finally:
            for http in (self.http, *self.services.values()):
                http.close()

    # ---- what is asked of whom

    def coupon(self, branch):
        """A branch that redeems one that nobody else redeems."""
        return Work(branch, "coupon", "c%d" % self.book.coupon(), 1)

    def works(self, n, refused, coupon=False):
        """With a coupon it is the first, and there is an account."""
        dice, found = self.dice, []
        services = {1: ["stock"] if dice.random() < 0.5 else ["account"],
                    2: ["stock", "account"], 3: ["stock", "account", "stock"]}[n]
        if coupon:
            services = ["account"] if n == 2 else ["stock", "account"]
            found.append(self.coupon("b0"))
        rows = {"stock": dice.sample(self.world.skus, 2), "account": [dice.choice(self.world.users)]}
        for i, service in enumerate(services, len(found)):
            found.append(Work("b%d" % i, service, rows[service].pop(), self.book.amount(),
                              DISCOUNT if coupon and service == "account" else 0))
        if refused:
            i = dice.randrange(n)
            found[i] = found[i].of_the_poor()
        return found

    def branch(self, work):
        url = self.world.participants[work.service]
        return {"id": work.branch, "participant": url, "payload": self.payload(work),
                "timeout_ms": 5000}

    @staticmethod
    def payload(work):
        if work.service == "coupon":
            return {"code": work.row}
        if work.service == "stock":
            return {"sku": work.row, "n": work.amount}
        payload = {"user": int(work.row), "amount": work.amount}
        if work.discount:
            payload["discount"] = "{{steps.b0.result.discount}}"
        return payload

    def branches(self, works, mode):
        """A saga's steps one after the other, or all the others at once after the first."""
        branches = [self.branch(w) for w in works]
        if mode == "saga" and self.dice.random() < 0.3:
            for later in branches[1:]:
                later["after"] = [branches[0]["id"]]
        return branches

    def body(self, handle, timeout_ms, mode="2pc", **members):
        return dict({"mode": mode, "timeout_ms": timeout_ms, "retry": QUICK,
                     "labels": {"plan": handle}}, **members)

    def prefer(self):
        return {"Prefer": "wait=%d" % self.dice.choice((1, 5, 15))} if self.dice.random() < 0.6 \
            else {}

    # ---- asking

    def once(self, plan, what, method, path, body=None, headers=None):
        """One request about a plan, written down. The answer, or None."""
        sent = self.book.now()
        answer = self.http.ask(method, path, body, headers)
        got = self.book.now()
        if answer is None:
            self.book.tell(plan, Told(sent, got, what, 0))
            return None
        status, head, value = answer
        told = Told(sent, got, what, status)
        if status in (200, 202) and isinstance(value, dict):
            told.state, told.outcome = value.get("state"), value.get("outcome")
            if "decision" in value:
                told.more = {"decision": value["decision"], "presumed": value["presumed"]}
            elif plan.gid is None and "gid" in value:
                plan.gid = value["gid"]
        elif isinstance(value, dict):
            told.more = {"code": value.get("code"), "detail": value.get("detail")}
        self.book.tell(plan, told)
        if status == 503 and not head.get("Retry-After"):
            self.book.problem("contract", "503 without Retry-After: %s" % value, plan.gid)
        elif status >= 500 and status != 503:
            self.book.problem("internal", "%s %s: %d %s" % (method, path, status, value), plan.gid)
        return status, value

    def until_answered(self, plan, what, method, path, body=None, headers=None):
        """Repeats the same request until it is answered by more than 'try again'."""
        leaves = self.dice.random() < 0.05
        while not self.give_up.is_set():
            answer = self.once(plan, what, method, path, body, headers)
            if answer and answer[0] != 503:
                return answer
            if leaves:
                return None
            self.give_up.wait(AGAIN_S)
        return None

    def follow(self, plan):
        """Polls until it has ended, as one does who was answered 202."""
        while not self.give_up.is_set():
            answer = self.once(plan, "GET", "GET", "/v1/transactions/" + plan.gid)
            if answer and answer[0] != 503 and (answer[0] != 200 or answer[1]["ended_at"]):
                return
            self.give_up.wait(AGAIN_S * 3)

    def submit(self, plan):
        answer = self.until_answered(plan, "submit", *plan.request)
        if answer and answer[0] not in (200, 202):
            self.book.problem("refused", "submit: %d %s" % answer, plan.handle)
        elif answer and answer[0] == 202 and self.dice.random() < 0.5:
            self.follow(plan)

    # ---- kinds of clients

    def coordinated(self, keyed=False):
        dice, handle = self.dice, "t-%d" % self.book.number()
        kind = dice.choices(("coordinated", "3pc", "3pc wait", "tcc", "tcc undone", "saga",
                             "saga forward"), (9, 4, 3, 3, 3, 5, 2))[0]
        mode = {"coordinated": "2pc"}.get(kind, kind.split()[0])
        refused = kind != "saga forward" and dice.random() < 0.12
        n = dice.choice((2, 2, 3) if mode == "3pc" else (1, 2, 2, 3))
        works = self.works(n, refused, mode == "saga" and n > 1 and dice.random() < 0.5)
        body = self.body(handle, dice.choice((300, 2000, 15000, 15000)), mode,
                         branches=self.branches(works, mode))
        if kind == "tcc undone":
            # Some confirms are given up when others have succeeded, and that is rare without help.
            body["on_confirm_failure"] = "cancel"
            body["retry"] = dict(QUICK, alert_after=dice.choice((1, 1, 3)))
            if dice.random() < 0.15:
                dice.choice(body["branches"])["ops"] = {"confirm": NOBODY}
        elif kind == "saga forward":
            body["recovery"] = "forward"
        elif mode == "3pc":
            body["phase_timeout_ms"] = dice.choice((500, 1000, 3000))
            body["hold_ms"] = dice.choice((2, 3)) * body["phase_timeout_ms"]
            for branch in body["branches"] if kind == "3pc wait" else ():
                branch["on_timeout"] = "wait"
        path, headers = "/v1/transactions", self.prefer()
        if keyed:
            headers["Idempotency-Key"] = '"%s"' % handle
        else:
            path += "/" + handle
        self.submit(self.book.plan(Plan(
            handle, "one phase" if mode == "2pc" and n == 1 else kind, works,
            None if keyed else handle, refused, mode, kind == "tcc undone", kind == "3pc wait",
            request=("POST" if keyed else "PUT", path, json.dumps(body), headers))))

    def keyed(self):
        self.coordinated(keyed=True)

    def interactive(self):
        dice, handle = self.dice, "i-%d" % self.book.number()
        refused = dice.random() < 0.1
        works = self.works(dice.choice((1, 2, 2, 3)), refused)
        how = dice.choices(("commit", "rollback", "vanish", "race"), (6, 2, 2, 2))[0]
        mode = dice.choice(("2pc", "2pc", "tcc"))
        body = self.body(handle, 1500 if how == "vanish" else dice.choice((800, 10000)), mode,
                         interactive=True)
        plan = self.book.plan(Plan(
            handle, "interactive" if mode == "2pc" else "tcc interactive", works, handle, refused,
            mode, request=("PUT", "/v1/transactions/" + handle, json.dumps(body), {})))
        if not self.until_answered(plan, "submit", *plan.request):
            return
        if mode == "tcc":
            self.try_all(plan, how)
            return
        first = works[:-1] if how == "race" else works
        if any(not self.enlist(plan, w) for w in first):
            return
        if how == "race":
            other = threading.Thread(target=self.enlist_beside, args=(plan, works[-1]))
            other.start()
            self.close(plan, "commit")
            other.join()
        elif how != "vanish":
            self.close(plan, how)

    def try_all(self, plan, how):
        """The initiator of an interactive TCC calls the tries itself, each after its enlisting, and
        commits only when all have said yes."""
        for work in plan.works:
            if not self.enlist(plan, work):
                return
            status = self.try_one(plan, work)
            if status is None:
                return
            if status != 200:
                how = "rollback" if how != "vanish" else how
                break
        if how != "vanish":
            self.close(plan, "rollback" if how == "rollback" else "commit")

    def try_one(self, plan, work):
        """Repeated until it is answered; then the status."""
        body, attempt, leaves = json.dumps(self.payload(work)), 0, self.dice.random() < 0.05
        while not self.give_up.is_set():
            attempt += 1
            headers = call_headers(plan.gid, "try", attempt, work.branch, self.world.cluster)
            sent = self.book.now()
            answer = self.services[work.service].ask(
                "POST", "/%s/try" % work.service, body, headers)
            self.book.tell(plan, Told(sent, self.book.now(), "try " + work.branch,
                                      answer[0] if answer else 0))
            if answer and answer[0] < 500:
                return answer[0]
            if leaves:
                return None
            self.give_up.wait(AGAIN_S)
        return None

    def enlist(self, plan, work):
        answer = self.until_answered(
            plan, "enlist " + work.branch, "POST", "/v1/transactions/%s/branches" % plan.gid,
            json.dumps(self.branch(work)))
        if answer and answer[0] not in (200, 202, 409):
            self.book.problem("refused", "enlist: %d %s" % answer, plan.handle)
        return answer and answer[0] != 409

    def enlist_beside(self, plan, work):
        beside = Http(self.world.address, self.book)
        body, sent = json.dumps(self.branch(work)), self.book.now()
        answer = beside.ask("POST", "/v1/transactions/%s/branches" % plan.gid, body)
        value = (answer and answer[2]) or {}
        self.book.tell(plan, Told(sent, self.book.now(), "enlist " + work.branch,
                                  answer[0] if answer else 0, value.get("state"),
                                  value.get("outcome"), {"code": value.get("code")}))
        beside.close()

    def close(self, plan, how):
        answer = self.until_answered(plan, how, "POST",
                                     "/v1/transactions/%s/%s" % (plan.gid, how), None,
                                     self.prefer())
        if answer and answer[0] not in (200, 202, 409):
            self.book.problem("refused", "%s: %d %s" % ((how,) + answer), plan.handle)
        elif answer and answer[0] == 202 and self.dice.random() < 0.5:
            self.follow(plan)

    def order(self):
        number, dice = self.book.number(), self.dice
        mode = dice.choice(("2pc", "3pc", "tcc", "saga"))
        coupon = [self.coupon("coupon")] if mode == "saga" and dice.random() < 0.5 else []
        if coupon and dice.random() < 0.1:
            coupon = [coupon[0].of_the_poor()]
        stock = Work("stock", "stock", dice.choice(self.world.skus), self.book.amount())
        account = Work("account", "account", dice.choice(self.world.users), self.book.amount(),
                       DISCOUNT if coupon else 0)
        if not coupon and dice.random() < 0.1:
            account = account.of_the_poor()
        works = [Work("order", "order", str(number), 1), stock, account] + coupon
        plan = self.book.plan(Plan(
            "o-%d" % number, "order " + mode, works, "order-%d" % number,
            any(w.is_poor for w in works), mode))
        order = {"id": str(number), "sku": stock.row, "n": stock.amount, "user": int(account.row),
                 "amount": account.amount, "mode": mode}
        if coupon:
            order["coupon"] = coupon[0].row
        body = json.dumps(order)
        leaves = dice.random() < 0.1
        while not self.give_up.is_set():
            sent = self.book.now()
            answer = self.services["order"].ask("POST", "/orders", body, timeout=30)
            told = Told(sent, self.book.now(), "order", answer[0] if answer else 0)
            value = answer and answer[2]
            if answer and answer[0] in (201, 202, 409) and "outcome" in value:
                told.outcome = value["outcome"]
                told.state = told.outcome if answer[0] != 202 else "preparing"
            self.book.tell(plan, told)
            if told.outcome:
                if told.outcome != {201: "committed", 409: "aborted", 202: "pending"}[answer[0]]:
                    self.book.problem("contract", "order: %d %s" % (answer[0], value), plan.gid)
                return
            if answer and answer[0] != 503:
                self.book.problem("refused", "order: %d %s" % (answer[0], value), plan.gid)
                return
            if leaves:
                return
            self.give_up.wait(AGAIN_S)

    def someone(self):
        recent = [p for p in self.book.recent if p.gid]
        return self.dice.choice(recent) if recent else None

    def reader(self):
        for _ in range(5):
            plan, dice = self.someone(), self.dice.random()
            if plan is None:
                return
            if dice < 0.45:
                self.once(plan, "GET", "GET", "/v1/transactions/" + plan.gid)
            elif dice < 0.85:
                self.once(plan, "decision", "GET", "/v1/transactions/%s/decision" % plan.gid)
            elif dice < 0.9:
                self.http.ask("GET", "/v1/transactions/%s/history" % plan.gid)
            else:
                self.page()

    def page(self):
        """A list's lines are answers like any other."""
        by_gid = {p.gid: p for p in list(self.book.recent)}
        sent = self.book.now()
        answer = self.http.ask("GET", "/v1/transactions?limit=50")
        if answer and answer[0] == 200:
            for row in answer[2]["transactions"]:
                if row["gid"] in by_gid:
                    self.book.tell(by_gid[row["gid"]], Told(
                        sent, self.book.now(), "list", 200, row["state"], row["outcome"]))

    def repeater(self):
        """An old request comes once more: the same transaction. Or another body under its gid."""
        plan = self.someone()
        if plan is None or plan.request is None:
            return
        method, path, body, headers = plan.request
        if method == "PUT" and self.dice.random() < 0.4 and self.book.known(plan.handle):
            body = json.dumps(dict(json.loads(body), timeout_ms=12345))
            answer = self.once(plan, "conflict", method, path, body, headers)
            if answer and answer[0] not in (422, 503):
                self.book.problem("conflict", "another body: %d %s" % answer, plan.handle)
        else:
            self.once(plan, "repeat", method, path, body, headers)
