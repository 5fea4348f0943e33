#!/usr/bin/python3
"""assent at work: what `make run` shows.

Starts a coordinator with a private PostgreSQL and its services in a temporary directory, places
orders in each mode while killing what can be killed, shows what every database holds, and goes on
serving until Ctrl-C. ONCE=1 stops after the table; the exit status is 0 when all lines are ok.
Nothing is left behind, however this script ends.
"""

import ctypes
import os
import signal
import socket
import sys
import threading
import traceback

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

try:
    from harness.guard import Guard
    from harness.postgres import connect
    from harness.system import Assentd, Shop, binary
    from harness.wait import wait_until
except ImportError as error:
    sys.exit("demo: %s: run `make deps` first, or install the Debian packages python3-psycopg2,"
             " python3-requests, python3-yaml and python3-jsonschema" % error)

PORTS = {"assentd": 7470, "order": 7480, "stock": 7481, "account": 7482, "coupon": 7483}
TEA, BALANCE, COUPONS, DISCOUNT = 100, 1000, 10, 5
MODES = ("2pc", "3pc", "tcc", "saga")
N_SCENARIO = 2 * len(MODES) + 5
PR_SET_PDEATHSIG = 1


def say(text=""):
    print(text, flush=True)


class Stop(BaseException):
    """A signal asks for the end."""


def on_signal(_signum, _frame):
    handle_signals(signal.SIG_IGN)  # it may come twice: to the whole group, and through make
    raise Stop


def handle_signals(handler):
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, handler)
    # A killed `make` sends no signal to what it runs.
    if "MAKELEVEL" in os.environ:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


CLAIMS = []  # kept to the end


def claim(port):
    """Two of these beside each other: a service that is killed and started again must find its port
    free, which the other would take meanwhile. OSError."""
    CLAIMS.append(socket.socket(socket.AF_UNIX))
    CLAIMS[-1].bind("\0assent-demo-%d" % port)


def free_address(name):
    """The usual port if nobody has it, or any."""
    port = PORTS[name]
    try:
        claim(port)
        socket.create_server(("127.0.0.1", port)).close()
        return "127.0.0.1:%d" % port
    except OSError:
        say("  port %d (%s) is in use: taking another one" % (port, name))
        return "127.0.0.1:0"


def coupon_of(mode):
    """A saga begins with one."""
    return {"coupon": "SPRING"} if mode == "saga" else {}


