"""README's tour of the API, word for word: only the ports are others here."""

import json
import os
import re
import subprocess

import pytest

from harness.contract import CONTRACT, ROOT
from harness.system import Shop

TITLE = "## A tour of the API"


def commands():
    """[(comment, command)] of the tour's block; blank lines part them."""
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as f:
        section = f.read().split(TITLE)[1].split("\n## ")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```$", section, re.M | re.S)
    steps = []
    for text in "\n\n".join(blocks).split("\n\n"):
        lines = text.strip().split("\n")
        comment = " ".join(x.lstrip("# ") for x in lines if x.startswith("#"))
        command = "\n".join(x for x in lines if not x.startswith("#"))
        if command:
            steps.append((comment, command))
    return steps


@pytest.fixture(scope="module")
def ports(shared):
    """What stands for the ports of README."""
    shop = Shop(shared).start(shared.url)
    return {"7470": shared.url, "7480": shop.order.url, "7481": shop.stock.url,
            "7482": shop.account.url}


def run(command, ports):
    for port, url in ports.items():
        command = command.replace("http://127.0.0.1:" + port, url)
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, timeout=40,
                          check=False, env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"})
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


def keeps(schema, value):
    CONTRACT.check_value(CONTRACT.schema(schema), value, schema)
    return value


def check(path, text):
    """An answer that README's reader would take for the one that was promised."""
    if path == "/metrics":
        assert "assent_" in text
        return
    if not text.lstrip().startswith(("{", "[")):
        assert text.startswith("<!DOCTYPE html>") and path.startswith("/problems"), text
        return
    value = json.loads(text)
    assert not ("code" in value and "request_id" in value), value
    if path == "/orders":
        assert value["outcome"] == "committed", value
    elif path.endswith("/history"):
        assert keeps("History", value)["attempts"]
    elif path.endswith("/decision"):
        assert keeps("Decision", value)["decision"] == "commit"
    elif re.fullmatch(r"/v1/transactions(/[^/]+)?", path) and "gid" in value:
        begun = value["interactive"] and value["state"] == "active"
        assert keeps("Transaction", value)["outcome"] == ("pending" if begun else "committed")


def test_the_tour(ports):
    steps = commands()
    assert len(steps) >= 5 and all(comment for comment, _ in steps)
    seen = []
    for _, command in steps:
        path = re.search(r"http://127\.0\.0\.1:\d+(/[^\s'\"?]*)", command)[1]
        text = run(command, ports)
        check(path, text)
        seen.append((command, text))
    # The same once more, as somebody would: what changes something is idempotent.
    for command, text in seen:
        if "/orders" in command or "-X PUT" in command or "Idempotency-Key" in command:
            again = json.loads(run(command, ports))["outcome"]
            assert again == json.loads(text)["outcome"] or '"interactive": true' in command


def test_every_port_of_the_tour_is_the_demonstrations():
    used = set(re.findall(r"127\.0\.0\.1:(\d+)", "\n".join(c for _, c in commands())))
    assert used == {"7470", "7480", "7481", "7482"}
