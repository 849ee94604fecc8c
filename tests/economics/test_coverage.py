"""How much to recompute: for the cluster, for each server, by decisive and by gathered evidence."""

import itertools
import math
import random
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.economics import chances, evidence_power
from lydite.economics.coverage import Question, answer, audits_for_proof, scale
from lydite.economics.evidence_power import Strength
from lydite.errors import ConfigurationError, FormatError

RESULTS = (Path(__file__).parents[2] / "bench" / "results" / "model.json").read_bytes()
MEASURED = evidence_power.parse(RESULTS)


def test_the_power_of_evidence_is_what_the_benchmark_measured() -> None:
    rows = {row["metric"]: row["ours"] for row in msgspec.json.decode(RESULTS)["rows"]}
    for cheat, found in MEASURED.items():
        assert found.median == rows[f"tokens to verdict, {cheat}, median"]
        assert found.ninety == rows[f"tokens to verdict, {cheat}, 90 %"]
        assert found.worst == rows[f"tokens to verdict, {cheat}, worst of {found.streams}"]
    assert {"smaller-model", "int4-weights", "mixed-20"} <= set(MEASURED)
    assert evidence_power.recompute_share(RESULTS).keys() == {"batch 1", "batch 16"}


def test_results_without_verdicts_are_refused() -> None:
    with pytest.raises(FormatError, match="no row"):
        evidence_power.parse(b'{"rows":[{"metric":"x","ours":1}]}')
    with pytest.raises(FormatError):
        evidence_power.parse(b"[]")
    with pytest.raises(FormatError):
        evidence_power.recompute_share(b"[]")
    with pytest.raises(FormatError, match="not measured"):
        answer(Question(cheat="unheard-of"), MEASURED)


@given(st.sampled_from(sorted(MEASURED)), st.floats(0.001, 1), st.floats(0.001, 1))
def test_rarer_cheats_never_need_fewer_tokens(cheat: str, one: float, other: float) -> None:
    low, high = sorted((one, other))
    rare = evidence_power.tokens_at(MEASURED, cheat, low)
    often = evidence_power.tokens_at(MEASURED, cheat, high)
    assert (rare is None) == (often is None)
    if rare is not None and often is not None:
        assert rare.count >= often.count


def test_gathered_tokens_reach_the_level_of_an_accusation_and_not_that_of_the_benchmark() -> None:
    question = Question(servers=1, cheating_servers=1, share=1.0, confidence=0.9, tokens=1)
    gathered = answer(question, MEASURED).draws[4]
    ninety = MEASURED[question.cheat].ninety
    assert ninety is not None
    # E of nine in ten runs was 200 by then; tokens grow with its logarithm.
    assert gathered.pairs == math.ceil(ninety * math.log(10_000) / math.log(200))


def test_what_was_never_seen_when_measured_is_not_promised() -> None:
    assert MEASURED["int8-weights"].ninety is None
    assert evidence_power.tokens_at(MEASURED, "int8-weights", 1.0) is None
    gathered = answer(Question(cheat="int8-weights"), MEASURED).draws[4]
    assert (gathered.pairs, gathered.basis) == (None, "never seen when measured")


@pytest.mark.parametrize(("tokens", "power"), [(4, 0.0), (5, 0.5), (6, 0.9)])
def test_one_answer_shows_a_cheat_as_often_as_was_measured(tokens: int, power: float) -> None:
    strength = Strength(cheat="x", median=4.5, ninety=6, worst=6, streams=12)
    assert evidence_power.single_answer(strength, tokens) == power