class Demo:
    def __init__(self, guard):
        self.guard = guard
        self.rows = []
        self.tea, self.money, self.coupons, self.orders = TEA, BALANCE, COUPONS, 0

    def start(self):
        say("starting the coordinator and its private PostgreSQL in %s" % self.guard.dir)
        self.assentd = Assentd(self.guard, "c", free_address("assentd")).start()
        say("creating the databases orders, stock, account and coupon")
        addresses = [free_address(name) for name in ("order", "stock", "account", "coupon")]
        self.shop = Shop(self.assentd, addresses)
        say("starting the services order, stock, account and coupon")
        self.shop.start(self.assentd.url)

    def place(self, number, **order):
        """Place an order in the background; join the thread, then read its answer."""
        answer = []

        def run():
            try:
                answer.extend(self.shop.place(str(number), **order))
            except Exception as error:  # pylint: disable=broad-except
                answer.extend((0, {"outcome": "%s" % error}))
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread, answer

    def committed(self, number, goods, amount, mode="2pc"):
        """Do an order that must succeed, and go on from what it takes."""
        coupon = coupon_of(mode)
        self.tea, self.money = self.tea - goods, self.money - amount + DISCOUNT * len(coupon)
        self.orders, self.coupons = self.orders + 1, self.coupons - len(coupon)
        return self.place(number, n=goods, amount=amount, mode=mode, **coupon)

    def describe(self, outcome, orders, tea, money, coupons, held):
        """What is held is prepared, reserved or frozen."""
        return "%-9s orders=%d tea=%d balance=%d coupons=%d held=%d" % (
            outcome, orders, tea, money, coupons, held)

    def check(self, scenario, outcome, placed):
        thread, answer = placed
        thread.join(60)
        status = {"committed": 201, "aborted": 409}[outcome]
        try:
            wait_until(lambda: not self.shop.held(), 40)
        except AssertionError:
            pass  # the table says so
        expected = self.describe(outcome, self.orders, self.tea, self.money, self.coupons, 0)
        seen = self.describe(answer[1].get("outcome", "?") if answer else "no answer",
                             len(self.shop.orders()), self.shop.goods(), self.shop.balance(),
                             self.shop.coupons(), len(self.shop.held()))
        ok = expected == seen and answer[0] == status
        self.rows.append((scenario, expected, seen, "ok" if ok else "NOT OK"))
        say("  %s: %s" % (scenario, "ok" if ok else "NOT OK"))

    def wait_voted(self, *services):
        """Prepared transactions show that a vote is given and its branch waits to be told."""
        wait_until(lambda: all(s.db.prepared() for s in services), 40,
                   "the votes of " + ", ".join(s.name for s in services))

    def wait_counted(self, gid, n, state="prepared"):
        """What is prepared may not have said so yet: here the coordinator has n votes."""
        def counted():
            reply = self.assentd.client.get("/v1/transactions/" + gid)
            return reply.status == 200 and n == sum(
                b["state"] == state for b in reply["branches"])
        wait_until(counted, 40, "%d votes for %s" % (n, gid))

    def place_and_commit(self, number, mode):
        self.check(mode + ": order placed", "committed", self.committed(number, 2, 30, mode))

    def place_and_refuse(self, number, mode):
        # User 8 has 20: account refuses, and what stock and order have done is undone.
        self.check(mode + ": too little money", "aborted",
                   self.place(number, n=3, user=8, amount=30, mode=mode, **coupon_of(mode)))

    def kill_service(self):
        self.shop.account.pause()
        placed = self.committed("s1", 5, 100)
        self.wait_counted("order-s1", 2)
        self.shop.stock.kill9()
        self.shop.account.resume()
        self.shop.stock.start()
        self.check("2pc: stock killed after its vote", "committed", placed)

    def kill_holder(self):
        """What a try has reserved waits for its confirm, and the rows are not locked."""
        self.shop.account.pause()
        placed = self.committed("s2", 1, 20, "tcc")
        self.wait_counted("order-s2", 2, "tried")
        self.shop.stock.kill9()
        self.shop.account.resume()
        self.shop.stock.start()
        self.check("tcc: stock killed after its try", "committed", placed)

    def kill_coordinator_between_steps(self):
        """It goes on with the next step, and with the coupon's result."""
        self.shop.stock.pause()
        placed = self.committed("s3", 1, 15, "saga")
        wait_until(lambda: self.shop.coupons() == self.coupons, 40, "the coupon to be redeemed")
        self.assentd.kill9()
        self.shop.stock.resume()
        self.assentd.start()
        self.check("saga: coordinator killed, one step done", "committed", placed)

    def kill_coordinator(self):
        shop = self.shop
        shop.account.pause()
        placed = self.committed("c1", 1, 70)
        self.wait_counted("order-c1", 2)
        # Stock stands still from here on: the transaction cannot end before the crash.
        shop.stock.pause()
        shop.account.resume()
        self.assentd.wait_state("order-c1", "committing", deadline_s=40)
        self.assentd.kill9()
        shop.stock.resume()
        self.assentd.start()
        self.check("2pc: coordinator killed, decided", "committed", placed)

    def lose_coordinator(self):
        """All have pre-committed, and nobody is there to say so. They ask each other and commit;
        the coordinator comes back, and is told."""
        shop = self.shop
        lock = connect(*shop.account.db.where)
        lock.autocommit = False
        lock.cursor().execute("SELECT FROM account WHERE user_id = 7 FOR UPDATE")
        placed, _ = self.committed("d1", 2, 25, "3pc")
        self.wait_voted(shop.order, shop.stock)
        # It stands still from here on: account's answer arrives nowhere. The others do until account
        # has pre-committed, too, or they would ask it too soon.
        for process in (self.assentd.process, shop.stock.process, shop.order.process):
            process.pause()
        lock.close()
        self.wait_voted(shop.account)
        self.assentd.kill9()
        shop.stock.resume()
        shop.order.resume()
        wait_until(lambda: not shop.prepared(), 60, "the services to end by themselves")
        say("  the coordinator is dead; stock, account and order have asked each other:"
            " tea=%d balance=%d" % (shop.goods(), shop.balance()))
        self.assentd.start()
        placed.join(60)
        # Whoever was told that the coordinator is away places the order again, and it is the same.
        answer = self.place("d1", n=2, amount=25, mode="3pc")
        self.check("3pc: coordinator lost, all pre-committed", "committed", answer)
        self.print_heuristics("order-d1")

    def print_heuristics(self, gid):
        def told():
            attempts = self.assentd.client.history(gid)["attempts"]
            return dict((a["branch"], a["error"]) for a in attempts
                        if "by itself" in (a["error"] or ""))
        wait_until(lambda: len(told()) == 3, 40, "the coordinator to report who ended by itself")
        for branch, how in sorted(told().items()):
            say("    the coordinator was told by %s: %s" % (branch, how))

    def run(self):
        self.start()
        say("running %d scenarios" % N_SCENARIO)
        for number, mode in enumerate(MODES):
            self.place_and_commit(2 * number + 1, mode)
            self.place_and_refuse(2 * number + 2, mode)
        self.kill_service()
        self.kill_holder()
        self.kill_coordinator()
        self.kill_coordinator_between_steps()
        self.lose_coordinator()
        self.print_table()

    def print_table(self):
        table = [("scenario", "expected", "seen", "ok")] + self.rows
        widths = [max(len(row[i]) for row in table) for i in range(4)]
        table.insert(1, tuple("-" * width for width in widths))
        say()
        for row in table:
            say(" | ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
        say()

    def ok(self):
        return len(self.rows) == N_SCENARIO and all(row[3] == "ok" for row in self.rows)

    def print_addresses(self):
        say("coordinator  %s" % self.assentd.url)
        for service in self.shop.services:
            say("%-12s %s" % (service.name, service.url))
        say("PostgreSQL   psql '%s'" % self.assentd.db.conninfo)
        say()
        say("Place an order, and look at a transaction:")
        say("  curl -sS %s/orders -H 'Content-Type: application/json' "
            "-d '{\"id\": \"mine\", \"sku\": \"tea\", \"n\": 1, \"user\": 7, \"amount\": 15}'"
            % self.shop.order.url)
        say("  curl -sS %s/v1/transactions/order-1" % self.assentd.url)
        say()
        say("Serving. Ctrl-C stops everything and removes %s" % self.guard.dir)

    def serve(self):
        """Until a signal comes, or one of the programs ends by itself."""
        processes = [self.assentd.process] + [s.process for s in self.shop.services]
        while True:
            for process in processes:
                try:
                    process.popen.wait(0.1)
                except Exception:  # pylint: disable=broad-except
                    continue
                raise AssertionError("%s ended by itself; its last lines:\n%s" % (
                    process.name, process.last_lines()))


def check_build():
    missing = [n for n in PORTS if not os.access(binary(n), os.X_OK)]
    if missing:
        sys.exit("demo: %s: not built: run `make` first (BUILD names the build directory)"
                 % ", ".join(binary(n) for n in missing))


def show(guard):
    demo = Demo(guard)
    demo.run()
    if os.environ.get("ONCE", "") not in ("", "0"):
        return 0 if demo.ok() else 1
    demo.print_addresses()
    demo.serve()
    return 1


def main():
    check_build()
    handle_signals(on_signal)
    status, guard = 1, Guard("assent-demo-")
    try:
        status = show(guard)
    except Stop:
        status = 0
        say("\nstopping")
    except Exception as error:  # pylint: disable=broad-except
        guard.keep_logs = True
        if not isinstance(error, AssertionError):
            traceback.print_exc()
        print("demo: %s\ndemo: all logs are in %s-log" % (error, guard.dir), file=sys.stderr)
    finally:
        handle_signals(signal.SIG_IGN)
        guard.close()
    return status


if __name__ == "__main__":
    sys.exit(main())
