"""Tokens: who gets in, who may do what, and what is said when somebody may not."""

import os
import signal

import pytest

from harness.client import Client
from harness.contract import CONTRACT, ROOT
from harness.guard import Guard
from harness.system import Assentd, Service, binary
from harness.tokens import ROLES, Tokens, token_line, write_secret
from harness.wait import wait_until
from test_start import complaint, run

METHODS = ("get", "put", "post", "delete", "patch")
# One value for each name in a path; none of them names anything that is there.
IN_PATH = {"gid": "nothing-here", "code": "not_found", "id": "1", "x": "x", "q": "q", "t": "t", "g": "g"}
WRONG = "0123456789abcdef0123456789abcdef01234567"
# Where the whole answer of those who may is known: method and path, status, problem code.
ANSWERS = {
    ("post", "/v1/transactions"): (422, "missing_member"),
    ("put", "/v1/transactions/{gid}"): (422, "missing_member"),
    ("get", "/v1/transactions/{gid}"): (404, "unknown_transaction"),
    ("get", "/v1/transactions/{gid}/history"): (404, "unknown_transaction"),
    ("get", "/v1/transactions/{gid}/decision"): (200, None),
    ("get", "/metrics"): (200, None),
}


def operations():
    for path, item in CONTRACT.doc["paths"].items():
        for method in METHODS:
            if method in item:
                yield method, path, item[method]


ROUTES = [(m, p) for m, p, _ in operations()]


@pytest.fixture(scope="module")
def world():
    with Guard() as guard:
        tokens = Tokens(guard.path("tokens"))
        tokens.add("two", "viewer,participant")
        tokens.add("elsewhere", "admin", "other")
        tokens.add("here", "submit", "default")
        assentd = Assentd(guard, args=["--token-file", tokens.path]).start()
        yield assentd, tokens
        assert assentd.stop() == 0
        # Whatever went wrong above: no token and no hash stands in a log.
        for name in os.listdir(guard.logs):
            with open(os.path.join(guard.logs, name), encoding="utf-8") as f:
                text = f.read()
            for token in list(tokens.token.values()) + [WRONG]:
                assert token not in text, name
                assert token_line(token, "x", "x").split()[-1] not in text, name


def ask(world, method, path, authorization=None, body="{}"):
    for name, value in IN_PATH.items():
        path = path.replace("{%s}" % name, value)
    assert "{" not in path, "%s: a name that IN_PATH does not know" % path
    headers = {"Authorization": authorization} if authorization is not None else {}
    client = Client(world[0].url)
    return client.request(method.upper(), path, body if method != "get" else None, headers,
                          valid=False)


def refused(reply, status, code):
    assert (reply.status, reply["code"]) == (status, code), reply
    assert ("WWW-Authenticate" in reply.headers) == (status == 401)
    assert reply["retryable"] is False
    return reply["detail"]


def test_every_route_says_who_may():
    """x-roles stands at each operation, and says open where no token is asked for."""
    assert len(ROUTES) >= 8
    for method, path, operation in operations():
        roles = operation["x-roles"]
        assert set(roles) <= set(ROLES) and len(set(roles)) == len(roles), path
        assert (roles == []) == (operation.get("security") == []), path
        assert not roles or "admin" in roles, path
    opened = {p for _, p, o in operations() if not o["x-roles"]}
    assert opened == {"/livez", "/readyz"}
    assert set(ANSWERS) <= set(ROUTES)


@pytest.mark.parametrize("method, path", ROUTES)
@pytest.mark.parametrize("role", ROLES)
def test_route_and_role(world, method, path, role):
    roles = CONTRACT.doc["paths"][path][method]["x-roles"]
    reply = ask(world, method, path, "Bearer " + world[1].token[role])
    if not roles or role in roles:
        assert reply.status not in (401, 403), reply
        if (method, path) in ANSWERS:
            code = reply["code"] if reply.status >= 400 else None
            assert (reply.status, code) == ANSWERS[method, path]
    else:
        detail = refused(reply, 403, "forbidden")
        assert role in detail and all(r in detail for r in roles), detail


