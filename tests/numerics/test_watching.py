"""A stack is inside, outside, or nothing can be said: by the same bets, token by token."""

import math
import random

import pytest
from made import passport, scores, stack

from lydite.errors import FormatError
from lydite.evidence.tokens.reference import Reference
from lydite.messages.tier import Tier
from lydite.numerics import causes, merging, watching
from lydite.numerics.scoring import Scored
from lydite.numerics.watching import Outcome

LEVEL = 1e-3


@pytest.fixture(scope="module")
def references() -> list[Reference]:
    stacks = (passport(1), passport(2, 8.0, stack=stack(dtype="x")))
    return [merging.merge([each], [], "x", LEVEL).reference for each in stacks]


def answers(seed: int, scale: float, count: int = 40, *, chat: bool = False) -> list[Scored]:
    dice = random.Random(seed)
    margins, residuals = scores(seed, scale, count)
    return [
        Scored(
            margins=tuple(m),
            surprisals=tuple(int(dice.uniform(-300_000, 300_000)) for _ in m),
            residuals=tuple(r),
            flips=0,
            chat=chat,
            prompt_tokens=20,
            told_tokens=None,
        )
        for m, r in zip(margins, residuals, strict=True)
    ]


def test_accepted_stacks_stay_inside(references: list[Reference]) -> None:
    needed = watching.needed_tokens(references[0], LEVEL)
    assert needed is not None
    for seed in range(20):
        for scale in (10_000.0, 8.0):
            watched = watching.watch(references, answers(400 + seed, scale), LEVEL)
            assert watched.crossing is None
            assert watching.decide(watched, needed) is Outcome.INSIDE


def test_another_stack_is_outside_and_the_report_says_by_what_and_where(
    references: list[Reference],
) -> None:
    told = answers(500, 30_000.0)
    watched = watching.watch(references, told, LEVEL)
    assert watched.loudest == "residual"
    place = watched.crossing
    assert place is not None
    assert place.seen == 128 * (place.answer - 1) + place.token
    kept = [*told[: place.answer]]
    last = kept[-1]
    shorter = Scored(
        last.margins[: place.token - 1],
        last.surprisals[: place.token - 1],
        last.residuals[: place.token - 1],
        *last[3:],
    )
    assert watching.watch(references, [*kept[:-1], shorter], LEVEL).crossing is None
    assert watching.decide(watched, 1) is Outcome.OUTSIDE


def test_the_first_answers_alone_say_nothing(references: list[Reference]) -> None:
    needed = watching.needed_tokens(references[0], LEVEL)
    watched = watching.watch(references, answers(600, 10_000.0, 1), LEVEL)
    assert watching.decide(watched, 10 * (needed or 1)) is Outcome.UNDERPOWERED
    assert watching.decide(watched, None) is Outcome.UNDERPOWERED


def test_only_inside_affirms_and_outside_is_no_accusation() -> None:
    assert {outcome: outcome.tier for outcome in Outcome} == {
        Outcome.INSIDE: Tier.AFFIRMING,
        Outcome.OUTSIDE: Tier.WARNING,
        Outcome.UNDERPOWERED: Tier.NONE,
    }


def test_without_log_probabilities_margins_and_surprisals_are_watched(
    references: list[Reference],
) -> None:
    silent = [one._replace(residuals=()) for one in answers(700, 10_000.0)]
    assert set(watching.watch(references, silent, LEVEL).channels) == {"margin", "surprisal"}


def test_nothing_to_watch_and_levels_that_make_no_sense_are_refused(
    references: list[Reference],
) -> None:
    for wrong, level in (([], LEVEL), (answers(1, 1.0, 1), 0.0), (answers(1, 1.0, 1), 1.0)):
        with pytest.raises(FormatError):
            watching.watch(references, wrong, level)


