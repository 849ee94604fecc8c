import hashlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import FormatError
from lydite.statistics import bins, pit, ties
from lydite.statistics.power import first_crossing

DIGEST = hashlib.sha256(b"a receipt").digest()


def places(chances: list[float], drawn: list[int], first: int) -> list[int]:
    """The bins of tokens that were drawn, if the verifier thinks that ``chances`` are theirs."""
    found = []
    for i, token in enumerate(drawn, first):
        above = sum(p for p in chances if p > chances[token])
        tied = sum(p for p in chances if p == chances[token])
        found.append(pit.bin_of(pit.value_micro(above, tied, ties.uniform("pit", DIGEST, i))))
    return found


def test_the_null_is_a_tenth_each_and_costs_nothing() -> None:
    assert pit.null() == (0.1,) * 10
    assert math.fsum(pit.null()) == 1.0
    assert pit.null(2_000) == pytest.approx((0.102,) * 10)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.floats(0.001, 0.999))
def test_the_transform_is_uniform_over_draws_and_ties(weights: list[int], point: float) -> None:
    # P(value < point), summed over tokens and exact over the tie.
    chances = [w / sum(weights) for w in weights]
    reached = 0.0
    for chance in chances:
        above = sum(p for p in chances if p > chance)
        tied = sum(p for p in chances if p == chance)
        reached += chance * min(max((point - above) / tied, 0.0), 1.0)
    assert reached == pytest.approx(point, abs=1e-9)


@given(st.integers(0, pit.MICRO - 1))
def test_bins_are_tenths(value: int) -> None:
    assert pit.bin_of(value) == int(str(value).zfill(6)[0])


def test_honest_draws_stay_flat_and_others_are_found_out() -> None:
    rng = np.random.default_rng(41)
    chances = [0.6, 0.15, 0.15, 0.06, 0.04]
    crossed = 0
    for run in range(100):
        drawn = rng.choice(5, size=200, p=chances).tolist()
        path = bins.running(places(chances, drawn, 200 * run), pit.null())
        crossed += first_crossing(path, math.log(50)) is not None
    assert crossed <= 7  # 2 expected at most; 7 is more than three standard deviations above
    hotter = rng.choice(5, size=600, p=[0.4, 0.2, 0.2, 0.1, 0.1]).tolist()
    path = bins.running(places(chances, hotter, 0), pit.null())
    assert first_crossing(path, math.log(200)) is not None


@pytest.mark.parametrize(
    ("above", "tied", "tie"),
    [(-0.1, 0.5, 0.5), (0.7, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.1, 0.0), (math.nan, 0.1, 0.5)],
)
def test_what_is_no_place_is_refused(above: float, tied: float, tie: float) -> None:
    with pytest.raises(FormatError):
        pit.value_micro(above, tied, tie)


def test_values_and_drifts_out_of_range_are_refused() -> None:
    for value in (-1, pit.MICRO):
        with pytest.raises(FormatError):
            pit.bin_of(value)
    for drift in (-1, pit.MICRO):
        with pytest.raises(FormatError):
            pit.null(drift)


def test_rounding_above_one_stays_in_the_last_bin() -> None:
    assert pit.value_micro(0.9, 0.1 + 5e-7, 1 - 1e-12) == pit.MICRO - 1
