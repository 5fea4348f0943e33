"""libassent as somebody gets it: installed, found with pkg-config, used outside of the tree, with the
binary interface that was promised, its manual pages and the first page of its README."""

import os
import re
import shutil
import subprocess

import pytest

from harness.cluster import free_port
from harness.contract import ROOT
from harness.system import BUILD
from harness.wait import wait_until

ABI = os.path.join(ROOT, "participants/sdk/libassent.abi")
HEADERS = ("assent.h", "assent_client.h")
MULTIARCH = "x86_64-linux-gnu"


def run(*argv, status=0, **kw):
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False, **kw)
    assert status is None or done.returncode == status, (argv, done.stdout, done.stderr)
    return done


def make(target, **variables):
    return run("make", "-s", "-C", ROOT, "BUILD=" + BUILD, target,
               *["%s=%s" % item for item in variables.items()])


def declared(how):
    text = ""
    for name in HEADERS:
        with open(os.path.join(ROOT, "participants/sdk", name), encoding="utf-8") as f:
            text += f.read()
    return set(re.findall(r"^%s [^(]*?(assent_\w+)\(" % how, text, re.M))


def files(path):
    return sorted(os.path.relpath(os.path.join(base, name), path)
                  for base, _, names in os.walk(path) for name in names)


class Installed:
    """As a package does it: installed into a stage for its final place, and unpacked there."""

    def __init__(self, directory):
        self.prefix, stage = directory + "/opt", directory + "/stage"
        self.libdir = self.prefix + "/lib/" + MULTIARCH
        self.names = {"DESTDIR": stage, "PREFIX": self.prefix, "LIBDIR": self.libdir}
        make("install-built", **self.names)
        self.stage = stage + self.prefix
        shutil.copytree(self.stage, self.prefix, symlinks=True)
        self.env = dict(os.environ, PKG_CONFIG_PATH=self.libdir + "/pkgconfig",
                        LD_LIBRARY_PATH=self.libdir, PATH=self.prefix + "/bin:" + os.environ["PATH"])

    def sh(self, command, **kw):
        return run("/bin/sh", "-euc", command, env=self.env, **kw).stdout


@pytest.fixture(scope="module")
def installed(session_guard):
    os.mkdir(session_guard.path("package"))
    return Installed(session_guard.path("package"))


# --- where things are ----------------------------------------------------------------------------


def test_everything_is_in_its_place(installed):
    found = set(files(installed.prefix))
    lib = "lib/" + MULTIARCH
    assert {"bin/assent", "bin/assentd", "include/assent.h", "include/assent_client.h",
            lib + "/libassent.a", lib + "/libassent.so", lib + "/libassent.so.0", lib + "/libassent.so.0.1.0", lib + "/pkgconfig/assent.pc",
            "share/assent/sql/participant/001_init.sql", "share/man/man3/assent.3",
            "share/man/man3/assent_submit.3", "share/man/man8/assentd.8",
            "share/doc/assent/README.md", "share/doc/assent/participants/README.md"} <= found
    assert os.readlink(installed.libdir + "/libassent.so") == "libassent.so.0"
    assert os.readlink(installed.libdir + "/libassent.so.0") == "libassent.so.0.1.0"
    dynamic = run("readelf", "-d", installed.libdir + "/libassent.so").stdout
    assert "Library soname: [libassent.so.0]" in dynamic
    exported = run("nm", "-D", "--defined-only", installed.libdir + "/libassent.so.0").stdout
    assert {line.split()[-1] for line in exported.splitlines() if " A " not in line} == {
        name + "@@LIBASSENT_0" for name in declared("ASSENT_API")}


def test_uninstall_leaves_nothing(installed):
    make("uninstall", **installed.names)
    assert files(installed.stage) == []


# --- used outside of the tree --------------------------------------------------------------------

WAYS = {
    "shared": "cc -std=c11 -Wall -Wextra -Werror service.c -o service"
              " $(pkg-config --cflags --libs assent)",
    "static": "cc -std=c11 service.c -o service $(pkg-config --cflags assent)"
              " $(pkg-config --variable=static_libs assent)",
    "c++": "c++ -x c++ -std=c++11 -Wall -Wextra -Wpedantic -Werror service.c -o service"
           " $(pkg-config --cflags --libs assent)",
}
ENDS = {"%s-%s" % (mode, how): "aborted" if how in ("refused", "taken-back") else "committed"
        for mode in ("2pc", "3pc", "saga", "tcc")
        for how in ("whole", "refused", "grown", "taken-back")
        if mode != "saga" or how in ("whole", "refused")}


