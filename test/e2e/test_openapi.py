"""api/openapi.yaml is a well-formed OpenAPI 3.1 document that contradicts itself nowhere."""

import os
import re

import jsonschema
import pytest

from harness.contract import CODES, CONTRACT, ROOT, Violation

DOC = CONTRACT.doc
METHODS = ("get", "put", "post", "delete", "patch", "head", "options", "trace")


def nodes(value, where=""):
    yield where, value
    if isinstance(value, dict):
        for name, member in value.items():
            yield from nodes(member, "%s/%s" % (where, name))
    elif isinstance(value, list):
        for i, member in enumerate(value):
            yield from nodes(member, "%s/%d" % (where, i))


def operations():
    for path, item in DOC["paths"].items():
        for method in METHODS:
            if method in item:
                yield path, method, item, item[method]


def test_top_level():
    assert DOC["openapi"] == "3.1.0"
    assert set(DOC) <= {
        "openapi", "info", "servers", "security", "tags", "paths", "components"}
    assert set(DOC["components"]) <= {
        "parameters", "headers", "requestBodies", "responses", "schemas", "securitySchemes"}


def test_references_resolve():
    found = [v["$ref"] for _, v in nodes(DOC) if isinstance(v, dict) and "$ref" in v]
    assert len(found) > 50
    for ref in found:
        CONTRACT.resolve({"$ref": ref})


def test_everything_is_used():
    used = {v["$ref"] for _, v in nodes(DOC) if isinstance(v, dict) and "$ref" in v}
    used |= {"#/components/securitySchemes/" + n for need in DOC["security"] for n in need}
    for kind, members in DOC["components"].items():
        for name in members:
            assert "#/components/%s/%s" % (kind, name) in used, (kind, name)


@pytest.mark.parametrize("name", DOC["components"]["schemas"])
def test_schema_is_a_schema(name):
    jsonschema.Draft202012Validator.check_schema(CONTRACT.schema(name))


def test_objects_are_closed():
    for where, value in nodes(DOC["components"]["schemas"]):
        if isinstance(value, dict) and value.get("type") == "object":
            assert "additionalProperties" in value, where
            if "properties" in value:
                assert value["additionalProperties"] is False, where


def test_operations():
    ids = [operation["operationId"] for _, _, _, operation in operations()]
    assert len(ids) == len(set(ids)) >= 8
    for path, method, item, operation in operations():
        parameters = [CONTRACT.resolve(p) for p in
                      item.get("parameters", []) + operation.get("parameters", [])]
        in_path = {p["name"] for p in parameters if p["in"] == "path"}
        assert in_path == set(re.findall(r"\{([a-z_]+)\}", path)), path
        assert all(p.get("required") for p in parameters if p["in"] == "path"), path
        bodiless = method == "get" or path.endswith(("/commit", "/rollback"))
        assert ("requestBody" in operation) != bodiless, path
        for status, response in operation["responses"].items():
            response = CONTRACT.resolve(response)
            assert re.fullmatch(r"[2345]\d\d", status), path
            assert response["description"] and response["content"], (path, status)
            assert "X-Request-Id" in response["headers"], (path, status)


def test_examples_keep_the_schemas():
    n = 0
    for where, value in nodes(DOC):
        if isinstance(value, dict) and "examples" in value and "schema" in value:
            for name, example in value["examples"].items():
                CONTRACT.check_value(value["schema"], example["value"], where + "/" + name)
                n += 1
    assert n >= 8


def test_codes():
    assert list(CODES) == CONTRACT.schema("ProblemCode")["enum"]
    statuses = {int(s) for _, _, _, o in operations() for s in o["responses"]}
    assert set(CODES.values()) - {405} <= statuses


def test_codes_are_the_daemons():
    """One C table makes the replies; the contract's table says the same."""
    with open(os.path.join(ROOT, "coordinator", "node", "problem.h"), encoding="utf-8") as f:
        rows = re.findall(r'\bX\(PROBLEM_(\w+),\s+(?:\\\s+)?"(\w+)", (\d+), (true|false),', f.read())
    assert all(name.lower() == code for name, code, _, _ in rows)
    text = CONTRACT.schema("ProblemCode")["description"]
    table = re.findall(r"^\| (\w+) \| (\d+) \| (yes|no) \|", text, re.M)
    assert [(c, s, r == "true") for _, c, s, r in rows] == [(c, s, r == "yes") for c, s, r in table]


def test_table_of_members_agrees_with_the_schemas():
    """The table in the description is for people; it must not tell them another story."""
    rows = {}
    for line in DOC["info"]["description"].splitlines():
        cells = [c.strip().replace("`", "") for c in line.strip("|").split("|")]
        if line.startswith("| `") and len(cells) == 5:
            rows[cells[0]] = cells[2:]
    for prefix, name in (("", "Submission"), ("retry.", "Retry"), ("branches[].",
                                                                    "SubmittedBranch")):
        for member, schema in CONTRACT.schema(name)["properties"].items():
            if schema.get("type") != "integer":
                assert any(r.startswith(prefix + member) for r in rows), member
                continue
            row = rows[prefix + member]
            assert row == [str(schema[k]) for k in ("default", "minimum", "maximum")], member


def test_checker_notices():
    """The checker itself: it must refuse what breaks the contract."""
    good = {"gid": "g", "cluster": "abcdefgh", "decision": "abort", "presumed": True}
    schema = CONTRACT.schema("Decision")
    CONTRACT.check_value(schema, good, "")
    for bad in (dict(good, more=1), dict(good, decision="commit"), dict(good, gid="a b"),
                {k: v for k, v in good.items() if k != "cluster"}):
        with pytest.raises(Violation):
            CONTRACT.check_value(schema, bad, "")
    headers = {"Content-Type": "application/json", "X-Request-Id": "x"}
    body = b'{"gid":"g","cluster":"abcdefgh","decision":"abort","presumed":true}'
    path = "/v1/transactions/g/decision"
    assert CONTRACT.check_response("GET", path, 200, headers, body)["gid"] == "g"
    for status, changed, text in ((404, headers, body), (200, {}, body),
                                  (200, dict(headers, **{"Content-Type": "text/html"}), body),
                                  (200, headers, b"{}"), (200, headers, body[:-1])):
        with pytest.raises(Violation):
            CONTRACT.check_response("GET", path, status, changed, text)
