"""Attack 19: whoever helps to make the randomness tries many values and keeps the best draw."""

from collections.abc import Callable
from hashlib import sha256

import msgspec
import pytest
from nacl.signing import SigningKey

from lydite.errors import Reason, VerificationError
from lydite.gateway.draws.epochs import Hands, Pledged, make_epoch
from lydite.gateway.draws.pledges import Secret
from lydite.laboratory.world import World
from lydite.messages import epoch
from lydite.messages.canonical import encode
from lydite.sampling import beacon, draw, schedule, vrf
from lydite.signing.dsse import open_envelope
from lydite.signing.keys import sign_envelope

GATEWAY = bytes(range(32))
GATEWAY_KEY = vrf.public_key(GATEWAY)
PLEDGE = sha256(b"pledge").digest()
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


def epoch_input(
    deciding: beacon.Round, pledge: bytes = PLEDGE, size: int = 1000, entropy: bytes = bytes(32)
) -> bytes:
    return draw.alpha("log", 1, size, pledge, deciding.number, deciding.randomness, entropy)


def test_the_gateway_cannot_pledge_a_round_that_is_out() -> None:
    number = due().number
    schedule.check(CHAIN, COSIGNED_S, MARGIN_S, number)
    for other in range(number - 20, number):
        with pytest.raises(VerificationError) as caught:
            schedule.check(CHAIN, COSIGNED_S, MARGIN_S, other)
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


@pytest.mark.parametrize("change", ["pledge", "size", "randomness", "round", "entropy"])
def test_a_proof_over_another_epoch_decides_nothing(change: str) -> None:
    deciding = due()
    alpha = epoch_input(deciding)
    other = {
        "pledge": epoch_input(deciding, pledge=bytes(32)),
        "entropy": epoch_input(deciding, entropy=bytes([1]) * 32),
        "size": epoch_input(deciding, size=1001),
        "randomness": epoch_input(msgspec.structs.replace(deciding, randomness=bytes(32))),
        "round": epoch_input(msgspec.structs.replace(deciding, number=deciding.number + 1)),
    }[change]
    with pytest.raises(VerificationError):
        vrf.verify(GATEWAY_KEY, alpha, vrf.prove(GATEWAY, other).pi)


def test_the_provider_learns_nothing_from_the_round_alone() -> None:
    """Knowing beacon and pledge, but not the gateway's seed, predicts no better than chance."""
    alpha, rate, size = epoch_input(due()), 100_000, 20_000
    drawn = set(draw.draw(vrf.prove(GATEWAY, alpha).beta, 1, size, rate))
    guessed = set(draw.draw(vrf.prove(bytes(32), alpha).beta, 1, size, rate))
    assert abs(len(drawn & guessed) - size * 0.01) < 60  # 1 % of entries, by chance alone


# A gateway that works for the provider, with all its keys, before an auditor who reads the log.


class Grinding(World):
    """A gateway that opens its epochs by hand."""

    def opened(self, pledge: Pledged, secret: Secret) -> None:
        """Open the next epoch with a pledge, when its round is out."""
        self.now_s = max(self.now_s, beacon.due_s(self.chain, pledge.said.round))
        answer = (self.chain, self.beacon_round(pledge.said.round))
        hands = Hands(self.gateway, self.vrf_key, self.provider.keyid)
        statement = make_epoch(pledge, secret, answer, hands)
        self.enter("epoch", sign_envelope(encode(statement), self.gateway))

    def next_round(self) -> int:
        return beacon.first_round_after(self.chain, self.now_s + self.policy.beacon_margin_s)


def grinding() -> Grinding:
    world = Grinding()
    world.traffic(12)
    return world


def refused(world: World) -> Reason:
    with pytest.raises(VerificationError) as caught:
        world.auditor.case.catch_up()
    return caught.value.reason


def drawn(world: World) -> set[int]:
    world.auditor.case.catch_up()
    return set(world.auditor.case.receipts) | set(world.auditor.case.bystanders)


def test_no_other_checkpoint_gives_another_draw() -> None:
    """As many checkpoints as one likes before the round: the draw is in the pledge."""
    draws = []
    for checkpoints in range(4):
        world = grinding()
        pledge, secret = world.pledge(300_000, world.next_round() + 5)
        for _ in range(checkpoints):
            world.now_s += 1
            world.traffic(2)
            secret = msgspec.structs.replace(secret, note=world.checkpoint().decode())
        world.opened(pledge, secret)
        draws.append(drawn(world))
    assert draws[0]
    assert all(each == draws[0] for each in draws)


def test_a_pledge_that_witnesses_saw_after_its_round_decides_nothing() -> None:
    world = grinding()
    pledge, secret = world.pledge(300_000, world.next_round())
    world.now_s = beacon.due_s(world.chain, pledge.said.round)
    world.traffic(1)
    world.opened(pledge, msgspec.structs.replace(secret, note=world.checkpoint().decode()))
    assert refused(world) is Reason.BAD_BEACON


@pytest.mark.parametrize("attempt", [1, 2])
def test_a_second_pledge_decides_nothing_unless_everything_is_drawn(attempt: int) -> None:
    world = grinding()
    world.pledge(300_000, world.next_round() + 1)
    world.traffic(2)
    world.opened(*world.pledge(300_000, world.next_round() + 5, attempt))
    assert refused(world) is (Reason.BAD_ENTROPY if attempt == 1 else Reason.BAD_RATE)


def test_a_second_pledge_that_draws_everything_is_accepted() -> None:
    world = grinding()
    world.pledge(300_000, world.next_round() + 1)
    world.traffic(2)
    world.opened(*world.pledge(1_000_000, world.next_round() + 5, 2))
    assert drawn(world) == set(range(1, 18))
    world.auditor.audit_pending()
    world.auditor.judge()
    world.verify(world.bundle())


def test_nobody_returns_to_a_first_pledge_after_a_second() -> None:
    world = grinding()
    first = world.pledge(300_000, world.next_round() + 5)
    world.pledge(1_000_000, world.next_round() + 5, 2)
    world.opened(*first)
    assert refused(world) is Reason.BAD_ENTROPY


def other_entropy(secret: Secret) -> Secret:
    return msgspec.structs.replace(secret, entropy="11" * 32)


def test_no_other_randomness_can_be_revealed_than_was_pledged() -> None:
    world = grinding()
    pledge, secret = world.pledge(300_000, world.next_round() + 1)
    world.opened(pledge, other_entropy(secret))
    assert refused(world) is Reason.BAD_ENTROPY


CHANGES: dict[str, Callable[[epoch.Predicate], epoch.Predicate]] = {
    "a lower rate": lambda said: msgspec.structs.replace(said, epsilon_ppm=said.epsilon_ppm - 1),
    "a later start": lambda said: msgspec.structs.replace(said, first=said.first + 1),
    "an earlier end": lambda said: msgspec.structs.replace(said, tree_size=said.tree_size - 1),
}


@pytest.mark.parametrize("name", CHANGES)
def test_nothing_of_a_pledge_can_be_changed_when_the_draw_is_known(name: str) -> None:
    world = grinding()
    world.opened(*world.pledge(300_000, world.next_round() + 1))
    keys = {world.gateway.keyid: world.gateway.public}
    statement = epoch.parse(open_envelope(world.envelopes.pop(), keys, keys))
    world.leaves.pop()
    world.tree = type(world.tree)()
    world.tree.extend(world.leaves)
    lie = msgspec.structs.replace(statement, predicate=CHANGES[name](statement.predicate))
    world.enter("epoch", sign_envelope(encode(lie), world.gateway))
    assert refused(world) is Reason.BAD_ENTROPY
