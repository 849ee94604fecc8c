import math

import numpy as np
import pytest

from lydite.errors import FormatError
from lydite.statistics import rates
from lydite.statistics.rates import Clusters


def clusters(lengths: list[int], hits: list[int]) -> Clusters:
    return Clusters(
        responses=len(lengths),
        tokens=sum(lengths),
        tokens_squared=sum(n * n for n in lengths),
        inside=sum(hits),
        inside_squared=sum(k * k for k in hits),
        cross=sum(k * n for k, n in zip(hits, lengths, strict=True)),
    )


def test_standard_error_agrees_with_the_ratio_estimator_spelt_out() -> None:
    lengths, hits = [10, 20, 15, 40, 5], [1, 4, 0, 3, 2]
    rate = sum(hits) / sum(lengths)
    residuals = [k - rate * n for k, n in zip(hits, lengths, strict=True)]
    expected = math.sqrt(5 / 4 * sum(r * r for r in residuals)) / sum(lengths)
    assert clusters(lengths, hits).standard_error() == pytest.approx(expected)


def test_clustered_hits_have_a_larger_error_than_scattered_ones() -> None:
    scattered = clusters([100] * 50, [2] * 25 + [1] * 25)
    clumped = clusters([100] * 50, [15] * 5 + [0] * 45)
    assert scattered.rate() == clumped.rate()
    assert clumped.standard_error() > 3 * scattered.standard_error()


def test_an_empty_bin_still_has_a_ceiling() -> None:
    empty = clusters([100] * 50, [0] * 50)
    assert rates.ceiling(empty, 8, 3.0) == pytest.approx(1 / 5008)


def test_ceilings_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    z = rates.quantile(0.05, 1)
    missed = 0
    for _ in range(400):
        chance = rng.beta(20, 180, size=200)  # responses differ in their own rate
        hits = rng.binomial(100, chance)
        missed += rates.ceiling(clusters([100] * 200, hits.tolist()), 2, z) < 0.1
    assert missed <= 36  # 20 expected; 36 is four standard deviations above


@pytest.mark.parametrize(("lengths", "hits"), [([], []), ([10], [1]), ([0, 0], [0, 0])])
def test_a_rate_from_nothing_is_refused(lengths: list[int], hits: list[int]) -> None:
    with pytest.raises(FormatError):
        rates.ceiling(clusters(lengths, hits), 3, 2.0)


@pytest.mark.parametrize(("error", "comparisons"), [(0.0, 3), (1.0, 3), (0.1, 0)])
def test_calibration_errors_that_are_none_are_refused(error: float, comparisons: int) -> None:
    with pytest.raises(FormatError):
        rates.quantile(error, comparisons)
