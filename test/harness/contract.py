"""Holds every HTTP exchange against api/openapi.yaml."""

import json
import os
import re

import jsonschema
import yaml

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PATH = os.path.join(ROOT, "api", "openapi.yaml")


class Violation(AssertionError):
    """What went over the wire is not what the contract says."""


class Contract:
    def __init__(self, path=PATH):
        with open(path, encoding="utf-8") as f:
            self.doc = yaml.safe_load(f)
        self._resolver = jsonschema.RefResolver.from_schema(self.doc)
        self._paths = []
        for template in self.doc["paths"]:
            names = re.sub(r"\{[a-z_]+\}", "[^/]+", template)
            self._paths.append((re.compile("^" + names + "$"), template))

    def resolve(self, node):
        while isinstance(node, dict) and "$ref" in node:
            node = self._resolver.resolve(node["$ref"])[1]
        return node

    def template(self, path):
        for regex, template in self._paths:
            if regex.match(path):
                return template
        return None

    def check_value(self, schema, value, where):
        validator = jsonschema.Draft202012Validator(schema, resolver=self._resolver)
        errors = sorted(validator.iter_errors(value), key=lambda e: list(e.absolute_path))
        if errors:
            e = errors[0]
            raise Violation("%s: at /%s: %s" % (
                where, "/".join(str(p) for p in e.absolute_path), e.message))

    def schema(self, name):
        return self.doc["components"]["schemas"][name]

    def check_request(self, method, path, query, headers, body):
        """For a request that is meant to be valid."""
        where = "request %s %s" % (method, path)
        operation, parameters = self._operation(method, path, where)
        allowed = {p["name"]: p for p in parameters if p["in"] == "query"}
        exploded = [p["schema"] for p in allowed.values() if p.get("explode")]
        for name, value in (query or {}).items():
            if name not in allowed:
                if any(re.match(pattern, name) for schema in exploded
                       for pattern in schema["patternProperties"]):
                    self.check_value(exploded[0], {name: value}, where + " query")
                    continue
                raise Violation("%s: query %s is not in the contract" % (where, name))
            schema = allowed[name]["schema"]
            if self.resolve(schema).get("type") == "integer" and str(value).isdigit():
                value = int(value)
            self.check_value(schema, value, where + " query " + name)
        if "requestBody" not in operation:
            if body:
                raise Violation("%s has a body" % where)
            return
        content = self.resolve(operation["requestBody"])["content"]
        media = media_type(headers.get("Content-Type"))
        if media not in content:
            raise Violation("%s: content type %s" % (where, media))
        self.check_value(content[media]["schema"], json.loads(body), where)

    def check_response(self, method, path, status, headers, body):
        """Status, headers, content type and body of a reply; returns the decoded body."""
        where = "reply %d to %s %s" % (status, method, path)
        template = self.template(path)
        if template is None or method.lower() not in self.doc["paths"][template]:
            return self._check_no_route(template, status, headers, body, where)
        operation = self.doc["paths"][template][method.lower()]
        if str(status) not in operation["responses"]:
            raise Violation("%s is not in the contract: %r" % (where, body[:300]))
        response = self.resolve(operation["responses"][str(status)])
        for name, header in response.get("headers", {}).items():
            header = self.resolve(header)
            if name not in headers:
                if header.get("required"):
                    raise Violation("%s lacks the header %s" % (where, name))
                continue
            self.check_value(header["schema"], headers[name], where + " header " + name)
        media = media_type(headers.get("Content-Type"))
        if media not in response["content"]:
            raise Violation("%s: content type %s" % (where, media))
        return self._decode(response["content"][media]["schema"], media, status, body, where)

    def _check_no_route(self, template, status, headers, body, where):
        expected = 404 if template is None else 405
        if status != expected:
            raise Violation("%s: expected %d" % (where, expected))
        if expected == 405:
            allowed = {m.strip() for m in headers.get("Allow", "").split(",")} - {"HEAD", "OPTIONS"}
            known = {m.upper() for m in self.doc["paths"][template]} - {"PARAMETERS"}
            if allowed != known:
                raise Violation("%s: Allow is %s, should be %s" % (where, allowed, known))
        if "X-Request-Id" not in headers:
            raise Violation("%s lacks the header X-Request-Id" % where)
        media = media_type(headers.get("Content-Type"))
        if media != "application/problem+json":
            raise Violation("%s: content type %s" % (where, media))
        return self._decode(self.schema("Problem"), media, status, body, where)

    def _decode(self, schema, media, status, body, where):
        if not media.endswith("json"):
            return body.decode("utf-8")
        try:
            value = json.loads(body.decode("utf-8"))
        except ValueError as e:
            raise Violation("%s: not JSON: %s: %r" % (where, e, body[:300])) from None
        self.check_value(schema, value, where)
        if media == "application/problem+json":
            if value["status"] != status:
                raise Violation("%s: the problem says %d" % (where, value["status"]))
            if value["type"] != "/problems/" + value["code"]:
                raise Violation("%s: type %s, code %s" % (where, value["type"], value["code"]))
            if CODES[value["code"]] != status:
                raise Violation("%s: %s belongs to status %d" % (
                    where, value["code"], CODES[value["code"]]))
        return value

    def _operation(self, method, path, where):
        template = self.template(path)
        if template is None:
            raise Violation("%s: no such path in the contract" % where)
        item = self.doc["paths"][template]
        if method.lower() not in item:
            raise Violation("%s: no such method in the contract" % where)
        operation = item[method.lower()]
        parameters = item.get("parameters", []) + operation.get("parameters", [])
        return operation, [self.resolve(p) for p in parameters]


def media_type(value):
    return (value or "").split(";")[0].strip().lower()


def code_table(doc):
    """Code to status, out of the table in the description of ProblemCode."""
    text = doc["components"]["schemas"]["ProblemCode"]["description"]
    return {m[1]: int(m[2]) for m in re.finditer(r"^\| ([a-z_]+) \| (\d{3}) \|", text, re.M)}


CONTRACT = Contract()
CODES = code_table(CONTRACT.doc)
