"""How a channel's values are spread: beta and two-beta distributions, fitted by Newton's method.

Utilisation, memory and power lie between bounds and often have two heights, at work and at rest.
Maximum likelihood, with the gradient and the Hessian in closed form. Values that are equal to a
bound, or as fine as a sensor's step, are moved inside by half a step. Knows nothing of verdicts.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lydite.errors import FormatError

STEP = 0.005
"""Finest difference that a sensor's share is believed to: values stay half of it off the bounds."""
LEAST_VALUES = 16
MOST = 1e4
"""Bound on either parameter: a narrower peak than a sensor's step is one that its rounding made."""
LEAST = 1e-2
_ROUNDS, _EM_ROUNDS = 200, 30
_START = 4096
"""So many values, evenly picked, are enough to start from."""
_DONE = 1e-10

Values = NDArray[np.float64]


class Beta(NamedTuple):
    """Density ``x^(a-1) (1-x)^(b-1) / B(a,b)`` on 0 to 1."""

    a: float
    b: float

    @property
    def mean(self) -> float:
        """Return the mean."""
        return self.a / (self.a + self.b)


class Bimodal(NamedTuple):
    """A share ``weight`` of the lower beta distribution and the rest of the higher."""

    weight: float
    low: Beta
    high: Beta


Spread = Beta | Bimodal


class Fit(NamedTuple):
    """A distribution and how well it fits."""

    spread: Spread
    log_likelihood: float
    """In nats, of all values."""
    gradient: float
    """Largest part of the gradient at the end, for each value: nought at a maximum inside."""
    rounds: int


def inside(values: Values) -> Values:
    """Return ``values`` moved off the bounds.

    Raises:
        FormatError: too few, or one outside of 0 to 1.
    """
    if values.ndim != 1 or len(values) < LEAST_VALUES:
        raise FormatError(f"{values.size} values, a profile needs {LEAST_VALUES}")
    if not np.all((values >= 0.0) & (values <= 1.0)):
        raise FormatError("a profile is of shares from 0 to 1")
    moved: Values = np.clip(values, STEP / 2, 1.0 - STEP / 2)
    return moved


def fit_beta(values: Values) -> Fit:
    """Return the beta distribution of greatest likelihood, by Newton's method.

    The likelihood is concave in a and b, and hangs on two sums over the values alone, so the time
    does not grow with them.
    """
    x = inside(values)
    return _newton_beta(
        float(np.mean(np.log(x))), float(np.mean(np.log1p(-x))), _moments(x), len(x)
    )


