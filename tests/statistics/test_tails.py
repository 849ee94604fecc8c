"""Bets that only larger scores win accuse nobody who is no louder than honest, mixed or between."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from lydite.errors import FormatError
from lydite.messages.calibration import Binned, Cheat, Histogram
from lydite.statistics import bins, channel, composite, rates, shares, tails
from lydite.statistics.merging import log_average, log_sum
from lydite.statistics.nearest import smoothed

NULL = (1.0, 0.5, 0.2, 0.05, 0.006)
LOUD, LOUDER = (0.3, 0.3, 0.2, 0.15, 0.05), (0.05, 0.1, 0.2, 0.3, 0.35)
QUIET = (0.9, 0.07, 0.02, 0.008, 0.002)


def masses(null: tuple[float, ...]) -> np.ndarray:
    return np.array(null) - np.array([*null[1:], 0.0])


def survival(chances: np.ndarray) -> np.ndarray:
    return np.cumsum(chances[::-1])[::-1]


@st.composite
def nulls(draw: st.DrawFn) -> tuple[float, ...]:
    size = draw(st.integers(2, 7))
    unit = st.floats(1e-4, 1.0)
    rest = sorted(draw(st.lists(unit, min_size=size, max_size=size)), reverse=True)
    return (1.0, *rest)


@st.composite
def distributions(draw: st.DrawFn, size: int) -> np.ndarray:
    weights = draw(st.lists(st.floats(1e-3, 1.0), min_size=size, max_size=size))
    return np.array(weights) / math.fsum(weights)


@given(st.data())
def test_no_provider_within_the_null_gains_by_any_bet(data: st.DataObject) -> None:
    null = data.draw(nulls())
    alternative = data.draw(distributions(len(null)))
    weights, bets = channel.wagers(null, [tuple(alternative)])
    assert math.fsum(weights) == pytest.approx(1.0)
    said = data.draw(distributions(len(null)))
    below = np.minimum(survival(said), null)  # louder than the null nowhere, in between perhaps
    within = below - np.array([*below[1:], 0.0])
    for bet in bets:
        factors = np.exp(bet)
        assert all(later >= before * (1 - 1e-12) for before, later in pairwise(factors))
        assert factors @ within <= 1.0 + 1e-9
        assert factors @ masses(null) == pytest.approx(1.0, abs=1e-9)


@given(st.data())
def test_the_bet_on_a_cheat_is_the_obvious_isotonic_one(data: st.DataObject) -> None:
    null = data.draw(nulls().filter(lambda null: min(masses(null)) > 1e-6))
    q = data.draw(distributions(len(null)))
    p = masses(null)
    places = range(len(null))
    obvious = [
        max(
            min(q[i : j + 1].sum() / p[i : j + 1].sum() for j in places if j >= b)
            for i in places
            if i <= b
        )
        for b in places
    ]
    assert np.exp(tails.on(tuple(q), null)) == pytest.approx(np.array(obvious), rel=1e-6)


def test_a_bet_on_a_cheat_beats_every_other_bet_on_it() -> None:
    best = tails.nats(LOUD, NULL)
    dice = np.random.default_rng(3)
    for _ in range(300):
        steps = np.cumsum(dice.exponential(size=len(NULL)) * dice.integers(0, 2, len(NULL)))
        factors = (steps + 1e-6) / ((steps + 1e-6) @ masses(NULL))
        assert np.array(LOUD) @ np.log(factors) <= best + 1e-9
    assert best > 0.1


def test_a_quieter_cheat_is_never_bet_on() -> None:
    assert tails.on(QUIET, NULL) == (0.0,) * len(NULL)
    assert tails.nats(QUIET, NULL) == 0.0
    assert channel.wagers(NULL, [QUIET]) == channel.wagers(NULL)


def test_a_level_null_has_bets_too() -> None:
    null = (1.0, 1.0, 0.2, 0.2, 0.01)
    for bet in (*tails.guesses(null), tails.on(LOUDER, null)):
        factors = np.exp(bet)
        assert all(later >= before - 1e-12 for before, later in pairwise(factors))
        assert factors @ masses(null) == pytest.approx(1.0)
        assert factors[2] == pytest.approx(factors[3])  # both are as rare as the tail


def test_what_was_never_seen_counts_alike_in_whichever_bin_it_lies() -> None:
    null = (1.0, 0.0005, 0.0005, 0.0005)
    for place in (1, 2, 3):
        counts = [[19 if b == 0 else int(b == place) for b in range(4)]] * 3
        assert channel.log_e_tails(counts, null) > math.log(100)


@pytest.mark.parametrize("null", [(), (0.9, 0.1), (1.0, 0.1, 0.2), (1.0, 0.0), (1.0, math.nan)])
def test_what_is_no_survival_function_is_refused(null: tuple[float, ...]) -> None:
    with pytest.raises(FormatError):
        tails.guesses(null)
    with pytest.raises(FormatError):
        tails.on((1.0,) * len(null), null)


@pytest.mark.parametrize("cheat", [(0.5, 0.5), (0.5, 0.5, 0.0, 0.0, 0.0), (0.9,) * 5])
def test_a_bet_needs_a_distribution_without_gaps(cheat: tuple[float, ...]) -> None:
    with pytest.raises(FormatError):
        tails.on(cheat, NULL)


def obvious(answers: list[tuple[int, ...]], cheats: list[tuple[float, ...]]) -> float:
    """Start each bet on each share at every answer, and average as the weights say."""
    weights, bets = channel.wagers(NULL, cheats)
    logs, staked = [], []
    for weight, bet in zip(weights, bets, strict=True):
        for part, share in zip(channel.PARTS, shares.SHARES, strict=True):
            gains = [sum(n * log for n, log in zip(one, bet, strict=True)) for one in answers]
            steps = [math.log(1 - share + share * math.exp(gain)) for gain in gains]
            starts = [
                math.fsum(steps[k:]) - math.log((k + 1) * (k + 2)) for k in range(len(answers))
            ]
            logs.append(log_sum([*starts, -math.log(len(answers) + 1)]))
            staked.append(weight * part)
    return log_average(logs, staked)


def test_a_channel_is_worth_what_the_obvious_sum_says() -> None:
    dice = np.random.default_rng(5)
    answers = [tuple(row) for row in dice.multinomial(9, LOUD, size=6).tolist()]
    for cheats in ([], [LOUDER, QUIET, LOUD]):
        for size in range(7):
            level = channel.log_e_tails(answers[:size], NULL, cheats)
            assert level == pytest.approx(obvious(answers[:size], cheats), abs=1e-9)


def test_other_bins_than_those_of_the_null_are_refused() -> None:
    with pytest.raises(FormatError):
        channel.log_e_tails([(1, 2)], NULL)


def test_honest_providers_are_accused_no_more_often_than_the_level_says() -> None:
    dice, runs, level = np.random.default_rng(7), 400, math.log(20)
    answers = dice.multinomial(12, masses(NULL), size=(runs, 25)).tolist()
    accused = sum(
        any(channel.log_e_tails(one[:size], NULL, [LOUD]) >= level for size in (5, 10, 25))
        for one in answers
    )
    assert rates.highest(accused, runs) < 0.05


def histogram(name: str, table: np.ndarray, *, tailed: bool = True) -> Histogram:
    lengths = table.sum(axis=1)
    beyond = table[:, ::-1].cumsum(axis=1)[:, ::-1]
    return Histogram(
        name=name,
        responses=len(table),
        tokens=int(lengths.sum()),
        tokens_squared=int((lengths**2).sum()),
        counts=tuple(table.sum(axis=0).tolist()),
        counts_squared=tuple((table**2).sum(axis=0).tolist()),
        crosses=tuple((table * lengths[:, None]).sum(axis=0).tolist()),
        tails_squared=tuple((beyond**2).sum(axis=0).tolist()) if tailed else (),
    )


def test_a_tail_is_bounded_like_one_bin_that_holds_all_of_it() -> None:
    table = np.random.default_rng(8).multinomial(30, LOUD, size=200)
    known = Binned(edges=(1, 2, 3, 4), histograms=(histogram("one", table),))
    found = composite.tails(known, 5, 1000)
    z = rates.quantile(0.001, 5)
    for k in range(1, 5):
        halves = np.stack([table[:, :k].sum(axis=1), table[:, k:].sum(axis=1)], axis=1)
        two = histogram("two", halves)
        columns = zip(two.counts, two.counts_squared, two.crosses, strict=True)
        clusters = [
            rates.Clusters(two.responses, two.tokens, two.tokens_squared, *each) for each in columns
        ]
        assert found[k] == pytest.approx(rates.ceiling(clusters[1], 2, z), rel=1e-9)


def test_a_histogram_without_tails_has_a_wider_null_and_not_by_much() -> None:
    table = np.random.default_rng(9).multinomial(30, LOUD, size=200)
    exact, bounded = (
        composite.tails(
            Binned(edges=(1, 2, 3, 4), histograms=(histogram("one", table, tailed=tailed),)),
            5,
            1000,
        )
        for tailed in (True, False)
    )
    for narrow, wide in zip(exact, bounded, strict=True):
        assert narrow - 1e-12 <= wide < narrow + 0.05
    tails.check(exact)
    tails.check(bounded)


def test_a_quiet_machine_in_the_null_costs_nothing_and_one_between_two_is_not_accused() -> None:
    """What ceilings in every bin do to numerics between those measured, and this does not."""
    dice = np.random.default_rng(10)
    quiet, loud = (0.92, 0.04, 0.025, 0.01, 0.005), (0.9, 0.03, 0.03, 0.025, 0.015)
    between = (0.9, 0.094, 0.004, 0.0015, 0.0005)  # fills a bin beyond both
    groups = [
        histogram(name, dice.multinomial(40, chances, size=300))
        for name, chances in (("quiet", quiet), ("loud", loud))
    ]
    known = Binned(edges=(1, 2, 3, 4), histograms=tuple(groups))
    answers = dice.multinomial(40, between, size=40).tolist()
    ceilings = composite.ceilings(known, 5, 1000)
    assert composite.log_e(known, answers, ceilings) > math.log(1000)
    both = composite.tails(known, 5, 1000)
    assert composite.log_e_tails(known, answers, both) < 0.0
    alone = composite.tails(Binned(edges=(1, 2, 3, 4), histograms=tuple(groups[1:])), 5, 1000)
    assert max(b - a for a, b in zip(alone, both, strict=True)) < 0.003
    assert bins.log_e(np.sum(answers, axis=0).tolist(), ceilings) > 0.0
    cheats = (Cheat(name="loud", counts=(300, 300, 200, 150, 50)),)
    betting = Binned(edges=known.edges, histograms=known.histograms, cheats=cheats)
    cheated = dice.multinomial(40, LOUD, size=3).tolist()
    assert composite.log_e_tails(betting, cheated, both) > math.log(1000)
    assert composite.log_e_tails(betting, cheated, both) == channel.log_e_tails(
        cheated, both, [smoothed(cheats[0].counts)]
    )


@pytest.mark.parametrize("squares", [(1, 2), (1,) * 6])
def test_tails_that_do_not_fit_the_bins_are_refused(squares: tuple[int, ...]) -> None:
    table = np.random.default_rng(11).multinomial(30, LOUD, size=20)
    one = replace(histogram("one", table), tails_squared=squares)
    with pytest.raises(FormatError):
        composite.tails(Binned(edges=(1, 2, 3, 4), histograms=(one,)), 5, 1000)
