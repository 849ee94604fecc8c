"""Counters differenced where they change, and power integrated: the two ways to joules.

An energy counter moves on updates of its own. Polls in between see the old value, and whoever
differences them beats against the update rate. Pure: arrays in, numbers out.
"""

from typing import NamedTuple

import numpy as np

from lydite.evidence.power.trace import Times, Values


class Update(NamedTuple):
    """One step of a counter: it rose by ``amount`` from one change to the next."""

    start_ns: int
    end_ns: int
    amount: float

    @property
    def rate(self) -> float:
        """Return the amount a second."""
        return self.amount / ((self.end_ns - self.start_ns) / 1e9)


class CounterMeter:
    """Differences a counter on its own updates, sample by sample."""

    def __init__(self) -> None:
        self._since_ns: int | None = None
        self._value: float | None = None
        self.total = 0.0
        """What it rose by since the first change that was seen."""

    def take(self, t_ns: int, value: float) -> Update | None:
        """Return the step that ends with this sample, or ``None`` if the counter has not moved.

        The first change only says when the counter moves; a fall begins anew.
        """
        before, since_ns = self._value, self._since_ns
        if before is None or value == before:
            self._value = value
            return None
        self._value, self._since_ns = value, t_ns
        if since_ns is None or value < before:
            return None
        self.total += value - before
        return Update(since_ns, t_ns, value - before)


def changes(values: Values) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Return the places of samples that differ from the one before."""
    return np.flatnonzero(np.diff(values)) + 1


def energy_j(t_ns: Times, power_w: Values, start_ns: int, end_ns: int) -> float:
    """Return the integral of power over ``[start_ns, end_ns]``, each value held until the next.

    What was drawn before the first sample counts at the first sample's power.
    """
    inner = t_ns[(t_ns > start_ns) & (t_ns < end_ns)]
    edges = np.concatenate(([start_ns], inner, [end_ns]))
    held = np.maximum(np.searchsorted(t_ns, edges[:-1], side="right") - 1, 0)
    return float(np.sum(power_w[held] * (np.diff(edges) / 1e9)))
