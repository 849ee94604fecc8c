"""Features of a window in time: moments, swings, autocorrelation, runs, flatness.

Knows nothing of frequencies or of what ran.
"""

from functools import lru_cache

import numpy as np

from lydite.evidence.power.features.feature import (
    LEVEL,
    SHAPE,
    Feature,
    Group,
    Window,
    columns,
    middle,
    ratio,
    whole_steps,
)
from lydite.evidence.power.trace import Values

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
LAGS_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0)
"""Those that are whole steps and at most half a window."""
FLAT_S = (1.0, 10.0, 60.0)
"""Those that are two or more whole steps and fit into a window."""
FLAT_SHARE = 0.05


def _levels(_rate_hz: float, _size: int) -> list[Feature]:
    orders = "order statistic at floor(q (n - 1))"
    return [
        Feature("mean", "sum(x) / n", "u", LEVEL, "definition"),
        Feature("std", "sqrt(sum((x - mean)^2) / n)", "u", LEVEL, "definition"),
        Feature("min", "min(x)", "u", LEVEL, "definition"),
        *(
            Feature(f"q{round(100 * q):02d}", f"{orders}, q = {q:g}", "u", LEVEL, "definition")
            for q in QUANTILES
        ),
        Feature("max", "max(x)", "u", LEVEL, "definition"),
    ]


def _level_values(window: Window) -> Values:
    middles = [window.quantile(share) for share in QUANTILES]
    return columns(window.mean, window.std, window.ordered[:, 0], *middles, window.ordered[:, -1])


LEVELS = Group(_levels, _level_values)


def _swings(_rate_hz: float, _size: int) -> list[Feature]:
    return [
        Feature("peak_to_trough", "max(x) - min(x)", "u", LEVEL, "definition"),
        Feature("peak_to_trough_ratio", "max(x) / max(min(x), max(x) / 1e3)", "1", LEVEL,
                "definition"),
        Feature("peak_rate", "max |x[i+1] - x[i]| f", "u/s", LEVEL, "definition"),
        Feature("mean_rate", "mean |x[i+1] - x[i]| f", "u/s", LEVEL, "definition"),
        Feature("roughness", "mean |z[i+1] - z[i]|", "1", SHAPE, "definition"),
        Feature("held", "share of i with x[i+1] = x[i]", "1", SHAPE, "sensor that holds its value"),
        Feature("leap", "max |z[i+1] - z[i]|", "1", SHAPE, "definition"),
        Feature("lean", "mean((z[i+1] - z[i])^3): steep rises against steep falls", "1", SHAPE,
                "time-reversal statistic, Ramsey and Rothman 1996"),
    ]  # fmt: skip


def _swing_values(window: Window) -> Values:
    low, high = window.ordered[:, 0], window.ordered[:, -1]
    steps = np.diff(window.x, axis=-1)
    sizes = np.abs(steps)
    leaps = np.diff(window.z, axis=-1)
    count = window.size - 1
    return columns(
        high - low,
        ratio(high, np.maximum(low, high / 1000)),
        sizes.max(axis=-1) * window.rate_hz,
        sizes.sum(axis=-1) / count * window.rate_hz,
        np.abs(leaps).sum(axis=-1) / count,
        np.count_nonzero(steps == 0, axis=-1) / count,
        np.abs(leaps).max(axis=-1),
        (leaps * leaps * leaps).sum(axis=-1) / count,
    )


SWINGS = Group(_swings, _swing_values)


def _moments(_rate_hz: float, _size: int) -> list[Feature]:
    return [
        Feature("skewness", "mean(z^3)", "1", SHAPE, "definition"),
        Feature("kurtosis", "mean(z^4)", "1", SHAPE, "definition"),
        Feature("trend", "mean(z t), t from -1 to 1 evenly", "1", SHAPE, "definition"),
        *(
            Feature(
                f"z{round(100 * q):02d}", f"z of q{round(100 * q):02d}", "1", SHAPE, "definition"
            )
            for q in QUANTILES
        ),
        Feature("z_min", "min(z)", "1", SHAPE, "definition"),
        Feature("z_max", "max(z)", "1", SHAPE, "definition"),
    ]


@lru_cache(16)
def _ramp(size: int) -> Values:
    return np.linspace(-1.0, 1.0, size)


