"""A temporary directory and everything that runs in it, with the promise that both go.

    with Guard() as guard:
        process = guard.spawn("name", ["program", "argument"])

When the `with` block ends, or this process is killed with whatever signal, all processes started
here and their descendants are killed and the directory is removed (reaper.py does it).
"""

import os
import pwd
import secrets
import signal
import subprocess
import sys
import tempfile

from .process import Process

# The launcher has the pipe to the reaper as its stdin until it executes the program: the reaper
# cannot see EOF while a process that it would not yet recognise is on its way.
LAUNCH = ["/bin/sh", "-c", 'exec "$@" </dev/null', "sh"]


class Guard:
    def __init__(self, prefix="assent-"):
        self.keep_logs = False
        self.processes = []
        self.dir = tempfile.mkdtemp(prefix=prefix, dir="/tmp")
        # PostgreSQL's user has to pass through when we are root.
        os.chmod(self.dir, 0o711)
        self.logs = os.path.join(self.dir, "log")
        os.mkdir(self.logs)
        self.token = "ASSENT_GUARD=" + secrets.token_hex(16)
        here = os.path.dirname(os.path.abspath(__file__))
        self.reaper = subprocess.Popen(
            [sys.executable, "-S", os.path.join(here, "reaper.py"), self.token, self.dir],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd="/", start_new_session=True)

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.close()

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def environment(self, extra=None):
        env = dict(os.environ)
        name, value = self.token.split("=")
        env[name] = value
        # Nothing of the caller's may reach libpq or the HTTP clients.
        for key in list(env):
            if key.startswith("PG") or key.startswith("ASSENT_") and key != name:
                del env[key]
        env.update(extra or {})
        return env

    def spawn(self, name, argv, env=None, user=None):
        """Start a program in a session of its own; stdout and stderr go to files in `logs`."""
        process = Process(name, argv, self.logs)
        options = {}
        if user:
            group = pwd.getpwnam(user).pw_gid
            options = {"user": user, "group": group, "extra_groups": []}
        process.start(LAUNCH + list(argv), self.environment(env), self.reaper.stdin, **options)
        self.processes.append(process)
        return process

    def run(self, argv, env=None, timeout=30, user=None):
        """Run a program to its end; returns a CompletedProcess with text output."""
        process = self.spawn("run-" + os.path.basename(argv[0]), argv, env, user)
        status = process.wait(timeout)
        return subprocess.CompletedProcess(argv, status, process.stdout(), process.stderr())

    def close(self):
        if self.reaper is None:
            return
        reaper, self.reaper = self.reaper, None
        if self.keep_logs:
            reaper.stdin.write(b"keep\n")
        reaper.stdin.close()
        for process in self.processes:
            process.signal_group(signal.SIGKILL)
        reaper.wait()
        for process in self.processes:
            process.reap()
