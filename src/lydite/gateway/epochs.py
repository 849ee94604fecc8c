"""Opens audit epochs: after a witnessed checkpoint, the first beacon round and our VRF draw.

The order is the point: what is drawn from is fixed before anyone can know what will be drawn.
"""

import asyncio
import hashlib
from typing import NamedTuple

from lydite.errors import ConfigurationError, FormatError, Reason, UnavailableError
from lydite.gateway.beacons import BeaconClient
from lydite.gateway.pairs import Journal
from lydite.gateway.recorder import Recorder
from lydite.gateway.settings import Beacon
from lydite.messages import epoch
from lydite.messages.canonical import encode
from lydite.messages.epoch import Epoch, Predicate
from lydite.messages.statement import subject
from lydite.sampling import beacon, draw, schedule, vrf
from lydite.sampling.beacon import Chain, Round
from lydite.signing.dsse import KeyId, open_envelope
from lydite.signing.keys import Signer, sign_envelope
from lydite.tlog import checkpoint as checkpoints
from lydite.tlog.checkpoint import Checkpoint
from lydite.tlog.checkpointer import Checkpointer


class Hands(NamedTuple):
    """Who opens epochs: the gateway's two keys, and the provider that they are about."""

    gateway: Signer
    vrf: Signer
    provider: KeyId


class Epochs:
    """Every epoch of one log, and what they drew."""

    def __init__(
        self,
        journal: Journal,
        recorder: Recorder,
        checkpointer: Checkpointer,
        hands: Hands,
        source: tuple[Beacon, BeaconClient] | None,
    ) -> None:
        self._journal = journal
        self._recorder = recorder
        self._checkpointer = checkpointer
        self._hands = hands
        self._source = source
        self._lock = asyncio.Lock()
        self._drawn: set[int] = set()
        self._count = 0
        self._last_size = 0

    def recall(self) -> None:
        """Read the epochs of the journal again and what they drew.

        Raises:
            ConfigurationError: they were drawn with another beacon or VRF key.
        """
        for number in self._journal.of_kind("epoch"):
            envelope = self._journal.read(number).body
            keys = {self._hands.gateway.keyid: self._hands.gateway.public}
            self._take(epoch.parse(open_envelope(envelope, keys, keys)).predicate)

    def was_drawn(self, number: int) -> bool:
        """Say whether some epoch drew the 1-based entry ``number``."""
        return number in self._drawn

    def entry_of(self, number: int) -> int | None:
        """Return the 1-based entry of the epoch ``number``, counted from 1, if there is one."""
        entries = self._journal.of_kind("epoch")
        return entries[number - 1] if 1 <= number <= len(entries) else None

    async def open(self, epsilon_ppm: int) -> int:
        """Draw from everything logged since the last epoch and return the new epoch's entry.

        Raises:
            FormatError: the rate is none.
            UnavailableError: no beacon is configured, too few witnesses answered, the beacon
                round did not come, or nothing was logged since (``CONFLICT``).
        """
        if not 0 < epsilon_ppm <= draw.MILLION:
            raise FormatError(f"an audit rate of {epsilon_ppm} parts per million")
        if self._source is None:
            raise UnavailableError("this gateway has no beacon, so it opens no epochs")
        settings, client = self._source
        async with self._lock:
            found = await self._checkpointer.witnessed()
            head, cosigned_s = found.accepted.checkpoint, found.accepted.time_s
            if cosigned_s is None:
                raise UnavailableError("this gateway has no witnesses, so it opens no epochs")
            if head.size <= self._last_size:
                raise UnavailableError("nothing was logged since the last epoch", Reason.CONFLICT)
            number = schedule.acceptable_round(settings.chain, cosigned_s, settings.margin_s)
            answer = await client.fetch(number)
            statement = make_epoch(
                (self._count + 1, self._last_size + 1),
                found.note,
                (settings.chain, answer),
                epsilon_ppm,
                self._hands,
            )
            envelope = sign_envelope(encode(statement), self._hands.gateway)
            entry = await self._recorder.enter("epoch", envelope)
            self._take(statement.predicate)
            return entry

    def _take(self, predicate: Predicate) -> None:
        head = _head(predicate.checkpoint.encode())
        round_number, randomness = predicate.beacon.round, predicate.beacon.randomness
        alpha = _alpha(predicate.epoch, head, round_number, bytes.fromhex(randomness))
        output = vrf.prove(self._hands.vrf.seed(), alpha)
        if output.pi.hex() != predicate.vrf_proof:
            raise ConfigurationError(f"epoch {predicate.epoch} was drawn with another VRF key")
        last, rate = predicate.tree_size, predicate.epsilon_ppm
        self._drawn.update(draw.draw(output.beta, predicate.first, last, rate))
        self._count, self._last_size = predicate.epoch, last


def make_epoch(
    turn: tuple[int, int],
    note: bytes,
    source: tuple[Chain, Round],
    epsilon_ppm: int,
    hands: Hands,
) -> Epoch:
    """Return the statement of an epoch: its draw is fixed by what it names and by our VRF key.

    ``turn`` is the epoch's number and the first entry that it draws from, ``note`` the witnessed
    checkpoint up to which it draws, ``source`` the beacon's chain and the one acceptable round.
    """
    (number, first), (chain, answer) = turn, source
    head = _head(note)
    alpha = _alpha(number, head, answer.number, answer.randomness)
    return Epoch(
        subject=subject("checkpoint", hashlib.sha256(note).digest()),
        predicate=Predicate(
            epoch=number,
            first=first,
            tree_size=head.size,
            checkpoint=note.decode(),
            beacon=beacon.to_record(chain, answer),
            epsilon_ppm=epsilon_ppm,
            vrf_proof=vrf.prove(hands.vrf.seed(), alpha).pi.hex(),
            provider=hands.provider,
        ),
    )


def _head(note: bytes) -> Checkpoint:
    text, _, _ = note.partition(b"\n\n")
    return checkpoints.parse(text + b"\n")


def _alpha(number: int, head: Checkpoint, round_number: int, randomness: bytes) -> bytes:
    return draw.alpha(head.origin, number, head.size, head.root, round_number, randomness)
