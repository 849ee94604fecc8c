"""Joules and means over stretches of time, from traces with gaps, resets and uneven steps.

What lies between two samples too far apart is not measured: it is left out of the sum, and out of
the time that the sum covers. Knows nothing of work.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lydite.evidence.power.channels import Nature
from lydite.evidence.power.trace import Series, Times, Trace, Values

SECOND = 1_000_000_000
POWERS = ("power_instant_w", "power_average_w", "power_wall_w")
_LEAST_GAP_NS, _MOST_GAP_NS = 2 * SECOND, 15 * SECOND

Spans = NDArray[np.int64]
"""Start and end of stretches that do not overlap, in nanoseconds; shape (stretches, 2)."""


Good = NDArray[np.bool_]


class Measured(NamedTuple):
    """An integral over stretches of time, and the part of them that it covers."""

    total: float
    """In the channel's unit times seconds; of a counter, in its unit."""
    covered_s: float

    @property
    def mean(self) -> float:
        """Return the mean where it is covered; NaN where nothing is."""
        return self.total / self.covered_s if self.covered_s > 0 else float("nan")


def integral(series: Series, spans: Spans) -> Measured:
    """Return the integral of one channel over ``spans``.

    A gauge holds until its next sample, an interval's value since the one before. A counter is
    read where it changes, and is straight in between. Steps of more than three times the median
    (2 to 15 s), and those by which a counter falls, are not covered.
    """
    t_ns, totals, good = cumulative(series)
    if len(t_ns) < 2:
        return Measured(0.0, 0.0)
    covered = np.concatenate([[0.0], np.cumsum(np.where(good, np.diff(t_ns), 0))])
    return Measured(_over(spans, t_ns, totals), _over(spans, t_ns, covered) / SECOND)


def cumulative(series: Series) -> tuple[Times, Values, Good]:
    """Return times, the running integral at each, and which steps between them are covered."""
    t_ns, rise = _steps(series)
    took = np.diff(t_ns)
    widest = np.clip(3 * np.median(took), _LEAST_GAP_NS, _MOST_GAP_NS) if len(took) else 0
    good = (took <= widest) & (rise >= 0)
    return t_ns, np.concatenate([[0.0], np.cumsum(np.where(good, rise, 0.0))]), good


def joules(trace: Trace, spans: Spans) -> Measured:
    """Return the energy over ``spans`` by the counter, or by the power that covers most of them."""
    counter = trace.series.get("energy_j")
    if counter is not None:
        found = integral(counter, spans)
        if found.covered_s > 0:
            return found
    return by_power(trace, spans)


def by_power(trace: Trace, spans: Spans) -> Measured:
    """Return the integral of the power channel that covers most of ``spans``; nothing if none."""
    present = [trace.series[name] for name in POWERS if name in trace.series]
    return max(
        (integral(series, spans) for series in present),
        key=lambda found: found.covered_s,
        default=Measured(0.0, 0.0),
    )


def means(trace: Trace, spans: Spans) -> dict[str, float]:
    """Return the mean of every gauge and interval channel that covers half of ``spans`` or more."""
    whole = length_s(spans)
    found = {
        name: integral(series, spans)
        for name, series in trace.series.items()
        if series.channel.nature is not Nature.COUNTER
    }
    return {
        name: one.mean
        for name, one in found.items()
        if one.covered_s > 0 and one.covered_s >= whole / 2
    }


def length_s(spans: Spans) -> float:
    """Return how long ``spans`` are together."""
    return float(np.sum(spans[:, 1] - spans[:, 0])) / SECOND


def union(starts: Times, ends: Times) -> Spans:
    """Return the stretches in which at least one of ``starts`` to ``ends`` is open."""
    if not len(starts):
        return np.empty((0, 2), dtype=np.int64)
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], np.maximum.accumulate(ends[order])
    first = np.concatenate([[True], starts[1:] > ends[:-1]])
    last = np.concatenate([first[1:], [True]])
    return np.stack([starts[first], ends[last]], axis=1)


def complement(spans: Spans, start: int, end: int) -> Spans:
    """Return what of ``start`` to ``end`` lies outside of ``spans``."""
    edges = np.concatenate([[start], spans.ravel(), [end]]).reshape(-1, 2)
    return edges[edges[:, 1] > edges[:, 0]]


def clip(spans: Spans, start: int, end: int) -> Spans:
    """Return what of ``spans`` lies within ``start`` to ``end``."""
    cut = np.clip(spans, start, end)
    return cut[cut[:, 1] > cut[:, 0]]


def _steps(series: Series) -> tuple[Times, Values]:
    """Return the times between which the channel was read, and its integral over each step."""
    t_ns, values = series.t_ns, series.values
    if series.channel.nature is Nature.COUNTER:
        kept = np.concatenate([[True], values[1:] != values[:-1]])
        return t_ns[kept], np.diff(values[kept])
    held = values[1:] if series.channel.nature is Nature.INTERVAL else values[:-1]
    return t_ns, held * (np.diff(t_ns) / SECOND)


def _over(spans: Spans, t_ns: Times, totals: Values) -> float:
    at = np.interp(spans - t_ns[0], t_ns - t_ns[0], totals)
    return float(np.sum(at[:, 1] - at[:, 0]))