def fit_bimodal(values: Values) -> Fit:
    """Return two beta distributions of greatest likelihood: a few rounds of EM, then Newton.

    The start splits the values at the middle of their range. The likelihood has several maxima;
    this is the one near that start.
    """
    x = inside(values)
    logs = np.stack([np.log(x), np.log1p(-x)])
    few = slice(None, None, max(len(x) // _START, 1))
    parameters = _start(x[few], logs[:, few])
    value, gradient, hessian = _derivatives(parameters, logs)
    gained, rounds = math.inf, 0
    while gained > _DONE * abs(value) and rounds < _ROUNDS:
        rounds += 1
        moved, better = _step(parameters, value, gradient, hessian, logs)
        gained = better - value
        parameters = moved
        value, gradient, hessian = _derivatives(parameters, logs)
    spread = _ordered(_unpack(parameters))
    return Fit(spread, value, float(np.abs(gradient).max()) / len(x), rounds)


def fit(values: Values) -> Fit:
    """Return one peak or two, whichever the Bayesian information criterion prefers."""
    one, two = fit_beta(values), fit_bimodal(values)
    price = math.log(len(values)) / 2
    better = two.log_likelihood - 5 * price > one.log_likelihood - 2 * price
    return two if better else one


def log_density(spread: Spread, values: Values) -> Values:
    """Return the log density at each value, moved off the bounds."""
    x = np.clip(values, STEP / 2, 1.0 - STEP / 2)
    logs = np.stack([np.log(x), np.log1p(-x)])
    if isinstance(spread, Beta):
        return _log_beta(spread, logs)
    parts = _log_parts(spread, logs)
    density: Values = np.logaddexp(parts[0], parts[1])
    return density


def distance(spread: Spread, values: Values, bins: int = 20) -> float:
    """Return the total variation between ``values`` and ``spread`` over equal bins, 0 to 1."""
    grid = (np.arange(bins * 64) + 0.5) / (bins * 64)
    mass = np.exp(log_density(spread, grid)).reshape(bins, -1).sum(axis=1)
    found = np.histogram(values, bins=bins, range=(0.0, 1.0))[0] / len(values)
    return float(np.abs(mass / mass.sum() - found).sum() / 2)


def digamma(x: float) -> float:
    """Return the derivative of ``ln Gamma``, for x above nought (Abramowitz and Stegun 6.3.18)."""
    total = 0.0
    while x < 8.0:
        total, x = total - 1.0 / x, x + 1.0
    y = 1.0 / (x * x)
    series = y * (1 / 12 - y * (1 / 120 - y * (1 / 252 - y * (1 / 240 - y / 132))))
    return total + math.log(x) - 0.5 / x - series


def trigamma(x: float) -> float:
    """Return the second derivative of ``ln Gamma``, for x above nought (6.4.12)."""
    total = 0.0
    while x < 8.0:
        total, x = total + 1.0 / (x * x), x + 1.0
    y = 1.0 / (x * x)
    series = y * (1 / 6 - y * (1 / 30 - y * (1 / 42 - y * (1 / 30 - y * 5 / 66))))
    return total + 1.0 / x + y / 2 + series / x


def _moments(x: Values, weights: Values | None = None) -> Beta:
    """Return the beta distribution of the same mean and variance, a start for Newton."""
    mean = float(np.average(x, weights=weights))
    spread = float(np.average((x - mean) ** 2, weights=weights))
    size = max(mean * (1 - mean) / max(spread, 1e-9) - 1.0, 0.1)
    return Beta(*(min(max(share * size, LEAST), MOST) for share in (mean, 1 - mean)))


def _newton_beta(log_x: float, log_rest: float, start: Beta, count: int) -> Fit:
    """Maximise ``count`` times the mean likelihood; a step that does not raise it is halved."""
    a, b = start
    value, gradient = _mean_beta(a, b, log_x, log_rest), (0.0, 0.0)
    gained, rounds = math.inf, 0
    while gained > _DONE * abs(value) and rounds < _ROUNDS:
        rounds += 1
        both, shared = digamma(a + b), trigamma(a + b)
        gradient = log_x - digamma(a) + both, log_rest - digamma(b) + both
        p, q = trigamma(a) - shared, trigamma(b) - shared
        whole = p * q - shared * shared
        move = (
            (q * gradient[0] + shared * gradient[1]) / whole,
            (p * gradient[1] + shared * gradient[0]) / whole,
        )
        size, better, at = 1.0, -math.inf, (a, b)
        while better < value and size > 1e-12:
            at = _bound(a + size * move[0], a), _bound(b + size * move[1], b)
            better, size = _mean_beta(*at, log_x, log_rest), size / 2
        gained = better - value
        if gained > 0:
            (a, b), value = at, better
    return Fit(Beta(a, b), count * value, max(map(abs, gradient)), rounds)


def _bound(wanted: float, before: float) -> float:
    """Return a parameter within its bounds, and never less than a tenth of what it was."""
    return min(max(wanted, before / 10, LEAST), MOST)


def _mean_beta(a: float, b: float, log_x: float, log_rest: float) -> float:
    return (a - 1) * log_x + (b - 1) * log_rest - _log_norm(a, b)


def _log_norm(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _log_beta(beta: Beta, logs: Values) -> Values:
    density: Values = (beta.a - 1) * logs[0] + (beta.b - 1) * logs[1] - _log_norm(*beta)
    return density


def _log_parts(spread: Bimodal, logs: Values) -> tuple[Values, Values]:
    low = math.log(spread.weight) + _log_beta(spread.low, logs)
    return low, math.log1p(-spread.weight) + _log_beta(spread.high, logs)


def _start(x: Values, logs: Values) -> Values:
    """Return parameters after a few rounds of EM from a split at the middle of the range."""
    share = np.where(x < (x.min() + x.max()) / 2, 0.99, 0.01)
    spread = Bimodal(0.5, Beta(1.0, 1.0), Beta(1.0, 1.0))
    for _ in range(_EM_ROUNDS):
        parts = []
        for weights in (share, 1 - share):
            sums = [float(np.average(row, weights=weights)) for row in logs]
            fitted = _newton_beta(sums[0], sums[1], _moments(x, weights), 1).spread
            assert isinstance(fitted, Beta)
            parts.append(fitted)
        weight = float(np.clip(share.mean(), 1e-4, 1 - 1e-4))
        spread = Bimodal(weight, parts[0], parts[1])
        low, high = _log_parts(spread, logs)
        share = np.clip(np.exp(low - np.logaddexp(low, high)), 1e-9, 1 - 1e-9)
    return _pack(spread)


def _pack(spread: Bimodal) -> Values:
    """Return the unbounded parameters: the weight's logit, and logarithms."""
    logit = math.log(spread.weight) - math.log1p(-spread.weight)
    return np.array([logit, *np.log([*spread.low, *spread.high])])


def _unpack(parameters: Values) -> Bimodal:
    weight = 1.0 / (1.0 + math.exp(-float(parameters[0])))
    a, b, c, d = np.exp(parameters[1:]).tolist()
    return Bimodal(weight, Beta(a, b), Beta(c, d))


def _ordered(spread: Bimodal) -> Bimodal:
    if spread.low.mean <= spread.high.mean:
        return spread
    return Bimodal(1.0 - spread.weight, spread.high, spread.low)


def _derivatives(parameters: Values, logs: Values) -> tuple[float, Values, Values]:
    """Return the log likelihood, its gradient and its Hessian.

    With r_k the share of component k in a value and g_k, H_k the derivatives of its own part:
    ``gradient = sum r_k g_k`` and ``Hessian = sum r_k (H_k + g_k g_k') - gradient gradient'``,
    each summed over values.
    """
    spread = _unpack(parameters)
    parts = _log_parts(spread, logs)
    whole = np.logaddexp(parts[0], parts[1])
    total = np.zeros((5, logs.shape[1]))
    hessian = np.zeros((5, 5))
    slope = spread.weight * (1 - spread.weight)
    for part, beta, own, first in (
        (parts[0], spread.low, 1 - spread.weight, 1),
        (parts[1], spread.high, -spread.weight, 3),
    ):
        share = np.exp(part - whole)
        slopes = np.zeros_like(total)
        slopes[0] = own
        slopes[first : first + 2], curved, mixed = _component(beta, logs)
        total += share * slopes
        hessian += (share * slopes) @ slopes.T
        hessian[0, 0] -= slope * share.sum()
        for row in (0, 1):
            hessian[first + row, first + row] += (share * curved[row]).sum()
        hessian[first, first + 1] += mixed * share.sum()
        hessian[first + 1, first] += mixed * share.sum()
    hessian -= total @ total.T
    return float(whole.sum()), total.sum(axis=1), hessian


def _component(beta: Beta, logs: Values) -> tuple[Values, Values, float]:
    """Return slopes of a component by ln a and ln b, then its curvatures, then the mixed one."""
    a, b = beta
    both, shared = digamma(a + b), trigamma(a + b)
    slopes = np.stack([a * (logs[0] - digamma(a) + both), b * (logs[1] - digamma(b) + both)])
    bends = np.array([a * a * (shared - trigamma(a)), b * b * (shared - trigamma(b))])
    return slopes, slopes + bends[:, None], a * b * shared


def _step(
    parameters: Values, value: float, gradient: Values, hessian: Values, logs: Values
) -> tuple[Values, float]:
    """Return the parameters after one damped Newton step that does not lower the likelihood."""
    turned, sizes = np.linalg.eigh(hessian)[::-1]
    curved = np.maximum(np.abs(sizes), 1e-8 * max(float(np.abs(sizes).max()), 1.0))
    move = turned @ ((turned.T @ gradient) / curved)
    move *= min(1.0, 2.0 / max(float(np.abs(move).max()), 1e-300))
    bounds = np.array([12.0, *[math.log(MOST)] * 4]), np.array([-12.0, *[math.log(LEAST)] * 4])
    for halvings in range(40):
        moved = np.clip(parameters + move / 2.0**halvings, bounds[1], bounds[0])
        low, high = _log_parts(_unpack(moved), logs)
        better = float(np.logaddexp(low, high).sum())
        if better >= value:
            return moved, better
    return parameters, value
