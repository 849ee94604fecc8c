"""Spans of a trace by what the device did in them, for pictures and tables.

By the marks that somebody made, else by phases (SM, tensor and memory activity), else by whether
power is high or low. Knows nothing of verdicts.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from lydite.errors import FormatError, Reason
from lydite.evidence.power.features.model import PHASES, phases
from lydite.evidence.power.features.table import PHASE_CHANNELS
from lydite.evidence.power.trace import Series, Times, Trace, Values
from lydite.monitor.store.entry import Mark

POWER = ("power_instant_w", "power_average_w", "power_wall_w")
"""Channels of power, the one that shows most first."""
SHORTEST_S = 0.5
"""A shorter span joins the one before it."""
NARROW = 0.1
"""Power whose middle four fifths lie within this share of its greatest value has one level."""


def power_of(trace: Trace) -> Series:
    """Return the power of a trace.

    Raises:
        FormatError: it has none.
    """
    for name in POWER:
        if name in trace.series:
            return trace.series[name]
    raise FormatError("a trace without power", Reason.TOO_FEW_SAMPLES)


def segments(trace: Trace, marks: Sequence[Mark] = ()) -> list[Mark]:
    """Return the spans of a trace, in order."""
    if marks:
        return list(marks)
    if all(name in trace.series for name in PHASE_CHANNELS):
        return _by_phase(trace)
    return _by_level(power_of(trace))


def _by_phase(trace: Trace) -> list[Mark]:
    sm = trace.series[PHASE_CHANNELS[0]]
    active, tensor, dram = (_held(trace.series[name], sm.t_ns)[None, :] for name in PHASE_CHANNELS)
    codes = phases(active, tensor, dram)[0]
    return _joined(sm.t_ns, [PHASES[int(code)] for code in codes])


def _by_level(power: Series) -> list[Mark]:
    low, high = np.quantile(power.values, (0.1, 0.9))
    if high - low < NARROW * power.values.max():
        return _joined(power.t_ns, ["level"] * len(power.t_ns))
    over = power.values > (low + high) / 2
    return _joined(power.t_ns, ["high" if each else "low" for each in over])


def _held(series: Series, t_ns: Times) -> Values:
    """Return the last value at or before each time; the first before it."""
    places = np.searchsorted(series.t_ns, t_ns, side="right") - 1
    return series.values[np.maximum(places, 0)]


def _joined(t_ns: Times, names: Sequence[str]) -> list[Mark]:
    """Return runs of one name; a short one is part of the one before."""
    starts = [i for i in range(len(names)) if i == 0 or names[i] != names[i - 1]]
    found: list[Mark] = []
    for first, last in pairwise([*starts, len(names)]):
        start, end = int(t_ns[first]), int(t_ns[min(last, len(t_ns) - 1)])
        name = names[first]
        if found and (end - start < SHORTEST_S * 1e9 or found[-1].name == name):
            start, name = found[-1].start_ns, found[-1].name
            found.pop()
        found.append(Mark(start_ns=start, end_ns=end, name=name))
    return found
