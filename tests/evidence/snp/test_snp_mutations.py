"""Good evidence, changed at random: nothing foreign is raised, and no other guest is affirmed."""

import random

import pytest

from lydite.evidence.snp import claims, verifier
from lydite.messages.tier import Tier
from tests.evidence.hex_mutations import mutated
from tests.evidence.snp.processor import NOW, Processor, challenge, reference

FEW, MANY = 10_000, 1_000_000


def try_mutations(count: int, seed: int) -> set[str]:
    dice, issued, expected, reasons = random.Random(seed), challenge(), reference(), set[str]()
    content = claims.write(Processor().claims(issued))
    assert verifier.examine(content, expected, issued, NOW).tier is Tier.AFFIRMING
    for number in range(count):
        changed = mutated(content, dice)
        finding = verifier.examine(changed, expected, issued, NOW)
        reasons.add(finding.reason.value)
        if changed != content:
            assert finding.tier is Tier.CONTRAINDICATED, f"seed {seed}, {number}"
    return reasons


def test_ten_thousand_mutations_affirm_nothing_and_raise_nothing() -> None:
    reasons = try_mutations(FEW, seed=1)
    assert reasons >= {"attest.wrapper", "snp.form", "snp.signature", "snp.chain", "snp.root"}


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_million_mutations_affirm_nothing_and_raise_nothing() -> None:
    try_mutations(MANY, seed=2)


@pytest.mark.parametrize("size", [0, 1, 1184, 1 << 20])
@pytest.mark.parametrize("fill", [b"\0", b"\xff", b"[", b'"', b"{"])
def test_garbage_is_refused(size: int, fill: bytes) -> None:
    finding = verifier.examine(fill * size, reference(), challenge(), NOW)
    assert finding.tier is Tier.CONTRAINDICATED