@pytest.mark.parametrize("method, path", ROUTES)
@pytest.mark.parametrize("authorization", [
    None, "Bearer " + WRONG, "Bearer", "Bearer ", "", WRONG, "Basic " + WRONG, "Bearer x",
    "Bearer " + "x" * 5000, "Bearer: " + WRONG])
def test_route_without_a_good_token(world, method, path, authorization):
    roles = CONTRACT.doc["paths"][path][method]["x-roles"]
    reply = ask(world, method, path, authorization)
    if not roles:
        assert reply.status not in (401, 403), reply
        return
    detail = refused(reply, 401, "unauthorized")
    assert "Bearer" in detail and WRONG not in detail
    assert reply.headers["WWW-Authenticate"] == "Bearer"


def test_a_service_without_a_token_hears_of_it_when_it_starts(world):
    """Not with the first branch that is in doubt."""
    assentd, _ = world
    service = Service(assentd.guard, "stock", assentd.database("stock"),
                      args=["--coordinator", assentd.url]).start()
    said = "no coordinator at %s: it answered 401 (token_file)" % assentd.url
    wait_until(lambda: said in service.process.stderr(), 60, "the service to say so")
    service.kill9()


def test_near_misses(world):
    """Nothing but the whole token is one."""
    token = world[1].token["viewer"]
    for near in (token[:-1], token + "0", token.upper(), token + " ", "x" + token,
                 token + " " + token, token + ", Bearer " + token):
        if near.strip() != token:
            refused(ask(world, "get", "/metrics", "Bearer " + near), 401, "unauthorized")
    assert ask(world, "get", "/metrics", "bearer   " + token).status == 200


def test_the_hash_is_no_token(world):
    """Whoever reads the token_file has not got the tokens."""
    digest = token_line(world[1].token["admin"], "x", "x").split()[-1]
    refused(ask(world, "get", "/metrics", "Bearer " + digest), 401, "unauthorized")


def test_several_roles(world):
    token = "Bearer " + world[1].token["two"]
    assert ask(world, "get", "/metrics", token).status == 200
    assert ask(world, "get", "/v1/transactions/{gid}/decision", token).status == 200
    refused(ask(world, "post", "/v1/transactions", token), 403, "forbidden")


def test_namespace(world):
    for method, path, operation in operations():
        if operation["x-roles"]:
            reply = ask(world, method, path, "Bearer " + world[1].token["elsewhere"])
            assert "other" in refused(reply, 403, "forbidden")
    assert ask(world, "post", "/v1/transactions",
               "Bearer " + world[1].token["here"])["code"] == "missing_member"


def test_paths_that_are_not_there(world):
    assert ask(world, "get", "/nowhere")["code"] == "not_found"
    assert ask(world, "delete", "/v1/transactions", body=None)["code"] == "method_not_allowed"


def test_transaction_with_tokens(world, part, gid):
    """The roles at work; and a token is never passed on to a participant."""
    assentd, tokens = world
    submit = Client(assentd.url, tokens.token["submit"])
    body = {"mode": "2pc", "branches": [part.branch("a"), part.branch("b")]}
    assert submit.put(gid, body, wait=10)["outcome"] == "committed"
    assert Client(assentd.url, tokens.token["participant"]).decision(gid)["decision"] == "commit"
    assert Client(assentd.url, tokens.token["viewer"]).txn(gid)["outcome"] == "committed"
    assert Client(assentd.url, tokens.token["operator"]).history(gid)["attempts"]
    assert part.calls(gid=gid)
    for call in part.calls(gid=gid):
        assert "Authorization" not in call.headers


def test_keys_of_two_callers(world, part, gid):
    """An Idempotency-Key is its caller's own."""
    assentd, tokens = world
    body = {"mode": "2pc", "branches": [part.branch("a")]}
    gids = [Client(assentd.url, tokens.token[name]).submit(
        body, 10, headers={"Idempotency-Key": gid})["gid"] for name in ("submit", "here", "submit")]
    assert gids[0] == gids[2] != gids[1]


