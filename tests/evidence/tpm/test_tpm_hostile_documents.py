"""Certificates and policies, changed at random: read, or refused by an error of ours."""

import random

import pytest

from lydite.errors import LyditeError
from lydite.evidence.tpm import boot, checkpoint, enrolment, events, refstate, runtime, verifier
from lydite.evidence.tpm import reference as references
from lydite.messages.canonical import encode
from tests.evidence.tpm.machine import (
    BIOS,
    NOW,
    Machine,
    challenge,
    good_state,
)
from tests.evidence.tpm.machine import (
    runtime as runtime_policy,
)
from tests.evidence.tpm.test_tpm_enrolment import intermediate, leaf, pinned, root, taken_in

TRIES = 600
pytestmark = pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
DOCUMENTS = {"reference": encode(Machine().reference({"00" * 32: b"", "11" * 32: b""}))}


def changed(content: bytes, dice: random.Random) -> bytes:
    made = bytearray(content)
    for _ in range(dice.choice((1, 1, 2, 6))):
        at = dice.randrange(len(made))
        kind = dice.randrange(5)
        if kind < 2:
            made[at] ^= 1 << dice.randrange(8)
        elif kind == 2:
            made[at] = dice.choice(b'0"{}[],:\\x\xff')
        elif kind == 3:
            del made[at : at + dice.choice((1, 2, 30))]
        else:
            made[at:at] = made[: dice.choice((1, 5, 40))]
    return bytes(made) if made != content else changed(content, dice)


def survives(read: object, content: bytes, seed: int) -> int:
    """Read changed content many times; return how often it was refused."""
    dice, refused = random.Random(seed), 0
    for _ in range(TRIES):
        try:
            read(changed(content, dice))  # type: ignore[operator]
        except LyditeError:
            refused += 1
    return refused


@pytest.mark.parametrize("which", ["EK", "issuer", "root"])
def test_certificates(which: str) -> None:
    good = {"EK": leaf(), "issuer": intermediate(), "root": root()}
    roots = pinned(good["root"])

    def read(content: bytes) -> None:
        taken_in(*{**good, which: content}.values(), roots=roots)
        # a signature's count of unused bits is read by nobody; what is signed has to be the same
        signed = [
            enrolment.load(each, which).tbs_certificate_bytes for each in (content, good[which])
        ]
        assert signed[0] == signed[1]

    assert survives(read, good[which], 1) > TRIES // 2


def test_a_runtime_policy() -> None:
    policy = runtime_policy(excludes=["/var/log/.*"], keyrings={".ima": ["aa" * 32]})
    assert survives(lambda content: runtime.compile_policy([content]), policy, 2)


def test_a_reference_state_and_the_boot_that_it_is_held_to() -> None:
    log = boot.parse(BIOS)

    def read(content: bytes) -> None:
        refstate.check([refstate.parse(content)], log, "sha256")

    assert survives(read, good_state(), 3)


def test_a_reference_value_and_a_checkpoint() -> None:
    assert survives(references.parse, DOCUMENTS["reference"], 4)
    machine, issued = Machine(), challenge()
    after = verifier.appraise(machine.claims(issued), machine.policies(), issued, NOW).checkpoint
    assert survives(checkpoint.parse, encode(after), 5)


def test_a_boot_log_that_is_described() -> None:
    def read(content: bytes) -> None:
        log = boot.parse(content)
        events.check(log, "sha256")
        refstate.describe(log)

    assert survives(read, BIOS, 6)
