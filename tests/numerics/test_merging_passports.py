"""Several passports make one null, the worst in every bin; what may not go into it is refused."""

import math
import random

import msgspec
import pytest
from made import NOW_MS, channel, passport, scores, stack

from lydite.cli import passport_tables as tables
from lydite.errors import FormatError, LyditeError, Reason, UnavailableError, VerificationError
from lydite.evidence.tokens import reference as tokens
from lydite.laboratory.world import key
from lydite.messages import passport as passports
from lydite.messages.canonical import encode
from lydite.messages.passport import Passport
from lydite.numerics import merging
from lydite.signing.keys import sign_envelope
from lydite.statistics import bins

VERIFIER, STRANGER = key("verifier"), key("stranger")
ACCEPTED = {VERIFIER.keyid: VERIFIER.public}
LEVEL = 1e-3


@pytest.fixture(scope="module")
def bf16() -> Passport:
    return passport(1, 10_000.0)


@pytest.fixture(scope="module")
def fp32() -> Passport:
    return passport(2, 8.0, stack=stack(dtype="fp32"))


@pytest.fixture(scope="module")
def int4() -> Passport:
    return passport(3, 60_000.0, cheat="int4-weights", noise_micro=30_000)


def test_a_signed_passport_in_time_is_accepted(bf16: Passport) -> None:
    envelope = sign_envelope(encode(bf16), VERIFIER)
    assert merging.accept([envelope], ACCEPTED, NOW_MS) == (bf16,)


def test_unsigned_strangers_and_expired_passports_are_refused(bf16: Passport) -> None:
    signed = sign_envelope(encode(bf16), VERIFIER)
    cases = [
        (encode(bf16), NOW_MS, Reason.MALFORMED),
        (sign_envelope(encode(bf16), STRANGER), NOW_MS, Reason.UNKNOWN_KEY),
        (sign_envelope(encode(bf16), VERIFIER, STRANGER), NOW_MS, Reason.UNKNOWN_KEY),
        (signed.replace(b'"sig":"', b'"sig":"A', 1), NOW_MS, Reason.MALFORMED),
        (signed, 2 * NOW_MS, Reason.STALE),
    ]
    for envelope, now_ms, reason in cases:
        with pytest.raises(LyditeError) as raised:
            merging.accept([envelope], ACCEPTED, now_ms)
        assert raised.value.reason is reason


def test_the_null_is_the_worst_stack_in_every_bin(bf16: Passport, fp32: Passport) -> None:
    merged = merging.merge([bf16, fp32], [], "both", LEVEL).reference
    assert merged.residual is not None
    for name, ceilings in (
        ("tokens/margin", tokens.null(merged)),
        ("tokens/residual", tokens.residual_null(merged)),
    ):
        edges = (merged.margin if name.endswith("margin") else merged.residual).edges
        for alone in (bf16, fp32):
            single = merging.null_of([alone], name, edges)
            assert all(a <= b + 1e-12 for a, b in zip(single, ceilings, strict=True))


def test_the_order_of_passports_does_not_matter(bf16: Passport, fp32: Passport) -> None:
    one = merging.merge([bf16, fp32], [], "x", LEVEL).reference
    other = merging.merge([fp32, bf16], [], "x", LEVEL).reference
    assert tokens.residual_null(one) == tokens.residual_null(other)
    assert (one.noise_micro, one.provenance.data) == (other.noise_micro, other.provenance.data)


def running(reference: tokens.Reference, residuals: list[list[int]]) -> float:
    """The highest log10 E over a stream of answers."""
    null, counts, highest = tokens.residual_null(reference), None, 0.0
    assert reference.residual is not None
    for answer in residuals:
        row = bins.count(reference.residual.edges, answer)
        counts = row if counts is None else tuple(map(sum, zip(counts, row, strict=True)))
        highest = max(highest, bins.log_e(counts, null) / math.log(10))
    return highest


def test_an_honest_fp32_provider_is_accused_by_one_passport_and_by_the_merged_null_never(
    bf16: Passport, fp32: Passport
) -> None:
    alone = merging.merge([bf16], [], "bf16", LEVEL).reference
    merged = merging.merge([bf16, fp32], [], "both", LEVEL).reference
    for number in range(20):
        _, residuals = scores(100 + number, 8.0, answers=10)
        assert running(alone, residuals) > 4
        assert running(merged, residuals) < 3
        _, residuals = scores(200 + number, 10_000.0, answers=10)
        assert running(merged, residuals) < 3


