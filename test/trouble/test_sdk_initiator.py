"""libassent's initiator against the real coordinator: answers that are lost, nodes that are killed
between a request and its answer, a second address that takes over. Whatever happens, nothing is done
twice and nothing is lost: what the ledgers (test/sdk/ledger.c) have written down is what was asked."""

import os
import socket
import struct
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.cluster import Node
from harness.contract import ROOT
from harness.libassent import E_CONFLICT, E_REFUSED, E_UNREACHABLE, Initiator, Txn
from harness.system import BUILD, Assentd, Service
from harness.tokens import write_secret
from harness.wait import wait_until

ENTRIES = "SELECT op, count(*) FROM entry WHERE gid = %s GROUP BY op ORDER BY op"


class Cutter:
    """In front of a coordinator. `plan` says of each request, in order, what becomes of it: "pass",
    "lose" (it does not get through), "cut" (it is carried out, its answer is lost), "swallow" (so
    too, and the connection stays). Then all pass. One request per connection."""

    def __init__(self, url, *plan):
        host, port = url.split("//")[1].split(":")
        self.target, self.plan, self.seen = (host, int(port)), list(plan), []
        self.swallowed = []
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._handle, args=(client,), daemon=True).start()

    def _handle(self, client):
        request = self._read(client)
        if not request:
            client.close()
            return
        with self.lock:
            self.seen.append(request.split(b" ", 1)[0].decode())
            fate = self.plan.pop(0) if self.plan else "pass"
        answer = b""
        if fate != "lose":
            head, _, body = request.partition(b"\r\n\r\n")
            with socket.create_connection(self.target) as server:
                server.sendall(head + b"\r\nConnection: close\r\n\r\n" + body)
                while part := server.recv(65536):
                    answer += part
            assert answer.startswith(b"HTTP/1.1 "), answer
        if fate == "pass":
            client.sendall(answer)
        elif fate == "swallow":
            self.swallowed.append(client)
            return
        else:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()

    @staticmethod
    def _read(client):
        data = b""
        while b"\r\n\r\n" not in data:
            part = client.recv(65536)
            if not part:
                return b""
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        lengths = [int(line.split(b":")[1]) for line in head.split(b"\r\n")
                   if line.lower().startswith(b"content-length:")]
        while lengths and len(body) < lengths[0]:
            body += client.recv(65536)
        return head + b"\r\n\r\n" + body

    def close(self):
        self.listener.close()
        for client in self.swallowed:
            client.close()


def start_ledger(guard, database, *args):
    service = Service(guard, "ledger", database, args=args)
    service.program = os.path.join(BUILD, "test", "ledger")
    return service.start()


@pytest.fixture(scope="module")
def ledger(shared):
    return start_ledger(shared.guard, shared.database("initiator"))


@pytest.fixture
def through(shared):
    """An initiator whose way to the coordinator is cut as planned; and the cutter."""
    made = []

    def make(*plan, patience_ms=5000):
        cutter = Cutter(shared.url, *plan)
        made.append((cutter, Initiator(cutter.url, patience_ms=patience_ms)))
        return made[-1][1], cutter
    yield make
    for cutter, initiator in made:
        cutter.close()
        initiator.close()


def two(gid, mode, ledger, **payload):
    return (Txn(gid, mode, 60000).add("a", ledger.url + "/ledger", payload)
            .add("b", ledger.url + "/ledger", payload))


def written(ledger, gid):
    return dict(ledger.db.query(ENTRIES, gid))


# --- answers that are lost -----------------------------------------------------------------------


@pytest.mark.parametrize("plan, seen", [
    (["lose"], "PUT GET PUT"),
    (["cut"], "PUT GET PUT"),
    (["swallow"], "PUT GET PUT"),
    (["cut", "cut", "lose", "cut"], "PUT GET PUT GET PUT"),
])
def test_a_lost_answer_to_a_submission(through, ledger, gid, plan, seen):
    initiator, cutter = through(*plan)
    answer = initiator.submit(two(gid, "2pc", ledger), 2000 if plan == ["swallow"] else 20000)
    assert (answer.rc, answer.outcome) == (0, "committed"), answer
    assert " ".join(cutter.seen) == seen
    assert written(ledger, gid) == {"prepare": 2}
    assert ledger.db.prepared() == []


