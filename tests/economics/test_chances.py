"""Draws without replacement, held against exact fractions, SciPy, and counting all of them."""

import itertools
import math
import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lydite.economics import chances
from lydite.errors import ConfigurationError

sizes = st.integers(1, 60).flatmap(
    lambda pairs: st.tuples(st.just(pairs), st.integers(0, pairs), st.integers(0, pairs))
)
powers = st.fractions(0, 1, max_denominator=64)


def obvious_miss(pairs: int, bad: int, drawn: int, power: Fraction) -> Fraction:
    """The sum over how many bad pairs are drawn, in exact fractions."""
    total = Fraction(0)
    for k in range(min(bad, drawn) + 1):
        if drawn - k <= pairs - bad:
            ways = math.comb(bad, k) * math.comb(pairs - bad, drawn - k)
            total += Fraction(ways, math.comb(pairs, drawn)) * (1 - power) ** k
    return total


@given(sizes, powers)
def test_a_miss_is_as_likely_as_exact_fractions_say(
    size: tuple[int, int, int], power: Fraction
) -> None:
    pairs, bad, drawn = size
    exact = float(obvious_miss(pairs, bad, drawn, power))
    assert chances.miss(pairs, bad, drawn, float(power)) == pytest.approx(exact, rel=1e-9)


def test_the_exact_twin_agrees_with_counting_every_draw() -> None:
    draws = list(itertools.combinations(range(9), 4))
    held = sum(not set(draw) & {0, 1, 2} for draw in draws)
    assert obvious_miss(9, 3, 4, Fraction(1)) == Fraction(held, len(draws))


@pytest.mark.parametrize("power", [1.0, 0.5, 0.03])
@pytest.mark.parametrize(
    ("pairs", "bad", "drawn"),
    [
        (10**6, 10_000, 9_000),
        (10**7, 50_000, 6_000),
        (10**8, 20_000, 5_000_000),
        (10**5, 9, 99_990),
    ],
)
def test_large_draws_agree_with_scipy(pairs: int, bad: int, drawn: int, power: float) -> None:
    spread = stats.hypergeom(pairs, bad, drawn)
    low, high = (int(spread.ppf(q)) for q in (1e-12, 1 - 1e-12))
    ks = range(max(0, low - 4000), high + 1)
    theirs = math.fsum(
        math.exp(
            spread.logpmf(k) + (k * math.log1p(-power) if power < 1 else -math.inf if k else 0)
        )
        for k in ks
    )
    assert chances.miss(pairs, bad, drawn, power) == pytest.approx(theirs, rel=1e-5, abs=1e-300)


@given(st.integers(5_000, 40_000), st.integers(5_000, 40_000), st.integers(0, 10**7))
def test_the_long_way_and_stirling_agree(bad: int, drawn: int, more: int) -> None:
    pairs = bad + drawn + 5_000 + more
    product = math.fsum(math.log1p(-drawn / (pairs - i)) for i in range(bad))
    assert chances.log_none(pairs, bad, drawn) == pytest.approx(product, rel=1e-9, abs=1e-9)


@given(
    sizes, st.fractions(Fraction(1, 4), 1, max_denominator=16), st.sampled_from([0.5, 0.9, 0.99])
)
def test_the_least_draw_is_enough_and_one_less_is_not(
    size: tuple[int, int, int], power: Fraction, confidence: float
) -> None:
    pairs, bad, _ = size
    found = chances.least_draw(pairs, bad, confidence, float(power))
    allowed = 1 - confidence
    misses = [float(obvious_miss(pairs, bad, drawn, power)) for drawn in range(pairs + 1)]
    enough = [drawn for drawn, each in enumerate(misses) if each <= allowed * (1 + 1e-9)]
    near = any(0 < abs(each - allowed) < 1e-8 for each in misses)
    if not near:
        assert found == (enough[0] if enough else None)


@given(st.integers(1, 10**9), st.floats(0.001, 0.999), st.floats(0.01, 1.0))
def test_the_least_rate_misses_exactly_as_often_as_allowed(
    bad: int, confidence: float, power: float
) -> None:
    rate = chances.least_rate(bad, confidence, power)
    if rate is None:
        assert (1 - power) ** bad > 1 - confidence
    else:
        assert bad * math.log1p(-rate * power) == pytest.approx(math.log1p(-confidence))


def obvious_mean(pairs: int, bad: int, power: Fraction) -> Fraction:
    """E[first draw that shows] as the sum of P(none within d draws), d = 0 ... pairs."""
    return sum((obvious_miss(pairs, bad, drawn, power) for drawn in range(pairs + 1)), Fraction(0))


@given(st.integers(1, 25), st.integers(0, 25), powers)
def test_the_mean_number_of_audits_is_the_sum_of_the_misses(
    pairs: int, bad: int, power: Fraction
) -> None:
    bad = min(bad, pairs)
    exact = float(obvious_mean(pairs, bad, power))
    assert chances.mean_draws(pairs, bad, float(power)) == pytest.approx(exact, rel=1e-9)


def test_the_mean_agrees_with_drawing() -> None:
    dice = random.Random(7)
    seen = []
    for _ in range(4_000):
        deck = [True] * 5 + [False] * 95
        dice.shuffle(deck)
        shown = (i for i, bad in enumerate(deck, 1) if bad and dice.random() < 0.6)
        seen.append(next(shown, 101))
    assert chances.mean_draws(100, 5, 0.6) == pytest.approx(sum(seen) / len(seen), rel=0.05)


def test_weak_evidence_of_few_bad_pairs_is_never_enough() -> None:
    assert chances.least_draw(1000, 3, 0.99, 0.5) is None
    half = Fraction(1, 2)
    assert obvious_miss(1000, 7, 965, half) <= Fraction(1, 100) < obvious_miss(1000, 7, 964, half)
    assert chances.least_draw(1000, 7, 0.99, 0.5) == 965
    assert chances.least_rate(3, 0.99, 0.5) is None


@pytest.mark.parametrize("bad", [(5, 6, 1, 1.0), (5, 1, 6, 1.0), (5, 1, 1, 1.5), (5, -1, 1, 1.0)])
def test_counts_that_cannot_be_are_refused(bad: tuple[int, int, int, float]) -> None:
    with pytest.raises(ConfigurationError):
        chances.miss(*bad)
    with pytest.raises(ConfigurationError):
        chances.least_draw(5, 1, 1.0)
