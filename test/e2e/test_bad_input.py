"""Everything a client can get wrong: its own code and status, nothing stored, nobody called."""

import copy
import http.client
import json
import socket

import pytest

from harness.client import Client

GOOD = {"mode": "2pc", "timeout_ms": 5000,
        "branches": [{"id": "a", "participant": "@/a"}, {"id": "b", "participant": "@/b"}]}
DELETE = object()


def change(path, value):
    """A copy of GOOD with one member replaced, added or deleted."""
    body = copy.deepcopy(GOOD)
    node = body
    for step in path[:-1]:
        node = node.setdefault(step, {}) if isinstance(node, dict) else node[step]
    if value is DELETE:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return body


def branch(**members):
    return change(("branches", 0), dict({"id": "a", "participant": "@/a"}, **members))


def branches(n):
    return change(("branches",), [{"id": "b%d" % i, "participant": "@/x"} for i in range(n)])


def address(url):
    return branch(participant=url)


# name: (body, code, pointer or None, a word of the detail or None)
BODIES = {
    "no body": ("", "malformed_json", None, None),
    "not json": ("mode=2pc", "malformed_json", None, None),
    "cut off": (json.dumps(GOOD)[:-1], "malformed_json", None, None),
    "two values": ("{} {}", "malformed_json", None, None),
    "comma at the end": ('{"mode":"2pc",}', "malformed_json", None, None),
    "single quotes": ("{'mode':'2pc'}", "malformed_json", None, None),
    "bare word in a payload": (
        '{"mode":"2pc","branches":[{"id":"a","participant":"@/a","payload":nul}]}',
        "malformed_json", None, None),
    "leading zero in a payload": (
        '{"mode":"2pc","branches":[{"id":"a","participant":"@/a","payload":01}]}',
        "malformed_json", None, None),
    "not utf-8": (b'{"mode":"2pc\xff"}', "malformed_json", None, None),
    "not utf-8 in a payload": (
        b'{"mode":"2pc","branches":[{"id":"a","participant":"@/a","payload":"\xc0\x80"}]}',
        "malformed_json", None, None),
    "byte order mark": (b"\xef\xbb\xbf{}", "malformed_json", None, None),
    "too deep": ('{"mode":"2pc","branches":%s}' % ("[" * 5000 + "]" * 5000),
                 "malformed_json", None, None),
    "member twice": ('{"mode":"2pc","mode":"2pc","branches":[{"id":"a","participant":"@/a"}]}',
                     "malformed_json", None, None),
    "array": ("[]", "wrong_type", None, None),
    "null": ("null", "wrong_type", None, None),
    "string": ('"2pc"', "wrong_type", None, None),
    "empty object": ("{}", "missing_member", None, None),
    "no mode": (change(("mode",), DELETE), "missing_member", "/mode", "2pc"),
    "no branches": (change(("branches",), DELETE), "missing_member", "/branches", None),
    "branch without id": (change(("branches", 1, "id"), DELETE), "missing_member",
                          "/branches/1/id", None),
    "branch without participant": (change(("branches", 1, "participant"), DELETE),
                                   "missing_member", "/branches/1/participant", None),
    "unknown member": (change(("timeout_msec",), 5), "unknown_member", "/timeout_msec",
                       "timeout_ms"),
    "unknown member far from all": (change(("xyzzyplugh",), 5), "unknown_member", "/xyzzyplugh",
                                    None),
    "wrong case": (change(("Mode",), "2pc"), "unknown_member", "/Mode", "mode"),
    "unknown member of a branch": (branch(partcipant="x"), "unknown_member",
                                   "/branches/0/partcipant", "participant"),
    "unknown member of retry": (change(("retry", "initial"), 5), "unknown_member",
                                "/retry/initial", None),
    "near member of retry": (change(("retry", "intial_ms"), 50), "unknown_member",
                             "/retry/intial_ms", "initial_ms"),
    "unknown operation": (branch(ops={"comit": "@/x"}), "unknown_member",
                          "/branches/0/ops/comit", "commit"),
    "pointer is escaped": (change(("a/b~c",), 5), "unknown_member", "/a~1b~0c", None),
    "mode is a number": (change(("mode",), 2), "wrong_type", "/mode", None),
    "mode is null": (change(("mode",), None), "wrong_type", "/mode", None),
    "unknown mode": (change(("mode",), "4pc"), "mode_not_supported", "/mode", "2pc"),
    "mode in capitals": (change(("mode",), "2PC"), "mode_not_supported", "/mode", None),
    "empty mode": (change(("mode",), ""), "mode_not_supported", "/mode", None),
    "branches is an object": (change(("branches",), {}), "wrong_type", "/branches", None),
    "branch is a string": (change(("branches", 1), "b"), "wrong_type", "/branches/1", None),
    "id is a number": (branch(id=1), "wrong_type", "/branches/0/id", None),
    "participant is null": (branch(participant=None), "wrong_type", "/branches/0/participant",
                            None),
    "timeout is a string": (change(("timeout_ms",), "5000"), "wrong_type", "/timeout_ms", None),
    "timeout is a real": (change(("timeout_ms",), 10.5), "wrong_type", "/timeout_ms", None),
    "timeout is true": (change(("timeout_ms",), True), "wrong_type", "/timeout_ms", None),
    "timeout is null": (change(("timeout_ms",), None), "wrong_type", "/timeout_ms", None),
    "labels is an array": (change(("labels",), []), "wrong_type", "/labels", None),
    "label is a number": (change(("labels", "a"), 1), "wrong_type", "/labels/a", None),
    "retry is a number": (change(("retry",), 3), "wrong_type", "/retry", None),
    "retry member is a string": (change(("retry", "factor"), "2"), "wrong_type", "/retry/factor",
                                 None),
    "headers is an array": (branch(headers=[]), "wrong_type", "/branches/0/headers", None),
    "header is a number": (branch(headers={"X": 1}), "wrong_type", "/branches/0/headers/X", None),
    "ops is a string": (branch(ops="x"), "wrong_type", "/branches/0/ops", None),
    "operation is a number": (branch(ops={"commit": 1}), "wrong_type", "/branches/0/ops/commit",
                              None),
    "gid is a number": (change(("gid",), 42), "wrong_type", "/gid", None),
    "empty gid": (change(("gid",), ""), "invalid_identifier", "/gid", None),
    "gid with a slash": (change(("gid",), "a/b"), "invalid_identifier", "/gid", None),
    "gid with a blank": (change(("gid",), "a b"), "invalid_identifier", "/gid", None),
    "gid beyond ascii": (change(("gid",), "\u00e4"), "invalid_identifier", "/gid", None),
    "gid of 129": (change(("gid",), "g" * 129), "invalid_identifier", "/gid", None),
    "empty branch id": (branch(id=""), "invalid_identifier", "/branches/0/id", None),
    "branch id with a colon": (branch(id="a:b"), "invalid_identifier", "/branches/0/id", None),
    "branch id of 33": (branch(id="b" * 33), "invalid_identifier", "/branches/0/id", None),
    "label key in capitals": (change(("labels", "A"), "x"), "out_of_range", "/labels/A", "A"),
    "empty label key": (change(("labels", ""), "x"), "out_of_range", "/labels/", None),
    "label key of 64": (change(("labels", "k" * 64), "x"), "out_of_range",
                        "/labels/" + "k" * 64, "k" * 63),
    "no branch": (branches(0), "branch_count", "/branches", None),
    "65 branches": (branches(65), "branch_count", "/branches", "64"),
    "branch id twice": (change(("branches", 1, "id"), "a"), "duplicate_branch", "/branches/1/id",
                        None),
    "17 labels": (change(("labels",), {"k%d" % i: "v" for i in range(17)}), "out_of_range",
                  "/labels", "16"),
    "label of 256 bytes": (change(("labels", "a"), "x" * 256), "out_of_range", "/labels/a",
                           "255"),
    "label of 256 bytes in 128 characters": (
        change(("labels", "a"), "\u00e4" * 128), "out_of_range", "/labels/a", "255"),
    "17 headers": (branch(headers={"X-%d" % i: "v" for i in range(17)}), None,
                   "/branches/0/headers", "16"),
    "header without a name": (branch(headers={"": "x"}), "invalid_header", None, None),
    "header name with a blank": (branch(headers={"X A": "x"}), "invalid_header", None, None),
    "header name with a colon": (branch(headers={"X:": "x"}), "invalid_header", None, None),
    "header with a line end": (branch(headers={"X": "a\r\nAssent-Op: commit"}), "invalid_header",
                               "/branches/0/headers/X", "X"),
    "header with a bare line feed": (branch(headers={"X": "a\nb"}), "invalid_header", None, None),
}
for _name in ("Assent-Gid", "assent-op", "Assent-Anything", "Host", "content-length",
              "Content-Type", "Connection", "Transfer-Encoding", "Idempotency-Key", "Expect", "TE",
              "Upgrade"):
    BODIES["header " + _name] = (
        branch(headers={_name: "1"}), "invalid_header", "/branches/0/headers/" + _name, None)
