"""Chances that a sample misses every cheated pair: exact where drawn without replacement.

``pairs`` are all pairs of request and answer, ``bad`` the cheated ones among them, ``drawn`` those
that are recomputed, ``power`` the chance that recomputing a cheated pair shows it. Natural
logarithms and floats; the tests hold them against exact fractions. Knows nothing of servers.
"""

import math
from collections.abc import Callable

from lydite.errors import ConfigurationError

_LONG_PRODUCT = 4_096
_ROUNDING = 1e-9
"""What a chance that equals the allowed one may come to more by arithmetic."""
_CERTAIN_NATS = 740.0
"""Below exp(-740) a float is zero."""


def log_none(pairs: int, bad: int, drawn: int) -> float:
    """Return the log of the chance that a draw without replacement holds no bad pair."""
    _check(pairs, bad, drawn, 1.0)
    if bad + drawn > pairs:
        return -math.inf
    few, many = sorted((bad, drawn))
    rest = pairs - bad - drawn
    if few <= _LONG_PRODUCT or rest <= _LONG_PRODUCT:
        return math.fsum(math.log1p(-many / (pairs - step)) for step in range(few))
    return (
        (pairs - bad) * math.log1p(-bad / pairs)
        + (pairs - drawn) * math.log1p(-drawn / pairs)
        - rest * math.log1p(-(bad + drawn) / pairs)
        + _stirling(pairs - bad)
        - _stirling(rest)
        - _stirling(pairs)
        + _stirling(pairs - drawn)
    )


def _stirling(count: int) -> float:
    """Return ln(count!) less count ln(count) - count - ln(2 pi)/2, for a large count."""
    return math.log(count) / 2 + 1 / (12 * count) - 1 / (360 * count**3)


def miss(pairs: int, bad: int, drawn: int, power: float = 1.0) -> float:
    """Return the chance that a fixed number, drawn without replacement, shows no cheat.

    The sum over how many bad pairs are drawn, of the chance that none of them shows.
    """
    _check(pairs, bad, drawn, power)
    if power == 0 or bad == 0 or drawn == 0:
        return 1.0
    if bad * drawn / pairs * power > 2 * _CERTAIN_NATS:
        return 0.0
    if power == 1:
        return math.exp(log_none(pairs, bad, drawn))
    return _sum(pairs, bad, drawn, 1 - power)


def _sum(pairs: int, bad: int, drawn: int, hidden: float) -> float:
    """Return the sum of P(k bad drawn) hidden^k, from its largest term outwards."""
    least, most = max(0, bad + drawn - pairs), min(bad, drawn)
    peak = _peak(pairs, bad, drawn, hidden)
    start = _log_choose_ratio(pairs, bad, drawn, peak) + peak * math.log(hidden)

    def ratio(k: int) -> float:
        return hidden * (bad - k) / (k + 1) * (drawn - k) / (pairs - bad - drawn + k + 1)

    total = term = 1.0
    for k in range(peak, most):
        term *= ratio(k)
        total += term
        if term < 1e-18 * total:
            break
    term = 1.0
    for k in range(peak - 1, least - 1, -1):
        term /= ratio(k)
        total += term
        if term < 1e-18 * total:
            break
    return min(1.0, math.exp(start + math.log(total)))


def _peak(pairs: int, bad: int, drawn: int, hidden: float) -> int:
    """Return the k with the largest term: the first whose successor is no larger."""
    low, high = max(0, bad + drawn - pairs), min(bad, drawn)
    while low < high:
        k = (low + high) // 2
        grows = hidden * (bad - k) * (drawn - k) > (k + 1) * (pairs - bad - drawn + k + 1)
        low, high = (k + 1, high) if grows else (low, k)
    return low


def _log_choose_ratio(pairs: int, bad: int, drawn: int, k: int) -> float:
    """Return ln P(exactly k bad drawn), by walking ``k`` steps of bad pairs drawn first.

    P(k) = C(drawn, k) * [bad]_k / [pairs]_k * P(none of bad - k in drawn - k of pairs - k).
    """
    walk = math.fsum(
        math.log((drawn - i) / (i + 1)) + math.log((bad - i) / (pairs - i)) for i in range(k)
    )
    return walk + log_none(pairs - k, bad - k, drawn - k)


def least_draw(pairs: int, bad: int, confidence: float, power: float = 1.0) -> int | None:
    """Return the fewest pairs to draw so that a miss is no likelier than 1 - ``confidence``.

    ``None`` where drawing all of them would not do: the evidence is too weak for so few bad ones.
    """
    _check_confidence(confidence)
    allowed = (1 - confidence) * (1 + _ROUNDING)
    return _least(pairs, lambda drawn: miss(pairs, bad, drawn, power) <= allowed)


def _least(most: int, holds: Callable[[int], bool]) -> int | None:
    """Return the least number up to ``most`` for which ``holds``, which never un-holds."""
    if not holds(most):
        return None
    low, high = 0, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def least_rate(bad: int, confidence: float, power: float = 1.0) -> float | None:
    """Return the least rate where each pair is drawn by itself, as a gateway's log draws.

    P(miss) = (1 - rate * power)^bad, whatever the number of honest pairs. ``None`` where 1 is not
    enough.
    """
    _check(bad, bad, 0, power)
    _check_confidence(confidence)
    if bad == 0 or power == 0:
        return None
    rate = -math.expm1(math.log1p(-confidence) / bad) / power
    return rate if rate <= 1 else None


def mean_draws(pairs: int, bad: int, power: float = 1.0) -> float:
    """Return how many pairs are drawn, on average, until one shows the cheat.

    Without replacement; where none ever shows, ``pairs + 1`` are counted. For power 1 this is
    (pairs + 1) / (bad + 1), the mean of the negative hypergeometric distribution; a bad pair that
    does not show counts as a good one, so the mean over a binomial number of those that do.
    """
    _check(pairs, bad, 0, power)
    if power == 0 or bad == 0:
        return pairs + 1.0
    shows = -math.expm1((bad + 1) * math.log1p(-power)) if power < 1 else 1.0
    return (pairs + 1) / (bad + 1) * shows / power


def _check(pairs: int, bad: int, drawn: int, power: float) -> None:
    if not (0 <= bad <= pairs and 0 <= drawn <= pairs and 0 <= power <= 1):
        raise ConfigurationError(
            f"{bad} bad and {drawn} drawn of {pairs} pairs, power {power}: out of range"
        )


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ConfigurationError(f"confidence {confidence} is not between 0 and 1")
