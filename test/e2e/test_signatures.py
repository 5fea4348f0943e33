"""Signed calls: what the coordinator sends, and what a service makes of what others send."""

import time

import pytest
import requests

from harness.guard import Guard
from harness.participant import Answer
from harness.signature import call_headers, signature, signed
from harness.system import Assentd, Service, Shop
from harness.tokens import Tokens, write_secret
from harness.wait import wait_until
from test_start import complaint, run

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
OTHER = "another secret of a service".replace(" ", "-")
BODY = b'{"sku":"tea","n":1}'


# ---- what the coordinator sends ----

@pytest.mark.parametrize("secret", [SECRET, OTHER])
def test_calls_are_signed(guard, part, gid, secret):
    path = write_secret(guard.path("secret"), secret + "\n")
    assentd = Assentd(guard, args=["--signing-secret-file", path]).start()
    part.on("a", "prepare", Answer(503), Answer(200))
    body = ('{"mode":"2pc","retry":{"initial_ms":20},"branches":[{"id":"a","participant":"%s",'
            '"payload":{"n": 19.990,"s":"\\u0000"}},{"id":"b","participant":"%s"}]}' % (
                part.url("a"), part.url("b")))
    assert assentd.client.put(gid, body, wait=10)["outcome"] == "committed"
    cluster = assentd.client.decision(gid)["cluster"]
    calls = wait_until(lambda: len(part.calls(gid=gid)) >= 5 and part.calls(gid=gid),
                       what="all calls")
    assert {(c.name, c.op) for c in calls} == {(n, o) for n in "ab" for o in ("prepare", "commit")}
    for call in calls:
        h = call.headers
        assert h["webhook-id"] == "%s/%s/%s/%s/%s" % (
            cluster, gid, call.name, call.op, h["Assent-Attempt"])
        assert abs(int(h["webhook-timestamp"]) - time.time()) < 60
        assert h["webhook-signature"] == signature(
            secret, h["webhook-id"], h["webhook-timestamp"], call.body)
    assert len({c.headers["webhook-id"] for c in calls}) == len(calls)
    for text in (assentd.process.stderr(), assentd.process.stdout(),
                 assentd.client.get("/metrics").body.decode()):
        assert secret not in text and secret.split("_")[-1] not in text


def test_each_participant_its_secret(guard, part, gid):
    """A named one has its own; without any nothing is signed."""
    own = write_secret(guard.path("own"), OTHER)
    common = write_secret(guard.path("common"), SECRET)
    named = ["--participant.a", "%s secret=%s" % (part.url("a"), own)]
    for number, (args, expected) in enumerate((
            (named + ["--signing-secret-file", common], (OTHER, SECRET)),
            (named, (OTHER, None)))):
        assentd = Assentd(guard, args=args).start()
        body = {"mode": "2pc", "branches": [{"id": "a", "participant": "a"}, part.branch("b")]}
        name = "%s-%d" % (gid, number)
        assert assentd.client.put(name, body, wait=10)["outcome"] == "committed"
        assert part.calls(gid=name)
        for call in part.calls(gid=name):
            secret = expected["ab".index(call.name)]
            h = call.headers
            assert h.get("webhook-signature") == (secret and signature(
                secret, h["webhook-id"], h["webhook-timestamp"], call.body)), call
        assert assentd.stop() == 0


def test_two_secrets_sign_both(guard, part, gid):
    path = write_secret(guard.path("secret"), "# new\n%s\n%s\n" % (OTHER, SECRET))
    assentd = Assentd(guard, args=["--signing-secret-file", path]).start()
    body = {"mode": "2pc", "branches": [part.branch("a"), part.branch("b")]}
    assert assentd.client.put(gid, body, wait=10)["outcome"] == "committed"
    for call in part.calls(gid=gid):
        h = call.headers
        assert h["webhook-signature"].split() == [
            signature(s, h["webhook-id"], h["webhook-timestamp"], call.body)
            for s in (OTHER, SECRET)]


