"""A private PostgreSQL, for tests of an external database; and connections to any."""

import os
import shutil
import signal
import subprocess

import psycopg2

from .wait import wait_until


def bindir():
    return subprocess.run(["pg_config", "--bindir"], check=True, capture_output=True,
                          text=True).stdout.strip()


def connect(socket_dir, dbname="assent", user="assent", port=5432):
    connection = psycopg2.connect(host=socket_dir, user=user, dbname=dbname, port=port,
                                  application_name="test", connect_timeout=10)
    connection.autocommit = True
    return connection


class Database:
    """Queries on one database, with a connection that is made anew when it was lost."""

    def __init__(self, socket_dir, dbname="assent", user="assent", port=5432):
        self.where = (socket_dir, dbname, user, port)
        self.connection = None

    @property
    def conninfo(self):
        return "host=%s dbname=%s user=%s port=%d" % self.where

    def query(self, sql, *args):
        for attempt in (1, 2):
            if self.connection is None or self.connection.closed:
                self.connection = connect(*self.where)
            try:
                with self.connection.cursor() as cursor:
                    cursor.execute(sql, args or None)
                    return cursor.fetchall() if cursor.description else None
            except psycopg2.Error as error:
                if attempt == 2 or error.pgcode and not isinstance(error,
                                                                   psycopg2.OperationalError):
                    raise
                self.close()
        return None

    def value(self, sql, *args):
        rows = self.query(sql, *args)
        return rows[0][0] if rows else None

    def prepared(self):
        """Names of the prepared transactions of this database."""
        return [r[0] for r in self.query(
            "SELECT gid FROM pg_prepared_xacts WHERE database = current_database() ORDER BY 1")]

    def close(self):
        if self.connection is not None:
            try:
                self.connection.close()
            except psycopg2.Error:
                pass
            self.connection = None


class PrivatePostgres:
    def __init__(self, guard, name="pg", prepared=64, env=None):
        self.guard = guard
        self.dir = guard.path(name)
        self.data, self.socket_dir = self.dir + "/data", self.dir + "/s"
        self.user = "postgres" if os.geteuid() == 0 else None
        self.prepared, self.env = prepared, env
        self.process = None
        os.mkdir(self.dir)
        os.mkdir(self.socket_dir, 0o700)
        if self.user:
            for path in (self.dir, self.socket_dir):
                shutil.chown(path, self.user)
        done = guard.run([bindir() + "/initdb", "-D", self.data, "-U", "assent", "-A", "trust",
                          "-N", "-E", "UTF8", "--locale=C"], user=self.user, timeout=60)
        assert done.returncode == 0, done.stderr

    def start(self):
        self.process = self.guard.spawn("postgres", [
            bindir() + "/postgres", "-D", self.data, "-k", self.socket_dir,
            "-c", "listen_addresses=", "-c", "max_prepared_transactions=%d" % self.prepared,
            "-c", "shared_buffers=16MB"], env=self.env, user=self.user)
        wait_until(self._answers, 20, "PostgreSQL to answer")
        return self

    def _answers(self):
        assert self.process.running(), self.process.last_lines()
        try:
            connect(self.socket_dir, "postgres").close()
            return True
        except psycopg2.OperationalError:
            return False

    def create(self, dbname):
        connection = connect(self.socket_dir, "postgres")
        with connection.cursor() as cursor:
            cursor.execute('CREATE DATABASE "%s"' % dbname)
        connection.close()
        return Database(self.socket_dir, dbname)

    def stop(self):
        self.process.terminate(signal.SIGINT)
        self.process.wait(20)
