"""Guarantees by simulation: what an honest provider risks, and how it would go wrong."""

import math

import numpy as np
import pytest

from lydite.statistics import betting, bins, merging
from lydite.statistics.power import first_crossing

LEVEL = 1 / 0.005
NULL = [0.9935, 0.004, 0.003, 0.0008]  # ceilings; they sum to more than one
TRUTH = [0.9932, 0.0035, 0.0025, 0.0008]


def test_honest_bins_cross_no_more_often_than_alpha_whenever_one_stops() -> None:
    rng = np.random.default_rng(7)
    crossed = 0
    for _ in range(400):
        stream = rng.choice(4, size=1000, p=TRUTH)
        path = bins.running(stream.tolist(), NULL)
        crossed += first_crossing(path, math.log(LEVEL)) is not None
    assert crossed <= 8  # 2 expected at most; 8 is four standard deviations above


def test_honest_surprisals_cross_no_more_often_than_alpha_whenever_one_stops() -> None:
    rng = np.random.default_rng(8)
    crossed = 0
    for _ in range(400):
        values = rng.choice([-150_000, 350_000], size=400, p=[0.7, 0.3])  # mean zero
        path = betting.running(values.tolist(), 0)
        crossed += first_crossing(path, math.log(LEVEL)) is not None
    assert crossed <= 8


def test_a_product_of_dependent_channels_accuses_honest_providers_and_an_average_does_not() -> None:
    # statistics.md, section 3: four signals, correlation .8, delta .001.
    rng = np.random.default_rng(9)
    runs, requests, signals, level = 1000, 400, 4, math.log(1000)
    shared = rng.normal(size=(runs, requests, 1))
    own = rng.normal(size=(runs, requests, signals))
    noise = math.sqrt(0.8) * shared + math.sqrt(0.2) * own
    steps = 0.5 * noise - 0.125  # log likelihood ratio of a shift by half a sigma
    paths = np.cumsum(steps, axis=1)
    product = (paths.sum(axis=2).max(axis=1) >= level).mean()
    averages = np.log(np.exp(paths).mean(axis=2))
    average = (averages.max(axis=1) >= level).mean()
    assert product > 0.05
    assert average <= 0.005
    some = paths[0, 99].tolist()
    assert merging.log_average(some, [0.25] * 4) == pytest.approx(averages[0, 99])


def test_a_null_from_one_implementation_alone_convicts_another_honest_one() -> None:
    # recompute.md, section 4: calibrated on bf16 alone, honest fp32 was accused in every run.
    rng = np.random.default_rng(10)
    bf16, fp32 = [0.9946, 0.0040, 0.0012, 0.0002], [0.9800, 0.0120, 0.0060, 0.0020]
    alone = [1.05 * p if p < 0.5 else p for p in bf16]
    composite = [max(a, 1.05 * b if b < 0.5 else b) for a, b in zip(alone, fp32, strict=True)]
    accused = {"alone": 0, "composite": 0}
    for _ in range(20):
        counts = rng.multinomial(8000, fp32).tolist()
        accused["alone"] += bins.log_e(counts, alone) >= math.log(LEVEL)
        accused["composite"] += bins.log_e(counts, composite) >= math.log(LEVEL)
    assert accused == {"alone": 20, "composite": 0}
