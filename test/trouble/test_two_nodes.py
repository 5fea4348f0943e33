"""Two nodes on one database: one serves, the other waits and takes over, whatever becomes of the
first; and who comes back as a former owner does no harm."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.client import Client
from harness.cluster import Node
from harness.load import Load, agreed, two
from harness.participant import Answer, Gate
from harness.pg_proxy import PgProxy
from harness.wait import wait_until


class Pair:
    """Both reach the database through a proxy of their own."""

    def __init__(self, guard, cluster, name):
        self.database = cluster.database(name)
        self.proxies = [PgProxy(cluster.port) for _ in range(2)]
        self.nodes = [Node(guard, self.database, self.database.address(proxy.port),
                           name="node%d" % i, args=["--database-timeout-ms", "3000"])
                      for i, proxy in enumerate(self.proxies)]
        self.nodes[0].spawn()
        self.nodes[0].wait_ready()
        self.nodes[1].spawn()
        self.wait_waits(self.nodes[1])

    @staticmethod
    def wait_waits(node):
        def waits():
            try:
                return "another node owns the shards" in node.not_ready_because()
            except OSError:
                return False
        wait_until(waits, 30, lambda: node.name + " to wait\n" + node.process.last_lines())

    def owner_first(self):
        """(the one that serves, the one that does not)"""
        def look():
            return next((n for n in self.nodes if n.process.running() and n.is_ready()), None)
        owner = wait_until(look, 30, "one to serve")
        return owner, next(n for n in self.nodes if n is not owner)

    def proxy(self, node):
        return self.proxies[self.nodes.index(node)]

    def epochs(self):
        return self.database.query("SELECT shard, epoch, node FROM assent.shard ORDER BY 1")

    def close(self):
        for proxy in self.proxies:
            proxy.close()
        self.database.close()


@pytest.fixture
def pair(guard, cluster, request):
    pair = Pair(guard, cluster, request.node.name)
    yield pair
    pair.close()


def test_the_one_that_waits(pair, part, gid):
    """It refuses what it cannot know, touches nothing, and the owner does not notice."""
    owner, waiting = pair.nodes
    epochs = pair.epochs()
    body = two(part)
    assert owner.client.put(gid, body, wait=10)["outcome"] == "committed"
    for path in ("/v1/transactions/" + gid, "/v1/transactions/nobody",
                 "/v1/transactions/%s/decision" % gid):
        reply = waiting.client.get(path)
        assert reply.status == 503 and "Retry-After" in reply.headers
    reply = waiting.client.put(gid + "-new", body)
    assert reply.status == 503 and "another node owns the shards" in reply["detail"]
    assert waiting.client.get("/livez").status == 200
    assert pair.epochs() == epochs
    assert {c.headers["Assent-Gid"] for c in part.calls()} == {gid}
    assert owner.client.metric("assent_takeovers_total") == 1


def test_what_people_see_where_nobody_serves(pair, part, gid):
    """Lists, history and alerts are there for whoever looks for what goes wrong, and say that they
    may not be final; a transaction that is not there may be on its way."""
    owner, other = pair.nodes
    part.on("b", "commit", Answer(503))
    pending = two(part, retry={"initial_ms": 20, "cap_ms": 100, "alert_after": 2})
    assert owner.client.put(gid, pending).status == 202
    wait_until(lambda: owner.client.get("/v1/admin/alerts")["alerts"], what="an alert")
    # Attempts are written when the owner is asked for them.
    made = owner.client.get("/v1/transactions/%s/history" % gid)
    assert made["confirmed"] is True
    for node, confirmed in ((owner, True), (other, False)):
        listed = node.client.get("/v1/transactions")
        assert [(t["gid"], t["outcome"]) for t in listed["transactions"]] == [(gid, "committed")]
        history = node.client.get("/v1/transactions/%s/history" % gid)
        assert len(history["attempts"]) >= len(made["attempts"]) >= 3
        alerts = node.client.get("/v1/admin/alerts")
        assert [a["gid"] for a in alerts["alerts"]] == [gid]
        look = node.client.get("/v1/admin/overview")
        assert {r["confirmed"] for r in (listed, history, alerts, look)} == {confirmed}
        assert node.client.get("/v1/transactions/%s-no/history" % gid).status == (
            404 if confirmed else 503)
    assert look["alerts_open"] is None and look["nodes"][0]["state"] == "locking"
    owner.kill9()
    other.wait_ready()
    assert other.client.get("/v1/transactions")["confirmed"] is True
    wait_until(lambda: (other.client.get("/v1/admin/overview")["alerts_open"] or {}).get(
        "exhausted"), what="the alerts to be counted")


def test_changing_hands(pair, part, gid):
    """Under load on both: killed, stopped, thrown out, cut off. Each time the other one serves."""
    loads = [Load(node, lambda _: two(part), n=3, prefix="%s-%d" % (gid, i))
             for i, node in enumerate(pair.nodes)]

    def committed():
        return sum(load.n("committed") for load in loads)

    def wait_committed(n=5):
        target = committed() + n
        wait_until(lambda: committed() >= target, 40, lambda: "transactions to commit\n" + "\n".join(
            n.process.last_lines() for n in pair.nodes))

    epoch = pair.epochs()[0][1]
    try:
        for how in ("kill", "stop", "terminate", "cut", "kill"):
            wait_committed()
            owner, other = pair.owner_first()
            if how == "kill":
                owner.kill9()
            elif how == "stop":
                assert owner.stop() == 0, owner.process.last_lines()
            elif how == "terminate":
                pair.database.query("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE"
                                    " locktype = 'advisory' AND granted AND database = (SELECT oid"
                                    " FROM pg_database WHERE datname = current_database())")
            else:
                pair.proxy(owner).cut()
            if how in ("kill", "stop"):
                other.wait_ready()
                wait_committed()
                owner.spawn()
                pair.wait_waits(owner)
            else:
                pair.owner_first()
    finally:
        for load in loads:
            load.stop()
    owner, _ = pair.owner_first()
    for load in loads:
        assert owner.check(load) <= {"committed", "aborted"}
    agreed(part)
    assert pair.epochs()[0][1] >= epoch + 5


@pytest.mark.parametrize("how", ["terminated", "silent"])
def test_zombie(pair, part, gids, how):
    """The owner stands still while it is cut off, and wakes up when the other has finished its
    work: it writes nothing, contradicts nobody, says nothing untrue, and waits in its turn."""
    owner, other = pair.nodes
    hold = Gate()
    part.on("b", "prepare", Answer(gate=hold), Answer(200))
    old, new = gids(), gids()
    load = Load(owner, lambda _: {"mode": "2pc", "branches": [part.branch("c"), part.branch("d")]},
                n=4, prefix=gids())
    wait_until(lambda: load.n("committed") >= 20, 20, "some load")
    with ThreadPoolExecutor(4) as pool:
        kept = pool.submit(Client(owner.url).put, old, two(part), 60)
        part.wait_calls(1, "b", "prepare")
        owner.process.pause()
        missed = pool.submit(Client(owner.url).put, new, two(part), 60)
        asked = [pool.submit(Client(owner.url).get, "/v1/transactions/%s%s" % (new, path))
                 for path in ("", "/decision")]
        # The server's side of the sessions ends. What the owner's kernel has sent may arrive.
        if how == "silent":
            pair.proxy(owner).hold()
        pair.database.query(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND"
            " granted AND database = (SELECT oid FROM pg_database WHERE datname ="
            " current_database())")
        other.wait_ready()
        hold.open()
        for gid in (old, new):
            assert other.client.put(gid, two(part), wait=20)["outcome"] == "committed"
        stuck = [r[0] for r in pair.database.query(
            "SELECT gid FROM assent.transactions WHERE ended_at IS NULL")]
        for gid in stuck:
            other.client.ended(gid)
        wait_until(lambda: not pair.database.value(
            "SELECT count(*) FROM assent.txn WHERE ended_at IS NULL"), 20, "the ends to be stored")
        before = rows(pair)
        n_calls = len(part.calls())
        owner.process.resume()
        assert kept.result(40).status in (202, 503)
        assert missed.result(40).status in (200, 202, 503)
        for reply in (a.result(40) for a in asked):
            assert reply.status == 503 or reply.json.get("decision") != "abort" and \
                reply.json.get("outcome") != "aborted", reply
        load.stop()
    pair.wait_waits(owner)
    assert rows(pair) == before
    late = part.calls()[n_calls:]
    assert all(c.op in ("prepare", "commit") for c in late), late
    assert other.check(load) <= {"committed", "aborted"}
    agreed(part)
    other.kill9()
    owner.wait_ready()
    assert owner.client.put(gids(), two(part), wait=10)["outcome"] == "committed"


def rows(pair):
    return (pair.epochs(), pair.database.query(
        "SELECT gid, epoch, state, outcome, ended_at FROM assent.txn ORDER BY 1"))