def test_the_draws_are_enough_by_the_exact_chances() -> None:
    question = Question(servers=50, pairs=2_000, cheating_servers=2, share=0.05, power=0.8)
    found = answer(question, MEASURED)
    cluster, server, itself, watched, _ = found.draws
    assert found.bad == 200
    assert cluster.pairs is not None
    assert chances.miss(100_000, 200, cluster.pairs, 0.8) <= 0.01
    assert chances.miss(100_000, 200, cluster.pairs - 1, 0.8) > 0.01
    assert server.pairs is not None
    assert chances.miss(2_000, 100, server.pairs // 50, 0.8) <= 0.01
    assert itself.fraction is not None
    assert (1 - itself.fraction * 0.8) ** 200 == pytest.approx(0.01)
    assert watched.fraction is not None
    assert (1 - watched.fraction * 0.8) ** 100 == pytest.approx(0.01)
    assert found.mean_cheats == pytest.approx(1 / (itself.fraction * 0.8))


@given(st.integers(1, 50), st.integers(100, 5_000), st.floats(0.01, 1))
def test_the_exact_draw_never_exceeds_the_approximate_one(
    servers: int, pairs: int, share: float
) -> None:
    """Forgetting that pairs run out asks for more than is needed, never for less."""
    question = Question(servers=servers, pairs=pairs, share=share)
    for draw in answer(question, MEASURED).draws[:2]:
        if draw.fraction is not None and draw.approximate is not None:
            assert draw.fraction <= draw.approximate + 1e-12


def test_a_simulated_cluster_is_caught_as_often_as_was_asked_for() -> None:
    question = Question(servers=20, pairs=500, share=0.1, power=0.7, confidence=0.9)
    draw = answer(question, MEASURED).draws[0].pairs
    assert draw is not None
    dice = random.Random(3)
    caught = 0
    for _ in range(3_000):
        shown = [pair for pair in dice.sample(range(10_000), draw) if pair < 50]
        caught += any(dice.random() < 0.7 for _ in shown)
    assert caught / 3_000 == pytest.approx(0.9, abs=0.02)


def test_how_it_scales_with_the_cluster() -> None:
    sizes = (100, 1_000, 10_000, 100_000)
    found = scale(Question(share=0.2), sizes, MEASURED)
    one = [each.one_server_cheats for each in found]
    some = [each.one_in_hundred_cheat for each in found]
    watched = [each.every_server_watched for each in found]
    gathered = [each.gathered for each in found]
    assert all(each is not None for each in (*one, *some, *gathered))
    assert one == pytest.approx([one[0]] * 4, rel=0.01)
    assert watched == [watched[0]] * 4
    counts = [share * size for share, size in zip(some, sizes, strict=True) if share is not None]
    assert counts == pytest.approx([counts[0]] * 4, rel=0.01)
    steps = [b - a for a, b in itertools.pairwise(gathered) if a and b]
    assert steps == pytest.approx([steps[0]] * 3, abs=2 / 100_000)  # rounded up to whole answers


def test_more_confidence_gathers_more() -> None:
    pairs = [
        answer(Question(share=0.2, confidence=c), MEASURED).draws[4].pairs
        for c in (0.5, 0.9, 0.99, 0.999)
    ]
    assert all(each is not None for each in pairs)
    assert pairs[0] == pairs[1]
    assert pairs[1:] == sorted(set(pairs[1:]), key=lambda each: each or 0)


def test_proof_with_honest_mismatches_takes_what_the_formula_says() -> None:
    assert audits_for_proof(0.05, 0.001, budget=1e-4, power=0.95) == 240
    assert audits_for_proof(1.0, 0.001, budget=1e-4) == 2
    assert audits_for_proof(0.05, 0.05, budget=1e-4) is not None
    with pytest.raises(ConfigurationError):
        audits_for_proof(0.05, 0.0, budget=1e-4)


def test_proof_with_honest_mismatches_convicts_in_simulation() -> None:
    """The likelihood ratio convicts in the audits that the formula allows, nineteen in twenty."""
    wanted = audits_for_proof(0.05, 0.001, budget=1e-4, power=0.95)
    assert wanted is not None
    null, seen = 0.001, 0.05 * 0.95 + 0.95 * 0.001
    hit, passed = math.log(seen / null), math.log((1 - seen) / (1 - null))
    dice, convicted = random.Random(5), 0
    for _ in range(1_000):
        hits = sum(dice.random() < seen for _ in range(wanted))
        convicted += hits * hit + (wanted - hits) * passed >= math.log(1e4)
    assert convicted / 1_000 > 0.95


@pytest.mark.parametrize(
    "changes",
    [
        {"servers": 0},
        {"cheating_servers": 2_000},
        {"share": 0.0},
        {"share": 1.5},
        {"confidence": 1.0},
        {"power": -0.1},
        {"tokens": 0},
    ],
)
def test_questions_that_make_no_sense_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        answer(msgspec.structs.replace(Question(), **changes), MEASURED)
