"""A time that passes only when somebody waits, and sources with nothing behind them."""

from collections.abc import Callable, Sequence

from lydite.messages.segment import Clock
from lydite.monitor.readings import Group, Reading, Tally
from lydite.monitor.ring import Ring
from lydite.monitor.sampler import Sampler

MS = 1_000_000
SECOND = 1_000_000_000
UNIX_US = 1_700_000_000_000_000


class VirtualTiming:
    """Waiting takes no time; ``end_ns`` is when somebody says stop."""

    def __init__(self, end_ns: int = 10 * SECOND, each_read_ns: int = 0) -> None:
        self.t_ns = 0
        self.end_ns = end_ns
        self.each_read_ns = each_read_ns
        self.stopped = False

    def now_ns(self) -> int:
        self.t_ns += self.each_read_ns
        return self.t_ns

    def unix_us(self) -> int:
        return UNIX_US + self.t_ns // 1000

    def wait_until(self, t_ns: int) -> bool:
        self.t_ns = max(self.t_ns, t_ns)
        return self.stopped or self.t_ns >= self.end_ns

    def stop(self) -> None:
        self.stopped = True


class Scripted:
    """A source whose groups are functions."""

    kind = "scripted"
    clock: Clock = "monotonic"

    def __init__(
        self, reads: dict[tuple[str, int], Callable[[int], Sequence[Reading]]], device: str = "d/0"
    ) -> None:
        self.device = device
        self.patient = False
        self.ended = False
        self.tally = Tally()
        self.groups = tuple(Group(c, p, (c,), read) for (c, p), read in reads.items())

    def close(self) -> None:
        pass


def sample(source: object, timing: VirtualTiming, capacity: int = 1_000_000) -> list[Reading]:
    """Sample one source in this thread until the time ends, and return what it gave."""
    ring = Ring(capacity)
    Sampler([source], ring, timing).run()  # type: ignore[list-item]
    return [reading for _, readings in ring.drain() for reading in readings]
