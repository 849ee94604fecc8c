import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import FormatError
from lydite.statistics import bounded
from lydite.statistics.power import first_crossing, tokens_for_power

scores = st.lists(st.integers(0, bounded.MICRO), max_size=200)
means = st.integers(1, bounded.MICRO)


def twin(values_micro: list[int], mean_micro: int) -> float:
    """The definition in plain products, good while nothing underflows."""
    mean = mean_micro / 1e6
    total = 0.0
    for lam in np.linspace(0.02 / mean, 0.98 / mean, 25):
        total += math.prod(1 + lam * (value / 1e6 - mean) for value in values_micro)
    return math.log(total / 25)


@given(st.lists(st.integers(0, bounded.MICRO), max_size=40), st.integers(50_000, bounded.MICRO))
def test_log_wealth_agrees_with_the_plain_product(values: list[int], mean: int) -> None:
    assert bounded.log_e(values, mean) == pytest.approx(twin(values, mean), abs=1e-8)


@given(scores, means)
def test_a_stream_ends_where_its_whole_does(values: list[int], mean: int) -> None:
    path = list(bounded.running(values, mean))
    assert len(path) == len(values)
    if values:
        assert path[-1] == pytest.approx(bounded.log_e(values, mean), abs=1e-7, rel=1e-9)


@given(scores, st.integers(1, bounded.MICRO - 1))
def test_scores_of_the_honest_mean_have_no_expected_gain(past: list[int], mean: int) -> None:
    before = bounded.log_e(past, mean)
    high, low = (
        math.exp(bounded.log_e([*past, score], mean) - before) for score in (bounded.MICRO, 0)
    )
    chance = mean / bounded.MICRO
    assert chance * high + (1 - chance) * low <= 1.0 + 1e-6


def test_honest_streams_cross_no_more_often_than_alpha_and_shifted_ones_soon() -> None:
    # statistics.md, section 2: m0 = .10; medians 136 at a mean of .13, 18 at .20.
    rng = np.random.default_rng(31)
    spread = 6.0  # scores are Beta with this total

    def delays(mean: float, runs: int, size: int, level: float) -> list[int | None]:
        draws = rng.beta(spread * mean, spread * (1 - mean), size=(runs, size))
        micro = np.floor(draws * 1e6).astype(int).tolist()
        return [first_crossing(bounded.running(row, 100_000), math.log(level)) for row in micro]

    false = sum(delay is not None for delay in delays(0.1, 200, 150, 50))
    assert false <= 12  # 4 expected at most; 12 is four standard deviations above
    half = tokens_for_power(delays(0.2, 41, 150, 1000), 0.5)
    assert half is not None
    assert half <= 36


def test_underflow_never_ends_in_nan() -> None:
    assert math.isfinite(bounded.log_e([0] * 100_000, 999_999))
    assert math.isfinite(bounded.log_e([bounded.MICRO] * 100_000, 1))


@pytest.mark.parametrize(
    ("values", "mean"), [([-1], 5), ([bounded.MICRO + 1], 5), ([0], 0), ([0], bounded.MICRO + 1)]
)
def test_scores_out_of_range_are_refused(values: list[int], mean: int) -> None:
    with pytest.raises(FormatError):
        bounded.log_e(values, mean)
