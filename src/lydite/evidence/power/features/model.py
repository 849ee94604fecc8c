"""Features of a window that follow from how models run: envelope, bursts, cadence, phases, layers.

Each states the rate from which it can be seen at all. Knows nothing of which model was declared;
what is found here fits a declaration or does not, elsewhere.
"""

from typing import NamedTuple

import numpy as np

from lydite.errors import FormatError, Reason, UnavailableError
from lydite.evidence.power.features.feature import (
    LEVEL,
    SHAPE,
    Feature,
    Group,
    Mask,
    Window,
    columns,
    ratio,
    rises,
)
from lydite.evidence.power.trace import Values

ENVELOPE_S = 0.05
ENVELOPE_PLACES = 5
"""An envelope is a mean over so many places at least."""
BURST_SHARE = 0.3103
"""Of the residual's range that a burst rises over: no ratio of small whole numbers, so that no
value of a coarse sensor lies exactly on it."""
CADENCE_S = 2.0
ALIKE = 1e-6
"""Autocorrelations that differ by less count as equal: the shorter lag is taken."""
PLACES_A_BURST = 4


def envelope(x: Values, places: int) -> Values:
    """Return the mean over ``places`` (odd) around each place, ends repeated."""
    half = places // 2
    padded = np.concatenate(
        [np.repeat(x[:, :1], half + 1, axis=1), x, np.repeat(x[:, -1:], half, axis=1)], axis=1
    )
    total = np.cumsum(padded, axis=-1)
    return np.asarray((total[:, places:] - total[:, :-places]) / places)


def _places(seconds: float, rate_hz: float) -> int:
    """Return the odd number of places nearest below ``seconds``, plus one if even."""
    return int(seconds * rate_hz) // 2 * 2 + 1


def envelope_places(rate_hz: float, size: int) -> int:
    """Return how many places an envelope is a mean over, 0 where the rate shows none."""
    places = _places(ENVELOPE_S, rate_hz)
    return places if ENVELOPE_PLACES <= places < size else 0


def bursts(above: Values, floor: Values) -> Mask:
    """Return where a burst begins: where x - e rises over a share of what it varies.

    None does where it varies by no more than ``floor``: that is rounding.
    """
    ordered = np.sort(above, axis=-1)
    last = above.shape[-1] - 1
    spread = ordered[:, int(0.95 * last)] - ordered[:, int(0.05 * last)]
    return rises(above > np.where(spread > floor, BURST_SHARE * spread, np.inf)[:, None])


def _bursting(rate_hz: float, size: int) -> list[Feature]:
    places = envelope_places(rate_hz, size)
    if not places:
        return []
    env = f"e: mean of x over {places} places"
    return [
        Feature("envelope_depth", f"(max(e) - min(e)) / max(e); {env}", "1", LEVEL,
                "matmul envelope"),
        Feature("envelope_duty",
                f"share of places with e over min(e) + {BURST_SHARE} (max(e) - min(e))", "1", SHAPE,
                "matmul envelope"),
        Feature("envelope_rate", "rises of e over that line a second", "1/s", SHAPE,
                "matmul envelope"),
        Feature("burst_rate", f"rises of x - e over {BURST_SHARE} of its 5-95 % range, a second",
                "1/s", SHAPE, "attention bursts"),
        Feature("burst_irregularity", "std / mean of the times between bursts, 0 below 3 bursts",
                "1", SHAPE, "attention bursts"),
        Feature("burst_height", "std of x - e over std of x", "1", SHAPE, "attention bursts"),
    ]  # fmt: skip


def _burst_values(window: Window) -> Values:
    x, rate_hz = window.x, window.rate_hz
    places = envelope_places(rate_hz, window.size)
    if not places:
        return np.zeros((len(x), 0))
    smooth = envelope(x, places)
    low, high = smooth.min(axis=-1), smooth.max(axis=-1)
    # A constant window has an envelope that differs from it by rounding alone.
    moves = high - low > 1e-6 * np.abs(high)
    line = np.where(moves, low + BURST_SHARE * (high - low), np.inf)
    over = smooth > line[:, None]
    above = x - smooth
    begins = bursts(above, 1e-6 * np.maximum(-window.ordered[:, 0], window.ordered[:, -1]))
    count = begins.sum(axis=-1).astype(np.float64)
    above = above - (above.sum(axis=-1) / window.size)[:, None]
    spread = np.sqrt((above * above).sum(axis=-1) / window.size)
    seconds = window.size / rate_hz
    return columns(
        np.where(moves, ratio(high - low, high), 0.0),
        over.sum(axis=-1) / window.size,
        rises(over).sum(axis=-1) / seconds,
        count / seconds,
        _irregularity(begins, count),
        np.where(spread > 1e-6 * np.abs(window.mean), ratio(spread, window.std), 0.0),
    )


def _irregularity(begins: Mask, count: Values) -> Values:
    """Return the coefficient of variation of the steps between true places, from whole numbers."""
    found = np.zeros(len(begins))
    for place in np.flatnonzero(count >= 3):
        steps = np.diff(np.flatnonzero(begins[place]))
        mean = steps.sum() / len(steps)
        found[place] = np.sqrt(max((steps * steps).sum() / len(steps) - mean * mean, 0.0)) / mean
    return found


BURSTS = Group(_bursting, _burst_values)


def _cadenced(_rate_hz: float, _size: int) -> list[Feature]:
    peak = f"first highest peak of the autocorrelation up to {CADENCE_S:g} s and half a window"
    return [
        Feature("cadence", f"1 / lag of the {peak}; 0 if none", "Hz", SHAPE, "token cadence"),
        Feature("cadence_strength", "autocorrelation there", "1", SHAPE, "token cadence"),
    ]


