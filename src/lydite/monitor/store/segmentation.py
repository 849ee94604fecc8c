"""Spans of a trace by what the device did in them, for pictures and tables.

By the marks that somebody made, else by phases (SM, tensor and memory activity), else by whether
power is high or low. Knows nothing of verdicts.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby, pairwise

import numpy as np

from lydite.errors import FormatError, Reason
from lydite.evidence.power import gpus
from lydite.evidence.power.features.model import PHASES, phases
from lydite.evidence.power.features.table import PHASE_CHANNELS
from lydite.evidence.power.trace import Series, Times, Trace, Values
from lydite.monitor.store.entry import Mark

POWER = ("power_instant_w", "power_average_w", "power_wall_w")
"""Channels of power, the one that shows most first."""
SHORTEST_S = 0.5
"""Shorter runs are taken together, or join a neighbour."""
QUIET = frozenset({"idle", "low"})
"""Names that no time of work may get, however short its runs are."""
LOADED = 0.35
"""Share of the stated power that no rest draws, not even with a model loaded (.25)."""
FAR = 1.5
"""Power of so many times the rest's is no rest, whatever the counters say."""
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
    names = [PHASES[int(code)] for code in codes]
    if any(name in trace.series for name in POWER):
        names = _truly_idle(names, _held(power_of(trace), sm.t_ns), trace.device)
    return _joined(sm.t_ns, names)


def _truly_idle(names: Sequence[str], watts: Values, device: str) -> list[str]:
    """Return ``names``, with ``other`` for what is called idle and draws far more than a rest."""
    idle = np.array([name == "idle" for name in names])
    if not idle.any():
        return list(names)
    most = FAR * float(np.quantile(watts[idle], 0.1))
    if gpus.known(device):
        most = min(most, LOADED * gpus.find(device).tdp_w)
    return [
        "other" if still and drawn > most else name
        for name, still, drawn in zip(names, idle, watts, strict=True)
    ]


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
    """Return runs of one name, none of them short unless it is work between two rests.

    Short runs that follow one another become one span, named as the work in it that takes the most
    time. What is short even so joins the span before it, but work never joins a rest: it joins
    the work that follows, or stays.
    """
    found: list[Mark] = []
    for one in _pooled(_runs(t_ns, names)):
        before = found[-1] if found else None
        if before is not None and (before.name == one.name or _joins(one, before)):
            found[-1] = _spanning(before, one, before.name)
        elif before is not None and _short(before) and _joins(before, one):
            found[-1] = _spanning(before, one, one.name)
        else:
            found.append(one)
    return found


def _runs(t_ns: Times, names: Sequence[str]) -> list[Mark]:
    starts = [i for i in range(len(names)) if i == 0 or names[i] != names[i - 1]]
    return [
        Mark(start_ns=int(t_ns[first]), end_ns=int(t_ns[min(last, len(t_ns) - 1)]),
             name=names[first])
        for first, last in pairwise([*starts, len(names)])
    ]  # fmt: skip


def _pooled(runs: Sequence[Mark]) -> list[Mark]:
    """Return ``runs``, with short ones that follow one another as one."""
    found: list[Mark] = []
    for short, group in groupby(runs, _short):
        rows = list(group)
        if not short:
            found += rows
            continue
        spent: Counter[str] = Counter()
        for one in rows:
            spent[one.name] += one.end_ns - one.start_ns
        names = sorted(spent, key=lambda name: (name in QUIET, -spent[name]))
        found.append(_spanning(rows[0], rows[-1], names[0]))
    return found


def _short(one: Mark) -> bool:
    return one.end_ns - one.start_ns < SHORTEST_S * 1e9


def _joins(one: Mark, other: Mark) -> bool:
    """Return whether a span is short and may be called what its neighbour is called."""
    return _short(one) and (one.name in QUIET or other.name not in QUIET)


def _spanning(first: Mark, last: Mark, name: str) -> Mark:
    return Mark(start_ns=first.start_ns, end_ns=last.end_ns, name=name)