for _path, _low, _high in ((("timeout_ms",), 1, 3600000), (("retry", "initial_ms"), 10, 60000),
                           (("retry", "factor"), 1, 10), (("retry", "cap_ms"), 100, 3600000),
                           (("retry", "alert_after"), 1, 1000),
                           (("branches", 0, "timeout_ms"), 1, 60000)):
    for _value in (_low - 1, -1, _high + 1, 2 ** 32 + _low, 2 ** 62):
        BODIES["%s is %d" % (".".join(map(str, _path)), _value)] = (
            change(_path, _value), "out_of_range", "/" + "/".join(map(str, _path)), str(_high))
MALFORMED = (
    "http://127.0.0.1@evil.example/", "http://127.0.0.1:80@evil.example/",
    "http://evil.example#@127.0.0.1/", "http://evil.example?@127.0.0.1/",
    "http://evil.example\\@127.0.0.1/", "http://evil.example:80\\@127.0.0.1:80/",
    "ftp://127.0.0.1/", "file:///etc/passwd", "gopher://127.0.0.1/", "javascript:alert(1)",
    "unix:/tmp/s", "//127.0.0.1/x", "127.0.0.1/x", "", " ", "http:", "http://", "http:///stock",
    "http://:80/", "http://user@127.0.0.1/", "http://user:secret@127.0.0.1/", "http://@127.0.0.1/",
    "http://127.0.0.1:0/", "http://127.0.0.1:65536/", "http://127.0.0.1:x/",
    "http://127.0.0.1:-1/", "http://127.0.0.1:/", "http://127.0.0.1:8 0/", "http://127.0.0.1 /",
    "http://127.0.0.1/a b", "http://127.0.0.1/a\nb", "http://127.0.0.1/\u00e4",
    "http://127.0.0.1/a#fragment", "http://127.0.0.1/?a=b", "http://[::1", "http://[127.0.0.1]/",
    "http://[::1%lo]/", "http://{a,b}.example/", "http://127.0.0.1/{a,b}", "http://127.0.0.1%2f/",
    "http://[::ffff:10.0.0.1]/", "http://[::ffff:127.0.0.1]/", "http://0x7f000001/",
    "http://2130706433/", "http://127.1/", "http://0177.0.0.1/", "http://127.0.0.1/" + "x" * 1024)
