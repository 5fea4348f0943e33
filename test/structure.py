#!/usr/bin/python3
"""Tests of the tree itself: who includes whom, how long things are, what is not used. TAP.

Each check takes the files as {path: text} and yields complaints. Each has a planted fault in
FAULTS that it must complain about, so that a check which stopped seeing anything fails too.
"""
import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(ROOT / "api"), str(ROOT / "test/mutants")]

import contract  # noqa: E402
import table  # noqa: E402

BUILD = ROOT / (os.environ.get("BUILD") or "build")
FUNCTION_LINES, FILE_LINES = 70, 500

TOP = {"Makefile", "coordinator", "participants", "sql", "api", "test", "docker-compose.yml",
       "README.md", "LICENSE", "Dockerfile"}
MAY_INCLUDE = {
    "base": {"base"},
    "core": {"base", "core"},
    "io": {"base", "io"},
    "node": {"base", "core", "io", "node"},
    "api": {"base", "core", "io", "node", "api"},
}
THIRD_PARTY = {
    "microhttpd.h": r"coordinator/io/http_(server|private|watch)\.[ch]",
    "curl/": r"coordinator/io/(http_client\.c|targets\.c|transfer(_error)?\.[ch])|api/cli/exchange\.c",
    "libpq-fe.h": r"coordinator/io/pg(_\w+)?\.[ch]",
    "jansson.h": r"coordinator/io/json\.c|api/cli/(check_options|judge|report)\.c",
    "uv.h": r"coordinator/io/loop\.c",
    "openssl/": r"coordinator/io/digest\.c",
}
BANNED = r"strcpy|strcat|v?sprintf|gets|strtok|ato[ilf]|atoll|system|alloca|rand"
CLOCKS = r"clock_gettime|gettimeofday|timespec_get|time|clock|uv_hrtime|localtime"
SLEEPS = r"u?sleep|nanosleep|time\.sleep"
# Where conditions are polled with a deadline; everything else waits through these. And the slow
# disk and the slow name server.
POLLERS = {"test/harness/wait.py", "test/harness/reaper.py", "test/unit/private_pg.c",
           "test/shim/slow_fsync.c", "test/shim/names.c"}
PURE = re.compile(
    r"(mem(cpy|move|set|cmp|chr)|str(len|nlen|cmp|ncmp|chr|rchr|spn|cspn|str))$"
    r"|__mem(cpy|move|set)_chk$|arena_\w+$|__assert_fail$|__stack_chk_fail$"
    r"|_GLOBAL_OFFSET_TABLE_$")


def tracked():
    """{path: text} of what is or is about to be committed; unreadable as text: empty."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return {name: (ROOT / name).read_text(errors="replace")
            for name in listed if (ROOT / name).is_file()}


def c_files(files, *prefixes):
    for path, text in files.items():
        if path.endswith((".c", ".h")) and (not prefixes or path.startswith(prefixes)):
            yield path, text


def blank(text):
    """C without comments and literals, line by line as before."""
    pattern = r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    return re.sub(pattern, lambda m: " " + "\n" * m.group().count("\n"), text, flags=re.S)


def calls(text, names):
    for match in re.finditer(rf"(?<![\w.>])({names})\s*\(", text):
        yield text.count("\n", 0, match.start()) + 1, match.group(1)


def room_of(path):
    parts = path.split("/")
    return parts[1] if parts[0] == "coordinator" and len(parts) > 2 else parts[0]


def check_top_level(files):
    names = {path.split("/")[0] for path in files}
    for name in sorted(names - TOP):
        if not name.startswith("."):
            yield f"{name}: not in the ground plan"
    for name in sorted(TOP - names):
        yield f"{name}: missing"


def check_layers(files):
    for path, text in c_files(files, "coordinator/", "api/"):
        room = room_of(path)
        allowed = MAY_INCLUDE.get(room, set())
        # The entry point puts the rooms together, the API with its handlers included.
        if path == "coordinator/node/main.c":
            allowed = allowed | {"api"}
        for included in re.findall(r'^\s*#\s*include\s+"([^"]+)"', text, re.M):
            if included.split("/")[0] not in allowed:
                yield f"{path}: {room} may not include {included}"


def check_sdk_alone(files):
    """People link the SDK and copy the samples: neither may need the coordinator's insides."""
    for path, text in c_files(files, "participants/"):
        for included in re.findall(r'^\s*#\s*include\s+"([^"]+)"', text, re.M):
            if included.split("/")[0] in {*MAY_INCLUDE, "coordinator"}:
                yield f"{path}: includes {included}"


