import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import FormatError
from lydite.statistics import bins, channel, nearest, onset, shares
from lydite.statistics.merging import log_average, log_mean

NULL = [0.9935, 0.004, 0.003, 0.0008]  # ceilings; they sum to more than one
EDGE = [1 - 0.0078, 0.004, 0.003, 0.0008]  # the worst honest provider
INT4 = [0.955, 0.02, 0.015, 0.01]
SMALL = [0.5, 0.2, 0.2, 0.1]
TOKENS = 128

counts = st.lists(st.lists(st.integers(0, 30), min_size=4, max_size=4), max_size=8)


def twin(answers: list[list[int]], cheats: list[list[float]]) -> float:
    """The three bets one by one, each mixed over starts by its definition."""

    def mixed(wealth: list[list[float]]) -> float:  # wealth[i][j]: bettor j on answer i alone
        size = len(wealth)
        return onset.log_mixture(
            [
                log_mean([sum(row[j] for row in wealth[k:]) for j in range(len(wealth[0]))])
                for k in range(size)
            ]
        )

    ratios = [nearest.log_ratios(cheat, NULL) for cheat in cheats]
    fixed = [[float(np.dot(answer, ratio)) for ratio in ratios] for answer in answers]
    alone = [log_mean([bins.log_e(a, NULL), *f]) for a, f in zip(answers, fixed, strict=True)]
    size = len(answers)
    whole = [bins.log_e(np.sum(answers[k:], axis=0).tolist(), NULL) for k in range(size)]
    parts = [onset.log_mixture(whole), mixed([list(shares.log_steps(log)) for log in alone])]
    if cheats:
        parts.append(mixed(fixed))
    return log_average(parts, [1 / len(parts)] * len(parts))


@given(counts, st.sampled_from([[], [INT4], [INT4, SMALL]]))
def test_the_channel_is_the_average_of_its_bets(
    answers: list[list[int]], cheats: list[list[float]]
) -> None:
    found = channel.log_e(answers, NULL, cheats)
    assert found == pytest.approx(twin(answers, cheats) if answers else 0.0, abs=1e-8)


def first(answers: list[list[int]], level: float, bet: object) -> int | None:
    """After how many answers the level is first reached, looked for at every fourth."""
    looks = range(4, len(answers) + 1, 4)
    return next((t for t in looks if bet(answers[:t]) >= level), None)


def test_honest_answers_cross_no_more_often_than_alpha_whenever_one_stops() -> None:
    rng = np.random.default_rng(131)
    crossed = 0
    for _ in range(120):
        answers = rng.multinomial(TOKENS, EDGE, size=40).tolist()
        found = first(answers, math.log(20), lambda a: channel.log_e(a, NULL, [INT4, SMALL]))
        crossed += found is not None
    assert crossed <= 15  # 6 expected at most; 15 is nearly four standard deviations above


def test_every_cheat_is_found_and_one_on_some_answers_much_sooner_than_by_learning_alone() -> None:
    rng = np.random.default_rng(132)
    level = math.log(1e4)

    def learnt(answers: list[list[int]]) -> float:
        whole = [np.sum(answers[k:], axis=0).tolist() for k in range(len(answers))]
        return onset.log_mixture([bins.log_e(row, NULL) for row in whole])

    def every(answers: list[list[int]]) -> float:
        return channel.log_e(answers, NULL, [INT4])

    some = rng.multinomial(TOKENS, EDGE, size=200)
    some[10::20] = rng.multinomial(TOKENS, SMALL, size=len(some[10::20]))  # 5 %
    unmeasured = rng.multinomial(TOKENS, [0.97, 0.001, 0.001, 0.028], size=40)
    measured = rng.multinomial(TOKENS, INT4, size=40)
    for answers in (some, unmeasured, measured):
        assert first(answers.tolist(), level, every) is not None
    int4 = rng.multinomial(TOKENS, EDGE, size=400)
    int4[10::20] = rng.multinomial(TOKENS, INT4, size=len(int4[10::20]))
    soon = first(int4.tolist(), level, every)
    assert soon is not None
    assert soon <= 250
    assert learnt(int4[: 2 * soon].tolist()) < level


def test_answers_with_other_bins_and_cheats_that_are_none_are_refused() -> None:
    with pytest.raises(FormatError):
        channel.log_e([[1, 2, 3]], NULL)
    with pytest.raises(FormatError):
        channel.log_e([[1, 2, 3, 4]], NULL, [[0.5, 0.5, 0.0, 0.0]])
