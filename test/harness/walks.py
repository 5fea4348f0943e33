"""Walks that were asked for, on some ledgers at the same time; a fixture of a module, of which
`ledger` makes one and `walk` does a walk on it:

    @pytest.fixture(scope="module")
    def walks(pg, request):
        yield from walked(request, lambda n: Ledger(pg.guard, pg, "walk%d" % n), walk)
"""

from concurrent.futures import ThreadPoolExecutor

N_LEDGER = 2


class Walks:
    def __init__(self, chosen, ledger, walk):
        self.pools = [ThreadPoolExecutor(1) for _ in range(N_LEDGER)]
        ledgers = [pool.submit(ledger, i) for i, pool in enumerate(self.pools)]
        self.futures = {name: self.pools[i % N_LEDGER].submit(
            lambda made, what: walk(made.result(), what), ledgers[i % N_LEDGER], name)
                        for i, name in enumerate(chosen)}

    def close(self):
        for future in self.futures.values():
            future.cancel()
        for pool in self.pools:
            pool.shutdown()


def walked(request, ledger, walk):
    """Those of the module's tests that were chosen, by their parameter `walk`."""
    chosen = [item.callspec.params["walk"] for item in request.session.items
              if item.module is request.module and hasattr(item, "callspec")
              and "walk" in item.callspec.params]
    walks = Walks(chosen, ledger, walk)
    yield walks
    walks.close()
