"""`make bench PARTICIPANTS=samples`: the samples stock and account instead of participants that do
nothing, with their databases on assentd's PostgreSQL, as in the demonstration.

Every client takes goods and money of its own (its number is their name), because the rows stay
locked until the decision: with a few rows for all, the figure would be that of the queue for them.
"""

import sys

from harness.process import cpu_seconds
from harness.system import Service

N_ROW = 8192  # the most clients that load.c takes
PAYLOAD = '{"sku":"#","n":1,"user":#,"amount":1}'
GOODS = """
    INSERT INTO stock (sku, n) SELECT g::text, 1000000000 FROM generate_series(0, %d) g""" % N_ROW
MONEY = """
    INSERT INTO account (user_id, balance) SELECT g, 1000000000000 FROM generate_series(0, %d) g
    ON CONFLICT (user_id) DO UPDATE SET balance = excluded.balance""" % N_ROW


class Shop:
    """stock and account, and what they and their sessions have used."""

    def __init__(self, guard, assentd):
        self.services = []
        for name, rows in (("stock", GOODS), ("account", MONEY)):
            service = Service(guard, name, assentd.database(name),
                              args=["--coordinator", assentd.url]).start()
            service.db.query(rows)
            service.db.query("VACUUM ANALYZE " + name)
            self.services.append(service)
        self.urls = ["%s/%s" % (s.url, s.name) for s in self.services]

    def taken(self):
        """Pieces and money gone: as many as branches were committed."""
        return [s.db.value(sql) for s, sql in zip(self.services, (
            "SELECT sum(1000000000 - n)::bigint FROM stock WHERE n > 1000",
            "SELECT sum(1000000000000 - balance)::bigint FROM account"))]

    def check(self, before, result):
        """Each branch of what was answered as committed has been done once; nothing waits."""
        gone = [a - b for a, b in zip(self.taken(), before)]
        held = sum((s.db.prepared() for s in self.services), [])
        if gone[0] != gone[1] or gone[0] < result["committed"] or held:
            sys.exit("committed %d, taken %s, prepared %s" % (result["committed"], gone, held))

    def cpu(self):
        used = {"cpu_" + s.name: cpu_seconds([s.process.pid]) for s in self.services}
        for s in self.services:
            sessions = [r[0] for r in s.db.query(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database()")]
            used["cpu_pg_" + s.name] = cpu_seconds(sessions)
        return used