@pytest.mark.parametrize("text, mode, word", [
    ("short", 0o600, "16"), (SECRET, 0o644, "chmod 600"), ("", 0o600, "empty"),
    ("two lines of sixteen\nand more", 0o600, "16"), ("whsec_!!!!", 0o600, "base64"),
    ("\n".join(["x" * 20] * 3), 0o600, "more than 2")])
def test_wrong_secret_file(guard, text, mode, word):
    path = write_secret(guard.path("secret"), text, mode)
    line = complaint(run(guard, "--dev", "--dev-dir", guard.path("d"), "--signing-secret-file",
                         path))
    assert path in line and word in line and (not text or text not in line)


# ---- what a service makes of it ----

class World:
    def __init__(self, guard):
        self.assentd = Assentd(guard).start()
        self.secret = write_secret(guard.path("two"), SECRET + "\n" + OTHER + "\n")
        self.stock = Service(guard, "stock", self.assentd.database("stock"),
                             args=["--secret-file", self.secret]).start()

    def post(self, op, headers, body=BODY):
        return requests.post("%s/stock/%s" % (self.stock.url, op), data=body, headers=headers,
                             timeout=20)

    def goods(self):
        return self.stock.db.value("SELECT n FROM stock WHERE sku = 'tea'")

    def traces(self):
        """What stands in the database, of anything that was done."""
        tables = self.stock.db.query(
            "SELECT table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE'"
            " AND table_schema = 'assent_participant' ORDER BY 1")
        counts = [self.stock.db.value("SELECT count(*) FROM assent_participant." + t[0])
                  for t in tables]
        assert counts
        return counts, self.stock.db.prepared(), self.goods()


@pytest.fixture(scope="module")
def world():
    with Guard() as guard:
        yield World(guard)


@pytest.mark.parametrize("secret", [SECRET, OTHER])
def test_signed_calls_are_done(world, gid, secret):
    """With either secret, while they are being exchanged."""
    before = world.goods()
    for op in ("prepare", "prepare", "commit", "commit"):
        headers = signed(call_headers(gid, op), secret, BODY)
        assert world.post(op, headers).status_code == 200
    assert world.goods() == before - 1


def test_several_signatures(world, gid):
    headers = signed(call_headers(gid, "rollback"), SECRET, BODY)
    good = headers["webhook-signature"]
    bad = signature("x" * 32, headers["webhook-id"], headers["webhook-timestamp"], BODY)
    for text in (bad + " " + good, "v1a,AAAA v2,BBBB " + good, good + " " + bad):
        assert world.post("rollback", dict(headers, **{"webhook-signature": text})
                          ).status_code == 200
    for text in (bad + " " + bad, "v1a," + good[3:], "v2," + good[3:], good[3:], good[:-1],
                 good + "=", " ".join([bad] * 20 + [good]), "v1,", ","):
        assert world.post("rollback", dict(headers, **{"webhook-signature": text})
                          ).status_code == 401, text


def forgeries(gid):
    """Name: operation, headers, body."""
    prepare, commit = call_headers(gid, "prepare"), call_headers(gid, "commit")
    captured = signed(prepare, SECRET, BODY)
    yield "unsigned", "prepare", prepare, BODY
    for name in ("id", "timestamp", "signature"):
        cut = {k: v for k, v in captured.items() if k != "webhook-" + name}
        yield "no " + name, "prepare", cut, BODY
    yield "wrong secret", "prepare", signed(prepare, "x" * 32, BODY), BODY
    yield "body changed", "prepare", captured, BODY.replace(b"1", b"9")
    yield "body gone", "prepare", captured, b""
    yield "too old", "prepare", signed(prepare, SECRET, BODY, age_s=310), BODY
    yield "from the future", "prepare", signed(prepare, SECRET, BODY, age_s=-310), BODY
    yield "older, made young", "prepare", dict(
        signed(prepare, SECRET, BODY, age_s=310),
        **{"webhook-timestamp": captured["webhook-timestamp"]}), BODY
    yield "as a commit", "commit", dict(captured, **{"Assent-Op": "commit"}), BODY
    yield "as a commit, id changed", "commit", dict(
        captured, **{"Assent-Op": "commit",
                     "webhook-id": captured["webhook-id"].replace("prepare", "commit")}), BODY
    yield "a prepare with a commit's id", "prepare", signed(
        prepare, SECRET, BODY, call_id=signed(commit, SECRET, BODY)["webhook-id"]), BODY
    for name, value in (("Gid", gid + "x"), ("Branch", "other"), ("Cluster", "c0ffee01"),
                        ("Attempt", "2"), ("Namespace", "elsewhere")):
        yield "other " + name, "prepare", dict(captured, **{"Assent-" + name: value}), BODY
    yield "an empty timestamp", "prepare", dict(captured, **{"webhook-timestamp": ""}), BODY
    yield "a signed timestamp", "prepare", dict(captured, **{"webhook-timestamp": "-1"}), BODY