FOREIGN = (
    "http://localhost.evil.example", "http://127.0.0.1.evil.example/", "http://example.com/",
    "http://evil.example/127.0.0.1", "http://10.0.0.1/", "http://169.254.169.254/latest",
    "http://0.0.0.0/", "http://[::]/", "http://192.168.1.1/", "http://loopback/",
    "https://127.0.0.1/")
for _value in MALFORMED:
    BODIES["address " + _value[:40].replace("\n", "?")] = (
        address(_value), "invalid_identifier", "/branches/0/participant", None)
for _value in FOREIGN:
    BODIES["address " + _value] = (
        address(_value), "participant_not_allowed", "/branches/0/participant", "participant_allow")
for _op in ("prepare", "commit", "rollback"):
    BODIES["address of " + _op] = (
        branch(ops={_op: "http://evil.example/"}), "participant_not_allowed",
        "/branches/0/ops/" + _op, None)


@pytest.fixture(scope="module")
def listener():
    """An address that must not be called: connections would queue here."""
    server = socket.create_server(("127.0.0.1", 0))
    server.setblocking(False)
    yield server
    server.close()


def stored(shared):
    return shared.db.value("SELECT count(*) FROM assent.txn")


def nothing_happened(shared, listener, before):
    assert stored(shared) == before
    with pytest.raises(BlockingIOError):
        listener.accept()


@pytest.mark.parametrize("name", BODIES)
def test_body(api, shared, listener, name):
    body, code, pointer, word = BODIES[name]
    if not isinstance(body, (bytes, str)):
        body = json.dumps(body)
    if isinstance(body, str):
        body = body.encode("utf-8")
    body = body.replace(b'"@/', b'"http://127.0.0.1:%d/' % listener.getsockname()[1])
    before = stored(shared)
    reply = api.request("POST", "/v1/transactions", body, valid=False)
    assert reply.status in (400, 422), reply
    if code:
        assert reply["code"] == code, reply
    else:
        assert reply["code"] in ("out_of_range", "invalid_header"), reply
    assert reply["retryable"] is False
    if pointer is not None:
        assert [e["pointer"] for e in reply["errors"]] == [pointer], reply
    if word:
        assert word in reply["detail"], reply
    nothing_happened(shared, listener, before)


