"""GET /v1/transactions: every filter, pages and their cursors, and labels as they are stored."""

import datetime
import threading

import psycopg2
import pytest

from harness.client import Client
from harness.participant import Answer
from harness.wait import wait_until

PATH = "/v1/transactions"


def page(api, **query):
    reply = api.get(PATH, query={k.replace("label_", "label."): v for k, v in query.items()})
    assert reply.status == 200, reply
    return reply.json


def listed(api, **query):
    """The gids of all pages."""
    found, cursor = [], {}
    while True:
        got = page(api, **query, **cursor)
        found += [t["gid"] for t in got["transactions"]]
        if got["next_cursor"] is None:
            return found
        cursor = {"cursor": got["next_cursor"]}


def refused(api, query, code, status=400):
    reply = api.get(PATH, query=query, valid=False)
    assert (reply.status, reply["code"]) == (status, code), reply
    return reply["detail"]


@pytest.fixture
def three(shared, part, gids):
    """One that commits, one that aborts and one that cannot finish; oldest first."""
    part.on("no", "prepare", Answer(409))
    part.on("down", "commit", Answer(503))
    names = [gids() for _ in range(3)]
    for gid, other in zip(names, ("b", "no", "down")):
        shared.client.put(gid, {
            "mode": "2pc", "labels": {"test": names[0], "which": other},
            "retry": {"initial_ms": 10, "cap_ms": 100},
            "branches": [part.branch("a"), part.branch(other)]})
    for gid, state in zip(names, ("committed", "aborted", "committing")):
        shared.wait_state(gid, state)
    yield names
    part.on("down", "commit", Answer(200))
    shared.wait_state(names[2], "committed")


def test_filters(api, part, three):
    ok, no, down = three
    assert listed(api, label_test=ok) == [down, no, ok]
    for query, expected in (
            ({"state": "committed"}, [ok]), ({"state": "aborted"}, [no]),
            ({"state": "committing"}, [down]), ({"state": "mixed"}, []),
            ({"outcome": "committed"}, [down, ok]), ({"outcome": "aborted"}, [no]),
            ({"outcome": "pending"}, []), ({"mode": "2pc"}, [down, no, ok]),
            ({"participant": part.url("no")}, [no]), ({"participant": part.url("a")},
                                                      [down, no, ok]),
            ({"participant": part.url("a") + "/"}, []), ({"label_which": "no"}, [no]),
            ({"label_which": "nO"}, []), ({"stuck_for_ms": 0}, [down]),
            ({"stuck_for_ms": 3600000}, []), ({"stuck_for_ms": 0, "state": "committed"}, [])):
        assert listed(api, label_test=ok, **query) == expected, query
        if "label_which" not in query:  # the same along the time of creation
            found = [g for g in listed(api, **query) if g in three]
            assert found == expected, query


def test_created(api, three):
    middle = api.txn(three[1])["created_at"]
    label = {"label_test": three[0]}
    assert listed(api, created_after=middle, **label) == [three[2], three[1]]
    assert listed(api, created_before=middle, **label) == [three[0]]
    assert listed(api, created_before=middle, created_after=middle, **label) == []
    local = datetime.datetime.fromisoformat(middle.replace("Z", "+00:00")).astimezone(
        datetime.timezone(datetime.timedelta(hours=-7))).isoformat()
    assert listed(api, created_before=local, **label) == [three[0]]
    assert [g for g in listed(api, created_after=middle) if g in three] == [three[2], three[1]]


def test_summary_is_the_transaction(api, three):
    for summary in page(api, label_test=three[0])["transactions"]:
        def same(gid=summary["gid"]):
            txn = api.txn(gid)
            now = [t for t in page(api, label_test=three[0])["transactions"] if t["gid"] == gid][0]
            waits = [now.pop("waiting_for"), txn.pop("waiting_for")]
            assert now.pop("n_branches") == len(txn.pop("branches"))
            assert now == {name: txn[name] for name in now}
            return (waits[0] is None) == (waits[1] is None) == (gid != three[2])
        wait_until(same, 5, "list and transaction to agree")


def test_waiting_for(api, three):
    def look():
        text = api.txn(three[2])["waiting_for"]
        return "last: HTTP 503" in text and text
    text = wait_until(look, 5, "a failed attempt")
    assert text.startswith("waits for down to answer commit since ")
    assert page(api, label_test=three[0])["transactions"][0]["waiting_for"].startswith(text[:32])