def test_in_doubt_is_said_so(through, shared, ledger, gid):
    """Taken, and nobody can tell: the caller asks again later, and hears of the same transaction."""
    initiator, cutter = through("cut", *["lose"] * 1000, patience_ms=300)
    answer = initiator.submit(two(gid, "2pc", ledger), 0)
    assert answer.rc == E_UNREACHABLE and "may or may not" in answer.text, answer
    assert len(cutter.seen) < 50
    shared.client.ended(gid)
    assert written(ledger, gid) == {"prepare": 2}
    cutter.plan.clear()
    assert initiator.submit(two(gid, "2pc", ledger)).outcome == "committed"
    assert written(ledger, gid) == {"prepare": 2}


def test_found_under_its_gid_is_another(through, ledger, gid):
    """Reading alone would have told somebody else's outcome."""
    initiator, _ = through()
    assert initiator.submit(two(gid, "2pc", ledger)).outcome == "committed"
    initiator, cutter = through("lose")
    answer = initiator.submit(two(gid, "2pc", ledger, refuse=True))
    assert (answer.rc, answer.outcome, cutter.seen) == (E_CONFLICT, "", ["PUT", "GET", "PUT"])


def test_every_answer_is_lost_once(through, ledger, gid):
    """Begin, enlist, try, commit: each is carried out, and asked again."""
    initiator, cutter = through(*["cut", "pass", "pass", "cut", "pass", "cut", "pass", "pass", "cut"])
    txn = Txn(gid, "tcc")
    assert initiator.begin(txn).state == "active"
    for branch in ("a", "b"):
        txn.add(branch, ledger.url + "/ledger", {})
        assert initiator.enlist(txn).rc == 0
        assert initiator.try_(txn).rc == 0
    answer = initiator.commit(gid)
    assert (answer.rc, answer.outcome) == (0, "committed"), answer
    assert " ".join(cutter.seen) == "PUT GET PUT POST POST GET GET POST POST POST"
    assert initiator.wait(gid).state == "committed"
    assert written(ledger, gid) == {"try": 2, "confirm": 2}


def test_a_try_that_is_refused(through, ledger, gid):
    initiator, _ = through()
    txn = Txn(gid, "tcc")
    assert initiator.begin(txn).rc == 0
    for branch, payload, vote in (("a", {}, 0), ("b", {"refuse": True}, 2)):
        assert initiator.enlist(txn.add(branch, ledger.url + "/ledger", payload)).rc == 0
        assert initiator.try_(txn).rc == vote
    assert initiator.rollback(gid).outcome == "aborted"
    late = initiator.commit(gid)
    assert (late.rc, late.http_status, late.outcome) == (E_REFUSED, 409, "aborted")
    assert initiator.wait(gid).state == "aborted"
    assert written(ledger, gid) == {"try": 1, "cancel": 1}


def test_wait_ends_with_its_time(through, part, shared, gid):
    initiator, _ = through()
    txn = Txn(gid, "2pc", 60000).add("a", part.branch("a")["participant"])
    assert initiator.begin(txn).rc == 0
    assert (initiator.wait(gid, 100).rc, initiator.wait(gid, 100).outcome) == (0, "pending")
    assert initiator.rollback(gid).outcome == "aborted"
    assert (initiator.get("nobody").rc, initiator.get("nobody").http_status) == (E_REFUSED, 404)


def test_a_signed_try(guard, gid):
    """The ledger believes nobody without the secret that it shares with the coordinator."""
    path = write_secret(guard.path("secret"), "a-secret-of-enough-bytes\n")
    assentd = Assentd(guard, args=["--signing-secret-file", path]).start()
    ledger = start_ledger(guard, assentd.database("ledger"), "--secret-file", path)
    initiator = Initiator(assentd.url)
    txn = Txn(gid, "tcc").add("a", ledger.url + "/ledger", {"of": "19.990"})
    assert initiator.begin(txn).rc == 0
    assert initiator.enlist(txn).rc == 0
    assert initiator.try_(txn).rc == 2  # ASSENT_REFUSED, by 401
    assert written(ledger, gid) == {}
    initiator.load_secret(path)
    assert initiator.try_(txn).rc == 0
    assert initiator.commit(gid).outcome == "committed"
    assert written(ledger, gid) == {"try": 1, "confirm": 1}
    initiator.close()


# --- nodes that are killed -----------------------------------------------------------------------