def check_third_party(files):
    for path, text in c_files(files, "coordinator/", "api/"):
        for included in re.findall(r"^\s*#\s*include\s+<([^>]+)>", text, re.M):
            for header, owners in THIRD_PARTY.items():
                if included.startswith(header) and not re.fullmatch(owners, path):
                    yield f"{path}: only {owners} may include {included}"


def check_function_length(files):
    for path, text in c_files(files):
        start = 0
        for number, line in enumerate(text.splitlines(), 1):
            if line == "{":
                start = number
            elif line == "}" and start:
                if number - start - 1 > FUNCTION_LINES:
                    yield f"{path}:{start}: a function of {number - start - 1} lines"
                start = 0


def check_file_length(files):
    for path, text in c_files(files):
        lines = text.count("\n")
        if lines > FILE_LINES:
            yield f"{path}: {lines} lines"


def check_banned(files):
    for path, text in c_files(files):
        for number, name in calls(blank(text), BANNED):
            yield f"{path}:{number}: {name}()"


def check_clocks(files):
    for path, text in c_files(files, "coordinator/", "api/"):
        if path != "coordinator/base/clock.c":
            for number, name in calls(blank(text), CLOCKS):
                yield f"{path}:{number}: {name}(); only base/clock.c reads time"


def check_assertions_on(files):
    for path, text in files.items():
        if path != "test/structure.py" and re.search(r"-D\s?NDEBUG|#\s*define\s+NDEBUG", text):
            yield f"{path}: switches assertions off"


def check_no_sleep(files):
    for path, text in files.items():
        if path.startswith("test/") and path.endswith((".py", ".c", ".sh")) and path not in POLLERS:
            text = blank(text) if path.endswith(".c") else text
            for number, name in calls(text, SLEEPS):
                yield f"{path}:{number}: {name}; wait for a condition with a deadline"


def check_marks(files):
    for path, text in files.items():
        for match in re.finditer(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b", text):
            yield f"{path}: {match.group()}"


def check_machine_paths(files):
    for path, text in files.items():
        match = re.search(r"(^|[^\w.@:-])/(wo" r"rk|ro" r"ot|ho" r"me)/\w", text, re.M)
        if match:
            yield f"{path}: a path of one machine: {match.group().strip()}"


def readme_paths(text):
    prose = re.sub(r"```.*?```", "", text, flags=re.S)
    for token in re.findall(r"`([^`\s]+)`", prose):
        if re.fullmatch(r"[\w.-]+(/[\w.{},-]+)*/?", token) and not token.startswith("build/"):
            if "/" in token or re.search(r"\.(c|h|py|sh|sql|md|yaml|yml|awk)$", token):
                yield token
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose):
        if "://" not in target:
            yield target


def check_readme_paths(files):
    known = set(files) | {str(p) for path in files for p in Path(path).parents}
    bases = {Path(path).name for path in files}
    firsts = {p.split("/")[0] for p in known}
    for path in (p for p in files if p.endswith(".md")):
        here = Path(path).parent
        for token in sorted(set(readme_paths(files[path]))):
            for name in expand(token.rstrip("/")):
                near = [here / name, Path(name), Path("coordinator") / name]
                if any(os.path.normpath(p) in known for p in near) or name in bases:
                    continue
                first = name.split("/")[0]
                if first in firsts or str(here / first) in known or "." in Path(name).name:
                    yield f"{path}: {token} does not exist"


def expand(token):
    match = re.search(r"\{([^}]*)\}", token)
    if not match:
        return [token]
    return [token.replace(match.group(), part) for part in match.group(1).split(",")]


def check_corpora(files):
    """Each fuzzer has inputs that are tried again, and nothing is kept that nobody reads."""
    fuzzers = {m[1] for p in files if (m := re.fullmatch(r"test/fuzz/fuzz_(\w+)\.c", p))}
    kept = {p.split("/")[3] for p in files if p.startswith("test/fuzz/corpus/")}
    for name in sorted(fuzzers - kept):
        yield f"test/fuzz/fuzz_{name}.c: no corpus"
    for name in sorted(kept - fuzzers):
        yield f"test/fuzz/corpus/{name}: no fuzzer"


