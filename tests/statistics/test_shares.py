import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import FormatError
from lydite.statistics import bins, nearest, shares
from lydite.statistics.merging import log_mean

NULL = [0.9935, 0.004, 0.003, 0.0008]
HONEST = [0.9932, 0.0035, 0.0025, 0.0008]
INT4 = [0.955, 0.02, 0.015, 0.01]
TOKENS = 128


def answers(rng: np.random.Generator, share: float, runs: int, size: int) -> np.ndarray:
    """Counts in each bin: runs x size x bins."""
    cheated = rng.random((runs, size)) < share
    good = rng.multinomial(TOKENS, HONEST, size=(runs, size))
    return np.where(cheated[..., None], rng.multinomial(TOKENS, INT4, size=(runs, size)), good)


def paths(counts: np.ndarray) -> np.ndarray:
    """The log of the average over shares, after each answer."""
    logs = counts @ np.array(nearest.log_ratios(INT4, NULL))
    table = {log: shares.log_steps(log) for log in np.unique(logs).tolist()}
    steps = np.array([[table[log] for log in row] for row in logs.tolist()]).cumsum(axis=1)
    top = steps.max(axis=2, keepdims=True)
    return top[..., 0] + np.log(np.exp(steps - top).mean(axis=2))


@given(st.floats(-30.0, 30.0))
def test_steps_are_their_definition(log_e: float) -> None:
    plain = [math.log(1 - f + f * math.exp(log_e)) for f in shares.SHARES]
    assert shares.log_steps(log_e) == pytest.approx(plain, abs=1e-9)


def test_an_answer_that_ruins_a_bet_on_all_leaves_the_others_most_of_their_capital() -> None:
    steps = shares.log_steps(-math.inf)
    assert steps[0] == -math.inf
    assert steps[1:] == pytest.approx([math.log1p(-f) for f in shares.SHARES[1:]])
    assert shares.log_steps(5000.0)[-1] == pytest.approx(5000 + math.log(0.01))


@given(st.floats(0.0, 0.99), st.floats(1.0, 50.0))
def test_fair_answers_make_fair_steps(low: float, high: float) -> None:
    chance = 0.5 if high == low else (1 - low) / (high - low)  # of the high one: mean one
    for a, b in zip(
        shares.log_steps(math.log(high)),
        shares.log_steps(math.log(low) if low else -math.inf),
        strict=True,
    ):
        assert chance * math.exp(a) + (1 - chance) * math.exp(b) <= 1.0 + 1e-9


def test_honest_answers_cross_no_more_often_than_alpha_whenever_one_stops() -> None:
    levels = paths(answers(np.random.default_rng(81), 0.0, 600, 300)).max(axis=1)
    assert (levels >= math.log(50)).sum() <= 26  # 12 expected at most; four deviations above


@pytest.mark.parametrize(("share", "size"), [(0.05, 600), (0.01, 5000)])
def test_a_share_of_cheated_answers_is_found_nearly_as_soon_as_if_the_share_were_known(
    share: float, size: int
) -> None:
    rng = np.random.default_rng(82)
    ratios, level, runs = np.array(nearest.log_ratios(INT4, NULL)), math.log(1e4), 100
    nats = float(np.log1p(share * np.expm1(answers(rng, share, 1, 40_000)[0] @ ratios)).mean())
    counts = answers(rng, share, runs, size)
    known = np.log1p(share * np.expm1(counts @ ratios)).cumsum(axis=1) >= level
    found = paths(counts) >= level
    assert found.any(axis=1).all()
    delay, clairvoyant = (float(crossed.argmax(axis=1).mean() + 1) for crossed in (found, known))
    assert delay <= 1.2 * clairvoyant
    assert (
        delay <= 1.6 * level / nats
    )  # whole answers overshoot the level, which is no loss of ours


def test_one_e_value_over_all_tokens_loses_what_a_bet_on_a_share_finds() -> None:
    counts = answers(np.random.default_rng(83), 0.05, 10, 1200)
    pooled = [bins.log_e(row, NULL) for row in counts.sum(axis=1).tolist()]
    shared = paths(counts)[:, -1]
    assert (shared > np.array(pooled) + math.log(1e4)).all()
    assert log_mean(pooled) < math.log(1e3)


@pytest.mark.parametrize("log_e", [math.nan, math.inf])
def test_what_is_no_e_value_is_refused(log_e: float) -> None:
    with pytest.raises(FormatError):
        shares.log_steps(log_e)