def test_a_cheat_is_found_by_the_merged_null_within_the_tokens_that_it_states(
    bf16: Passport, fp32: Passport, int4: Passport
) -> None:
    merged = merging.merge([bf16, fp32], [int4], "both", LEVEL).reference
    stated = min(a.tokens for a in merged.alternatives if a.channels == ("tokens/residual",))
    found = 0
    for number in range(20):
        _, residuals = scores(300 + number, 60_000.0, answers=-(-stated // 128))
        found += running(merged, residuals) >= 3
    assert found >= 18


def test_each_widening_takes_power_and_says_how_much(bf16: Passport, fp32: Passport) -> None:
    weak = passport(3, 14_000.0, cheat="weak", noise_micro=30_000)
    first, second = merging.merge([bf16, fp32], [weak], "both", LEVEL).steps
    name = ("weak", "tokens/residual")
    before, after = first.needed[name], second.needed[name]
    assert before is not None
    assert after is not None
    assert before < after
    assert first.tolls["tokens/residual"] < second.tolls["tokens/residual"]


def test_what_a_reference_covers_is_what_was_measured(bf16: Passport, fp32: Passport) -> None:
    merged = merging.merge([bf16, fp32], [], "both", LEVEL).reference
    assert [each.dtype for each in merged.stacks] == ["bf16", "fp32"]
    assert tokens.parse(encode(merged)) == merged
    assert merged.noise_micro == 30_000


@pytest.mark.parametrize(
    "fields",
    [
        {"weights_root": "00" * 32},
        {"stack": stack(sampler="none")},
        {"auditor": stack(dtype="bf16", shape="prefill")},
        {"cheat": "int4-weights"},
    ],
    ids=["other weights", "another adapter", "another auditor", "a cheat"],
)
def test_passports_that_do_not_go_together_are_refused(
    bf16: Passport, fields: dict[str, object]
) -> None:
    with pytest.raises(VerificationError) as raised:
        merging.merge([bf16, passport(2, **fields)], [], "x", LEVEL)
    assert raised.value.reason is Reason.UNKNOWN_REFERENCE


def test_none_twice_or_too_many_are_refused(bf16: Passport) -> None:
    for wrong in ([], [bf16, bf16]):
        with pytest.raises(VerificationError):
            merging.merge(wrong, [], "x", LEVEL)
    with pytest.raises(VerificationError):
        merging.merge([bf16], [passport(2)], "x", LEVEL)


def test_a_pool_that_is_too_small_for_the_level_is_refused(bf16: Passport) -> None:
    merging.merge([bf16], [], "x", LEVEL)
    with pytest.raises(UnavailableError) as raised:
        merging.merge([bf16], [], "x", 1e-4)
    assert raised.value.reason is Reason.POOL_TOO_SMALL
    with pytest.raises(UnavailableError):
        merging.merge([bf16, passport(2, answers=199)], [], "x", LEVEL)
    with pytest.raises(FormatError):
        merging.merge([bf16], [], "x", 1.5)


def test_a_channel_whose_tokens_follow_each_other_is_left_out(bf16: Passport) -> None:
    dice = random.Random(4)
    residuals = [[int(2_000 * 2 ** dice.uniform(0, 5))] * 128 for _ in range(220)]
    margins, _ = scores(4, 10_000.0)
    channels = (channel("tokens/margin", margins), channel("tokens/residual", residuals))
    merged = merging.merge([bf16, passport(4, channels=channels)], [], "x", LEVEL)
    assert merged.reference.residual is None
    assert any("tokens/residual" in note for note in merged.notes)


def test_a_channel_that_one_stack_lacks_is_left_out(bf16: Passport) -> None:
    margins_only = msgspec.structs.replace(
        bf16.predicate, channels=bf16.predicate.channels[:1], stack=stack(batch="batch 1")
    )
    other = msgspec.structs.replace(bf16, predicate=margins_only)
    merged = merging.merge([bf16, other], [], "x", LEVEL)
    assert merged.reference.residual is None
    assert any("does not have it" in note for note in merged.notes)


def test_without_a_seed_to_repeat_margins_say_nothing() -> None:
    unseeded = passport(1, stack=stack(sampler="none"))
    residual = unseeded.predicate.channels[1:]
    said = msgspec.structs.replace(unseeded.predicate, channels=residual)
    merged = merging.merge(
        [msgspec.structs.replace(unseeded, predicate=said)], [], "x", LEVEL
    ).reference
    assert merged.sampler == "none"
    for margins in ([0] * 500, [500_000] * 500, [tokens.OUTSIDE] * 500):
        counted = tokens.count(merged, margins)
        assert bins.log_e(counted, tokens.null(merged)) < math.log(10)


def test_a_passport_that_takes_a_channel_from_all_is_named_with_what_that_costs(
    bf16: Passport, fp32: Passport, int4: Passport
) -> None:
    found = passport(9).predicate.channels
    dice = random.Random(4)
    rows = [[int(2_000 * 2 ** dice.uniform(0, 5))] * 128 for _ in range(220)]
    tied = channel("tokens/residual", rows)
    for channels in ((found[0], tied), found[:1]):
        hostile = passport(9, stack=stack(engine="hostile"), channels=channels)
        merged = merging.merge([bf16, hostile, fp32], [int4], "x", LEVEL)
        first, second, third = merged.steps
        assert ("int4-weights", "tokens/residual") in first.needed
        assert ("int4-weights", "tokens/residual") not in second.needed
        (why,) = second.left_out
        assert passports.digest(hostile)[:16] in why
        assert merged.notes == second.left_out
        assert not first.left_out
        assert not third.left_out
        was, now = tables.quickest(first, "int4-weights"), tables.quickest(second, "int4-weights")
        assert was is not None
        told = tables.steps(merged)
        assert why in told
        cost = "not by any number of tokens" if now is None else f"{now} tokens"
        assert f"int4-weights: {cost} by what is left, {was} before" in told
