"""What counts: tokens that the policy weighs, and silence where none was declared."""

from pathlib import Path

import msgspec
import pytest

from lydite.appraisal.decision import decide
from lydite.appraisal.policy import DEFAULT, Policy, Weight
from lydite.errors import Reason
from lydite.evidence.tokens import reference as references
from lydite.evidence.tokens.reference import Reference
from lydite.laboratory.world import World
from lydite.messages.audit import Verdict
from lydite.messages.finding import Finding, Measure
from lydite.messages.tier import Tier

TOKENS = 30
UNSEEDED = Path(__file__).parents[2] / "data/reference/tokens/lydite-base.unseeded.json"
SURPRISAL_ALONE = msgspec.structs.replace(
    DEFAULT,
    weights=(Weight(channel="tokens/surprisal", weight_ppm=1_000_000),),
    scored_ppm=500_000,
)


@pytest.fixture(scope="module")
def reference() -> Reference:
    return World().reference


def verdict(policy: Policy, reference: Reference, greedy: int, drawn: int) -> Verdict:
    """Judge honest answers, some at temperature 0 and some not, of ``TOKENS`` tokens each."""
    margin = Measure(name="margin", unit="micro-logit", values=(0,) * TOKENS)
    surprisal = Measure(name="surprisal", unit="micro-nat/6", values=(0,) * TOKENS)

    def finding(*measures: Measure) -> Finding:
        return Finding(
            kind="tokens",
            tier=Tier.NONE,
            reason=Reason.RECORDED,
            reference=references.digest(reference),
            measures=measures,
        )

    audits = [[finding(margin)]] * greedy + [[finding(margin, surprisal)]] * drawn
    return decide(policy, (reference,), audits)


def test_greedy_answers_affirm_nothing_where_surprisal_alone_is_weighed(
    reference: Reference,
) -> None:
    found = verdict(SURPRISAL_ALONE, reference, greedy=40, drawn=0)
    assert (found.tier, found.reason, found.tokens) == (Tier.NONE, Reason.UNAVAILABLE, 0)


def test_only_the_weighed_answers_make_up_the_power(reference: Reference) -> None:
    found = verdict(SURPRISAL_ALONE, reference, greedy=5, drawn=5)
    assert (found.tier, found.reason, found.tokens) == (Tier.NONE, Reason.UNDERPOWERED, 5 * TOKENS)
    found = verdict(SURPRISAL_ALONE, reference, greedy=5, drawn=10)
    assert (found.tier, found.tokens) == (Tier.AFFIRMING, 10 * TOKENS)


def test_greedy_answers_count_where_margins_are_weighed(reference: Reference) -> None:
    found = verdict(DEFAULT, reference, greedy=10, drawn=0)
    assert (found.tier, found.tokens) == (Tier.AFFIRMING, 10 * TOKENS)


@pytest.mark.parametrize(
    "tier",
    [Tier.WARNING, Tier.NONE],
    ids=["declared", "not declared"],
)
def test_answers_without_token_ids_are_a_fault_only_where_ids_were_declared(
    reference: Reference, tier: Tier
) -> None:
    silent = Finding(kind="tokens", tier=tier, reason=Reason.NO_TOKEN_IDS)
    found = decide(DEFAULT, (reference,), [[silent]] * 10)
    assert found.tier is tier
    assert found.reason is Reason.NO_TOKEN_IDS
    (skip,) = found.skipped
    assert (skip.reason, skip.count) == (Reason.NO_TOKEN_IDS, 10)


RESIDUALS = msgspec.structs.replace(
    DEFAULT,
    weights=(
        Weight(channel="tokens/residual", weight_ppm=500_000),
        Weight(channel="tokens/surprisal", weight_ppm=500_000),
    ),
    alternatives=("int4-weights",),
)


def partly(with_residuals: int, of: int) -> Verdict:
    """Judge answers without a seed of 64 tokens each, of which some tell log-probabilities."""
    reference = references.parse(UNSEEDED.read_bytes().rstrip(b"\n"))
    surprisal = Measure(name="surprisal", unit="micro-nat/6", values=(100_000, -100_000) * 32)
    residual = Measure(name="residual", unit="micro-nat", values=(0,) * 64)

    def finding(*measures: Measure) -> list[Finding]:
        digest = references.digest(reference)
        kinds = {"kind": "tokens", "tier": Tier.NONE, "reason": Reason.RECORDED}
        return [Finding(reference=digest, measures=measures, **kinds)]

    told = [finding(surprisal, residual)] * with_residuals
    return decide(RESIDUALS, (reference,), told + [finding(surprisal)] * (of - with_residuals))


@pytest.mark.parametrize("shown", [0, 1, 2, 150, 269])
def test_a_channel_that_few_answers_show_affirms_nothing(shown: int) -> None:
    found = partly(shown, 300)
    assert (found.tier, found.reason) == (Tier.NONE, Reason.UNDERPOWERED)
    assert found.tokens < found.tokens_needed
    assert found.scored == 300


def test_a_channel_that_nine_answers_in_ten_show_affirms() -> None:
    found = partly(270, 300)
    assert (found.tier, found.tokens) == (Tier.AFFIRMING, 270 * 64)
