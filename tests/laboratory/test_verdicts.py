"""The verdict table says what was measured: honest streams stay unaccused, cheats are found."""

import json
import random
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from lydite.engines.transformers_engine import TransformersEngine
from lydite.engines.weights import check_manifest
from lydite.evidence.activations import attester, projection
from lydite.evidence.activations import spec as specs
from lydite.evidence.tokens.reference import MARGIN, RESIDUAL, parse
from lydite.evidence.tokens.sampling import Sampling
from lydite.laboratory import channels, nulls, parts, texts, toploc, wealth
from lydite.laboratory.captures import Capture, capture
from lydite.laboratory.cheats import CHEATS, Workshop
from lydite.laboratory.cheats.fronts import close
from lydite.laboratory.judging import Kept
from lydite.laboratory.plans import FULL, SMALL
from lydite.laboratory.streams import Question, render, seed_of
from lydite.laboratory.verdicts import Laboratory, Table
from lydite.messages.calibration import Binned
from lydite.statistics import bins, channel, tails
from lydite.statistics.dependence import Dependence

ROOT = Path(__file__).parents[2]
MODELS, DATA = ROOT / "models", ROOT / "data" / "reference" / "tokens"
BASE = MODELS / "lydite-base"
TINY = msgspec.structs.replace(
    SMALL,
    models=MODELS,
    data=DATA,
    attacks=("smaller-model", "int4-weights", "mixed-50"),
    calibrated=(("bf16", ("bf16/batch-64",)), ("fp32", ("fp32/batch-16",))),
    honest=("bf16/batch-16", "fp32/batch-16"),
    calibration_answers=12,
    honest_streams=3,
    stream_answers=2,
    attack_answers=8,
    measured=("smaller-model", "int4-weights"),
    measured_answers=6,
    resamples=6,
    longest=600,
)


@pytest.fixture(scope="module")
def seen() -> list[str]:
    return []


@pytest.fixture(scope="module")
def table(seen: list[str]) -> Table:
    torch.set_num_threads(1)
    return Laboratory(TINY, lambda table: seen.append(table.doing)).run()


def test_the_table_grows_step_by_step(table: Table, seen: list[str]) -> None:
    assert seen[0].startswith("calibrating")
    assert [each.removeprefix("attack: ") for each in seen if each.startswith("attack")] == [
        *TINY.attacks
    ]
    assert seen[-1] == "done"
    assert [row.name for row in table.attacks] == [*TINY.attacks]


def test_no_honest_stream_is_accused_by_our_evidence(table: Table) -> None:
    assert [each.name for each in table.honest] == [*TINY.honest, "all"]
    everyone = table.honest[-1]
    for evidence in table.evidence:
        found = everyone.alarms[evidence.name]
        assert found.streams == 6
        assert found.at_most[1] == pytest.approx(1 - 0.05 ** (1 / 6), abs=1e-6)
        if evidence.ours:
            assert found.accused == (0, 0), evidence.name


def test_blatant_cheats_are_found_by_what_must_see_them(table: Table) -> None:
    rows = {row.name: row.cells for row in table.attacks}
    for name in ("tokens/margin", "tokens/residual", "activations/sketch-2", "lydite, all"):
        for attack in ("smaller-model", "int4-weights"):
            first, strict = rows[attack][name].tokens
            assert first is not None
            assert strict is not None
            assert 1 <= first <= strict <= 600
    assert rows["int4-weights"]["tokens/surprisal"].found[1] < 0.5
    half = rows["mixed-50"]["lydite, all"].tokens[0]
    assert half is not None
    assert half >= (rows["smaller-model"]["lydite, all"].tokens[0] or 0)


def test_the_table_names_what_it_was_made_from(table: Table) -> None:
    again = msgspec.json.decode(msgspec.json.encode(table), type=Table)
    assert again.provenance["weights"] == check_manifest(BASE).root
    sketch = next(each for each in again.evidence if each.name == "activations/sketch-2")
    assert sketch.bytes_a_token == 2
    assert len(sketch.survival) == len(sketch.edges) + 1
    tails.check(sketch.survival)


def test_the_large_matrix_has_twenty_streams_of_every_honest_variant() -> None:
    assert FULL.honest_streams >= 20
    assert set(FULL.attacks) == set(CHEATS) - {"honest"}
    calibrated = {name for _, variants in FULL.calibrated for name in variants}
    assert set(FULL.honest) - calibrated  # some were never calibrated on


