#!/usr/bin/python3
"""Runs every fuzzer for a while, two at a time, and says what came of it.

    test/fuzz/libfuzzer.py SECONDS [NAME...]     that many seconds for all of them together
    test/fuzz/libfuzzer.py --keep [NAME...]      takes what was found into test/fuzz/corpus

BUILD names a build directory with fuzzers (make fuzz makes it). Inputs that reach something new
stay in BUILD/found, crashes in BUILD/crash. Ends with 'N passed, N failed'.
"""
import os
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / os.environ["BUILD"]
CORPUS = ROOT / "test/fuzz/corpus"
AT_ONCE = 2
LIMITS = ["-timeout=20", "-rss_limit_mb=2048", "-max_len=4096"]


def files_of(directory):
    return {path.name for path in directory.iterdir()}


def fuzz(name, seconds):
    """One row of the table, and what to read when it failed."""
    found, crash, log = (BUILD / kind / name for kind in ("found", "crash", "log"))
    for directory in (found, crash, log.parent):
        directory.mkdir(parents=True, exist_ok=True)
    before = files_of(found), files_of(crash)
    binary = BUILD / f"test/fuzz_{name}"
    command = [binary, *LIMITS, f"-max_total_time={seconds}", "-print_final_stats=1",
               f"-artifact_prefix={crash}/", found, CORPUS / name]
    with open(log, "wb") as out:
        try:
            status = subprocess.run(list(map(str, command)), stdout=out, stderr=out,
                                    stdin=subprocess.DEVNULL, cwd=ROOT,
                                    timeout=seconds + 300).returncode
        except subprocess.TimeoutExpired:
            status = "none: it hangs"
    text = log.read_text(errors="replace")
    executed = re.findall(r"number_of_executed_units: (\d+)", text) or ["0"]
    features = re.findall(r" ft: (\d+)", text) or ["0"]
    new = len(files_of(found) - before[0])
    failed = status != 0 or executed[-1] == "0"
    row = (name, executed[-1], new, features[-1], "FAILED" if failed else "ok")
    if not failed:
        return row, ""
    said = [line for line in text.splitlines() if re.search(r"\.c:\d+:|ERROR|SUMMARY", line)]
    replay = "\n".join(f"  replay: {shlex.join([str(binary), str(crash / kept)])}"
                       for kept in sorted(files_of(crash) - before[1]))
    return row, "\n".join([f"{name}: status {status}, log in {log}", *said[:12], replay])


def keep(name):
    """The fewest inputs that cover as much as the old and the new ones together."""
    fewest = BUILD / "fewest" / name
    shutil.rmtree(fewest, ignore_errors=True)
    fewest.mkdir(parents=True)
    subprocess.run([str(word) for word in (
        BUILD / f"test/fuzz_{name}", "-set_cover_merge=1", "-use_counters=0", *LIMITS,
        fewest, CORPUS / name, BUILD / "found" / name)], check=True, capture_output=True)
    for path in sorted(fewest.iterdir()):
        same = [p for p in CORPUS.joinpath(name).iterdir() if p.read_bytes() == path.read_bytes()]
        if not same:
            shutil.copy(path, CORPUS / name / path.name[:12])
    print(f"{name}: {len(files_of(CORPUS / name))} files")


def main(arguments):
    every = sorted(path.stem[5:] for path in (ROOT / "test/fuzz").glob("fuzz_*.c"))
    names = arguments[1:] or every
    if arguments[0] == "--keep":
        for name in names:
            keep(name)
        return 0
    seconds = max(1, int(arguments[0]) * AT_ONCE // len(names))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        results = list(pool.map(lambda name: fuzz(name, seconds), names))
    shape = "{:<12} {:>12} {:>10} {:>10}  {}"
    print(shape.format("fuzzer", "executions", "new units", "features", f"{seconds} s each"))
    for row, _ in results:
        print(shape.format(*row))
    for _, complaint in results:
        if complaint:
            print(complaint)
    failed = sum(bool(complaint) for _, complaint in results)
    print(f"{len(results) - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["600"]))
