#!/usr/bin/python3
"""Fuzzes the API by its contract: `make fuzz-api`.

Starts assentd with its private PostgreSQL and a participant, and lets schemathesis make requests
out of api/openapi.yaml, good ones and bad ones, whose replies must keep the contract. The seed is
fixed, so that a finding comes again; SEED=N takes another one.

The exit status is 0 when nothing was found, 77 when schemathesis cannot be installed because its
registry is not reached, and otherwise 1.
"""

import hashlib
import os
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from harness.contract import CONTRACT, PATH, ROOT  # noqa: E402
from harness.guard import Guard  # noqa: E402
from harness.participant import Participant  # noqa: E402
from harness.system import BUILD, Assentd  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
REQUIREMENTS = os.path.join(HERE, "requirements.txt")
VENV = os.path.join(BUILD, "venv-fuzz")
SKIPPED = 77
TOKEN = "a-token-of-this-run-alone-0123456789"
LIMIT_S = 300
CASES = 400  # of the fuzzing phase, shared by the operations
# A made-up address is refused by design, and ids are unique by rules that no schema says.
NOT_CHECKED = "positive_data_acceptance"


def install():
    """The pinned versions in a venv of their own; False when they cannot be had."""
    stamp = os.path.join(VENV, "installed")
    with open(REQUIREMENTS, encoding="ascii") as f:
        wanted = f.read()
    if os.path.exists(stamp):
        with open(stamp, encoding="ascii") as f:
            if f.read() == wanted:
                return True
    subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
    pip = [os.path.join(VENV, "bin", "python"), "-m", "pip", "-q", "--disable-pip-version-check",
           "install", "--no-deps", "--retries", "1", "--timeout", "15", "-r", REQUIREMENTS]
    if subprocess.run(pip, check=False, timeout=240).returncode:
        return False
    with open(stamp, "w", encoding="ascii") as f:
        f.write(wanted)
    return True


def examples():
    """For each operation; the more there are, the fewer, or the run would grow with the API."""
    methods = {"get", "put", "post", "delete", "patch"}
    operations = sum(m in methods for item in CONTRACT.doc["paths"].values() for m in item)
    return max(5, CASES // operations)


def command(url, directory):
    return [os.path.join(VENV, "bin", "schemathesis"), "--config-file",
            os.path.join(HERE, "schemathesis.toml"), "run", PATH, "--url", url,
            "--seed", os.environ.get("SEED") or "1", "--generation-database", "none",
            "-H", "Authorization: Bearer " + TOKEN, "--exclude-checks", NOT_CHECKED, "--no-color", "--report", "junit",
            "--report-junit-path", os.path.join(directory, "report.xml"),
            "--max-examples", os.environ.get("N") or str(examples())]


def fuzz():
    with Guard("assent-fuzz-") as guard:
        tokens = guard.path("tokens")
        with open(tokens, "w", encoding="ascii", opener=lambda p, f: os.open(p, f, 0o600)) as f:
            f.write("fuzz admin %s\n" % hashlib.sha256(TOKEN.encode()).hexdigest())
        assentd = Assentd(guard, args=["--token-file", tokens]).start()
        participant = Participant()
        env = dict(os.environ, SCHEMATHESIS_HOOKS="hooks", PYTHONPATH=HERE,
                   PYTHONDONTWRITEBYTECODE="1", COLUMNS="120",
                   FUZZ_PARTICIPANT=participant.url("a"))
        done = subprocess.run(command(assentd.url, guard.dir), cwd=guard.dir, env=env,
                              timeout=LIMIT_S, check=False)
        reached = assentd.db.value("SELECT count(*) FROM assent.txn")
        status = assentd.stop()
        participant.close()
    print("fuzz: %d transactions stored, assentd ended with status %d" % (reached, status))
    if not reached:
        print("fuzz: no transaction was ever accepted: nothing was tested", file=sys.stderr)
    return done.returncode == 0 and status == 0 and reached > 0


def main():
    os.chdir(ROOT)
    if not install():
        print("fuzz: SKIPPED: schemathesis cannot be installed here (is PyPI reached?)")
        return SKIPPED
    return 0 if fuzz() else 1


if __name__ == "__main__":
    sys.exit(main())
