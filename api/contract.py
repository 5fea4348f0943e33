#!/usr/bin/python3
"""Makes what follows from something else in the contract: `make contract`.

- In api/openapi.yaml, between the marks: the enum of the problem codes with its table, and one
  example for each, out of the table in coordinator/node/problem.h.
- api/openapi.json, which the daemon serves, out of api/openapi.yaml.

With --check nothing is written; the files that would change are printed, and the status is 1.
"""
import json
import re
import sys
import textwrap
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "coordinator/node/problem.h"
YAML = ROOT / "api/openapi.yaml"
JSON = ROOT / "api/openapi.json"
LITERAL = r'"(?:[^"\\]|\\.)*"'
TEXT = rf"{LITERAL}(?:[\s\\]*{LITERAL})*"
ROW = re.compile(rf"X\(PROBLEM_\w+,[\s\\]*({TEXT}),[\s\\]*(\d+),[\s\\]*(true|false),"
                 rf"[\s\\]*({TEXT}),[\s\\]*({TEXT}),[\s\\]*({TEXT})\)")


def text_of(literals):
    """What adjacent C literals stand for."""
    return "".join(json.loads(part) for part in re.findall(LITERAL, literals))


def problems(source):
    """The rows of the table, in its order."""
    return [{"code": text_of(m[1]), "status": int(m[2]), "retryable": m[3] == "true",
             "title": text_of(m[4]), "meaning": text_of(m[5]), "remedy": text_of(m[6])}
            for m in ROW.finditer(source)]


def codes(rows):
    """The schema of the member `code`."""
    lines = ["description: |", "  | code | status | retryable | title |", "  |---|---|---|---|"]
    lines += ["  | %s | %d | %s | %s |" % (
        r["code"], r["status"], "yes" if r["retryable"] else "no", r["title"]) for r in rows]
    lines += ["type: string"]
    enum = textwrap.wrap("enum: [" + ", ".join(r["code"] for r in rows) + "]", 90)
    return lines + enum[:1] + ["       " + line for line in enum[1:]]


def example(row):
    return {"value": {
        "type": "/problems/" + row["code"], "title": row["title"], "status": row["status"],
        "detail": row["meaning"], "instance": "/v1/transactions", "code": row["code"],
        "retryable": row["retryable"], "request_id": "6f1c0c7e4f0a"}}


def examples(rows):
    tree = {row["code"]: example(row) for row in rows}
    return yaml.safe_dump(tree, sort_keys=False, width=90).splitlines()


def fill(text, mark, lines):
    """Puts the lines between `# made: MARK` and `# end: MARK`, indented as the mark is."""
    pattern = re.compile(rf"^( *)# made: {mark}\b.*\n(?:.*\n)*?\1# end: {mark}\n", re.M)
    match = pattern.search(text)
    if not match:
        sys.exit(f"api/openapi.yaml: the mark '# made: {mark}' is missing")
    inner = "".join(match[1] + line + "\n" for line in lines)
    head, tail = match[0].splitlines()[0], match[0].splitlines()[-1]
    return text[:match.start()] + head + "\n" + inner + tail + "\n" + text[match.end():]


def made(yaml_text, table_text):
    """Both files as they should be."""
    rows = problems(table_text)
    if not rows or len(rows) != table_text.count("X(PROBLEM_"):
        sys.exit("coordinator/node/problem.h: the table cannot be read")
    unavailable = [r for r in rows if r["status"] == 503]
    yaml_text = fill(yaml_text, "codes", codes(rows))
    yaml_text = fill(yaml_text, "examples", examples(r for r in rows if r not in unavailable))
    yaml_text = fill(yaml_text, "unavailable", examples(unavailable))
    document = json.dumps(yaml.safe_load(yaml_text), indent=1) + "\n"
    return {YAML: yaml_text, JSON: document}


def main(arguments):
    wanted = made(YAML.read_text(encoding="utf-8"), TABLE.read_text(encoding="utf-8"))
    stale = [p for p, text in wanted.items()
             if not p.exists() or p.read_text(encoding="utf-8") != text]
    for path in stale:
        print(f"{path.relative_to(ROOT)}: " + (
            "not up to date; run make contract" if "--check" in arguments else "made"))
        if "--check" not in arguments:
            path.write_text(wanted[path], encoding="utf-8")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
