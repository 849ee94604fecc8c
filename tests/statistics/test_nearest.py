import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import FormatError
from lydite.statistics import bins, nearest
from lydite.statistics.power import first_crossing, tokens_for_power

NULL = [0.9935, 0.004, 0.003, 0.0008]  # ceilings; they sum to more than one
TRUTH = [0.9932, 0.0035, 0.0025, 0.0008]
INT4 = [0.955, 0.02, 0.015, 0.01]


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[float], list[float]]:
    """An alternative without gaps, and ceilings that leave some distribution below them."""
    size = draw(st.integers(2, 7))
    parts = st.lists(st.floats(0.001, 1.0), min_size=size, max_size=size)
    raw, base, slack = draw(parts), draw(parts), draw(parts)
    ceilings = [min(1.0, b / sum(base) * (1 + s)) for b, s in zip(base, slack, strict=True)]
    return [q / sum(raw) for q in raw], ceilings


def worst(ratios: list[float], null: list[float]) -> float:
    """The largest mean of ``exp(ratios)`` under any distribution below the ceilings (greedy)."""
    left, mean = 1.0, 0.0
    for ratio, ceiling in sorted(zip(ratios, null, strict=True), reverse=True):
        share = min(left, ceiling)
        mean, left = mean + share * math.exp(ratio), left - share
    return mean


@given(cases())
def test_the_nearest_honest_distribution_is_one_and_lies_below_the_ceilings(
    case: tuple[list[float], list[float]],
) -> None:
    alternative, null = case
    found = nearest.nearest(alternative, null)
    assert math.fsum(found) == pytest.approx(1.0, abs=1e-9)
    assert all(p <= ceiling for p, ceiling in zip(found, null, strict=True))


@given(cases(), st.data())
def test_no_honest_distribution_is_nearer(
    case: tuple[list[float], list[float]], data: st.DataObject
) -> None:
    alternative, null = case
    order = data.draw(st.permutations(range(len(null))))
    other, left = [0.0] * len(null), 1.0
    for b in order:  # a corner of the null
        other[b] = min(left, null[b])
        left -= other[b]
    mixed = data.draw(st.floats(0.01, 0.99))
    found = nearest.nearest(alternative, null)
    between = [mixed * p + (1 - mixed) * o for p, o in zip(found, other, strict=True)]
    apart = sum(q * math.log(q / p) for q, p in zip(alternative, between, strict=True))
    assert nearest.divergence(alternative, null) <= apart + 1e-9


@given(cases())
def test_the_bet_is_fair_to_every_honest_distribution(
    case: tuple[list[float], list[float]],
) -> None:
    alternative, null = case
    assert worst(list(nearest.log_ratios(alternative, null)), null) <= 1.0 + 1e-9


@given(cases())
def test_the_bet_never_gains_less_than_one_against_the_ceilings_themselves(
    case: tuple[list[float], list[float]],
) -> None:
    alternative, null = case
    for log, q, ceiling in zip(nearest.log_ratios(*case), alternative, null, strict=True):
        assert log >= math.log(q / ceiling) - 1e-12


def test_what_may_be_honest_is_no_distance_away() -> None:
    assert nearest.divergence(TRUTH, NULL) == pytest.approx(0.0, abs=1e-12)
    assert nearest.nearest(TRUTH, NULL) == pytest.approx(TRUTH)


def test_bins_that_the_alternative_avoids_take_what_the_ceilings_leave() -> None:
    assert nearest.nearest([1.0, 0.0], [0.4, 0.9]) == (0.4, 0.0)
    assert nearest.divergence([1.0, 0.0], [0.4, 0.9]) == pytest.approx(math.log(2.5))
    with pytest.raises(FormatError):
        nearest.log_ratios([1.0, 0.0], [0.4, 0.9])


def test_honest_streams_cross_no_more_often_than_alpha_whenever_one_stops() -> None:
    rng = np.random.default_rng(71)
    ratios = np.array(nearest.log_ratios(INT4, NULL))
    edge = [1 - sum(NULL[1:]), *NULL[1:]]  # the worst honest provider: every bad bin full
    paths = ratios[rng.choice(4, size=(2000, 2000), p=edge)].cumsum(axis=1)
    crossed = int((paths.max(axis=1) >= math.log(50)).sum())
    assert crossed <= 65  # 40 expected at most; 65 is four standard deviations above


def test_a_bet_on_the_cheat_itself_needs_fewer_tokens_than_one_that_learns_it() -> None:
    rng = np.random.default_rng(72)
    ratios = nearest.log_ratios(INT4, NULL)
    fixed, learnt = [], []
    for _ in range(41):
        stream = rng.choice(4, size=1500, p=INT4).tolist()
        path = np.cumsum([ratios[b] for b in stream]).tolist()
        fixed.append(first_crossing(path, math.log(200)))
        learnt.append(first_crossing(bins.running(stream, NULL), math.log(200)))
    halves = tokens_for_power(fixed, 0.5), tokens_for_power(learnt, 0.5)
    assert None not in halves
    assert halves[0] < halves[1]


def test_a_stored_histogram_is_smoothed() -> None:
    assert nearest.smoothed([8, 0, 0]) == pytest.approx((8.5 / 9.5, 0.5 / 9.5, 0.5 / 9.5))


@pytest.mark.parametrize(
    ("alternative", "null"),
    [
        ([0.5, 0.5], [0.5]),
        ([0.5, 0.6], [0.5, 0.6]),
        ([1.5, -0.5], [0.5, 0.6]),
        ([0.5, 0.5], [0.0, 1.0]),
        ([math.nan, 0.5], [0.5, 1.0]),
        ([], []),
    ],
)
def test_what_is_no_alternative_is_refused(alternative: list[float], null: list[float]) -> None:
    with pytest.raises(FormatError):
        nearest.nearest(alternative, null)


@pytest.mark.parametrize("counts", [[], [1, -1]])
def test_what_is_no_histogram_is_refused(counts: list[int]) -> None:
    with pytest.raises(FormatError):
        nearest.smoothed(counts)
