"""The declared work of a stretch of time: how many tokens, how many answers at once, how fast.

Requests that reach beyond the stretch count by the part of their tokens that lies in it, as if
tokens came evenly. Knows nothing of telemetry.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lydite.errors import UnavailableError
from lydite.evidence.power.claims import Claims
from lydite.evidence.power.declared import Load
from lydite.evidence.power.measuring import Spans, clip, complement, union

_MICRO_NS = 1000
_PER_S = 1_000_000_000
SETTLED_NS = 2 * _PER_S
"""After the last answer, until clocks, sensors and caches have come to rest."""
LEAST_GAP_NS = 2 * SETTLED_NS

_Int = NDArray[np.int64]
_Floats = NDArray[np.float64]


class Work(NamedTuple):
    """What a stretch of a run holds, on the clock of the monitor."""

    busy: Spans
    """While at least one request was open."""
    gaps: Spans
    """While none was, for long enough that the GPU came to rest."""
    load: Load
    output_tokens: float
    time_s: float | None
    """Between two tokens of one answer, averaged over tokens; None if no answer has two."""


def stretch(claims: Claims, start_ns: int, end_ns: int) -> Work:
    """Return the declared work from ``start_ns`` to ``end_ns`` by the monitor's clock.

    Raises:
        UnavailableError: no token is declared in it.
    """
    rows = np.array(
        [
            (one.received_us, one.first_us, one.completed_us, one.prompt_tokens, one.output_tokens)
            for one in claims.requests
        ],
        dtype=np.int64,
    ).reshape(-1, 5)
    times = (rows[:, :3] - claims.zero_us) * _MICRO_NS
    received, first, completed = times.T
    prompts, outputs = rows[:, 3].astype(np.float64), rows[:, 4].astype(np.float64)
    shares = _inside(first, completed, start_ns, end_ns)
    tokens = outputs * shares
    total = float(np.sum(tokens))
    if total < 1.0:
        raise UnavailableError("no token is declared in this stretch of the run")
    busy = clip(union(received, completed), start_ns, end_ns)
    decoding = clip(union(first, completed), start_ns, end_ns)
    made_ns = float(np.sum((completed - first) * shares))
    later = float(np.sum((outputs - 1) * shares))
    weights = tokens / total
    load = Load(
        sequences=max(made_ns / max(float(np.sum(decoding[:, 1] - decoding[:, 0])), 1.0), 1.0),
        context=float(np.sum(weights * (prompts + outputs / 2))),
        prompt_tokens=float(np.sum(shares * prompts) / np.sum(shares)),
        output_tokens=float(total / np.sum(shares)),
    )
    time_s = made_ns / later / _PER_S if later > 0 else None
    return Work(busy, _gaps(busy, start_ns, end_ns), load, total, time_s)


def run_ns(claims: Claims) -> tuple[int, int]:
    """Return start and end of the run by the monitor's clock."""
    start, end = claims.start_us - claims.zero_us, claims.end_us - claims.zero_us
    return start * _MICRO_NS, end * _MICRO_NS


def _inside(first: _Int, completed: _Int, start_ns: int, end_ns: int) -> _Floats:
    """Return the share of each answer that was made between start and end."""
    took = completed - first
    overlap = np.minimum(completed, end_ns) - np.maximum(first, start_ns)
    at_once = (first >= start_ns) & (first < end_ns)
    shares = np.maximum(overlap, 0) / np.maximum(took, 1)
    return np.where(took > 0, shares, at_once.astype(np.float64))


def _gaps(busy: Spans, start_ns: int, end_ns: int) -> Spans:
    gaps = complement(busy, start_ns, end_ns)
    long = gaps[gaps[:, 1] - gaps[:, 0] >= LEAST_GAP_NS]
    settled: Spans = long + np.array([SETTLED_NS, 0], dtype=np.int64)
    return settled