@pytest.fixture(scope="module")
def captured() -> list[Capture]:
    torch.set_num_threads(1)
    workshop = Workshop(model=BASE, small_model=MODELS / "lydite-small")
    auditor = TransformersEngine.load(BASE, "fp32", 1)
    reference = parse((DATA / "lydite-base.json").read_bytes())
    prompts = json.loads((DATA / "prompts.json").read_bytes())
    engine = workshop.declared()
    asked = [
        Question(render(auditor.codec, prompts[i]), Sampling(max_tokens=40), seed_of("capture", i))
        for i in range(3)
    ]
    said = capture(engine, auditor, asked, reference)
    for each in (engine, auditor):
        close(each)
    return said


def test_a_capture_keeps_both_sides_of_every_token(captured: list[Capture]) -> None:
    for one in captured:
        count = len(one.claims.output_ids)
        assert one.true.shape == (count,)
        assert one.theirs.shape == one.ours.shape == (count, 256)
        told = np.array(one.claims.served.values)
        apart = np.abs(told - one.true)
        assert 0 < apart.max() < 0.1
        assert np.allclose(one.tokens.values(RESIDUAL), 1e6 * apart, atol=1)
        assert len(one.tokens.values(MARGIN)) == count


def test_sketch_scores_are_those_of_the_residues_by_definition(captured: list[Capture]) -> None:
    root, one = "ab" * 32, captured[0]
    spec = channels.spec_for([captured], 8)
    scores = channels.sketch_channel(spec, root, 256).score(one)
    ids = {"prompt_ids": one.claims.prompt_ids, "output_ids": one.claims.output_ids}
    key = specs.key(spec, receipt_id=one.receipt_id, weights_root=root, **ids)
    step = float(spec.delta)
    made = np.frombuffer(attester.sketch(one.theirs, key, spec), dtype=np.uint8)
    told = np.stack([made >> 2 * place & 3 for place in range(4)], axis=1).reshape(-1, 8)
    off = (told - projection.project(one.ours, key, 8) / step + 2) % 4 - 2
    assert np.allclose(scores, 1e6 * step * np.linalg.norm(off, axis=1), atol=1)


def test_projections_are_small_between_honest_sides(captured: list[Capture]) -> None:
    for one in captured:
        assert max(channels.projections(one)) < 100_000
        swapped = one._replace(theirs=one.theirs[::-1].copy())
        assert np.median(channels.projections(swapped)) > 1_000_000


def states(seed: int, tokens: int = 64, width: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(tokens, width)).astype(np.float32)


def test_toploc_accepts_itself_and_rejects_another() -> None:
    (first, second) = toploc.blocks(states(1), states(1))
    assert first == second == toploc.Block(0, 0.0, 0.0)
    assert all(block.rejected() for block in toploc.blocks(states(1), states(2)))
    assert toploc.blocks(states(1, 31), states(1, 31)) == []


def test_bfloat16_rounds_as_torch_does() -> None:
    numbers = np.concatenate([states(3).ravel(), [0.0, 1.00390625, 1.01171875]]).astype(np.float32)
    bits = torch.from_numpy(numbers).bfloat16().view(torch.int16).numpy().astype(np.uint16)
    assert np.array_equal(toploc.bfloat16(numbers), bits)


@pytest.mark.outside
def test_our_account_of_toploc_is_the_packages() -> None:
    sys.path.append(str(ROOT / ".tools" / "toploc"))
    package = pytest.importorskip("toploc", reason="TOPLOC is not installed in .tools/toploc")
    for seed, noise in ((5, 0.0), (6, 0.002), (7, 0.02), (8, 2.0)):
        told = states(seed)
        true = told + noise * states(seed + 100)
        sides = [torch.from_numpy(each).bfloat16() for each in (told, true)]
        options = {"decode_batching_size": 32, "topk": 128, "skip_prefill": True}
        proofs = package.build_proofs_bytes(list(sides[0].split(1)), **options)
        theirs = package.verify_proofs_bytes(list(sides[1].split(1)), proofs, **options)
        for block, result in zip(toploc.blocks(told, true), theirs, strict=True):
            assert abs(block.exponents - result.exp_mismatches) <= 3  # chance hits of the noise
            if block.exponents < 100:
                assert block.mean == pytest.approx(result.mant_err_mean, abs=1.5)


ANSWERS = [
    Kept({"x": (0, 0, 0, 9)}, f"text {number}", 1.0 + number / 100, (False,), 4)
    for number in range(40)
]
CHEATED = [
    Kept({"x": (9, 9, 9, 0)}, f"other {number}", 3.0 + number / 100, (True,), 4)
    for number in range(40)
]


COUNTS = [(3, 1)] * 39 + [(0, 4)]


