"""However large a log claims to be, checking what is shown of it ends soon."""

import hashlib
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.appraisal import policy, selection
from lydite.appraisal.selection import Pledged
from lydite.errors import Reason, VerificationError
from lydite.laboratory.world import key
from lydite.messages import entropy
from lydite.messages.epoch import Predicate as Epoch
from lydite.sampling import beacon, draw, schedule, vrf
from lydite.sampling.beacon import Chain, Scheme
from lydite.signing import notes
from lydite.tlog import checkpoint, witness
from lydite.tlog import policy as log_policies

ORIGIN = "log.example"
HUGE = 2**44
NOW_S = 1_800_000_000


def huge(rate_ppm: int) -> tuple[Epoch, selection.Turn]:
    """A genuine epoch over a witnessed log that says it has 2^44 entries, and its turn."""
    log_key = notes.verifier_key(ORIGIN, key("log"))
    said = checkpoint.Checkpoint(origin=ORIGIN, size=HUGE, root=hashlib.sha256(b"made up").digest())
    note = checkpoint.sign(said, key("log"))
    watcher = witness.Witness("w", key("w"), (log_key,))
    request = witness.parse_request(b"old 0\n\n" + note.encode())
    cosigned = note.encode() + witness.add_checkpoint(request, watcher, None, NOW_S).body
    log = log_policies.parse(f"log {log_key}\nwitness w {watcher.key}\nquorum w\n".encode())
    chain = Chain(
        name="c",
        scheme=Scheme.LOCAL_DEV,
        public_key=key("beacon").public.hex(),
        genesis_time_s=NOW_S,
        period_s=1,
    )
    number = schedule.acceptable_round(chain, NOW_S, policy.DEFAULT.beacon_margin_s)
    answer = beacon.local_round(number, key("beacon").sign(beacon.local_message(number)))
    secret = entropy.Entropy(b"e" * 32)
    pledged = entropy.Predicate(
        epoch=1,
        attempt=1,
        first=1,
        epsilon_ppm=rate_ppm,
        chain="c",
        round=number,
        commitment=entropy.commit(1, 1, secret).hex(),
        provider="p",
    )
    digest = hashlib.sha256(b"pledge").digest()
    drawn_by = draw.alpha(ORIGIN, 1, HUGE, digest, number, answer.randomness, secret)
    epoch = Epoch(
        epoch=1,
        first=1,
        tree_size=HUGE,
        checkpoint=cosigned.decode(),
        beacon=beacon.to_record(chain, answer),
        epsilon_ppm=rate_ppm,
        entropy=secret.hex(),
        vrf_proof=vrf.prove(b"v" * 32, drawn_by).pi.hex(),
        provider="p",
    )
    vrf_key = vrf.public_key(b"v" * 32)
    pledge = Pledged(HUGE, pledged, digest)
    return epoch, selection.turn(epoch, pledge, log, chain, vrf_key, policy.DEFAULT)


@pytest.mark.parametrize("rate_ppm", [policy.DEFAULT.epsilon_ppm, 500_000, draw.MILLION])
def test_one_entry_of_a_huge_log_is_recounted_at_once(rate_ppm: int) -> None:
    begun = time.monotonic()
    epoch, turn = huge(rate_ppm)
    drawn = draw.selected(turn.beta, HUGE // 2, rate_ppm)
    assert drawn or rate_ppm < draw.MILLION
    with pytest.raises(VerificationError) as refused:
        selection.spend(selection.extent(100_000), epoch)
    assert refused.value.reason is Reason.AUDIT_MISSING
    assert time.monotonic() - begun < 10


EPOCH, _ = huge(policy.DEFAULT.epsilon_ppm)


@given(
    first=st.integers(1, 3000),
    length=st.integers(0, 3000),
    rate_ppm=st.integers(0, draw.MILLION),
    seed=st.binary(min_size=64, max_size=64),
)
def test_what_is_drawn_shows_enough_to_be_recounted(
    first: int, length: int, rate_ppm: int, seed: bytes
) -> None:
    drawn = draw.draw(seed, first, first + length - 1, rate_ppm)
    last = first + length - 1
    made = msgspec.structs.replace(EPOCH, first=first, tree_size=last, epsilon_ppm=rate_ppm)
    assert selection.spend(selection.extent(len(drawn)), made) >= 0