def test_the_good_body_is_good(api, part):
    """Otherwise the tests above show nothing."""
    for path, value in (((), None), (("timeout_ms",), 3600000), (("timeout_ms",), 1000),
                        (("retry", "initial_ms"), 10), (("retry", "cap_ms"), 3600000),
                        (("retry", "factor"), 1), (("retry", "alert_after"), 1000),
                        (("branches", 0, "timeout_ms"), 60000), (("labels", "k" * 63), "x" * 255)):
        text = json.dumps(change(path, value) if path else GOOD)
        text = text.replace('"@/', '"http://127.0.0.1:%d/' % part.port)
        assert api.submit(text, wait=10)["outcome"] == "committed"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "127.1.2.3"])
def test_loopback_is_allowed(api, part, host):
    body = {"mode": "2pc", "timeout_ms": 300, "branches": [
        {"id": "a", "participant": "http://%s:%d/a" % (host, part.port)},
        {"id": "b", "participant": "HTTP://%s:%d" % (host, part.port)}]}
    assert api.submit(body).status in (200, 202)


def test_body_of_one_mebibyte(api, shared, listener, part, gid):
    text = json.dumps({"mode": "2pc", "branches": [part.branch("a", payload="@"),
                                                   part.branch("b")]})
    exact = text.replace("@", "x" * (2 ** 20 - len(text) + 1)).encode()
    assert len(exact) == 2 ** 20
    assert api.put(gid, exact, wait=10)["outcome"] == "committed"
    before = stored(shared)
    for size in (2 ** 20 + 1, 8 * 2 ** 20):
        reply = api.request("POST", "/v1/transactions", b" " * size, valid=False)
        assert (reply.status, reply["code"]) == (413, "body_too_large")
    nothing_happened(shared, listener, before)


def test_body_too_large_in_chunks(api):
    connection = http.client.HTTPConnection(api.base.split("//")[1], timeout=20)
    connection.request("POST", "/v1/transactions", iter([b" " * 65536] * 40),
                       {"Content-Type": "application/json"}, encode_chunked=True)
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())["code"]) == (413, "body_too_large")
    connection.close()


def test_good_body_in_chunks(api, part, gid):
    text = json.dumps({"gid": gid, "mode": "2pc",
                       "branches": [part.branch("a"), part.branch("b")]}).encode()
    connection = http.client.HTTPConnection(api.base.split("//")[1], timeout=20)
    connection.request("POST", "/v1/transactions", iter([text[:7], text[7:]]),
                       {"Content-Type": "application/json", "Prefer": "wait=10"},
                       encode_chunked=True)
    assert connection.getresponse().status == 200
    connection.close()


@pytest.mark.parametrize("media", [None, "text/plain", "application/xml", "application/jsonx",
                                   "application/x-www-form-urlencoded", "", "json"])
def test_content_type(api, shared, listener, media):
    before = stored(shared)
    body = json.dumps(GOOD).replace("@", "http://127.0.0.1:%d" % listener.getsockname()[1])
    connection = http.client.HTTPConnection(api.base.split("//")[1], timeout=20)
    connection.request("POST", "/v1/transactions", body,
                       {} if media is None else {"Content-Type": media})
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())["code"]) == (
        415, "unsupported_media_type")
    connection.close()
    nothing_happened(shared, listener, before)


@pytest.mark.parametrize("media", ["application/json; charset=utf-8", "Application/JSON",
                                   "application/json;charset=UTF-8"])
def test_content_type_with_a_charset(api, part, media):
    body = json.dumps({"mode": "2pc", "branches": [part.branch("a"), part.branch("b")]})
    assert api.submit(body, 10, headers={"Content-Type": media})["outcome"] == "committed"


def test_gid_of_path_and_body(api, shared, part, gid):
    before = stored(shared)
    body = {"gid": gid + "x", "mode": "2pc", "branches": [part.branch("a"), part.branch("b")]}
    reply = api.put(gid, body)
    assert (reply.status, reply["code"]) == (422, "gid_mismatch")
    assert stored(shared) == before and not part.calls()
    assert api.put(gid, dict(body, gid=gid), wait=10)["outcome"] == "committed"


@pytest.mark.parametrize("path", ["a%20b", "a%2Fb", "g" * 129, "%C3%A4", "a%00b", "a@b", "%zz"])
@pytest.mark.parametrize("method, tail", [("PUT", ""), ("GET", ""), ("GET", "/history"),
                                          ("GET", "/decision")])