def plain_null() -> nulls.Null:
    binned = Binned(
        edges=(5,), histograms=(nulls.histogram("x", [one.scores["x"] for one in ANSWERS], (5,)),)
    )
    null = nulls.Null(
        binned, (1.0, 0.28), 0, (("x", Dependence(0.0, 0.0, 40, 120)),), {"x": COUNTS}
    )
    return null.knowing("x", {"other": [one.scores for one in CHEATED[:20]]})


def test_first_crossings_are_those_of_the_whole_path() -> None:
    null, dice = plain_null(), random.Random(4)
    for _ in range(20):
        stream = [one.scores for one in dice.choices(ANSWERS + CHEATED, k=12)]
        logs = np.concatenate(list(nulls.path("x", null, stream)))
        found = nulls.first_over(nulls.path("x", null, stream), (1.0, 2.0, 5.0))
        for level, at in zip((1.0, 2.0, 5.0), found, strict=True):
            assert at == next((n for n, log in enumerate(logs, 1) if log >= level), None)


def test_streams_are_worth_what_a_verdict_says_of_them() -> None:
    null, dice = plain_null(), random.Random(5)
    stream = [one.scores for one in dice.choices(ANSWERS + CHEATED, k=9)]
    counts = [bins.count(null.binned.edges, one["x"]) for one in stream]
    logs = list(nulls.path("x", null, stream))
    for number, path in enumerate(logs, 1):
        verdict = channel.log_e_tails(counts[:number], null.survival, null.cheats(), null.effect())
        assert path[-1] == pytest.approx(verdict, abs=1e-9)
        partly = [*counts[: number - 1], bins.count(null.binned.edges, stream[number - 1]["x"][:2])]
        assert path[1] == pytest.approx(
            channel.log_e_tails(partly, null.survival, null.cheats(), null.effect()), abs=1e-9
        )
    weights, bets = channel.wagers(null.survival, null.cheats())
    gains = np.array(counts) @ np.array(bets).T / null.effect()
    for level, path in zip(wealth.of_gains(gains, weights), logs, strict=True):
        assert level == pytest.approx(path[-1], abs=1e-9)


def test_surprisals_are_worth_what_a_verdict_says_of_them() -> None:
    dice = np.random.default_rng(6)
    answers = [dice.integers(-600_000, 800_000, size=int(n)) for n in (5, 1, 9, 30)]
    for number, path in enumerate(wealth.centred(answers, 900), 1):
        said = [one.tolist() for one in answers[:number]]
        assert path[-1] == pytest.approx(channel.log_e_centred(said, 900), abs=1e-9)


def test_an_answer_without_a_score_is_a_step_and_no_evidence() -> None:
    null = plain_null()
    stream = [{"x": ()}, ANSWERS[0].scores, {"x": ()}, CHEATED[0].scores]
    counts = [bins.count(null.binned.edges, one["x"]) for one in stream]
    *_, last = nulls.path("x", null, stream)
    verdict = channel.log_e_tails(counts, null.survival, null.cheats(), null.effect())
    assert last[-1] == pytest.approx(verdict, abs=1e-9)


def test_cheating_on_a_share_is_found_nearly_as_soon_as_by_who_knows_all() -> None:
    good = [one._replace(scores={"x": (0,) * 19 + (9,)}) for one in ANSWERS]
    bad = [one._replace(scores={"x": (9,) * 12 + (0,) * 8}) for one in ANSWERS]
    null = plain_null()._replace(survival=(1.0, 0.052))
    found = parts.measure(
        "other", "x", null.knowing("x", {"other": [one.scores for one in bad]}), good, bad
    )
    for each in found:
        assert each.found == 1.0
        assert each.ratio is not None
        assert 0.9 < each.ratio < 1.8


def test_a_mixing_provider_has_the_stated_share_and_says_nothing_twice() -> None:
    said = parts.mixed(ANSWERS, CHEATED, 0.25, "x")
    assert len(set(map(id, said))) == len(said)
    assert sum(one.surprise > 2.9 for one in said) / len(said) == pytest.approx(0.25, abs=0.02)


def test_likelihood_accuses_what_surprises_and_not_what_is_honest() -> None:
    honest = texts.likelihood([[one.surprise for one in ANSWERS]])
    assert honest.accuses([one.surprise for one in CHEATED[:8]], 0.001)
    assert not honest.accuses([one.surprise for one in ANSWERS[::5]], 0.001)


def test_mmd_tells_texts_apart_that_are_spelt_otherwise() -> None:
    dice = np.random.default_rng(6)
    same = [f"the same words {dice.integers(100)}" for _ in range(40)]
    assert texts.unlike(same[:20], same[20:], dice) > 0.01
    assert texts.unlike(["other words" for _ in range(20)], same[20:], dice) < 0.001
