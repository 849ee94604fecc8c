"""What one data plane has counted: plain numbers that a scrape reads, cheap for each request.

Labels are bounded: a route, a status, an outcome, and a model only if the operator declared it;
never a user, never an id. Knows nothing of how numbers are shown.
"""

from bisect import bisect_left
from collections.abc import Iterable
from time import perf_counter
from typing import NamedTuple, Protocol

import msgspec

from lydite.gateway.heads import Fields

SECONDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)
"""Upper bounds of every histogram: from a gateway's own share to a long answer."""


class Histogram(msgspec.Struct, array_like=True):
    """Counts by bucket, the last for what is beyond every bound, and the sum, in seconds."""

    counts: list[int] = msgspec.field(default_factory=lambda: [0] * (len(SECONDS) + 1))
    total: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(SECONDS, seconds)] += 1
        self.total += seconds

    def add(self, other: "Histogram") -> None:
        """Count all of another's."""
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.total += other.total


class Times:
    """When one exchange passed each of its points, in seconds of ``perf_counter``; 0: not yet."""

    __slots__ = ("came", "first", "heard", "sent")

    def __init__(self) -> None:
        self.came = perf_counter()
        self.sent = 0.0
        """The request went to the engine."""
        self.first = 0.0
        """The first byte of a stream went to the client."""
        self.heard = 0.0
        """The engine's answer was over."""


class Served(NamedTuple):
    """One exchange that is over."""

    receipt_id: str
    route: str
    model: str
    status: int
    times: Times
    fields: Fields
    """Of the request: its trace context is among them."""


class Spans(Protocol):
    """Who takes note of exchanges."""

    def served(self, exchange: Served) -> None:
        """Take note of one, if it is sampled."""


class Tally(msgspec.Struct, array_like=True):
    """Counters since a process began; keys are the values of labels, in the order named."""

    requests: dict[tuple[str, str, int], int] = {}
    """By route, model and status."""
    outcomes: dict[str, int] = {}
    """Receipts by outcome."""
    failures: dict[str, int] = {}
    """Failures of upstreams by kind."""
    inflight: int = 0
    duration: Histogram = msgspec.field(default_factory=Histogram)
    overhead: Histogram = msgspec.field(default_factory=Histogram)
    first_byte: Histogram = msgspec.field(default_factory=Histogram)

    def served(self, route: str, model: str, status: int, times: Times) -> None:
        """Count an exchange that is over, and how much of its time was the gateway's."""
        self.inflight -= 1
        key = (route, model, status)
        self.requests[key] = self.requests.get(key, 0) + 1
        now = perf_counter()
        self.duration.observe(now - times.came)
        if times.sent and times.heard:
            self.overhead.observe(now - times.heard + times.sent - times.came)
        if times.first:
            self.first_byte.observe(times.first - times.came)

    def recorded(self, outcome: str) -> None:
        """Count a receipt."""
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1

    def add(self, other: "Tally") -> None:
        """Count all of another's."""
        pairs = (
            (self.requests, other.requests),
            (self.outcomes, other.outcomes),
            (self.failures, other.failures),
        )
        for ours, theirs in pairs:
            _merge(ours, theirs)
        self.inflight += other.inflight
        self.duration.add(other.duration)
        self.overhead.add(other.overhead)
        self.first_byte.add(other.first_byte)


def total(tallies: Iterable[Tally]) -> Tally:
    """Return the sum."""
    made = Tally()
    for each in tallies:
        made.add(each)
    return made


def _merge(ours: dict, theirs: dict) -> None:  # type: ignore[type-arg]
    for key, count in theirs.items():
        ours[key] = ours.get(key, 0) + count
