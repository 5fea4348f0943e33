"""Cleans up after its parent, however the parent ended.

Runs as a process of its own session and waits for EOF on stdin. Every process the parent starts
holds the other end of that pipe until its exec (see guard.py), so at EOF nothing is still about
to be born. What is ours is recognised by a token in the environment, or by our directory in the
command line: PostgreSQL's processes leave the group and may be given another environment.

    python3 reaper.py TOKEN DIRECTORY
"""

import os
import shutil
import signal
import sys
import time

GRACE_S = 10.0


def read(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError:
        return b""


def working_directory(base):
    try:
        return os.readlink(os.fsencode(base + "/cwd"))
    except OSError:
        return b""


def processes(token, directory):
    """Pids that carry the token, name the directory or work in it, without this process."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        base = "/proc/" + name
        # A zombie has neither environment nor command line: it is its parent's business. An orphan
        # of PostgreSQL has overwritten both, but works in its data directory.
        if (token in read(base + "/environ") or directory + b"/" in read(base + "/cmdline")
                or (working_directory(base) + b"/").startswith(directory + b"/")):
            found.append(int(name))
    return found


def postmasters(directory):
    """Pids of PostgreSQL servers whose data directory is below ours."""
    found = []
    for root, dirs, files in os.walk(directory):
        if "postmaster.pid" in files:
            dirs.clear()
            first = read(os.path.join(root, "postmaster.pid")).split(b"\n")[0]
            if first.isdigit():
                found.append(int(first))
    return found


def send(pid, signum):
    try:
        os.kill(pid, signum)
    except OSError:
        pass


def alive(pid):
    """A zombie is dead: its new parent may take its time."""
    stat = read("/proc/%d/stat" % pid)
    return bool(stat) and stat.rsplit(b")", 1)[1].split()[0] not in (b"Z", b"X")


def stop_postgres(directory):
    """Immediate shutdown: the server removes its shared memory, which SIGKILL would leave."""
    pids = [p for p in postmasters(directory) if directory.encode() in read("/proc/%d/cmdline" % p)]
    for pid in pids:
        send(pid, signal.SIGCONT)
        send(pid, signal.SIGQUIT)
    give_up = time.monotonic() + GRACE_S / 2
    while any(alive(p) for p in pids) and time.monotonic() < give_up:
        time.sleep(0.01)


def is_postgres(pid):
    return os.path.basename(read("/proc/%d/cmdline" % pid).split(b"\0")[0].split(b" ")[0]) in (
        b"postgres", b"postgres:")


def clean(token, directory):
    token, where = token.encode(), directory.encode()
    for pid in processes(token, where):
        if not is_postgres(pid):
            send(pid, signal.SIGKILL)
    stop_postgres(directory)
    give_up = time.monotonic() + GRACE_S
    quiet = 0
    while quiet < 2 and time.monotonic() < give_up:
        left = processes(token, where)
        quiet = 0 if left else quiet + 1
        for pid in left:
            send(pid, signal.SIGKILL)
        time.sleep(0.01)
    shutil.rmtree(directory, ignore_errors=True)


def main():
    token, directory = sys.argv[1:3]
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(signum, signal.SIG_IGN)
    keep = False
    while True:
        chunk = os.read(0, 4096)
        if not chunk:
            break
        keep = keep or b"keep" in chunk
    if keep:
        logs = os.path.join(directory, "log")
        saved = directory + "-log"
        if os.path.isdir(logs):
            shutil.copytree(logs, saved, dirs_exist_ok=True)
    clean(token, directory)


if __name__ == "__main__":
    main()
