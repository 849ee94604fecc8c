"""From a trace to readings in whole microjoules that add up: by the counter, else by power.

Knows nothing of work, or of who pays for it.
"""

import itertools

import numpy as np

from lydite.errors import Reason, UnavailableError
from lydite.evidence.power import measuring
from lydite.evidence.power.readings import Reading
from lydite.evidence.power.trace import Series, Trace

_MICRO = 1_000_000
_NS_PER_US = 1000


def read(gpu: str, trace: Trace, start_us: int, end_us: int) -> tuple[Reading, ...]:
    """Return what was measured from ``start_us`` to ``end_us``, on the clock of the trace.

    The stretches follow one another from start to end. Each total is rounded from the running sum,
    so rounding does not pile up. What no sample covers has no microjoules.

    Raises:
        UnavailableError: the trace has neither an energy counter that moves nor power.
    """
    times_ns, total_j, good = measuring.cumulative(_meter(trace, start_us, end_us))
    inside = (times_ns > start_us * _NS_PER_US) & (times_ns < end_us * _NS_PER_US)
    edges = np.concatenate([[start_us * _NS_PER_US], times_ns[inside], [end_us * _NS_PER_US]])
    sums = np.rint(np.interp(edges, times_ns, total_j) * _MICRO).astype(np.int64).tolist()
    step = np.searchsorted(times_ns, (edges[:-1] + edges[1:]) // 2, side="right") - 1
    known = (step >= 0) & (step < len(good)) & good[np.clip(step, 0, len(good) - 1)]
    stretches = zip(
        itertools.pairwise((edges // _NS_PER_US).tolist()),
        itertools.pairwise(sums),
        known.tolist(),
        strict=True,
    )
    return tuple(
        Reading(gpu, since, until, after - before if measured else None)
        for (since, until), (before, after), measured in stretches
        if until > since
    )


def _meter(trace: Trace, start_us: int, end_us: int) -> Series:
    """Return the series that covers most: the counter, if it moves at all, comes first."""
    span = np.array([[start_us, end_us]], dtype=np.int64) * _NS_PER_US
    names = [name for name in ("energy_j", *measuring.POWERS) if name in trace.series]
    for name in names:
        if measuring.integral(trace.series[name], span).covered_s > 0:
            return trace.series[name]
    raise UnavailableError("neither energy nor power was measured", Reason.UNMEASURED)
