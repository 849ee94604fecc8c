"""Passports with sketches: version 2, one spec, merged into a null that says whom it covers."""

import functools
import math
import random
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from made import channel, passport, scores, stack

from lydite.appraisal import decision, references
from lydite.appraisal.policy import DEFAULT, Weight
from lydite.errors import FormatError, Reason, VerificationError
from lydite.evidence.activations import reference as activations
from lydite.evidence.activations import spec as specs
from lydite.evidence.activations.reference import Covering
from lydite.evidence.activations.spec import Spec
from lydite.laboratory.world import World
from lydite.messages import passport as passports
from lydite.messages.canonical import encode
from lydite.messages.finding import Finding, Measure
from lydite.messages.passport import Passport, Sketch
from lydite.messages.stack import Stack
from lydite.messages.tier import Tier
from lydite.numerics import sketch_merging

SPEC = Spec(coordinates=8, delta="0.04")
LEVEL = 1e-3
STORED = Path(__file__).parents[2] / "data" / "reference" / "passports" / "lydite-small"


def made_with(spec: Spec = SPEC, **fields: object) -> Sketch:
    said = {
        "spec": specs.digest(spec),
        "coordinates": spec.coordinates,
        "delta": spec.delta,
        "inner_deltas": spec.inner_deltas,
        "width": 128,
        "sigma_micro": 10_000,
        "noise_micro": 26_000,
    }
    return Sketch(**(said | fields))  # type: ignore[arg-type]


@functools.cache
def sketched(seed: int, scale: float, answers: int, tokens: int = 128) -> list[list[int]]:
    """Scores whose residues are off by rounding, and by noise of about ``scale`` steps."""
    dice = random.Random(seed)

    def one() -> int:
        off = (dice.uniform(-0.5, 0.5) + dice.gauss(0, scale) for _ in range(8))
        return round(40_000 * math.sqrt(sum(((d + 2) % 4 - 2) ** 2 for d in off)))

    return [[one() for _ in range(tokens)] for _ in range(answers)]


def holding(
    seed: int, scale: float, sketch: Sketch | None = None, answers: int = 220, **fields: object
) -> Passport:
    margins, residuals = scores(seed, 10_000.0, answers)
    channels = [channel("tokens/margin", margins), channel("tokens/residual", residuals)]
    channels.append(channel(passports.SKETCH, sketched(seed, scale, answers)))
    made = passport(
        seed,
        answers=answers,
        channels=tuple(channels),
        sketch=sketch or made_with(),
        **fields,
    )
    return msgspec.structs.replace(made, predicate_type=passports.V2)


@pytest.fixture(scope="module")
def bf16() -> Passport:
    return holding(1, 0.25)


@pytest.fixture(scope="module")
def fp32() -> Passport:
    return holding(2, 0.0001, stack=stack(dtype="fp32"))


@pytest.fixture(scope="module")
def int4() -> Passport:
    return holding(3, 0.6, cheat="int4-weights")


@pytest.fixture(scope="module")
def merged(bf16: Passport, fp32: Passport, int4: Passport) -> Covering:
    found = sketch_merging.merge([bf16, fp32], [int4], "both", LEVEL)
    assert found.reference is not None, found.notes
    return found.reference


def test_passports_with_sketches_are_version_2_and_others_keep_their_spelling(
    bf16: Passport,
) -> None:
    assert passports.parse(encode(bf16)) == bf16
    assert b"numerics-passport/v2" in encode(bf16)
    plain = passport()
    assert b"numerics-passport/v1" in encode(plain)
    assert b'"sketch"' not in encode(plain)


def test_stored_passports_of_version_1_are_read_to_the_bit() -> None:
    from lydite.cli.passport_tables import payload

    for path in sorted(STORED.glob("*.passport.json")):
        said = payload(path.read_bytes().removesuffix(b"\n"))
        assert encode(passports.parse(said)) == said


def test_a_version_that_does_not_fit_what_it_holds_is_refused(bf16: Passport) -> None:
    replace = msgspec.structs.replace
    said = bf16.predicate
    wrong = [
        replace(bf16, predicate_type=passports.V1),
        replace(passport(), predicate_type=passports.V2),
        replace(bf16, predicate=replace(said, sketch=None)),
        replace(bf16, predicate=replace(said, channels=said.channels[:2])),
        replace(bf16, predicate=replace(said, sketch=made_with(coordinates=9))),
        replace(bf16, predicate=replace(said, sketch=made_with(inner_deltas=("0.1", "0.1")))),
        replace(bf16, predicate=replace(said, sketch=made_with(inner_deltas=("0.1",) * 3))),
    ]
    for each in wrong:
        with pytest.raises(FormatError):
            passports.parse(encode(each))


def test_the_null_is_the_worst_stack_in_every_bin_and_names_both(
    merged: Covering, bf16: Passport, fp32: Passport
) -> None:
    assert [one.dtype for one in merged.stacks] == ["bf16", "fp32"]
    assert merged.spec == SPEC
    assert merged.sigma_micro == 10_000
    both = activations.null(merged)
    for index in (0, 1):
        binned = msgspec.structs.replace(
            merged.sketch, histograms=merged.sketch.histograms[index : index + 1]
        )
        alone = activations.null(msgspec.structs.replace(merged, sketch=binned))
        assert all(a <= b + 1e-3 for a, b in zip(alone, both, strict=True))


