"""Attack 19: whoever helps to make the randomness tries many values and keeps the best draw."""

from hashlib import sha256

import msgspec
import pytest
from nacl.signing import SigningKey

from lydite.errors import Reason, VerificationError
from lydite.sampling import beacon, draw, schedule, vrf

GATEWAY = bytes(range(32))
GATEWAY_KEY = vrf.public_key(GATEWAY)
ROOT = sha256(b"checkpoint").digest()
DEV_KEY = SigningKey(bytes(32))
CHAIN = beacon.Chain(
    name="local",
    scheme=beacon.Scheme.LOCAL_DEV,
    public_key=bytes(DEV_KEY.verify_key).hex(),
    genesis_time_s=1_000_000,
    period_s=3,
)
COSIGNED_S, MARGIN_S = 1_000_100, 5


def due() -> beacon.Round:
    number = schedule.acceptable_round(CHAIN, COSIGNED_S, MARGIN_S)
    return beacon.local_round(number, DEV_KEY.sign(beacon.local_message(number)).signature)


def epoch_input(deciding: beacon.Round, root: bytes = ROOT, size: int = 1000) -> bytes:
    return draw.alpha("log", 1, size, root, deciding.number, deciding.randomness)


def test_the_gateway_cannot_try_other_rounds() -> None:
    number = due().number
    for other in range(number - 20, number + 20):
        made = beacon.local_round(other, DEV_KEY.sign(beacon.local_message(other)).signature)
        if other == number:
            schedule.check(CHAIN, COSIGNED_S, MARGIN_S, made)
            continue
        with pytest.raises(VerificationError) as caught:
            schedule.check(CHAIN, COSIGNED_S, MARGIN_S, made)
        assert caught.value.reason is Reason.BAD_BEACON


def test_the_gateway_cannot_try_other_outputs() -> None:
    """One key and one input have one output: nonces change the proof's bytes, never beta."""
    alpha = epoch_input(due())
    beta, pi = vrf.prove(GATEWAY, alpha)
    for attempt in range(50):
        ground = pi[:48] + sha256(attempt.to_bytes(8)).digest()[:31] + b"\0"
        with pytest.raises(VerificationError) as caught:
            vrf.verify(GATEWAY_KEY, alpha, ground)
        assert caught.value.reason is Reason.BAD_SELECTION_PROOF
    assert vrf.verify(GATEWAY_KEY, alpha, pi) == beta


def test_the_gateway_cannot_try_other_keys() -> None:
    alpha = epoch_input(due())
    for attempt in range(50):
        other = vrf.prove(sha256(attempt.to_bytes(8)).digest(), alpha)
        with pytest.raises(VerificationError):
            vrf.verify(GATEWAY_KEY, alpha, other.pi)


@pytest.mark.parametrize("change", ["root", "size", "randomness", "round"])
def test_a_proof_over_another_epoch_decides_nothing(change: str) -> None:
    deciding = due()
    alpha = epoch_input(deciding)
    other = {
        "root": epoch_input(deciding, root=bytes(32)),
        "size": epoch_input(deciding, size=1001),
        "randomness": epoch_input(msgspec.structs.replace(deciding, randomness=bytes(32))),
        "round": epoch_input(msgspec.structs.replace(deciding, number=deciding.number + 1)),
    }[change]
    with pytest.raises(VerificationError):
        vrf.verify(GATEWAY_KEY, alpha, vrf.prove(GATEWAY, other).pi)


def test_the_provider_learns_nothing_from_the_round_alone() -> None:
    """Knowing beacon and checkpoint, but not the gateway's seed, predicts no better than chance."""
    alpha, rate, size = epoch_input(due()), 100_000, 20_000
    drawn = set(draw.draw(vrf.prove(GATEWAY, alpha).beta, 1, size, rate))
    guessed = set(draw.draw(vrf.prove(bytes(32), alpha).beta, 1, size, rate))
    assert abs(len(drawn & guessed) - size * 0.01) < 60  # 1 % of entries, by chance alone
