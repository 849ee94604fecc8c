"""A clock for one thread on a busy machine: it stands still while others hold the core.

The time that a thread spends ready to run and waiting for a core is not its own; the kernel keeps
it (``/proc/thread-self/schedstat``, second field, nanoseconds). Time on the core and time blocked
on the disk both count. Where the kernel does not tell, this is the clock on the wall.
"""

from collections.abc import Callable
from pathlib import Path
from time import perf_counter

_SCHEDSTAT = Path("/proc/thread-self/schedstat")


def now() -> float:
    """Return seconds since some moment, less those in which others held the core."""
    if not _SCHEDSTAT.exists():
        return perf_counter()
    while True:
        waited_ns, moment = _waited_ns(), perf_counter()
        if waited_ns == _waited_ns():  # else others held the core between the two
            return moment - waited_ns / 1e9


def _waited_ns() -> int:
    return int(_SCHEDSTAT.read_bytes().split()[1])


def rate(work: Callable[[], object], amount: int, runs: int = 5) -> float:
    """Return how much of ``work`` one second does, the best of ``runs`` that do ``amount`` each."""
    best = float("inf")
    for _ in range(runs):
        started = now()
        work()
        best = min(best, now() - started)
    return amount / best
