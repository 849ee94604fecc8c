"""Whoever declares a stack that no passport covers is never called inconsistent by its numerics."""

import pytest
from made import stack

from lydite.appraisal import decision, references
from lydite.errors import Reason
from lydite.laboratory.bigram import Bigram
from lydite.laboratory.world import World
from lydite.messages.stack import Stack
from lydite.messages.tier import Tier

OTHER = stack(engine="laboratory", dtype="bfloat16")
DECLARED = stack(engine="laboratory", dtype="float32")


def served(covers: tuple[Stack, ...], numerics: Bigram | None) -> World:
    """A world whose provider declares float32 on the laboratory's engine, and answered."""
    world = World(cheat=numerics, covers=covers)
    world.traffic(30)
    return world


def other_numerics() -> Bigram:
    """Logits that differ so far that the null of the measured stacks excludes them."""
    return Bigram(seed=2)


def test_numerics_without_a_passport_are_misconfigured_not_inconsistent() -> None:
    world = served((OTHER,), other_numerics())
    verdict = world.judged()
    assert verdict.log10_e_milli >= world.policy.accuse_milli
    assert (verdict.tier, verdict.reason) == (Tier.WARNING, Reason.OTHER_NUMERICS)
    report = world.verify(world.bundle())
    assert (report.tier, report.reason) == (Tier.WARNING, Reason.OTHER_NUMERICS)


@pytest.mark.parametrize("covers", [(), (DECLARED,), (OTHER, DECLARED)])
def test_the_same_scores_accuse_where_the_null_covers_the_declared_stack(
    covers: tuple[Stack, ...],
) -> None:
    world = served(covers, other_numerics())
    assert world.judged().reason is Reason.INCONSISTENT_TOKENS
    assert world.verify(world.bundle()).tier is Tier.CONTRAINDICATED


@pytest.mark.parametrize("covers", [(), (OTHER,), (DECLARED,)])
def test_an_honest_provider_is_consistent_whether_it_is_covered_or_not(
    covers: tuple[Stack, ...],
) -> None:
    world = served(covers, None)
    assert world.judged().tier is Tier.AFFIRMING
    assert world.verify(world.bundle()).tier is Tier.AFFIRMING


def test_without_a_declaration_only_a_null_that_covers_any_stack_accuses() -> None:
    world = served((DECLARED,), other_numerics())
    world.judged()
    audits = [audit.predicate.findings for _, audit in world.auditor.case.audits.values()]
    verdict = decision.decide(world.policy, (world.reference,), audits)
    assert verdict.reason is Reason.OTHER_NUMERICS


def test_engine_with_or_without_its_version_and_data_type_decide_what_is_covered() -> None:
    world = served((DECLARED,), None)
    world.judged()
    declared = world.auditor.case.declaration
    versioned = stack(engine="labor", version="atory", dtype="float32")
    for covers, expected in (
        ((), {"tokens"}),
        ((DECLARED,), {"tokens"}),
        ((OTHER,), set()),
        ((versioned,), set()),
    ):
        world = World(covers=covers)
        assert references.covered((world.reference,), declared) == expected
    assert references.covered((World().reference,), None) == {"tokens"}
