"""Windows of a trace on a regular grid, and exact energy over any span of it.

A window never spans two blocks, nor a step between samples that is longer than a stated one. Knows
nothing of features; ``streaming`` makes the same windows of samples as they come.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lydite.errors import ConfigurationError, FormatError, Reason
from lydite.evidence.power.channels import Nature
from lydite.evidence.power.trace import Series, Times, Trace, Values

Block = tuple[int, int]
"""First nanosecond of a span, and the first behind it."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a trace is cut.

    Raises:
        ConfigurationError: the numbers make no window, or no whole number of nanoseconds and steps.
    """

    length_s: float = 10.0
    hop_s: float = 5.0
    rate_hz: float = 10.0
    gap_s: float = 1.0
    """The longest step between two samples that a window may span."""

    def __post_init__(self) -> None:
        """Refuse what makes no window."""
        for name in ("length_s", "hop_s", "rate_hz", "gap_s"):
            if not 0 < getattr(self, name) < 1e9:
                raise ConfigurationError(f"{name} of a plan of windows: {getattr(self, name)}")
        if self.size < 2 or abs(self.size - self.length_s * self.rate_hz) > 1e-9 * self.size:
            raise ConfigurationError(
                f"{self.length_s} s at {self.rate_hz} Hz are not two or more whole steps"
            )

    @property
    def size(self) -> int:
        """Return the number of places of a window."""
        return round(self.length_s * self.rate_hz)

    @property
    def hop_ns(self) -> int:
        """Return the time from one window's start to the next."""
        return round(self.hop_s * 1e9)

    @property
    def gap_ns(self) -> int:
        """Return the longest step that a window may span."""
        return round(self.gap_s * 1e9)

    def offsets(self) -> Times:
        """Return the places of a window, in nanoseconds from its start; one more for its end."""
        places = np.arange(self.size + 1, dtype=np.float64)
        return np.rint(places * (1e9 / self.rate_hz)).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of one channel."""

    start_ns: Times
    """One a window."""
    values: Values
    """A row a window."""
    coverage: Values
    """For each window the samples that it rests on, over the places of its grid, at most 1."""


def stretches(series: Series, gap_ns: int, blocks: Sequence[Block] | None = None) -> list[Series]:
    """Return the parts of ``series`` without a step over ``gap_ns``, each within one block."""
    whole = [(int(series.t_ns[0]), int(series.t_ns[-1]) + 1)]
    found = []
    for start, end in blocks if blocks is not None else whole:
        part = series.between(start, end)
        if part is None:
            continue
        breaks = np.flatnonzero(np.diff(part.t_ns) > gap_ns) + 1
        for first, last in zip([0, *breaks], [*breaks, len(part.t_ns)], strict=True):
            found.append(Series(part.channel, part.t_ns[first:last], part.values[first:last]))
    return found


def cut(series: Series, plan: Plan, blocks: Sequence[Block] | None = None) -> Windows:
    """Return every window of ``series``; each stretch starts its own windows at its first sample.

    A place of the grid has the last value at or before it; in a channel that gives means over the
    time since the sample before, it has the mean of the time that begins there.
    """
    starts = [
        _starts(int(part.t_ns[0]), int(part.t_ns[-1]), plan)
        for part in stretches(series, plan.gap_ns, blocks)
    ]
    return windows_at(series, plan, np.concatenate([np.zeros(0, np.int64), *starts]))


def together(
    trace: Trace, names: Sequence[str], plan: Plan, blocks: Sequence[Block] | None = None
) -> dict[str, Windows]:
    """Return windows of several channels at the same starts, those that every channel covers.

    Raises:
        FormatError: the trace lacks a channel, or no name is given.
    """
    absent = [name for name in names if name not in trace.series]
    if absent or not names:
        raise FormatError(f"no channel {', '.join(absent) or 'named'}", Reason.TOO_FEW_SAMPLES)
    several = [trace.series[name] for name in names]
    spans = _shared(several, plan.gap_ns, blocks)
    starts = [_starts(first, last, plan) for first, last in spans]
    joined = np.concatenate([np.zeros(0, np.int64), *starts])
    return {series.channel.name: windows_at(series, plan, joined) for series in several}


def _starts(first: int, last: int, plan: Plan) -> Times:
    """Return the starts of the windows between two samples."""
    count = max(0, (last - first - int(plan.offsets()[-1])) // plan.hop_ns + 1)
    return first + plan.hop_ns * np.arange(count, dtype=np.int64)


def windows_at(series: Series, plan: Plan, starts: Times) -> Windows:
    """Return the windows at ``starts``, all of them between two samples of one stretch."""
    offsets = plan.offsets()
    index = np.searchsorted(series.t_ns, starts[:, None] + offsets[None, :-1], side="right")
    if series.channel.nature is not Nature.INTERVAL:
        index -= 1
    edges = np.searchsorted(series.t_ns, starts[:, None] + offsets[None, [0, -1]])
    coverage = np.minimum((edges[:, 1] - edges[:, 0]) / plan.size, 1.0)
    return Windows(starts, np.ascontiguousarray(series.values[index]), coverage)


def _shared(
    several: Sequence[Series], gap_ns: int, blocks: Sequence[Block] | None
) -> list[tuple[int, int]]:
    """Return the spans that lie in a stretch of every series."""
    spans: list[tuple[int, int]] | None = None
    for series in several:
        own = [
            (int(part.t_ns[0]), int(part.t_ns[-1])) for part in stretches(series, gap_ns, blocks)
        ]
        if spans is None:
            spans = own
            continue
        crossed = [(max(a, c), min(b, d)) for a, b in spans for c, d in own]
        spans = [(start, end) for start, end in crossed if start <= end]
    return spans or []
