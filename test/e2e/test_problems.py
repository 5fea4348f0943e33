"""The reference of problems, and the contract, as the daemon serves them."""

import base64
import hashlib
import json
import os
import re
from html.parser import HTMLParser

import pytest

from harness.contract import CODES, CONTRACT, ROOT
from harness.system import binary

JSON = {"Accept": "application/json"}


class Page(HTMLParser):
    """What of a page could go wrong: tags left open, and everything that is not text."""

    VOID = {"meta", "br", "hr", "link", "img", "input"}

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.links, self.text, self.style = [], set(), set(), "", ""
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        assert not [name for name, _ in attrs if name.startswith("on") or name == "style"]
        self.links |= {value for name, value in attrs if name == "href"}
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "style":
            self.style += data
        else:
            self.text += data


def page_of(reply):
    assert reply.status == 200 and reply.headers["Content-Type"] == "text/html; charset=utf-8"
    page = Page(reply.body.decode("utf-8"))
    assert "script" not in page.tags and "img" not in page.tags
    hashed = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
    assert "style-src 'sha256-%s'" % hashed in reply.headers["Content-Security-Policy"]
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    return page


def test_list_as_page(api):
    page = page_of(api.get("/problems"))
    assert page.links == {"/problems/" + code for code in CODES}


def test_list_as_json(api):
    rows = api.get("/problems", headers=JSON)["problems"]
    assert [r["code"] for r in rows] == CONTRACT.schema("ProblemCode")["enum"]
    assert {r["code"]: r["status"] for r in rows} == CODES
    table = CONTRACT.schema("ProblemCode")["description"]
    for row in rows:
        assert "| %s | %d | %s | %s |" % (
            row["code"], row["status"], "yes" if row["retryable"] else "no",
            row["title"]) in table
        assert row["type"] == "/problems/" + row["code"]
        assert row["meaning"].endswith(".") and row["remedy"].endswith(".")


@pytest.mark.parametrize("code", CODES)
def test_each(api, code):
    """The address that the member `type` of a problem gives."""
    row = api.get("/problems/" + code, headers=JSON).json
    page = page_of(api.get("/problems/" + code))
    for text in (row["code"], row["title"], row["meaning"], row["remedy"], str(row["status"])):
        assert text in page.text, text
    assert row in api.get("/problems", headers=JSON)["problems"]


def test_examples_are_the_tables(api):
    """One example for each code, and it says what the table says."""
    rows = {r["code"]: r for r in api.get("/problems", headers=JSON)["problems"]}
    seen = []
    for name in ("Problem", "Unavailable"):
        response = CONTRACT.doc["components"]["responses"][name]
        for code, example in response["content"]["application/problem+json"]["examples"].items():
            value = example["value"]
            assert value["code"] == code
            assert {k: value[k] for k in ("type", "title", "status", "retryable")} == {
                k: rows[code][k] for k in ("type", "title", "status", "retryable")}
            assert (name == "Unavailable") == (value["status"] == 503)
            seen.append(code)
    assert sorted(seen) == sorted(rows)


@pytest.mark.parametrize("code, near", [
    ("unknown_membr", "unknown_member"), ("gid-conflict", "gid_conflict"), ("NOT_READY", None),
    ("x" * 500, None), ("none", None), ("%3Cb%3E", None), ("a%00b", None)])
def test_unknown(api, code, near):
    reply = api.get("/problems/" + code, valid=False)
    assert (reply.status, reply["code"]) == (404, "not_found")
    assert ("did you mean" in reply["detail"]) == bool(near)
    assert (near or "") in reply["detail"]


@pytest.mark.parametrize("accept, media", [
    (None, "text/html"), ("*/*", "text/html"), ("", "text/html"), ("text/html", "text/html"),
    ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html"),
    ("application/json", "application/json"), ("APPLICATION/JSON", "application/json"),
    ("text/html;q=0.5, application/json", "application/json"),
    ("application/json;q=0.5, text/html", "text/html"),
    ("application/json; q=0.9 , text/html;q=0.8", "application/json"),
    ("application/jsonx", "text/html"), ("application/json;q=nan,text/html;q=1e99", "text/html"),
    (",;q=,;;,", "text/html"), ("application/json, */*", "application/json")])
def test_negotiation(api, accept, media):
    reply = api.get("/problems", headers={"Accept": accept})
    assert reply.headers["Content-Type"].split(";")[0] == media


def test_contract_is_served(api):
    reply = api.get("/openapi.json")
    assert json.loads(reply.body) == CONTRACT.doc
    with open(os.path.join(ROOT, "api", "openapi.json"), "rb") as f:
        assert reply.body == f.read()
    assert not re.search(rb"[^\x00-\x7f]", reply.body)


def test_near_query(api):
    reply = api.get("/v1/transactions/x/history", query={"limt": 3}, valid=False)
    assert (reply.status, reply["code"]) == (400, "unknown_query")
    assert 'did you mean "limit"?' in reply["detail"]


@pytest.mark.parametrize("key, near", [
    ("lisetn", "listen"), ("databse", "database"), ("participant_alow", "participant_allow"),
    ("xyzzy", None)])
def test_near_configuration_key(guard, key, near):
    """On the command line and in a file alike; the file with its line."""
    path = guard.path("assentd.conf")
    with open(path, "w", encoding="ascii") as f:
        f.write("# a comment\n%s = x\n" % key)
    for argv, where in ((["--" + key.replace("_", "-"), "x"], "command line"),
                        (["--config", path], path + " line 2")):
        done = guard.run([binary("assentd")] + argv)
        assert done.returncode > 0
        assert where in done.stderr and '"%s"' % key in done.stderr.replace("-alow", "_alow")
        assert ('did you mean "%s"?' % near in done.stderr) == bool(near), done.stderr
        assert near or "assentd --help" in done.stderr