@pytest.fixture(scope="module")
def outside(session_guard):
    path = session_guard.path("outside")
    os.mkdir(path)
    shutil.copy(os.path.join(ROOT, "test/sdk/outside/service.c"), path)
    return path


@pytest.mark.parametrize("way", WAYS)
def test_a_program_outside_of_the_tree(installed, outside, fresh, way):
    installed.sh(WAYS[way], cwd=outside)
    needed = run("readelf", "-d", outside + "/service").stdout
    assert ("libassent.so.0" in needed) == (way != "static")
    db = fresh.database("outside")
    db.query("CREATE TABLE done (gid text, op text)")
    done = run(outside + "/service", db.conninfo, fresh.url, env=installed.env)
    assert dict(line.split() for line in done.stdout.splitlines()) == ENDS
    rows = {(gid, op): n for gid, op, n in db.query("SELECT gid, op, count(*) FROM done GROUP BY 1, 2")}
    # Its tries are made at once: the refusal of one may overtake the other.
    assert rows.pop(("tcc-refused", "try"), 0) == rows.pop(("tcc-refused", "cancel"), 0)
    assert rows == {
        ("2pc-grown", "prepare"): 2, ("2pc-whole", "prepare"): 2,
        ("3pc-grown", "pre_commit"): 2, ("3pc-whole", "pre_commit"): 2,
        ("saga-refused", "action"): 1, ("saga-refused", "compensate"): 1,
        ("saga-whole", "action"): 2,
        ("tcc-grown", "confirm"): 2, ("tcc-grown", "try"): 2,
        ("tcc-taken-back", "cancel"): 1, ("tcc-taken-back", "try"): 1,
        ("tcc-whole", "confirm"): 2, ("tcc-whole", "try"): 2}
    assert db.prepared() == []


# --- the first page of the README ----------------------------------------------------------------


def blocks(language):
    with open(os.path.join(ROOT, "participants/README.md"), encoding="utf-8") as f:
        first_page = f.read().split("\n## ")[0]
    return re.findall(r"^```%s\n(.*?)^```$" % language, first_page, re.M | re.S)


def test_the_readme_as_printed(installed, fresh, guard):
    programs, (commands,) = blocks("c"), blocks("sh")
    here = guard.path("readme")
    os.mkdir(here)
    for name, text in zip(("stock.c", "order.c"), programs, strict=True):
        assert len(text.split("\n")) - text.count("\n\n") - 1 <= 30, name
        with open(os.path.join(here, name), "w", encoding="utf-8") as f:
            f.write(text)
    user = {"PGHOST": fresh.dir + "/s", "PGUSER": "assent"}
    installed.env.update(user)
    port = free_port()
    for ours, theirs in (("7481", str(port)), ("http://127.0.0.1:7470", fresh.url)):
        commands = commands.replace(ours, theirs)
    *commands, export, serve, start, check = commands.splitlines()
    for command in commands:
        installed.sh(command, cwd=here)
    stock = guard.spawn("stock", ["/bin/sh", "-c", "cd %s && %s && exec env %s" % (
        here, export, serve.removesuffix(" &"))], dict(user, LD_LIBRARY_PATH=installed.libdir))
    start = export + "\n" + start
    for _ in range(2):
        assert installed.sh(start, cwd=here) == "order-42: committed\n", stock.last_lines()
    stored = fresh.database("stock")
    assert stored.value("SELECT n FROM stock") == 998
    for i, payload in enumerate(({"sku": "coffee", "n": 1}, {"sku": "tea", "n": 999}, {"sku": "tea"})):
        body = {"mode": "2pc", "branches": [{
            "id": "s", "participant": "http://127.0.0.1:%d/stock" % port, "payload": payload}]}
        assert fresh.client.put("order-%d" % i, body, wait=10)["outcome"] == "aborted"
    assert (stored.value("SELECT n FROM stock"), stored.prepared()) == (998, [])
    checked = installed.sh(check, cwd=here)
    assert re.search(r"^[3-9]\d passed, 0 failed", checked, re.M), checked
    assert stored.prepared() == []
    stock.terminate()
    wait_until(lambda: not stock.running(), 20, "the service to end")


