"""Margins that an ignored seed explains accuse nobody; those of another model still do."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import FormatError
from lydite.statistics import independence

NULL = [0.995, 0.008]
HONEST, INT4, DEAF = [0.996, 0.004], [0.95, 0.05], [0.4, 0.6]
TOKENS = 64


def answer(rng: np.random.Generator, kind: str) -> tuple[list[int], list[int]]:
    """Counts in both bins, and hits: of tokens of a probability drawn anew for each."""
    chances = rng.beta(0.6, 0.6, TOKENS)
    if kind == "deaf":
        hits = rng.random(TOKENS) < chances
    else:
        hits = rng.random(TOKENS) < {"honest": 0.999, "int4": 0.93, "other": 0.75}[kind]
    centred = [round(1e6 * (hit - chance)) for hit, chance in zip(hits, chances, strict=True)]
    rates = {"honest": HONEST, "int4": INT4, "deaf": DEAF, "other": [0.75, 0.25]}[kind]
    return rng.multinomial(TOKENS, rates).tolist(), centred


def log10_e(rng: np.random.Generator, kinds: list[str]) -> float:
    rows = [answer(rng, kind) for kind in kinds]
    counts, hits = [row[0] for row in rows], [row[1] for row in rows]
    return independence.log_e_either(counts, hits, NULL, [INT4]) / math.log(10)


@pytest.mark.parametrize(
    "kinds",
    [
        ["deaf"] * 40,
        ["honest"] * 40,
        ["honest"] * 20 + ["deaf"] * 20,
        ["honest", "deaf"] * 20,
        ["deaf"] * 3 + ["honest"] * 37,
    ],
    ids=["always", "never", "from some day on", "every second", "at first"],
)
def test_an_engine_that_ignores_its_seed_whenever_it_likes_is_never_accused(
    kinds: list[str],
) -> None:
    rng = np.random.default_rng(5)
    reached = [log10_e(rng, kinds) for _ in range(60)]
    assert max(reached) < 2.5
    assert np.mean([level >= 1 for level in reached]) < 0.1 + 3 * math.sqrt(0.09 / 60)


@pytest.mark.parametrize(
    ("kinds", "level"),
    [
        (["int4"] * 12, 4.0),
        (["other"] * 6, 4.0),
        (["honest"] * 30 + ["int4"] * 16, 4.0),
        (["honest", "honest", "honest", "other"] * 6, 4.0),
        (["deaf"] * 20 + ["other"] * 8, 4.0),
    ],
    ids=["int4", "another model", "int4 later", "another model now and then", "both"],
)
def test_another_model_that_uses_the_seed_is_accused(kinds: list[str], level: float) -> None:
    rng = np.random.default_rng(6)
    assert np.mean([log10_e(rng, kinds) >= level for _ in range(40)]) >= 0.9


def test_e_is_at_most_one_on_average_over_tokens_that_ignore_the_noise() -> None:
    rng = np.random.default_rng(7)
    values = []
    for _ in range(4000):
        chances = rng.random(12)
        hits = rng.random(12) < chances
        centred = [round(1e6 * (hit - p)) for hit, p in zip(hits, chances, strict=True)]
        values.append(math.exp(independence.log_e(centred)))
    assert np.mean(values) <= 1 + 4 * np.std(values) / math.sqrt(len(values))


@given(st.lists(st.integers(-1_000_000, 1_000_000), max_size=30))
def test_the_e_value_is_its_definition(values: list[int]) -> None:
    plain = np.mean([np.prod([1 + bet * v / 1e6 for v in values]) for bet in independence.BETS])
    assert math.exp(independence.log_e(values)) == pytest.approx(float(plain), rel=1e-9)


def test_answers_without_hits_count_as_if_their_seed_was_used() -> None:
    counts = [[60, 4]] * 4
    known = independence.log_e_either(counts, [[900_000] * TOKENS] * 4, NULL)
    assert independence.log_e_either(counts, [[]] * 4, NULL) == pytest.approx(known)


def test_what_no_verifier_records_is_refused() -> None:
    with pytest.raises(FormatError):
        independence.log_e([1_000_001])
    with pytest.raises(ValueError, match="zip"):
        independence.log_e_either([[64, 0]], [], NULL)
    assert independence.log_e_either([], [], NULL) == 0.0