def test_a_merged_reference_is_version_2_and_read_as_it_was_written(merged: Covering) -> None:
    spelt = encode(merged)
    assert b"lydite/activations-reference/v2" in spelt
    assert activations.parse(spelt) == merged
    assert references.parse(spelt) == merged
    stored = Path(__file__).parents[2] / "data" / "reference" / "activations"
    for path in stored.glob("*.json"):
        older = activations.parse(path.read_bytes())
        assert type(older) is activations.Reference
        assert encode(older) == path.read_bytes()


def findings(reference: Covering, rows: Sequence[Sequence[int]]) -> list[Finding]:
    return [
        Finding(
            kind="activations",
            tier=Tier.NONE,
            reason=Reason.RECORDED,
            reference=activations.digest(reference),
            measures=(Measure(name="sketch", unit="micro-state", values=tuple(row)),),
        )
        for row in rows
    ]


def log10_e(reference: Covering, rows: Sequence[Sequence[int]]) -> float:
    [(_, level)] = activations.channel_log10_e(reference, findings(reference, rows))
    return level


def test_no_stack_of_the_null_is_accused_and_the_cheat_is_within_the_tokens_stated(
    merged: Covering, fp32: Passport
) -> None:
    alone = sketch_merging.merge([fp32], [], "fp32", LEVEL).reference
    assert alone is not None
    [stated] = [one.tokens for one in merged.alternatives]
    for number in range(10):
        honest = sketched(100 + number, 0.25, 12)
        assert log10_e(merged, honest) < 3
        assert log10_e(merged, sketched(200 + number, 0.0001, 12)) < 3
        assert log10_e(alone, honest) > 3, "alone, fp32 convicts an honest bf16"
    found = [
        log10_e(merged, sketched(300 + number, 0.6, -(-2 * stated // 128))) >= 3
        for number in range(10)
    ]
    assert sum(found) >= 9


def test_a_stack_that_no_passport_covers_is_misconfigured_not_inconsistent(
    bf16: Passport,
) -> None:
    policy = msgspec.structs.replace(
        DEFAULT,
        mandatory=("activations",),
        weights=(Weight(channel=passports.SKETCH, weight_ppm=1_000_000),),
    )
    world = World()
    world.judged()
    declared = world.auditor.case.declaration
    for covers, expected in (
        (stack(engine="laboratory", dtype="float32"), Reason.INCONSISTENT_ACTIVATIONS),
        (stack(engine="laboratory", dtype="bfloat16"), Reason.OTHER_NUMERICS),
    ):
        reference = _covering(bf16, covers)
        cheating = findings(reference, sketched(9, 0.9, 10))
        audits = [[finding] for finding in cheating]
        found = decision.decide(policy, (reference,), audits, declared)
        assert found.reason is expected
        tier = Tier.WARNING if expected is Reason.OTHER_NUMERICS else Tier.CONTRAINDICATED
        assert found.tier is tier


def _covering(known: Passport, covers: Stack) -> Covering:
    said = msgspec.structs.replace(known.predicate, stack=covers)
    one = msgspec.structs.replace(known, predicate=said)
    int4 = holding(3, 0.6, cheat="int4-weights", stack=covers)
    found = sketch_merging.merge([one], [int4], "x", LEVEL).reference
    assert found is not None
    return found


def otherwise(known: Passport, sketch: Sketch) -> Passport:
    said = msgspec.structs.replace(known.predicate, sketch=sketch)
    return msgspec.structs.replace(known, predicate=said)


def test_passports_of_several_specs_or_a_false_digest_are_refused(bf16: Passport) -> None:
    wide = made_with(Spec(coordinates=8, delta="0.05"))
    for other in (wide, made_with(width=256), made_with(delta="0.05")):
        with pytest.raises(VerificationError) as raised:
            sketch_merging.merge([bf16, otherwise(bf16, other)], [], "x", LEVEL)
        assert raised.value.reason is Reason.UNKNOWN_SPEC
    with pytest.raises(VerificationError):
        sketch_merging.merge([otherwise(bf16, made_with(delta="0.05"))], [], "x", LEVEL)


@pytest.mark.parametrize("delta", ["0", "0.0", "-0.04", "nan", "inf", "1e3", "0.040"])
def test_a_step_that_is_none_is_refused(bf16: Passport, delta: str) -> None:
    with pytest.raises(FormatError):
        sketch_merging.merge([otherwise(bf16, made_with(delta=delta))], [], "x", LEVEL)


def test_a_step_too_small_for_the_noise_of_a_stack_is_refused(bf16: Passport) -> None:
    loud = otherwise(bf16, made_with(sigma_micro=20_000))
    with pytest.raises(FormatError, match="too small"):
        sketch_merging.merge([bf16, loud], [], "x", LEVEL)


def test_without_sketches_in_each_there_is_no_null_of_them_and_a_note(bf16: Passport) -> None:
    found = sketch_merging.merge([bf16, passport(2)], [], "x", LEVEL)
    assert found.reference is None
    assert "1 passports hold no sketches" in found.notes[0]


def test_scores_that_follow_each_other_are_not_bet_on(bf16: Passport) -> None:
    dice = random.Random(4)
    tied = [[int(40_000 * dice.uniform(0.5, 3))] * 128 for _ in range(220)]
    said = bf16.predicate
    channels = (*said.channels[:2], channel(passports.SKETCH, tied))
    other = msgspec.structs.replace(
        bf16, predicate=msgspec.structs.replace(said, channels=channels)
    )
    found = sketch_merging.merge([other], [], "x", LEVEL)
    assert found.reference is None
    assert "left out" in found.notes[0]