def test_bad_gid_in_the_path(api, shared, path, method, tail):
    before = stored(shared)
    body = json.dumps(GOOD).replace("@", "http://127.0.0.1:1") if method == "PUT" else None
    connection = http.client.HTTPConnection(api.base.split("//")[1], timeout=20)
    connection.request(method, "/v1/transactions/" + path + tail, body,
                       {"Content-Type": "application/json"} if body else {})
    response = connection.getresponse()
    problem = json.loads(response.read())
    assert (response.status, problem["code"]) in (
        (422, "invalid_identifier"), (404, "not_found"), (404, "unknown_transaction"),
        (400, "invalid_identifier")), problem
    connection.close()
    assert stored(shared) == before


@pytest.mark.parametrize("tail", ["", "/history"])
def test_unknown_gid(api, tail):
    reply = api.get("/v1/transactions/no-such-gid" + tail)
    assert (reply.status, reply["code"]) == (404, "unknown_transaction")
    assert "no-such-gid" in reply["detail"] or "no-such-gid" in reply["instance"]


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/", "/v1/transaction", "/v1/transactions/",
                                  "/v1/transactions/g/histories", "/v1/transactions/g/history/x",
                                  "/v2/transactions", "/livez/", "/metrics/x", "//livez",
                                  "/V1/transactions", "/../etc/passwd", "/%2e%2e/"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_unknown_path(api, path, method):
    connection = http.client.HTTPConnection(api.base.split("//")[1], timeout=20)
    connection.request(method, path)
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())["code"]) == (404, "not_found")
    assert response.headers["Content-Type"].startswith("application/problem+json")
    connection.close()


@pytest.mark.parametrize("method, path", [
    ("PATCH", "/v1/transactions"), ("DELETE", "/v1/transactions"), ("PUT", "/v1/transactions"),
    ("POST", "/v1/transactions/g"), ("DELETE", "/v1/transactions/g"),
    ("PATCH", "/v1/transactions/g"), ("POST", "/v1/transactions/g/history"),
    ("PUT", "/v1/transactions/g/decision"), ("POST", "/livez"), ("DELETE", "/readyz"),
    ("POST", "/metrics"), ("BREW", "/livez")])
def test_wrong_method(api, method, path):
    reply = api.request(method, path, valid=False)  # the client checks Allow
    assert (reply.status, reply["code"]) == (405, "method_not_allowed")


@pytest.mark.parametrize("method, path, name", [
    ("GET", "/v1/transactions/g", "verbose"), ("GET", "/v1/transactions/g/history", "Limit"),
    ("GET", "/v1/transactions/g/decision", "x"), ("GET", "/livez", "x"), ("GET", "/metrics", "x"),
    ("PUT", "/v1/transactions/g", "wait"), ("POST", "/v1/transactions", "gid")])
def test_unknown_query(api, shared, method, path, name):
    before = stored(shared)
    body = json.dumps(GOOD).replace("@", "http://127.0.0.1:1") if method != "GET" else None
    reply = api.request(method, path, body, query={name: "1"}, valid=False)
    assert (reply.status, reply["code"]) == (400, "unknown_query")
    assert name in reply["detail"]
    assert stored(shared) == before


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "x", "", "1.5", "99999999999999999999", "1 "])
def test_bad_limit(api, part, gid, limit):
    api.put(gid, {"mode": "2pc", "branches": [part.branch("a"), part.branch("b")]}, wait=10)
    reply = api.request("GET", "/v1/transactions/%s/history" % gid, query={"limit": limit},
                        valid=False)
    assert (reply.status, reply["code"]) == (400, "invalid_query")


def test_first_error_wins_once(api, shared):
    """Whatever is wrong, the reply is one problem, and the next request is served as ever."""
    reply = api.request("POST", "/v1/transactions", {"mode": 1, "branches": 2, "x": 3},
                        valid=False)
    assert reply.status == 422 and len(reply["errors"]) >= 1
    assert Client(shared.url).get("/livez").status == 200


@pytest.mark.parametrize("raw", [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"GET\r\n\r\n",
    b"GET /livez HTTP/9.9\r\n\r\n",
    b"POST /v1/transactions HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    b"POST /v1/transactions HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"GET /" + b"x" * 200000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 200000 + b"\r\n\r\n",
    b"POST /v1/transactions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"],
    ids=["tls", "no path", "version", "negative length", "huge length", "long path", "long header",
         "leaves early"])
def test_not_quite_http(api, shared, raw):
    host, port = shared.listen.split(":")
    before = stored(shared)
    with socket.create_connection((host, int(port)), timeout=20) as client:
        try:
            client.sendall(raw)
            answer = b"" if raw.endswith(b"{") else client.recv(12)
        except OSError:
            answer = b""
    assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5", b"HTTP/1.0 4"))
    assert api.get("/livez").status == 200
    assert stored(shared) == before