# --- the binary interface ------------------------------------------------------------------------


def abidiff(directory, record):
    """What has changed since the record, added functions apart; "" for nothing."""
    paths = [os.path.join(directory, name) for name in ("recorded.abi", "now.abi")]
    for path, text in zip(paths, (record, make("show-abi").stdout), strict=True):
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
    done = run("abidiff", "--no-added-syms", *paths, status=None)
    assert done.returncode in (0, 4, 8, 12), done.stderr
    return done.stdout if done.returncode else ""


def test_the_interface_is_the_recorded_one(tmp_path):
    with open(ABI, encoding="utf-8") as f:
        changed = abidiff(str(tmp_path), f.read())
    assert not changed, changed + "\nIf this may be so: make abi"


def drop_function(record, name):
    symbol = r"<elf-symbol name='%s' .*\n" % name
    declaration = r"(?s)<function-decl name='%s' .*?</function-decl>\n" % name
    assert re.search(symbol, record) and re.search(declaration, record)
    return re.sub(declaration, "", re.sub(symbol, "", record))


def test_more_functions_are_no_change(tmp_path):
    now = make("show-abi").stdout
    assert abidiff(str(tmp_path), drop_function(now, "assent_wait")) == ""


@pytest.mark.parametrize("what, pattern, other", [
    ("a function is gone", "(name=')assent_wait(' version)", r"\1assent_gone\2"),
    ("a struct had another size", "(class-decl name='assent_result' size-in-bits=')[0-9]+",
     r"\g<1>8192"),
    ("a member was elsewhere", "(layout-offset-in-bits=')32('>\n *<var-decl name='http_status')",
     r"\g<1>64\2"),
    ("a vote had another number", "(name='ASSENT_REFUSED' value=')2", r"\g<1>9"),
])
def test_a_change_is_seen(tmp_path, what, pattern, other):
    changed, n = re.subn(pattern, other, make("show-abi").stdout)
    assert n, pattern
    assert abidiff(str(tmp_path), changed), what


# --- the manual ----------------------------------------------------------------------------------


def test_manual_pages(installed):
    man = installed.prefix + "/share/man"
    pages = ["%s/man3/%s" % (man, name) for name in os.listdir(man + "/man3")
             if not os.path.islink("%s/man3/%s" % (man, name))]
    pages.append(man + "/man8/assentd.8")
    lint = run("mandoc", "-T", "lint", "-W", "warning", *pages, status=None)
    assert not lint.stdout + lint.stderr
    for name in declared("(?:ASSENT_API|static inline)"):
        text = run("mandoc", "-T", "ascii", "%s/man3/%s.3" % (man, name)).stdout
        text = re.sub(".\b", "", text)
        assert re.search(r"^NAME\n(.|\n)*\b%s\b(.|\n)*^SYNOPSIS" % name, text, re.M), name
        assert name + "(" in text.split("DESCRIPTION")[1], name
        if name == "assent_server_stop":
            said = text.index("Makes assent_server_run return")
            assert text.index("assent_server_stop(") < said < text.index("assent_server_free(")
    overview = run("mandoc", "-T", "ascii", man + "/man3/assent.3").stdout
    assert "`" not in overview and "p\bpr\bre\bep\bpa\bar\bre\be" in overview
    daemon = re.sub(".\b", "", run("mandoc", "-T", "ascii", man + "/man8/assentd.8").stdout)
    usage = run(installed.prefix + "/bin/assentd", "--help").stdout
    for option in re.findall(r"^  (--[\w.-]+)", usage, re.M):
        assert option in daemon, option
    for title in ("SYNOPSIS", "FILES", "EXIT STATUS", "SIGNALS", "SEE ALSO"):
        assert re.search("^%s\n +\\S" % title, daemon, re.M), title
    assert re.search(r"^ +assentd migrate \[options\]$", daemon, re.M)