def test_pages(api, part, gids):
    names = [gids() for _ in range(7)]
    for gid in names:
        api.put(gid, {"mode": "2pc", "labels": {"pages": names[0]},
                      "branches": [part.branch("a"), part.branch("b")]}, wait=10)
    expected = names[::-1]
    for limit in (1, 2, 3, 6, 7, 200):
        assert listed(api, label_pages=names[0], limit=limit) == expected, limit
        assert [g for g in listed(api, limit=max(limit, 50)) if g in names] == expected
    got = page(api, label_pages=names[0], limit=7)
    assert len(got["transactions"]) == 7 and got["next_cursor"] is None
    # What is created meanwhile is newer than the cursor.
    first = page(api, label_pages=names[0], limit=3)
    later = gids()
    api.put(later, {"mode": "2pc", "labels": {"pages": names[0]},
                    "branches": [part.branch("a"), part.branch("b")]}, wait=10)
    rest = page(api, label_pages=names[0], cursor=first["next_cursor"])
    assert [t["gid"] for t in rest["transactions"]] == expected[3:]
    assert listed(api, label_pages=names[0])[0] == later


def test_participants_that_joined(api, part, gid):
    api.put(gid, {"mode": "2pc", "interactive": True, "branches": [part.branch("early")]})
    reply = api.request("POST", PATH + "/" + gid + "/branches", part.branch("late"))
    assert reply.status in (200, 201, 202), reply
    for name in ("early", "late"):
        wait_until(lambda n=name: listed(api, participant=part.url(n)) == [gid], 5, name)
    assert listed(api, participant=part.url("other")) == []
    api.request("POST", PATH + "/" + gid + "/commit")


def test_cursor_belongs_to_its_list(api, three):
    cursor = page(api, label_test=three[0], mode="2pc", limit=1)["next_cursor"]
    query = {"label.test": three[0], "mode": "2pc", "cursor": cursor}
    assert api.get(PATH, query=query).status == 200
    assert api.get(PATH, query=dict(reversed(query.items()), limit=2)).status == 200
    for other in ({"label.test": "x", "mode": "2pc"}, {"mode": "2pc"}, {"label.test": three[0]},
                  dict(query, state="committed")):
        refused(api, dict(other, cursor=cursor), "invalid_cursor")
    for bad in (cursor[:-1], cursor + "A", cursor[1:], "", "x", "AAAA", cursor[:-2] + "--",
                cursor.swapcase(), "%00", "\u00e9"):
        refused(api, dict(query, cursor=bad), "invalid_cursor")


def test_cursors_outlive_a_restart(fresh, part):
    for i in range(3):
        fresh.client.put("g%d" % i, {"mode": "2pc", "branches": [part.branch("a")]}, wait=10)
    cursor = page(fresh.client, limit=1)["next_cursor"]
    fresh.kill9()
    fresh.start()

    def look():
        reply = fresh.client.get(PATH, query={"cursor": cursor})
        return reply if reply.status == 200 else None
    reply = wait_until(look, 10, "the list's session")
    assert [t["gid"] for t in reply["transactions"]] == ["g1", "g0"]


@pytest.mark.parametrize("name, value", [
    ("state", "done"), ("state", ""), ("state", "Committed"), ("mode", "4pc"), ("outcome", "ok"),
    ("participant", ""), ("participant", "x" * 1025), ("created_after", "yesterday"),
    ("created_after", "2026-02-30T00:00:00Z"), ("created_before", ""), ("stuck_for_ms", "-1"),
    ("stuck_for_ms", "1.5"), ("stuck_for_ms", ""), ("stuck_for_ms", "9" * 30), ("limit", "0"),
    ("limit", "201"), ("limit", "x"), ("limit", ""), ("label.", "x")])
def test_bad_values(api, name, value):
    assert name in refused(api, {name: value}, "invalid_query")


def test_bad_names(api):
    assert '"state"' in refused(api, {"sate": "x"}, "unknown_query")
    assert '"created_after"' in refused(api, {"created_aftr": "x"}, "unknown_query")
    refused(api, {"gid": "x"}, "unknown_query")
    assert "twice" in refused(api, [("state", "aborted"), ("state", "aborted")], "invalid_query")
    assert "twice" in refused(api, [("label.a", "1"), ("label.a", "2")], "invalid_query")
    refused(api, [("label.l%d" % i, "x") for i in range(17)], "invalid_query")
    assert api.get(PATH, query={"label.l%d" % i: "x" for i in range(16)})["transactions"] == []


