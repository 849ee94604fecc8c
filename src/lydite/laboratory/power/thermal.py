"""Temperature beside power: how far it lags, and what it adds.

A first-order element follows power with one time constant; two of them fit a chip and its cooler.
Knows nothing of work.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lydite.evidence.power.mixture import least_squares
from lydite.evidence.power.trace import Values

FAST_S = (0.1, 0.5, 1.0, 2.0, 5.0)
SLOW_S = (10.0, 20.0, 40.0, 60.0, 90.0)


class Lag(NamedTuple):
    """How temperature follows power in several traces."""

    fast_s: float
    slow_s: float
    fast_c_per_w: float
    slow_c_per_w: float
    base_c: float
    rmse_c: float


def followed(power: Values, tau_s: float, step_s: float) -> Values:
    """Return power after a first-order element that starts in equilibrium."""
    keep = float(np.exp(-step_s / tau_s))
    found = np.empty(len(power))
    held = float(power[0])
    for place, value in enumerate(power.tolist()):
        held = keep * held + (1 - keep) * value
        found[place] = held
    return found


def fit(traces: Sequence[tuple[Values, Values]], step_s: float) -> Lag:
    """Return the pair of time constants that explains temperature best, over all traces.

    Each device has a base of its own (its place in the stream of air); the mean of them is given.
    """
    made = {
        tau: [followed(power, tau, step_s) for power, _ in traces] for tau in (*FAST_S, *SLOW_S)
    }
    heat = np.concatenate([celsius - celsius.mean() for _, celsius in traces])
    centred = {
        tau: np.concatenate([one - one.mean() for one in several]) for tau, several in made.items()
    }
    best: Lag | None = None
    for fast in FAST_S:
        for slow in SLOW_S:
            parts = np.column_stack([centred[fast], centred[slow]])
            quick, late = (float(one) for one in least_squares(parts, heat))
            rmse = float(np.sqrt(np.mean((heat - parts @ np.array([quick, late])) ** 2)))
            if best is None or rmse < best.rmse_c:
                bases = [
                    celsius.mean() - quick * near.mean() - late * far.mean()
                    for (_, celsius), near, far in zip(traces, made[fast], made[slow], strict=True)
                ]
                best = Lag(fast, slow, quick, late, float(np.mean(bases)), rmse)
    assert best is not None
    return best


def delay(power: Values, heat: Values, step_s: float, most_s: float = 60.0) -> float:
    """Return the lag at which the changes of both agree best, in seconds."""
    rise, warm = np.diff(power), np.diff(heat)
    rise, warm = rise - rise.mean(), warm - warm.mean()
    steps = range(min(round(most_s / step_s), len(rise) // 2))
    scores = [float(rise[: len(rise) - lag] @ warm[lag:]) for lag in steps]
    return float(np.argmax(scores) * step_s)
