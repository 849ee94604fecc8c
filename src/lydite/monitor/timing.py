"""The sampling clock: monotonic time, Unix time beside it, and waiting that can be cut short.

The only place of this room that asks what time it is, so that tests may bring a time of their own.
"""

import threading
import time
from datetime import UTC, datetime
from typing import Protocol

from lydite.messages.receipt import Timestamp


class Timing(Protocol):
    """A clock that one can wait on."""

    def now_ns(self) -> int:
        """Return the sampling clock."""

    def unix_us(self) -> int:
        """Return Unix time, which somebody may set."""

    def wait_until(self, t_ns: int) -> bool:
        """Wait, and return whether ``stop`` was called."""

    def stop(self) -> None:
        """End every wait, now and later."""


_SHORT_NS = 25_000_000
"""Shorter waits are slept through: that costs half as much as a wait that can be cut short."""


class SystemTiming:
    """The clocks of this machine."""

    def __init__(self) -> None:
        self._stopped = threading.Event()

    def now_ns(self) -> int:
        """Return monotonic time."""
        return time.monotonic_ns()

    def unix_us(self) -> int:
        """Return Unix time."""
        return time.time_ns() // 1000

    def wait_until(self, t_ns: int) -> bool:
        """Wait, and return whether ``stop`` was called."""
        left_ns = t_ns - time.monotonic_ns()
        if left_ns > _SHORT_NS:
            return self._stopped.wait(left_ns / 1e9)
        if left_ns > 0:
            time.sleep(left_ns / 1e9)
        return self._stopped.is_set()

    def stop(self) -> None:
        """End every wait, now and later."""
        self._stopped.set()


def timestamp(unix_us: int) -> Timestamp:
    """Return a time as statements spell it."""
    whole = datetime.fromtimestamp(unix_us // 1_000_000, UTC).isoformat()[:19]
    return f"{whole}.{unix_us // 1000 % 1000:03d}Z"
