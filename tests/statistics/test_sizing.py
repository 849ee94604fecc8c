import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import FormatError
from lydite.statistics import bins, mismatch, nearest, sizing
from lydite.statistics.sizing import Goal

NULL = [0.9935, 0.004, 0.003, 0.0008]
TRUTH = [0.9932, 0.0035, 0.0025, 0.0008]
CHEATS = {
    "smaller model": [0.5, 0.2, 0.2, 0.1],
    "int4": [0.955, 0.02, 0.015, 0.01],
    "weak": [0.985, 0.008, 0.005, 0.002],
}
GOAL = Goal(math.log(1e4))


def test_the_example_of_the_design_notes() -> None:
    # statistics.md, section 7: f = 5 %, beta = .95, p0 = .1 %, delta = 1e-4, d = 5 %: m = 240.
    missed = 0.05 * 0.95 + 0.95 * 0.001
    assert sizing.audits(missed, 0.001, Goal(math.log(1e4), power=0.95)) == 240
    rng = np.random.default_rng(91)
    found = [mismatch.log_e(int(k), 240, 0.001) for k in rng.binomial(240, missed, size=2000)]
    assert np.mean(np.array(found) >= math.log(1e4)) >= 0.95


@pytest.mark.parametrize("cheat", CHEATS)
def test_nine_in_ten_cheats_are_accused_by_then(cheat: str) -> None:
    rng, alternative = np.random.default_rng(92), CHEATS[cheat]
    learnt = sizing.learnt(alternative, NULL, GOAL)
    wagered = sizing.wagered(alternative, NULL, GOAL)
    assert learnt is not None
    assert wagered is not None
    assert sizing.least(GOAL, nearest.divergence(alternative, NULL)) < wagered < learnt
    by_learning = [
        bins.log_e(row, NULL) >= GOAL.log_level
        for row in rng.multinomial(learnt, alternative, size=600).tolist()
    ]
    ratios = np.array(nearest.log_ratios(alternative, NULL))
    by_wager = rng.multinomial(wagered, alternative, size=600) @ ratios >= GOAL.log_level
    for power in (np.mean(by_learning), np.mean(by_wager)):
        assert power >= 0.84  # .9, less five standard deviations
    assert 0.84 <= np.mean(by_wager) <= 0.97


def test_a_measured_cheat_takes_a_third_of_the_tokens_that_learning_it_takes() -> None:
    weak = CHEATS["weak"]
    sizes = [sizing.learnt(weak, NULL, GOAL), sizing.wagered(weak, NULL, GOAL)]
    assert sizes == [20_880, 6_428]  # quoted in docs/decisions/0021


def test_what_hides_below_the_ceilings_is_never_found() -> None:
    assert sizing.learnt(TRUTH, NULL, GOAL) is None
    assert sizing.wagered(TRUTH, NULL, GOAL) is None
    assert sizing.audits(0.001, 0.01, GOAL) is None
    assert sizing.least(GOAL, 0.0) == math.inf


def test_a_weight_an_onset_and_clusters_cost_what_they_should() -> None:
    alternative = CHEATS["int4"]
    plain = sizing.wagered(alternative, NULL, GOAL)
    assert plain is not None
    for dearer in (
        sizing.wagered(alternative, NULL, Goal(GOAL.log_level, weight=0.1)),
        sizing.wagered(alternative, NULL, Goal(GOAL.log_level, onset=10)),
        sizing.wagered(alternative, NULL, Goal(GOAL.log_level, power=0.99)),
        sizing.wagered(alternative, NULL, GOAL, effect=3.0),
    ):
        assert dearer is not None
        assert dearer > plain
    assert Goal(1.0, weight=0.5, onset=0).nats() == pytest.approx(1.0 + 2 * math.log(2))
    assert sizing.least(GOAL, 0.5) == pytest.approx(2 * math.log(1e4))


@given(st.floats(0.01, 5.0), st.floats(0.0, 50.0), st.floats(1.0, 30.0))
def test_the_smallest_number_is_the_smallest(drift: float, variance: float, level: float) -> None:
    goal = Goal(level)
    found = sizing.needed(lambda m: m * drift, variance, goal)
    assert found is not None

    def excess(m: int) -> float:
        return m * drift - 1.2815515655446004 * math.sqrt(m * variance) - level

    assert excess(found) >= -1e-9
    assert found == 1 or excess(found - 1) < 1e-9


def test_clusters_widen_and_scattered_tokens_do_not() -> None:
    rng = np.random.default_rng(93)
    logs = nearest.log_ratios(CHEATS["int4"], NULL)
    scattered = rng.multinomial(128, CHEATS["int4"], size=2000).tolist()
    assert sizing.design_effect(scattered, logs) == pytest.approx(1.0, abs=0.15)
    clumped = (16 * rng.multinomial(8, CHEATS["int4"], size=500)).tolist()
    assert sizing.design_effect(clumped, logs) > 8
    assert sizing.design_effect([[5, 0], [5, 0]], [0.1, 2.0]) == 1.0


@pytest.mark.parametrize(
    "goal",
    [
        Goal(0.0),
        Goal(1.0, power=1.0),
        Goal(1.0, weight=0.0),
        Goal(1.0, onset=-1),
        Goal(math.nan),
    ],
)
def test_goals_that_are_none_are_refused(goal: Goal) -> None:
    with pytest.raises(FormatError):
        sizing.wagered(CHEATS["int4"], NULL, goal)
    with pytest.raises(FormatError):
        sizing.least(goal, 1.0)


def test_histograms_and_rates_that_are_none_are_refused() -> None:
    with pytest.raises(FormatError):
        sizing.learnt([0.5, 0.6], [0.5, 0.6], GOAL)
    with pytest.raises(FormatError):
        sizing.audits(0.5, 0.0, GOAL)
    for effect in (-1.0, math.nan):
        with pytest.raises(FormatError):
            sizing.wagered(CHEATS["int4"], NULL, GOAL, effect)
    for rows in ([[1, 2]], [[1, 2], [1]], [[0, 0], [0, 0]]):
        with pytest.raises(FormatError):
            sizing.design_effect(rows, [0.1, 0.2])


def test_clustering_widens_nothing_where_every_token_counts_alike() -> None:
    alike = (0.1 + 0.2, 0.3, 2.0)  # equal but for rounding, where there are tokens
    assert sizing.design_effect([(40, 2, 0), (7, 9, 0), (30, 0, 0)], alike) == 1.0
