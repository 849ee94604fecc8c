"""An engine that ignores its seed: a reason of its own, never affirmed, never accused."""

from collections.abc import Sequence

import msgspec
import pytest

from lydite.appraisal.decision import decide
from lydite.appraisal.policy import DEFAULT
from lydite.errors import Reason
from lydite.evidence.tokens.reference import SEEDED, Reference
from lydite.evidence.tokens.sampling import Sampling
from lydite.laboratory.bigram import Bigram
from lydite.laboratory.streams import Question, ask, score, seed_of
from lydite.laboratory.world import World, calibrated
from lydite.messages.audit import Verdict
from lydite.messages.finding import Finding
from lydite.messages.tier import Tier

MODEL, OTHER, SLIGHT = Bigram(), Bigram(seed=2), Bigram(noise=0.15)
TOKENS = 32


class Deaf(Bigram):
    """Draws with noise of its own from a table: its own, or another one's."""

    def answer(self, prompt_ids: Sequence[int], sampling: Sampling, seed: int) -> list[int]:
        return super().answer(prompt_ids, sampling, seed_of("deaf", seed))


@pytest.fixture(scope="module")
def reference() -> Reference:
    return calibrated(MODEL)


def answers(
    engine: Bigram, reference: Reference, count: int, sampling: Sampling | None = None
) -> list[Finding]:
    asked = Sampling(max_tokens=TOKENS)
    questions = [
        Question(tuple(MODEL.codec.encode(f"request {n} ")), sampling or asked, seed_of("q", n))
        for n in range(count)
    ]
    said = ask(engine, questions, scored=False)
    said = [msgspec.structs.replace(one, sampling=asked) for one in said]
    return score(MODEL, said, reference)


def judged(reference: Reference, findings: Sequence[Finding]) -> Verdict:
    return decide(DEFAULT, (reference,), [[finding] for finding in findings])


ENOUGH, FEW = 40, 8


@pytest.mark.parametrize(
    ("engine", "count", "tier", "reason"),
    [
        (MODEL, ENOUGH, Tier.AFFIRMING, Reason.CONSISTENT),
        (Deaf(), ENOUGH, Tier.WARNING, Reason.SEED_IGNORED),
        (Deaf(), FEW, Tier.NONE, Reason.UNDERPOWERED),
        (Deaf(seed=2), ENOUGH, Tier.CONTRAINDICATED, Reason.INCONSISTENT_TOKENS),
        (OTHER, FEW, Tier.CONTRAINDICATED, Reason.INCONSISTENT_TOKENS),
        (SLIGHT, ENOUGH, Tier.CONTRAINDICATED, Reason.INCONSISTENT_TOKENS),
    ],
    ids=[
        "honest",
        "ignores the seed",
        "ignores it, few tokens",
        "another model without the seed",
        "another model with it",
        "slightly other numerics with it",
    ],
)
def test_the_table_of_verdicts_where_margins_are_broken(
    reference: Reference, engine: Bigram, count: int, tier: Tier, reason: Reason
) -> None:
    found = judged(reference, answers(engine, reference, count))
    assert (found.tier, found.reason) == (tier, reason)


@pytest.mark.parametrize(
    "sampling",
    [Sampling(temperature=1.4, max_tokens=TOKENS), Sampling(top_p=0.8, max_tokens=TOKENS)],
    ids=["hotter", "narrower"],
)
def test_another_sampling_with_the_seed_is_inconsistent(
    reference: Reference, sampling: Sampling
) -> None:
    found = judged(reference, answers(MODEL, reference, ENOUGH, sampling))
    assert found.reason is Reason.INCONSISTENT_TOKENS


@pytest.mark.parametrize("honest", [5, 25, 35])
def test_an_engine_that_begins_to_ignore_it_is_not_accused_for_its_past(
    reference: Reference, honest: int
) -> None:
    past = answers(MODEL, reference, honest)
    now = answers(Deaf(), reference, ENOUGH)[honest:]
    for count in range(1, len(now) + 1):
        found = judged(reference, [*past, *now[:count]])
        assert found.tier is not Tier.CONTRAINDICATED
    assert found.reason is Reason.SEED_IGNORED


def test_no_seed_of_the_dice_makes_an_accusation_or_an_affirmation(reference: Reference) -> None:
    findings = answers(Deaf(), reference, 400)
    for start in range(0, 400, 20):
        part = findings[start : start + 20]
        assert judged(reference, part).tier in {Tier.WARNING, Tier.NONE}


def test_records_from_before_hits_were_kept_are_judged_as_they_were(reference: Reference) -> None:
    def older(finding: Finding) -> Finding:
        kept = tuple(m for m in finding.measures if m.name != SEEDED)
        return msgspec.structs.replace(finding, measures=kept)

    found = judged(reference, [older(one) for one in answers(Deaf(), reference, ENOUGH)])
    assert (found.tier, found.reason) == (Tier.CONTRAINDICATED, Reason.INCONSISTENT_TOKENS)


def test_without_power_against_another_model_nothing_is_said(reference: Reference) -> None:
    known = tuple(one for one in reference.alternatives if one.name != "smaller-model")
    blind = msgspec.structs.replace(reference, alternatives=known)
    found = judged(blind, answers(Deaf(), blind, ENOUGH))
    assert (found.tier, found.reason) == (Tier.NONE, Reason.UNDERPOWERED)


def test_a_bundle_says_the_same_offline() -> None:
    world = World(cheat=Deaf())
    world.traffic(ENOUGH)
    found = world.judged()
    assert (found.tier, found.reason) == (Tier.WARNING, Reason.SEED_IGNORED)
    report = world.verify(world.bundle())
    assert (report.tier, report.reason) == (Tier.WARNING, Reason.SEED_IGNORED)
