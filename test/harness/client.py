"""An HTTP client of the coordinator whose every exchange is held against the contract."""

import json
from urllib.parse import quote

import requests

from .contract import CONTRACT
from .wait import wait_until

ENDED = ("committed", "aborted", "mixed")


class Reply:
    def __init__(self, response, value):
        self.status = response.status_code
        self.headers = response.headers
        self.body = response.content
        self.json = value

    def __repr__(self):
        return "<%d %s>" % (self.status, self.body[:400])

    def __getitem__(self, name):
        return self.json[name]


class Client:
    def __init__(self, base, token=None, ca=None):
        """`ca`: the file with the certificates to trust, for an https address."""
        self.base = base
        self.session = requests.Session()
        self.session.trust_env = False
        if token:
            self.session.headers["Authorization"] = "Bearer " + token
        if ca:
            self.session.verify = ca

    def request(self, method, path, body=None, headers=None, query=None, valid=True, timeout=30):
        """`body`: bytes or str as it stands, anything else as JSON. `valid=False`: the request
        breaks the contract on purpose (the reply must keep it all the same)."""
        headers = dict(headers or {})
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        if isinstance(body, str):
            body = body.encode("utf-8")
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        if valid:
            CONTRACT.check_request(method, path, query, headers, body)
        response = self.session.request(
            method, self.base + path, data=body, headers=headers, params=query, timeout=timeout,
            allow_redirects=False)
        value = CONTRACT.check_response(
            method, path, response.status_code, response.headers, response.content)
        if "X-Request-Id" in headers and valid:
            assert response.headers["X-Request-Id"] == headers["X-Request-Id"]
        return Reply(response, value)

    def get(self, path, **kw):
        return self.request("GET", path, **kw)

    def submit(self, body, wait=None, method="POST", gid=None, headers=None, **kw):
        headers = dict(headers or {})
        if wait is not None:
            headers["Prefer"] = "wait=%d" % wait
        path = "/v1/transactions"
        if method == "PUT":
            path += "/" + quote(gid or body["gid"], safe="~:")
        return self.request(method, path, body, headers, **kw)

    def put(self, gid, body, wait=None, **kw):
        return self.submit(body, wait, "PUT", gid, **kw)

    def txn(self, gid):
        reply = self.get("/v1/transactions/" + gid)
        assert reply.status == 200, reply
        return reply.json

    def metric(self, name):
        """A sample of /metrics; `name` with its labels, when it has any."""
        for line in self.get("/metrics").body.decode().splitlines():
            if line.startswith(name + " "):
                return float(line.split()[1])
        raise AssertionError("there is no metric " + name)

    def decision(self, gid):
        reply = self.get("/v1/transactions/%s/decision" % gid)
        assert reply.status == 200, reply
        return reply.json

    def history(self, gid, **query):
        reply = self.get("/v1/transactions/%s/history" % gid, query=query)
        assert reply.status == 200, reply
        return reply.json

    def ended(self, gid, deadline_s=15):
        """Wait for the end and return the transaction. While the node takes its shards anew it
        says 503, and is asked again."""
        def look():
            reply = self.get("/v1/transactions/" + gid)
            if reply.status == 503 and reply["code"] == "not_ready":
                return None
            assert reply.status == 200, reply
            return reply.json if reply["state"] in ENDED else None
        return wait_until(look, deadline_s, "transaction %s to end" % gid)