def test_refused_before_anything_is_done(world, part, gid):
    assentd, tokens = world
    body = {"mode": "2pc", "branches": [part.branch("a")]}
    for token in (None, WRONG, tokens.token["viewer"], tokens.token["operator"]):
        reply = Client(assentd.url, token).put(gid, body, wait=5)
        assert reply.status in (401, 403)
    assert assentd.state(gid) is None and not part.calls(gid=gid)


# ---- the file ----

def test_read_again_at_sighup(guard):
    """A fault in it changes nothing; what was taken out is refused from then on."""
    tokens = Tokens(guard.path("tokens"))
    assentd = Assentd(guard, args=["--token-file", tokens.path]).start()
    old = Client(assentd.url, tokens.token["viewer"])
    write_secret(tokens.path, "nonsense\n")
    assentd.process.terminate(signal.SIGHUP)
    wait_until(lambda: "nothing is changed: token_file" in assentd.process.stderr(), what="a word")
    assert old.get("/metrics").status == 200
    write_secret(tokens.path, token_line(WRONG, "new", "viewer"))
    assentd.process.terminate(signal.SIGHUP)
    new = Client(assentd.url, WRONG)
    wait_until(lambda: new.get("/metrics").status == 200, what="the new token to be known")
    assert old.get("/metrics").status == 401


@pytest.mark.parametrize("text, word", [
    ("", "empty"), ("# nothing\n\n", "no token"), ("a admin\n", "line 1"),
    ("\na admin 12\n", "line 2"), ("a root " + "0" * 64, "role"), ("a admin " + "g" * 64, "hex"),
    ("a admin, " + "0" * 64, "role"), ("a/b admin " + "0" * 64, "name"),
    ("a admin namespace= " + "0" * 64, "name"), ("a admin namespace=x", "line 1"),
    ("a admin %s more" % ("0" * 64), "line 1"),
    ("a admin %s\nb viewer %s" % ("0" * 64, "0" * 64), "line 2"), ("\0", "text")])
def test_wrong_token_file(guard, text, word):
    path = write_secret(guard.path("tokens"), text)
    line = complaint(run(guard, "--dev", "--dev-dir", guard.path("d"), "--token-file", path))
    assert word in line and path in line and "token_file" in line
    assert "0" * 64 not in line


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o602])
def test_token_file_for_everybody(guard, mode):
    path = write_secret(guard.path("tokens"), token_line("x" * 20, "a", "admin"), mode)
    line = complaint(run(guard, "--dev", "--dev-dir", guard.path("d"), "--token-file", path))
    assert "chmod 600 " + path in line


def test_token_file_that_is_not_there(guard):
    for path in (guard.path("gone"), guard.dir):
        line = complaint(run(guard, "--dev", "--dev-dir", guard.path("d"), "--token-file", path))
        assert path in line


def hash_token(guard, text):
    path = write_secret(guard.path("token"), text)
    return guard.run(["/bin/sh", "-c", "exec '%s' hash-token <'%s'" % (binary("assentd"), path)])


def test_hash_token(guard):
    token = "abcdefghijklmnopqrst"
    expected = token_line(token, "x", "x").split()[-1] + "\n"
    for text in (token, token + "\n", token + "\r\n"):
        done = hash_token(guard, text)
        assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


@pytest.mark.parametrize("text", ["", "\n", "x" * 19, "x" * 19 + "\n", "x" * 5000,
                                  "a token with blanks in it", "x" * 20 + "\ny"])
def test_hash_token_refuses(guard, text):
    line = complaint(hash_token(guard, text))
    assert "a token has" in line and (not text.strip() or text not in line)


def test_token_file_is_documented():
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as f:
        text = f.read()
    assert "hash-token" in text and "token_file" in text
