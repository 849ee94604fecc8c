"""The code is one: its lengths obey Kraft at every step, and what nobody chose costs nothing."""

import copy
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lydite.errors import FormatError
from lydite.evidence.egress import verifier
from lydite.evidence.egress.claims import Claims
from lydite.evidence.egress.code import MICRO, Coder, Token
from lydite.evidence.egress.reference import Ledger, Reference
from tests.egress.conftest import NO_FRAME, SIZE, best, choice


def rows(reference: Reference, ids: list[int], choices: list[verifier.Choice]) -> list[Token]:
    claims = Claims(output_ids=tuple(ids), ending="whole", frame=NO_FRAME)
    finding = verifier.verify(claims, choices, [SIZE - 1], reference)
    names = ("kernel", "tight", "surprisal", "rank", "noisy-rank", "gap", "ends")
    columns = [finding.values(name) for name in names]
    return [Token(*each) for each in zip(*columns, strict=True)]


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, SIZE), st.data())
def test_all_next_tokens_together_have_a_chance_of_one_at_most(
    reference: Reference, seed: int, kept: int, data: st.DataObject
) -> None:
    """The obvious account of the code: ask it for every token that could have come."""
    rng = np.random.default_rng(seed)
    coder = Coder()
    for position in range(6):
        here = choice(rng, kept=kept)
        every = rows(reference, list(range(SIZE)), [here] * SIZE)
        chances = []
        for token in every:
            chances.append(2.0 ** -copy.deepcopy(coder)._step(position, token))
        assert math.fsum(chances) <= 1.0 + 1e-9
        chosen = data.draw(st.sampled_from([0, best(here), int(here.scaled.argmax())]))
        coder._step(position, every[chosen])


def test_what_the_seed_explains_costs_next_to_nothing(reference: Reference) -> None:
    rng = np.random.default_rng(1)
    choices = [choice(rng) for _ in range(1000)]
    charged = Coder().charge(rows(reference, [best(row) for row in choices], choices))
    assert charged < 40 * MICRO  # near ties alone


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_ranks_that_a_secret_chose_cost_little_more_than_the_secret(
    reference: Reference, bits: int
) -> None:
    rng = np.random.default_rng(2)
    choices = [choice(rng) for _ in range(400)]
    ids = [int(np.argsort(-row.scaled)[rng.integers(1 << bits)]) for row in choices]
    charged = Coder().charge(rows(reference, ids, choices)) / MICRO
    assert 400 * bits <= charged <= 400 * bits * 1.25 + 40


@pytest.mark.parametrize("period", [10, 50])
def test_places_that_return_are_learnt(reference: Reference, period: int) -> None:
    rng = np.random.default_rng(3)
    coder, sent, charged = Coder(), 0, 0
    for _ in range(40):
        choices = [choice(rng) for _ in range(100)]
        ids = [best(row) for row in choices]
        for place in range(0, 100, period):
            ids[place] = int(np.argsort(-choices[place].scaled)[rng.integers(16)])
            sent += 4
        charged += coder.charge(rows(reference, ids, choices))
    assert sent <= charged / MICRO <= 2 * sent


def test_a_session_that_was_honest_for_long_is_charged_no_less_later(reference: Reference) -> None:
    rng = np.random.default_rng(4)
    coder = Coder()
    for _ in range(60):
        choices = [choice(rng) for _ in range(50)]
        coder.charge(rows(reference, [best(row) for row in choices], choices))
    choices = [choice(rng) for _ in range(300)]
    ids = [int(np.argsort(-row.scaled)[rng.integers(4)]) for row in choices]
    assert 600 <= coder.charge(rows(reference, ids, choices)) / MICRO <= 800


def test_a_ledger_counts_again_what_it_counted(reference: Reference) -> None:
    rng = np.random.default_rng(5)
    choices = [choice(rng) for _ in range(30)]
    claims = Claims(output_ids=tuple(best(row) for row in choices), ending="cut", frame=NO_FRAME)
    finding = verifier.verify(claims, choices, [], reference)
    first, second = Ledger(reference), Ledger(reference)
    once = [first.charge(finding).micro_bits for _ in range(5)]
    assert once == [second.charge(finding).micro_bits for _ in range(5)]
    assert first.micro_bits == sum(once)
    assert once[0] > 5 * MICRO  # a cut is charged


def test_tokens_that_do_not_fit_are_refused(reference: Reference) -> None:
    rng = np.random.default_rng(6)
    claims = Claims(output_ids=(SIZE,), ending="whole", frame=NO_FRAME)
    with pytest.raises(FormatError):
        verifier.verify(claims, [choice(rng)], [], reference)
    with pytest.raises(FormatError):
        verifier.verify(claims, [], [], reference)