def _moment_values(window: Window) -> Values:
    z, size = window.z, window.size
    squares = z * z
    ramp = _ramp(size)
    shares = (0.0, *QUANTILES, 1.0)
    placed = [(window.quantile(share) - window.mean) / window.scale for share in shares]
    return columns(
        (squares * z).sum(axis=-1) / size,
        (squares * squares).sum(axis=-1) / size,
        (z * ramp).sum(axis=-1) / size,
        *placed[1:-1],
        placed[0],
        placed[-1],
    )


MOMENTS = Group(_moments, _moment_values)


@lru_cache(16)
def lags(rate_hz: float, size: int) -> dict[float, int]:
    """Return the lags of the autocorrelation in steps, by seconds."""
    steps = {lag: whole_steps(lag, rate_hz) for lag in LAGS_S}
    return {lag: step for lag, step in steps.items() if 1 <= step <= size // 2}


def _autocorrelations(rate_hz: float, size: int) -> list[Feature]:
    return [
        Feature(f"autocorrelation_{lag:g}s", f"sum(z[i] z[i + {lag:g} f]) / n", "1", SHAPE,
                "Box and Jenkins 1970")
        for lag in lags(rate_hz, size)
    ]  # fmt: skip


def _autocorrelation_values(window: Window) -> Values:
    return window.correlations[:, list(lags(window.rate_hz, window.size).values())]


AUTOCORRELATIONS = Group(_autocorrelations, _autocorrelation_values)


def _runs(_rate_hz: float, _size: int) -> list[Feature]:
    high = "high: x over halfway from the 10th to the 90th percentile"
    return [
        Feature("high_share", f"share of places that are high ({high})", "1", SHAPE, "definition"),
        Feature("peak_to_trough_rate", "runs of high places a second", "1/s", SHAPE, "definition"),
        *(
            Feature(f"{side}_run_{kind}", f"{kind} length of runs of {side} places", "s", SHAPE,
                    "definition")
            for side in ("high", "low") for kind in ("mean", "longest")
        ),
    ]  # fmt: skip


def _run_values(window: Window) -> Values:
    size, rate_hz = window.size, window.rate_hz
    high = window.x > middle(window)[:, None]
    begins = np.ones_like(high)
    np.not_equal(high[:, 1:], high[:, :-1], out=begins[:, 1:])
    places = np.arange(size)
    lengths = places - np.maximum.accumulate(np.where(begins, places, 0), axis=-1) + 1
    inside = high.sum(axis=-1).astype(np.float64)
    runs = (begins & high).sum(axis=-1).astype(np.float64)
    others = begins.sum(axis=-1) - runs
    longest = (lengths * high).max(axis=-1), (lengths * ~high).max(axis=-1)
    return columns(
        inside / size,
        runs / (size / rate_hz),
        ratio(inside, runs) / rate_hz,
        longest[0] / rate_hz,
        ratio(size - inside, others) / rate_hz,
        longest[1] / rate_hz,
    )


RUNS = Group(_runs, _run_values)


@lru_cache(16)
def spans(rate_hz: float, size: int) -> dict[float, int]:
    """Return the spans of flatness in steps, by seconds."""
    steps = {span: whole_steps(span, rate_hz) for span in FLAT_S}
    return {span: step for span, step in steps.items() if 2 <= step <= size}


def _flatness(rate_hz: float, size: int) -> list[Feature]:
    return [
        feature
        for span in spans(rate_hz, size)
        for feature in (
            Feature(f"flatness_{span:g}s",
                    f"mean over the whole pieces of {span:g} s of (max - min) / mean of the window",
                    "1", LEVEL, "definition"),
            Feature(f"flat_share_{span:g}s",
                    f"share of those pieces with max - min <= {FLAT_SHARE:g} times that mean", "1",
                    LEVEL, "definition"),
        )
    ]  # fmt: skip


def _flatness_values(window: Window) -> Values:
    found = []
    for step in spans(window.rate_hz, window.size).values():
        pieces = window.size // step
        cut = np.ascontiguousarray(window.x[:, : pieces * step]).reshape(-1, pieces, step)
        swing = cut.max(axis=-1) - cut.min(axis=-1)
        flat = swing <= FLAT_SHARE * np.abs(window.mean)[:, None]
        found.append(ratio(swing.sum(axis=-1) / pieces, np.abs(window.mean)))
        found.append(np.count_nonzero(flat, axis=-1) / pieces)
    return columns(*found) if found else np.zeros((len(window.x), 0))


FLATNESS = Group(_flatness, _flatness_values)
