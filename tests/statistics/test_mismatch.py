import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special

from lydite.errors import FormatError
from lydite.statistics import mismatch
from lydite.statistics.beta import log_upper
from lydite.statistics.power import first_crossing, tokens_for_power

counts = st.integers(0, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
rates = st.floats(1e-4, 0.9)


def twin(k: int, n: int, rate: float) -> float:
    """The definition: the likelihood ratio averaged by quadrature, t = sin^2 of an angle."""

    def log_ratio(angle: float) -> float:
        sin, cos = max(math.sin(angle), 1e-300), max(math.cos(angle), 1e-300)
        gained = 2 * k * math.log(sin) + 2 * (n - k) * math.log(cos)
        return gained - k * math.log(rate) - (n - k) * math.log1p(-rate)

    start, end = math.asin(math.sqrt(rate)), math.pi / 2
    peak = min(max(math.asin(math.sqrt(k / n)) if n else start, start), end)
    shift, width = log_ratio(peak), 1 / math.sqrt(n + 1)
    stops = {min(max(peak + s * width, start), end) for s in (-8, -2, 0, 2, 8)}
    points = sorted({start, end, *stops})
    area = sum(
        integrate.quad(lambda t: math.exp(log_ratio(t) - shift), a, b, epsabs=0.0, epsrel=1e-11)[0]
        for a, b in pairwise(points)
    )
    return shift + math.log(area / (end - start))


@given(counts, rates)
def test_the_closed_form_agrees_with_quadrature(count: tuple[int, int], rate: float) -> None:
    k, n = count
    assert mismatch.log_e(k, n, rate) == pytest.approx(twin(k, n, rate), abs=1e-7)


@given(counts, rates)
def test_the_expectation_of_the_next_bet_is_at_most_one(
    count: tuple[int, int], rate: float
) -> None:
    k, n = count
    before = mismatch.log_e(k, n, rate)
    miss = math.exp(mismatch.log_e(k + 1, n + 1, rate) - before)
    match = math.exp(mismatch.log_e(k, n + 1, rate) - before)
    for truth in (0.0, rate / 2, rate):
        assert truth * miss + (1 - truth) * match <= 1.0 + 1e-8


@given(st.floats(0.0, 1.0), st.floats(0.5, 2000.0), st.floats(0.5, 2000.0))
def test_the_tail_agrees_with_the_incomplete_beta_function(x: float, a: float, b: float) -> None:
    upper = special.betaincc(a, b, x)
    if upper > 1e-290:
        wanted = math.log(upper) + special.betaln(a, b)
        assert log_upper(x, a, b) == pytest.approx(wanted, abs=1e-7, rel=1e-9)
    else:
        assert log_upper(x, a, b) < special.betaln(a, b) - 600


@pytest.mark.parametrize(
    ("k", "n", "rate"),
    [
        (0, 10**7, 0.05),
        (0, 10**7, 1e-9),
        (0, 10**7, 0.999),
        (10**7, 10**7, 1e-9),
        (1, 10**6, 0.5),
        (5 * 10**6, 10**7, 0.5),
        (10**8, 10**9, 0.1),
    ],
)
def test_far_from_the_honest_rate_nothing_becomes_nan(k: int, n: int, rate: float) -> None:
    # The naive formula takes the logarithm of 1 - I, which is 0 in double precision.
    value = mismatch.log_e(k, n, rate)
    assert math.isfinite(value)
    assert (value > 0.0) == (k / n > 2 * rate or (k, n) == (10**7, 10**7))


def test_few_mismatches_are_evidence_and_none_are_not() -> None:
    assert mismatch.log_e(0, 0, 0.01) == pytest.approx(0.0)
    assert mismatch.log_e(0, 1000, 0.01) < 0.0
    assert mismatch.log_e(3, 3, 0.001) > math.log(1e4)


def test_honest_audits_cross_no_more_often_than_alpha_whenever_one_stops() -> None:
    rng = np.random.default_rng(21)
    table = [[mismatch.log_e(k, n, 0.05) for k in range(61)] for n in range(60, 601, 6)]
    crossed = 0
    for _ in range(1000):
        misses = rng.binomial(6, 0.05, size=100).cumsum()[9:]
        crossed += any(
            row[min(k, 60)] >= math.log(100) for row, k in zip(table, misses, strict=True)
        )
    assert crossed <= 22  # 10 expected at most; 22 is four standard deviations above


def test_delays_are_those_of_the_design_notes() -> None:
    # statistics.md, section 2: median audits at delta = .001
    rng = np.random.default_rng(22)
    for rate, truth, median in [(0.001, 0.1, 25), (0.01, 0.1, 55), (0.01, 0.05, 220)]:
        delays = [
            first_crossing(
                mismatch.running((rng.random(2000) < truth).tolist(), rate), math.log(1000)
            )
            for _ in range(101)
        ]
        half = tokens_for_power(delays, 0.5)
        assert half is not None
        assert abs(half - median) <= 0.25 * median


@pytest.mark.parametrize(
    ("k", "n", "rate"), [(-1, 3, 0.1), (4, 3, 0.1), (1, 3, 0.0), (1, 3, 1.0), (1, 3, math.nan)]
)
def test_counts_and_rates_that_are_none_are_refused(k: int, n: int, rate: float) -> None:
    with pytest.raises(FormatError):
        mismatch.log_e(k, n, rate)


@pytest.mark.parametrize(
    ("x", "a", "b"), [(-0.1, 1, 1), (1.1, 1, 1), (0.5, 0, 1), (0.5, 1, math.inf)]
)
def test_the_tail_of_nothing_is_refused(x: float, a: float, b: float) -> None:
    with pytest.raises(FormatError):
        log_upper(x, a, b)