def test_power_is_stated_against_the_hardest_cheat_that_is_known() -> None:
    cheats = [
        passport(3, 60_000.0, cheat="far", noise_micro=30_000),
        passport(4, 20_000.0, cheat="near", noise_micro=30_000),
    ]
    merged = merging.merge([passport(1)], cheats, "x", LEVEL).reference
    needed = watching.needed_tokens(merged, LEVEL)
    near = [one.tokens for one in merged.alternatives if one.name == "near"]
    assert needed == min(near)
    stricter = watching.needed_tokens(merged, LEVEL**2)
    assert stricter is not None
    assert stricter >= 2 * min(near)


def shaped(factor: float, seed: int = 1, *, chat: bool = False) -> list[Scored]:
    """Answers whose residuals are ``factor`` times the accepted ones, rounding like."""
    return answers(seed, factor * 10_000.0, 16, chat=chat)


def moved(one: Scored, *factors: tuple[int, int, float]) -> Scored:
    residuals = list(one.residuals)
    for start, end, factor in factors:
        residuals[start:end] = [int(factor * value) for value in residuals[start:end]]
    return one._replace(residuals=tuple(residuals))


ACCEPTED = [passport(1)]
CASES = {
    causes.COARSER: shaped(3.0),
    causes.FINER: shaped(0.1),
    causes.LAYERS: shaped(40.0),
    causes.POSITION: [moved(one, (1, 16, 8.0)) for one in shaped(1.0)],
    causes.ROPE: [moved(one, (2, 32, 3.0), (32, 128, 6.0)) for one in shaped(1.5)],
    causes.TEMPLATE: [moved(one, (1, 16, 8.0)) for one in shaped(1.0, chat=True)] + shaped(1.0, 2),
    causes.SAMPLER: [one._replace(margins=(500_000,) * 128) for one in shaped(1.0)],
    causes.TEMPERATURE: [one._replace(surprisals=(200_000, 0) * 64) for one in shaped(1.0)],
}


@pytest.mark.parametrize("name", CASES)
def test_a_pattern_names_its_likely_cause(name: str) -> None:
    assert causes.likely(CASES[name], ACCEPTED)[0].name == name


def test_prompts_that_the_stack_counts_otherwise_point_to_the_template() -> None:
    told = [one._replace(told_tokens=21) for one in shaped(3.0)]
    assert causes.likely(told, ACCEPTED)[0].name == causes.TEMPLATE


def test_nothing_is_named_where_nothing_was_told() -> None:
    silent = [one._replace(residuals=()) for one in shaped(1.0)]
    assert causes.likely(silent, ACCEPTED) == ()
    assert math.isfinite(causes.pattern(silent, ACCEPTED).tail)


def silenced(told: list[Scored], every: int) -> list[Scored]:
    """Answers of which every so-manieth tells no log-probabilities."""
    return [one._replace(residuals=()) if n % every == 0 else one for n, one in enumerate(told)]


def test_one_answer_without_log_probabilities_silences_no_channel(
    references: list[Reference],
) -> None:
    told = answers(500, 30_000.0)
    watched = watching.watch(references, silenced(told, 40), LEVEL)
    assert watched.loudest == "residual"
    assert watching.decide(watched, 1) is Outcome.OUTSIDE
    assert watched.missing["residual"] == 1
    assert not watched.unwatched


@pytest.mark.parametrize("every", [1, 2, 9])
def test_a_channel_that_too_few_answers_tell_leaves_nobody_inside(
    every: int, references: list[Reference]
) -> None:
    watched = watching.watch(references, silenced(answers(400, 10_000.0), every), LEVEL)
    assert watched.unwatched == {"residual"}
    assert watching.decide(watched, 1) is Outcome.UNDERPOWERED


def test_tokens_are_needed_by_watched_channels_alone() -> None:
    cheats = [passport(4, 20_000.0, cheat="near", noise_micro=30_000)]
    merged = merging.merge([passport(1)], cheats, "x", LEVEL).reference
    quick, slow = (
        watching.needed_tokens(merged, LEVEL, unwatched) for unwatched in ((), ("residual",))
    )
    assert quick is not None
    assert slow is None or slow > quick
    assert watching.needed_tokens(merged, LEVEL, ("residual", "margin")) is None
