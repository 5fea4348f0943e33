"""One real process, in a session of its own, with its output in files."""

import os
import signal
import subprocess

from .wait import wait_until


TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pids):
    """User and system time of these processes so far."""
    total = 0
    for pid in pids:
        try:
            with open("/proc/%d/stat" % pid, encoding="ascii", errors="replace") as f:
                fields = f.read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


class Exited(AssertionError):
    """The process ended although it should serve."""


class Process:
    _number = 0

    def __init__(self, name, argv, log_dir):
        Process._number += 1
        self.name = name
        self.argv = list(argv)
        base = os.path.join(log_dir, "%03d-%s" % (Process._number, name))
        self.out_path, self.err_path = base + ".out", base + ".err"
        self.popen = None

    def start(self, command, env, stdin, **options):
        with open(self.out_path, "wb") as out, open(self.err_path, "wb") as err:
            self.popen = subprocess.Popen(
                command, env=env, stdin=stdin, stdout=out, stderr=err,
                start_new_session=True, **options)

    @property
    def pid(self):
        return self.popen.pid

    def running(self):
        return self.popen.poll() is None

    def stdout(self):
        with open(self.out_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def stderr(self):
        with open(self.err_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def last_lines(self, n=15):
        lines = (self.stderr() + self.stdout()).splitlines()
        return "\n".join("    " + line for line in lines[-n:]) or "    (it wrote nothing)"

    def ready_url(self, deadline_s=20):
        """The address in the line `ready http://...`, or Exited with the end of the log."""
        def look():
            for line in self.stdout().splitlines(keepends=True):
                if line.startswith("ready http") and line.endswith("\n"):
                    return line.split()[1]
            if not self.running():
                raise Exited("%s ended with status %s before it was ready; its last lines:\n%s" % (
                    self.name, self.popen.returncode, self.last_lines()))
            return None
        return wait_until(look, deadline_s,
                          lambda: "%s to be ready; its last lines:\n%s" % (
                              self.name, self.last_lines()))

    def signal_group(self, signum):
        """To the process and what it started, as long as it has not been waited for."""
        if self.running():
            try:
                os.killpg(self.pid, signum)
            except (ProcessLookupError, PermissionError):
                pass

    def kill9(self):
        """As a crash does it: this process only, no warning."""
        if self.running():
            self.popen.send_signal(signal.SIGKILL)
        self.popen.wait(10)

    def pause(self):
        self.popen.send_signal(signal.SIGSTOP)
        wait_until(lambda: self._state() == "T", 5, "%s to stop" % self.name)

    def resume(self):
        self.popen.send_signal(signal.SIGCONT)

    def terminate(self, signum=signal.SIGTERM):
        if self.running():
            self.popen.send_signal(signum)

    def wait(self, deadline_s=20):
        try:
            return self.popen.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise AssertionError("%s did not end within %.0f s; its last lines:\n%s" % (
                self.name, deadline_s, self.last_lines())) from None

    def reap(self):
        try:
            self.popen.wait(5)
        except subprocess.TimeoutExpired:
            pass

    def _state(self):
        try:
            with open("/proc/%d/stat" % self.pid, encoding="ascii", errors="replace") as f:
                return f.read().rsplit(")", 1)[1].split()[0]
        except OSError:
            return ""