@pytest.mark.parametrize("value", ["", "a", " a&b=c%20+ ", "\u00e9\u4e2d\U0001f600", '"\\', "x" * 255,
                                   "\x7f", "'; --", "%00", "null"])
def test_label_values(api, part, gid, value):
    """As they were submitted, byte for byte; and bounded by what a submission may have."""
    api.put(gid, {"mode": "2pc", "labels": {"v": value, "t": gid}, "branches": [part.branch("a")]},
            wait=10)
    found = page(api, label_t=gid, label_v=value)["transactions"]
    assert [(t["gid"], t["labels"]) for t in found] == [(gid, {"t": gid, "v": value})]
    assert page(api, label_t=gid, label_v=(value + "y")[-255:])["transactions"] == []


def test_labels_of_the_first(shared, part, gids):
    """A gid that is there already gets no labels from a second submission; and sixteen are no
    fewer than sixteen."""
    api, gid, other = shared.client, gids(), gids()
    body = {"mode": "2pc", "labels": {"n%d" % i: gid for i in range(16)},
            "branches": [part.branch("a")]}
    api.put(gid, body, wait=10)
    wait_until(lambda: shared.db.value(
        "SELECT ended_at FROM assent.txn WHERE gid = %s", gid), 5, "it to be forgotten")
    reply = api.put(gid, dict(body, labels={"more": other}))
    assert (reply.status, reply["code"]) == (422, "gid_conflict")
    assert listed(api, label_more=other) == []
    for i in range(16):
        assert listed(api, **{"label_n%d" % i: gid}) == [gid]


def test_looking_is_bounded(fresh):
    """Few among many: short pages that say where to go on, and every one is found in the end."""
    fresh.db.query("""
        INSERT INTO assent.txn (gid, shard, epoch, mode, state, outcome, created_at, deadline_at,
          decided_at, ended_at, branch_state, body_sha256, submission)
        SELECT 'g' || n, n % 64, 0, 1, CASE WHEN n % 12000 = 0 THEN 7 ELSE 5 END,
          CASE WHEN n % 12000 = 0 THEN 3 ELSE 1 END, t, t, t, t, '\\x0404', '', ''
        FROM generate_series(1, 50000) AS n, LATERAL (SELECT now() - n * interval '1 s' AS t) AS x
        RETURNING 1""")
    api = fresh.client
    pages, cursor = [], {}
    while cursor is not None:
        got = page(api, outcome="mixed", **cursor)
        pages.append([t["gid"] for t in got["transactions"]])
        cursor = {"cursor": got["next_cursor"]} if got["next_cursor"] else None
    assert sum(pages, []) == ["g12000", "g24000", "g36000", "g48000"]
    assert 5 <= len(pages) <= 7 and [] in pages
    assert len(page(api)["transactions"]) == 50


def test_a_list_that_takes_long_delays_nothing_else(fresh, part):
    """While the lists' session waits for a lock, single transactions are read and written; and the
    list is refused, not answered late."""
    fresh.client.put("g", {"mode": "2pc", "labels": {"a": "b"}, "branches": [part.branch("a")]},
                     wait=10)
    wait_until(lambda: fresh.db.value("SELECT ended_at FROM assent.txn"), 5, "the end")
    replies, enough = [], threading.Event()
    blocker = psycopg2.connect(host=fresh.dir + "/s", user="assent", dbname="assent")
    try:
        with blocker.cursor() as cursor:
            cursor.execute("LOCK TABLE assent.label IN ACCESS EXCLUSIVE MODE")

        def ask():
            client = Client(fresh.url)
            while not enough.is_set():
                replies.append(client.get(PATH, query={"label.a": "b"}))
        thread = threading.Thread(target=ask)
        thread.start()
        wait_until(lambda: fresh.db.value(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'assentd lists'"
            " AND wait_event_type = 'Lock'"), 5, "the list to wait")
        assert fresh.client.txn("g")["outcome"] == "committed"
        assert fresh.client.put("h", {"mode": "2pc", "branches": [part.branch("a")]},
                                wait=10)["outcome"] == "committed"
        enough.set()
        thread.join(30)
        assert {r.status for r in replies} == {503}
    finally:
        enough.set()
        blocker.close()
    assert listed(fresh.client, label_a="b") == ["g"]
