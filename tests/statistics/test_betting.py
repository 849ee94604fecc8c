import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import FormatError
from lydite.statistics import betting

scores = st.lists(st.integers(-betting.MICRO, betting.MICRO), max_size=200)
drifts = st.integers(0, 20_000)


def twin(values_micro: list[int], drift_micro: int) -> float:
    """The definition in plain products, good while nothing underflows."""
    total = 0.0
    for bet in betting.BETS:
        wealth = 1.0
        for value in values_micro:
            wealth *= 1 + bet * value / 1e6 - abs(bet) * drift_micro / 1e6
        total += wealth
    return math.log(total / len(betting.BETS))


@given(scores, drifts)
def test_log_wealth_agrees_with_the_plain_product(values: list[int], drift: int) -> None:
    assert betting.log_e(values, drift) == pytest.approx(twin(values, drift), abs=1e-8)
    path = list(betting.running(values, drift))
    assert len(path) == len(values)
    if values:
        assert path[-1] == pytest.approx(betting.log_e(values, drift), abs=1e-8)


@given(scores, drifts, st.randoms())
def test_the_order_of_the_scores_does_not_matter(values: list[int], drift: int, rng) -> None:
    shuffled = list(values)
    rng.shuffle(shuffled)
    assert betting.log_e(shuffled, drift) == betting.log_e(values, drift)


@given(st.lists(st.integers(-betting.MICRO, betting.MICRO), min_size=2, max_size=2), scores)
def test_a_centred_score_has_no_expected_gain(pair: list[int], past: list[int]) -> None:
    low, high = min(pair), max(pair)
    if not low < 0 < high:
        return
    chance = -low / (high - low)  # P(high) such that the mean is zero
    gains = [math.exp(betting.log_e([*past, x], 0) - betting.log_e(past, 0)) for x in (low, high)]
    assert (1 - chance) * gains[0] + chance * gains[1] <= 1.0 + 1e-6


def test_underflow_never_ends_in_nan() -> None:
    alternating = [betting.MICRO, -betting.MICRO] * 50_000
    value = betting.log_e(alternating, 0)
    assert value < -200.0
    assert math.isfinite(value)


def test_drift_costs_power_and_buys_safety() -> None:
    biased = [2_000] * 20_000  # an honest bias of a thousandth of the range
    assert betting.log_e(biased, 0) > math.log(1e3)
    assert betting.log_e(biased, 2_000) <= 1e-9


@pytest.mark.parametrize(
    ("values", "drift"),
    [([betting.MICRO + 1], 0), ([-betting.MICRO - 1], 0), ([0], -1), ([0], betting.MICRO)],
)
def test_scores_out_of_range_are_refused(values: list[int], drift: int) -> None:
    with pytest.raises(FormatError):
        betting.log_e(values, drift)