@pytest.mark.parametrize("name", [f[0] for f in forgeries("x")])
def test_forgeries_do_nothing(world, gid, name):
    """401, and nothing has touched the database."""
    before = world.traces()
    (_, op, headers, body), = [f for f in forgeries(gid) if f[0] == name]
    reply = world.post(op, headers, body)
    assert reply.status_code == 401, reply.text
    assert SECRET not in reply.text and "v1," not in reply.text
    assert world.traces() == before


def test_captured_prepare_at_the_commits_path(world, gid):
    """Signed and fresh, but the path says another operation than the headers."""
    before = world.traces()
    reply = world.post("commit", signed(call_headers(gid, "prepare"), SECRET, BODY))
    assert reply.status_code == 400
    assert world.traces() == before


def test_namespace_is_signed_when_it_is_another(world, gid):
    headers = call_headers(gid, "rollback", namespace="elsewhere")
    good = "c0ffee00/elsewhere/%s/stock/rollback/1" % gid
    assert world.post("rollback", signed(headers, SECRET, BODY, call_id=good)).status_code == 200
    assert world.post("rollback", signed(headers, SECRET, BODY)).status_code == 401


@pytest.mark.parametrize("text, mode, word", [
    ("short", 0o600, "16"), (SECRET, 0o644, "chmod 600"), ("whsec_!!!!", 0o600, "16"),
    ("\n".join(["x" * 20] * 3), 0o600, "at most 2"), ("\n", 0o600, "no secret")])
def test_service_with_a_wrong_secret_file(guard, world, text, mode, word):
    path = write_secret(guard.path("secret"), text, mode)
    done = guard.run([world.stock.process.argv[0], "--listen", "127.0.0.1:0", "--database",
                      world.stock.db.conninfo, "--secret-file", path])
    assert word in complaint(done) and text.strip() not in done.stderr.replace("\n", "") or not \
        text.strip()


def test_orders_with_tokens_and_secrets(guard):
    """The whole shop, with everything closed."""
    tokens = Tokens(guard.path("tokens"))
    secret = write_secret(guard.path("secret"), SECRET)
    token = write_secret(guard.path("token"), tokens.token["submit"] + "\n")
    assentd = Assentd(guard, args=["--token-file", tokens.path, "--signing-secret-file",
                                   secret]).start()
    shop = Shop(assentd)
    for service in (shop.stock, shop.account):
        service.args = ["--secret-file", secret]
        service.start()
    shop.order.args = ["--coordinator", assentd.url, "--stock", shop.stock.url, "--account",
                       shop.account.url, "--secret-file", secret, "--token-file", token]
    shop.order.start()
    assert shop.place("1", n=2, amount=30)[0] == 201
    assert (shop.goods(), shop.balance()) == (98, 970)
    # Without its token the order service is turned away, and nothing has happened.
    shop.order.process.terminate()
    shop.order.process.wait()
    shop.order.args = shop.order.args[:-2]
    shop.order.start()
    status, body = shop.place("2", n=2, amount=30)
    assert status == 503 and "401" in body["reason"]
    assert (shop.goods(), shop.balance()) == (98, 970)