# Where between the request and its answer, and for the how-manieth time.
DEATHS = ["submit.recorded", "answer.before_send", "begin.recorded", "enlist.recorded:2",
          "commit.recorded"]


def test_killed_between_request_and_answer(guard, gid):
    """Each restart dies at the next point; the initiator goes on, and notices nothing."""
    assentd = Assentd(guard).start()
    ledger = start_ledger(guard, assentd.database("ledger"))
    initiator = Initiator(assentd.url, patience_ms=60000)

    def submit(name):
        return initiator.submit(two(name, "2pc", ledger), 30000)

    def interact(name):
        txn = Txn(name, "tcc", 60000)
        begun = initiator.begin(txn)
        assert begun.rc == 0, begun
        for branch in ("a", "b"):
            enlisted = initiator.enlist(txn.add(branch, ledger.url + "/ledger", {}))
            assert enlisted.rc == 0, enlisted
            tried = initiator.try_(txn, 30000)
            assert tried.rc == 0, tried
        return initiator.commit(name, 30000)

    with ThreadPoolExecutor(1) as pool:
        for i, point in enumerate(DEATHS):
            name, work = "%s-%d" % (gid, i), interact if i > 1 else submit
            assert assentd.stop() == 0
            assentd.env = {"ASSENT_CRASH_AT": point}
            assentd.start()
            done = pool.submit(work, name)
            wait_until(lambda: not assentd.process.running() or done.done(), 30, "the crash")
            assert not assentd.process.running(), (point, done)
            assentd.env = {}
            assentd.start()
            answer = done.result(60)
            assert (answer.rc, answer.outcome) == (0, "committed"), (point, answer)
            assentd.client.ended(name)
            expected = {"prepare": 2} if i < 2 else {"try": 2, "confirm": 2}
            assert written(ledger, name) == expected, point
    initiator.close()


def test_the_second_address_takes_over(guard, cluster, ledger, gid):
    """Two nodes on one database, and initiators that know both: the one that serves is killed."""
    database = cluster.database("initiator-two")
    nodes = [Node(guard, database, database.address(), name="first"),
             Node(guard, database, database.address(), name="second")]
    nodes[0].spawn()
    nodes[0].wait_ready()
    nodes[1].spawn()
    initiator = Initiator(*[node.url for node in nodes], patience_ms=30000)
    numbers, answers, stop = iter(range(10 ** 6)), {}, threading.Event()

    def work():
        while not stop.is_set():
            name = "%s-%d" % (gid, next(numbers))
            answers[name] = initiator.submit(two(name, "tcc", ledger), 20000)

    with ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(work) for _ in range(4)]
        try:
            wait_until(lambda: len(answers) > 20, 30, "transactions to end")
            nodes[0].kill9()
            n = len(answers)
            wait_until(lambda: len(answers) > n + 20, 60, "transactions to end on the other")
        finally:
            stop.set()
        for worker in workers:
            worker.result(60)
    assert {(a.rc, a.outcome) for a in answers.values()} == {(0, "committed")}
    assert {nodes[1].client.ended(name)["outcome"] for name in answers} == {"committed"}
    rows = ledger.db.query("SELECT gid, op, count(*) FROM entry WHERE gid LIKE %s GROUP BY 1, 2",
                           gid + "-%")
    assert sorted(rows) == sorted((g, op, 2) for g in answers for op in ("try", "confirm"))
    initiator.close()
    database.close()


def test_a_name_server_is_not_waited_for(guard):
    """One that never answers does not take longer than the client's patience."""
    path = guard.path("names")
    with open(path, "w", encoding="utf-8") as f:
        f.write("hang")
    program = ("from harness.libassent import Initiator\n"
               "print(Initiator('http://away.test:1', patience_ms=300).get('g').rc)\n")
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=os.path.join(ROOT, "test"), timeout=60, check=True,
        capture_output=True, text=True, env=dict(
            os.environ, LD_PRELOAD=os.path.join(BUILD, "test", "names.so"), NAMES_FILE=path))
    assert done.stdout == "%d\n" % E_UNREACHABLE


def test_a_gid_of_dots_is_refused_as_such(shared):
    """It stays in the path, and the coordinator says what is wrong with it."""
    for gid in (".", ".."):
        answer = Initiator(shared.url).submit(Txn(gid, "2pc").add("b", "http://127.0.0.1:1"))
        assert (answer.rc, answer.http_status) == (E_REFUSED, 422), answer
