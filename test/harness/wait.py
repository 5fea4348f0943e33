"""Waiting for a condition. The only place that sleeps."""

import time


def wait_until(condition, deadline_s=10.0, what=None, every_s=0.005):
    """Poll until `condition()` is true and return its value; AssertionError after the deadline."""
    give_up = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= give_up:
            name = what or getattr(condition, "__name__", "condition")
            if callable(name):
                name = name()
            raise AssertionError("waited %.0f s in vain for: %s" % (deadline_s, name))
        time.sleep(every_s)
        every_s = min(every_s * 1.3, 0.05)