def check_migrations(files):
    """Forward only and numbered without gaps: the number is the schema's version."""
    for room in ("coordinator", "participant"):
        names = sorted(p.split("/")[2] for p in files if p.startswith(f"sql/{room}/"))
        for expected, name in enumerate(names, 1):
            if not re.fullmatch(rf"{expected:03d}_\w+\.sql", name):
                yield f"sql/{room}/{name}: number {expected:03d} was expected"
        if not names:
            yield f"sql/{room}: empty"


def routes_in_code(text):
    found = re.findall(r'"?\b(GET|PUT|POST|DELETE|PATCH)\b"?\s*,\s*"(/[^"]*)"', text)
    return {(method, re.sub(r"\{\w+\}|:\w+", "{}", path)) for method, path in found}


def routes_in_contract(text):
    contract = yaml.safe_load(text) or {}
    return {(method.upper(), re.sub(r"\{\w+\}", "{}", path))
            for path, item in (contract.get("paths") or {}).items()
            for method in item if method in {"get", "put", "post", "delete", "patch"}}


def check_routes(files):
    code = routes_in_code(files.get("api/routes.c", ""))
    contract = routes_in_contract(files.get("api/openapi.yaml", ""))
    if not code:
        yield "api/routes.c: no route found"
    for method, path in sorted(code - contract):
        yield f"api/openapi.yaml: {method} {path} is missing"
    for method, path in sorted(contract - code):
        yield f"api/routes.c: {method} {path} is in the contract only"


def check_contract(files):
    wanted = contract.made(files["api/openapi.yaml"], files["coordinator/node/problem.h"])
    for path, text in wanted.items():
        name = str(path.relative_to(ROOT))
        if files.get(name) != text:
            yield f"{name}: not up to date; run make contract"


def check_mutants(files):
    """Seeded bugs that no longer fit the tree would be caught by nobody, and nobody would notice."""
    yield from table.complaints(files)


def check_compose(files):
    done = subprocess.run(
        ["docker-compose", "-f", "-", "config"], cwd=ROOT, text=True, capture_output=True,
        input=files.get("docker-compose.yml", ""), check=False)
    if done.returncode:
        yield f"docker-compose.yml: {done.stderr.strip()}"
    else:
        services = yaml.safe_load(done.stdout).get("services", {})
        for name in sorted({"postgres", "assentd", "order", "stock", "account", "coupon"} - set(services)):
            yield f"docker-compose.yml: no service {name}"
        for name, service in services.items():
            if "healthcheck" not in service:
                yield f"docker-compose.yml: {name} has no health check"
            for port in service.get("ports", []):
                host = port.get("host_ip") if isinstance(port, dict) else str(port)
                if not str(host).startswith("127.0.0.1"):
                    yield f"docker-compose.yml: {name} is published to the world: {port}"


def symbols(objects, *flags):
    if not objects:
        return set()
    text = subprocess.run(["nm", *flags, *map(str, objects)], check=True, capture_output=True,
                          text=True).stdout
    lines = (line.split() for line in text.splitlines())
    return {words[-1].split("@")[0] for words in lines if len(words) > 1}


def check_purity(files, planted=frozenset()):
    sources = [p for p, _ in c_files(files, "coordinator/core/") if p.endswith(".c")]
    objects = [BUILD / "obj" / (p[:-2] + ".o") for p in sources]
    for missing in (p for p in objects if not p.exists()):
        yield f"{missing}: not built"
    objects = [p for p in objects if p.exists()]
    if not objects:
        yield "no core objects"
    for name in sorted((symbols(objects, "-u") | planted) - symbols(objects, "--defined-only")):
        if not PURE.match(name):
            yield f"core needs {name}"


def sdk_functions(files):
    header = "".join(blank(files.get("participants/sdk/" + name, ""))
                     for name in ("assent.h", "assent_client.h"))
    return re.findall(r"\b(assent_\w+)\(", re.sub(r"\btypedef\b[^;]*;", "", header))


def check_misuse(files):
    """Each public function is called without its objects, and in the wrong order."""
    test = "test/unit/test_sdk_misuse.c"
    called = set(re.findall(r"\bassent_\w+\b", blank(files.get(test, ""))))
    for name in sorted(set(sdk_functions(files)) - called):
        yield f"{test}: does not misuse {name}"


