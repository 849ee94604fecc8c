"""Good evidence, changed at random: nothing foreign is raised, and no other machine is affirmed."""

import random
from functools import cache

import pytest

from lydite.evidence.tpm import boot, claims, template, verifier
from lydite.evidence.tpm.claims import Claims
from lydite.evidence.tpm.policies import Policies
from lydite.messages.tier import Tier
from tests.evidence.tpm.machine import FILES, NOW, Machine, challenge, entry, runtime

FEW, MANY = 10_000, 1_000_000
DIGITS = b"0123456789abcdef"


@cache
def worlds() -> tuple[tuple[bytes, Policies], ...]:
    """Evidence as it travels, in both forms of key and list, and what is expected of it."""
    made = []
    few = dict(list(FILES.items())[-6:])
    for kind, form in (("rsa", "binary"), ("ecc", "ascii")):
        machine = Machine(kind=kind)
        machine.records = [machine.aggregate(), *[entry(n, d) for n, d in few.items()]]
        content = claims.write(machine.claims(challenge(), form=form))
        made.append((content, machine.policies(runtime(few))))
    return tuple(made)


def judged(evidence: Claims) -> object:
    """What of some evidence is signed or hashed, hence may not change without being noticed."""
    log = boot.parse(evidence.boot or b"")
    extended = [(e.register, e.digests["sha256"]) for e in log.events if e.kind != boot.NO_ACTION]
    files, head = evidence.files or b"", evidence.head
    assert head.files is not None
    if head.files.form == "binary":
        entries = [each.data for each, _ in template.binary(files)]
    else:
        # the SHA-1 column of a list is covered by nothing, but for the mark of a violation
        entries = [line.partition(b" ima-")[2] for line in files.split(b"\n")]
    return head, log.locality, extended, entries


def regions(content: bytes) -> list[tuple[int, int]]:
    """Where quote, signature, key, registers, boot log and list of files lie."""
    end = content.index(b"\n", len(claims.MAGIC)) + 1
    evidence = claims.parse(content)
    middle = end + (evidence.head.boot_size or 0)
    marks = [content.index(f'"{name}":'.encode()) for name in ("quote", "signature", "key")]
    parts = [(mark, mark + 300) for mark in marks]
    return [*parts, (0, end), (end, middle), (middle, len(content))]


def mutated(content: bytes, places: list[tuple[int, int]], dice: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(dice.choice((1, 1, 1, 2, 5))):
        low, high = dice.choice(places)
        at = min(dice.randrange(low, high), len(changed) - 1)
        kind = dice.randrange(8)
        if kind < 3:
            changed[at] ^= 1 << dice.randrange(8)
        elif kind < 5:  # stays hexadecimal, so that what lies behind the JSON is reached
            changed[at] = dice.choice(DIGITS)
        elif kind == 5:
            changed[at : at + 4] = dice.choice((bytes(4), b"\xff" * 4, b"\1\0\0\0", b"\0\0\0\x80"))
        elif kind == 6:
            del changed[at : at + dice.choice((1, 4, 32))]
        else:
            changed[at:at] = changed[low : low + dice.choice((1, 8, 60))]
    return bytes(changed)


def try_mutations(count: int, seed: int) -> dict[str, int]:
    dice, issued, reasons = random.Random(seed), challenge(), dict[str, int]()
    sources = [(content, known, regions(content)) for content, known in worlds()]
    originals = [judged(claims.parse(content)) for content, _, _ in sources]
    for number in range(count):
        which = number % len(sources)
        content, known, places = sources[which]
        changed = mutated(content, places, dice)
        finding = verifier.examine(changed, known, issued, NOW)
        reasons[finding.reason.value] = reasons.get(finding.reason.value, 0) + 1
        if finding.tier is Tier.AFFIRMING and changed != content:
            assert judged(claims.parse(changed)) == originals[which], f"seed {seed}, {number}"
    return reasons


def test_good_evidence_is_affirmed_before_it_is_changed() -> None:
    for content, known in worlds():
        assert verifier.examine(content, known, challenge(), NOW).tier is Tier.AFFIRMING


def test_ten_thousand_mutations_affirm_nothing_else_and_raise_nothing() -> None:
    reasons = try_mutations(FEW, seed=1)
    families = {reason.partition(".")[0] for reason in reasons}
    assert families >= {"attest", "boot", "fresh", "ima", "key", "pcr"}, reasons


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_million_mutations_affirm_nothing_else_and_raise_nothing() -> None:
    try_mutations(MANY, seed=2)


@pytest.mark.parametrize("size", [0, 1, 100, 4096, 1 << 20])
@pytest.mark.parametrize("fill", ["zeros", "ones", "noise", "text"])
def test_garbage_is_refused(size: int, fill: str) -> None:
    made = {
        "zeros": bytes(size),
        "ones": b"\xff" * size,
        "noise": random.Random(size).randbytes(size),
        "text": (b"10 " + b"ab" * 20 + b" ima-ng sha256:00 /x\n") * (size // 62 + 1),
    }[fill]
    ((content, known), *_) = worlds()
    end = content.index(b"\n", len(claims.MAGIC)) + 1
    whole = verifier.examine(made, known, challenge(), NOW)
    behind = verifier.examine(content[:end] + made, known, challenge(), NOW)
    for finding in (whole, behind):
        assert finding.tier is Tier.CONTRAINDICATED
