"""How a sensor sees time: its update period from its own changes, its window from a square wave.

A sensor gives, at each update, the mean of the power over a window before it. Where load goes on
and off at known times, the mean of the load over each candidate window is known too, and the
window is the one whose means the values follow best. Pure: arrays in, numbers out.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lydite.evidence.power.trace import Times, Values
from lydite.monitor.meters import changes

WINDOWS_MS = (10, 15, 20, 25, 30, 40, 50, 70, 100, 140, 200, 300, 500, 700, 1000, 1400, 2000)
DELAYS_MS = tuple(range(0, 160, 10))
FOLLOWED = 0.8
"""The share of a sensor's variance that the best window has to explain."""
_MS = 1e6


class Edge(NamedTuple):
    """Load went on or off."""

    t_ns: int
    on: bool


class Window(NamedTuple):
    """The averaging window that fits best, in ms, the delay beside it, and how well it fits."""

    window_ms: int
    delay_ms: int
    explained: float
    rise: float
    """What full load adds, in the sensor's unit."""


def period_us(t_ns: Times, values: Values) -> int | None:
    """Return the median time between changes of value in us, or None if there are too few."""
    places = changes(values)
    if len(places) < 3:
        return None
    return round(float(np.median(np.diff(t_ns[places]))) / 1000)


def load_means(edges: Sequence[Edge], ends_ns: Times, window_ms: float) -> Values:
    """Return the share of time under load in the window before each of ``ends_ns``."""
    times = np.array([edge.t_ns for edge in edges], np.float64)
    states = np.array([edge.on for edge in edges], np.float64)
    busy = np.concatenate(([0.0], np.cumsum(states[:-1] * np.diff(times))))

    def busy_until(t_ns: Values) -> Values:
        place = np.searchsorted(times, t_ns, side="right") - 1
        known = np.maximum(place, 0)
        since = np.where(place >= 0, t_ns - times[known], 0.0)
        return busy[known] + states[known] * since

    ends = ends_ns.astype(np.float64)
    width = window_ms * _MS
    return np.asarray((busy_until(ends) - busy_until(ends - width)) / width)


def window(t_ns: Times, values: Values, edges: Sequence[Edge]) -> Window | None:
    """Return the window that explains a sensor's changes best, or None if none does.

    Only samples at which the value changed are used: in between the sensor repeats itself.
    """
    places = changes(values)
    places = places[t_ns[places] >= edges[0].t_ns] if edges else places[:0]
    if len(places) < 8:
        return None
    at_ns, seen = t_ns[places], values[places]
    spread = float(np.var(seen))
    if not spread:
        return None
    found = max(
        (_fit(at_ns, seen, edges, width, delay) for width in WINDOWS_MS for delay in DELAYS_MS),
        key=lambda fit: fit.explained,
    )
    return found if found.explained >= FOLLOWED else None


def _fit(
    at_ns: Times, seen: Values, edges: Sequence[Edge], window_ms: int, delay_ms: int
) -> Window:
    """Return how much of the variance a straight line through the load's means leaves."""
    means = load_means(edges, at_ns - round(delay_ms * _MS), window_ms)
    spread = means - means.mean()
    squares = float(spread @ spread)
    slope = float(spread @ seen) / squares if squares else 0.0
    rest = seen - seen.mean() - slope * spread
    explained = 1 - float(rest @ rest) / float(len(seen) * np.var(seen))
    return Window(window_ms, delay_ms, explained, slope)