def check_exports(files, planted=frozenset()):
    library = BUILD / "lib/libassent.so.0"
    if not library.exists():
        yield f"{library}: not built"
        return
    exported = symbols([library], "-D", "--defined-only") | planted
    inline = re.findall(r"\bstatic inline [^;{]*?\b(assent_\w+)\(",
                        blank(files.get("participants/sdk/assent.h", "")))
    declared = set(sdk_functions(files)) - set(inline)
    for name in sorted(declared - exported):
        yield f"libassent.so does not export {name}"
    for name in sorted(exported - declared - {"LIBASSENT_0"}):
        yield f"libassent.so exports {name}, which assent.h does not declare"


def fault(path, text):
    return {path: text}


LONG = "int f(void)\n{\n" + "\tg();\n" * 71 + "}\n"
MUTANT = "== x\nIt breaks.\nfile: coordinator/base/err.c\ntest: %s\n-%s\n"
# check, what is planted (files, or a set for the checks that read symbols)
FAULTS = [
    (check_top_level, fault("docs/x.md", "")),
    (check_layers, fault("coordinator/core/x.c", '#include "io/loop.h"\n')),
    (check_layers, fault("coordinator/node/x.c", '#include "api/routes.h"\n')),
    (check_sdk_alone, fault("participants/sdk/x.c", '#include "base/buf.h"\n')),
    (check_third_party, fault("api/x.c", "#include <jansson.h>\n")),
    (check_function_length, fault("api/x.c", LONG)),
    (check_file_length, fault("api/x.c", "int x;\n" * 501)),
    (check_banned, fault("api/x.c", "\tstrcpy(a, b);\n")),
    (check_clocks, fault("coordinator/core/x.c", "\tt = time(NULL);\n")),
    (check_assertions_on, fault("api/x.c", "#define ND" "EBUG\n")),
    (check_no_sleep, fault("test/unit/x.c", "\tusl" "eep(1);\n")),
    (check_marks, fault("api/x.c", "/* TO" "DO */\n")),
    (check_machine_paths, fault("README.md", "see /ho" "me/me\n")),
    (check_readme_paths, fault("api/README.md", "Start with `api/gone.c`.\n")),
    (check_corpora, fault("test/fuzz/fuzz_x.c", "")),
    (check_corpora, fault("test/fuzz/corpus/x/a", "")),
    (check_migrations, fault("sql/coordinator/999_x.sql", "")),
    (check_routes, fault("api/routes.c", '{ "GET", "/nowhere", x },\n')),
    (check_contract, fault("api/openapi.json", "{}\n")),
    (check_mutants, fault("test/mutants/x.txt", MUTANT % ("golden commit", "\tnowhere();"))),
    (check_mutants, fault("test/mutants/x.txt", MUTANT % ("unit/test_core gone", "}"))),
    (check_compose, fault("docker-compose.yml", "services: [\n")),
    (check_compose, fault("docker-compose.yml", "services: {a: {image: b, ports: ['1:1']}}\n")),
    (check_purity, {"malloc"}),
    (check_misuse, fault("participants/sdk/assent.h", "ASSENT_API int assent_x(void);\n")),
    (check_exports, {"buf_add"}),
]


def complaints_of_fault(check, planted, files):
    if isinstance(planted, set):
        return set(check(files, planted)) - set(check(files))
    return set(check({**files, **planted})) - set(check(files))


def main():
    files = tracked()
    checks = list(dict.fromkeys(check for check, _ in FAULTS))
    print(f"1..{len(checks) + len(FAULTS)}")
    number = failed = 0
    results = [(check.__name__[6:], list(check(files))) for check in checks]
    for check, planted in FAULTS:
        seen = complaints_of_fault(check, planted, files)
        what = ", ".join(sorted(planted))
        blind = [] if seen else ["did not see the planted fault"]
        results.append((f"{check.__name__[6:]} sees a fault planted in {what}", blind))
    for name, complaints in results:
        number += 1
        failed += bool(complaints)
        print(f"{'not ok' if complaints else 'ok'} {number} - {name.replace('_', ' ')}")
        for complaint in complaints:
            print(f"# {complaint}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
