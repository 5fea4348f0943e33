"""A service in a network namespace of its own, which can be parted from one address and go on talking
to others: a real partition. It takes root; Space.possible() says whether it can be had.

    with Space() as space:
        service = Spaced(guard, "account", database, space)      listens at space.inside
        space.part(space.hosts[0])   packets to that address go nowhere, without a word
        space.heal()
"""

import os
import subprocess

from .system import Service


def ip(*words, check=True):
    return subprocess.run(["ip"] + list(words), check=check, capture_output=True,
                          text=True).returncode == 0


class Space:
    def __init__(self):
        """This side has two addresses, so that one can be cut off and the other not."""
        number = os.getpid() % 60000
        net = "10.%d.%d" % (200 + number // 250 % 50, number % 250)
        self.name = "assent-%d" % number
        self.link = "as%d" % number
        self.hosts, self.inside = [net + ".1", net + ".2"], net + ".3"
        self.parted = []

    def __enter__(self):
        inner = self.link + "i"
        ip("netns", "add", self.name)
        try:
            ip("link", "add", self.link, "type", "veth", "peer", "name", inner)
            ip("link", "set", inner, "netns", self.name)
            for address in self.hosts:
                ip("addr", "add", address + "/24", "dev", self.link)
            ip("link", "set", self.link, "up")
            for words in (("addr", "add", self.inside + "/24", "dev", inner),
                          ("link", "set", "lo", "up"), ("link", "set", inner, "up")):
                ip("-n", self.name, *words)
            # What comes from where no answer could go is dropped as well: both ways are cut.
            ip("netns", "exec", self.name, "sh", "-c",
               "echo 1 >/proc/sys/net/ipv4/conf/all/rp_filter")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exc):
        ip("link", "del", self.link, check=False)
        ip("netns", "del", self.name, check=False)

    @staticmethod
    def possible():
        if os.geteuid() != 0:
            return False
        try:
            with Space():
                return True
        except (OSError, subprocess.SubprocessError):
            return False

    def part(self, host):
        ip("-n", self.name, "route", "add", "blackhole", host + "/32")
        self.parted.append(host)

    def heal(self):
        while self.parted:
            ip("-n", self.name, "route", "del", "blackhole", self.parted.pop() + "/32")


class Spaced(Service):
    """One of the sample services in a namespace."""

    def __init__(self, guard, name, database, space):
        super().__init__(guard, name, database, space.inside + ":0")
        self.space = space

    def start(self):
        self.process = self.guard.spawn(self.name, [
            "ip", "netns", "exec", self.space.name, self.program, "--listen", self.listen,
            "--database", self.db.conninfo] + self.args, self.env)
        self.url = self.process.ready_url()
        self.listen = self.url.split("//")[1]
        return self