def _cadence_values(window: Window) -> Values:
    correlations = window.correlations
    most = min(int(CADENCE_S * window.rate_hz), window.size // 2)
    if most < 3:
        return np.zeros((len(window.x), 2))
    before, here, after = (correlations[:, k : most - 2 + k + 1] for k in range(3))
    peaks = (here > before + ALIKE) & (here >= after - ALIKE)
    heights = np.where(peaks, here, -1.0)
    best = heights.max(axis=-1)
    found = best > 0
    first = np.argmax(heights >= (best - ALIKE)[:, None], axis=-1)
    return columns(np.where(found, window.rate_hz / (first + 1), 0.0), np.where(found, best, 0.0))


CADENCE = Group(_cadenced, _cadence_values)


class Bounds(NamedTuple):
    """Where a device counts as idle, and as bound by something."""

    idle_sm: float = 0.05
    busy: float = 0.3


PHASES = ("idle", "compute", "memory", "other")
"""What bounds the device, by the number that ``phases`` gives it."""


def phases(sm: Values, tensor: Values, dram: Values, bounds: Bounds | None = None) -> Values:
    """Return for each place what bounds the device, as an index into ``PHASES``.

    Idle if hardly an SM is active; else bound by whichever of tensor cores and memory is the
    busier, if that is busy at all. Shares of the most that the device can do, from 0 to 1.
    """
    bounds = bounds or Bounds()
    busier = np.where(tensor >= dram, 1, 2)
    busy = np.maximum(tensor, dram) >= bounds.busy
    return np.where(sm < bounds.idle_sm, 0, np.where(busy, busier, 3)).astype(np.float64)


def phase_features() -> list[Feature]:
    """Return what ``phase_values`` computes."""
    bounds = Bounds()
    rule = (
        f"idle: sm_active < {bounds.idle_sm:g}; else compute or memory, as tensor_active or "
        f"dram_active is larger, if it is {bounds.busy:g}; else other"
    )
    return [
        *(
            Feature(f"{phase}_share", f"share of places in phase {phase} ({rule})", "1", LEVEL,
                    "roofline, Williams et al. 2009")
            for phase in PHASES
        ),
        Feature("phase_rate", "changes of phase a second", "1/s", LEVEL, "roofline"),
        Feature("tensor_of_sm", "sum(tensor_active) / sum(sm_active)", "1", LEVEL, "physics"),
        Feature("dram_of_sm", "sum(dram_active) / sum(sm_active)", "1", LEVEL, "physics"),
    ]  # fmt: skip


def phase_values(sm: Values, tensor: Values, dram: Values, rate_hz: float) -> Values:
    """Return the features of phases, a row a window."""
    found = phases(sm, tensor, dram)
    size = found.shape[-1]
    active = sm.sum(axis=-1)
    return columns(
        *(np.count_nonzero(found == index, axis=-1) / size for index in range(len(PHASES))),
        np.count_nonzero(np.diff(found, axis=-1), axis=-1) / (size / rate_hz),
        ratio(tensor.sum(axis=-1), active),
        ratio(dram.sum(axis=-1), active),
    )


class Layers(NamedTuple):
    """What a fast trace shows of a model that makes tokens one by one."""

    layers: int
    """Bursts between two pauses, the median of all tokens."""
    agreeing: float
    """The share of tokens with that many."""
    tokens: int
    token_s: float
    """Median time of a token."""


def least_rate_hz(token_s: float, layers: int) -> float:
    """Return the rate from which the bursts of ``layers`` layers in ``token_s`` can be counted.

    Two places a burst would do for a sine; a rise has to be told from a fall under noise, so four.
    """
    return PLACES_A_BURST * layers / token_s


def layer_count(
    x: Values, rate_hz: float, token_s: float, most_layers: int, averaging_s: float = 0.0
) -> Layers:
    """Count the bursts of each token in one row, ``x``, of power.

    Tokens of about ``token_s`` and up to ``most_layers`` layers are looked for; between tokens
    there is a pause (last layer, sampling) of at least half a layer more than between layers.

    Raises:
        UnavailableError: the sensor is too slow for that many layers, or the trace shows no tokens.
        FormatError: ``x`` is not one row.
    """
    if x.ndim != 1:
        raise FormatError(f"layers of a row, not of shape {x.shape}")
    need = least_rate_hz(token_s, most_layers)
    if rate_hz < need or averaging_s > 2 / need:
        raise UnavailableError(
            f"{most_layers} layers in {token_s:g} s take {need:g} Hz and a mean over no more than"
            f" {2 / need:g} s; the sensor has {rate_hz:g} Hz and {averaging_s:g} s",
            Reason.TOO_SLOW,
        )
    row = x[None, :]
    above = row - envelope(row, _places(2 * token_s, rate_hz))
    places = np.flatnonzero(bursts(above, 1e-6 * np.abs(row).max(axis=-1))[0])
    steps = np.diff(places)
    if len(steps) < 3:
        raise UnavailableError("no bursts in this trace", Reason.TOO_FEW_SAMPLES)
    pauses = np.flatnonzero(steps > 1.5 * np.median(steps))
    # The first and the last token may be cut off.
    counts, starts = np.diff(pauses), places[pauses + 1]
    if len(counts) < 3:
        raise UnavailableError("no tokens in this trace", Reason.TOO_FEW_SAMPLES)
    layers = int(np.median(counts))
    agreeing = float(np.count_nonzero(counts == layers) / len(counts))
    return Layers(layers, agreeing, len(counts), float(np.median(np.diff(starts)) / rate_hz))
