"""Opens audit epochs: a pledge in the log, witnesses who saw it, the round it named, our VRF draw.

The order is the point: what is drawn from, at which rate and with which round is in the log before
anyone can know what that draws. Nothing of it is left to choose afterwards; a gateway that could
not go on with its first pledge of an epoch has to draw everything.
"""

import asyncio
import hashlib
from typing import NamedTuple

from lydite.errors import ConfigurationError, FormatError, Reason, UnavailableError
from lydite.gateway.draws.beacons import BeaconClient
from lydite.gateway.draws.pledges import Drawer, Secret, Turn, make_pledge
from lydite.gateway.ledger.pairs import Journal
from lydite.gateway.ledger.recorder import Recorder
from lydite.gateway.ledger.retention import Decision, Keeper
from lydite.gateway.settings import Beacon
from lydite.messages import entropy, epoch
from lydite.messages.canonical import encode
from lydite.messages.entropy import Entropy
from lydite.messages.epoch import Epoch, Predicate
from lydite.messages.statement import subject
from lydite.sampling import beacon, draw, schedule, vrf
from lydite.sampling.beacon import Chain, Round
from lydite.signing.dsse import KeyId, open_envelope
from lydite.signing.keys import Signer, sign_envelope
from lydite.tlog.checkpointer import Checkpointer, Witnessed


class Hands(NamedTuple):
    """Who opens epochs: the gateway's two keys, and the provider that they are about."""

    gateway: Signer
    vrf: Signer
    provider: KeyId


class Pledged(NamedTuple):
    """A pledge in the log: its 1-based entry, what it says, and its statement's SHA-256."""

    entry: int
    said: entropy.Predicate
    digest: bytes


class Epochs:
    """Every epoch of one log, and what they drew."""

    def __init__(
        self,
        journal: Journal,
        recorder: Recorder,
        checkpointer: Checkpointer,
        hands: Hands,
        source: tuple[Beacon, BeaconClient] | None,
        drawer: Drawer,
        keeper: Keeper,
    ) -> None:
        self._journal = journal
        self._recorder = recorder
        self._checkpointer = checkpointer
        self._hands = hands
        self._source = source
        self._drawer = drawer
        self._keeper = keeper
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
            self._take(epoch.parse(self._payload(number)).predicate)
        self._find_pledge()

    def was_drawn(self, number: int) -> bool:
        """Say whether some epoch drew the 1-based entry ``number``."""
        return number in self._drawn

    def entry_of(self, number: int) -> int | None:
        """Return the 1-based entry of the epoch ``number``, counted from 1, if there is one."""
        entries = self._journal.of_kind("epoch")
        return entries[number - 1] if 1 <= number <= len(entries) else None

    async def open(self, epsilon_ppm: int) -> int:
        """Draw from everything logged since the last epoch and return the new epoch's entry.

        What was pledged before and not opened is opened now, at the rate that was pledged; if
        witnesses did not see that pledge in time, or its secret is lost, another takes its place
        and draws everything.

        Raises:
            FormatError: the rate is none.
            UnavailableError: no beacon is configured, too few witnesses answered or too late, the
                beacon round did not come, or nothing was logged since (``CONFLICT``).
        """
        if not 0 < epsilon_ppm <= draw.MILLION:
            raise FormatError(f"an audit rate of {epsilon_ppm} parts per million")
        if self._source is None:
            raise UnavailableError("this gateway has no beacon, so it opens no epochs")
        settings, client = self._source
        async with self._lock:
            pledge, secret = await self._pledged(settings, epsilon_ppm)
            answer = await client.fetch(pledge.said.round)
            statement = make_epoch(pledge, secret, (settings.chain, answer), self._hands)
            envelope = sign_envelope(encode(statement), self._hands.gateway)
            entry = await self._recorder.enter("epoch", envelope)
            self._take(statement.predicate)
            await asyncio.to_thread(self._drawer.empty)
            await self._keeper.settle()
            return entry

    async def _pledged(self, settings: Beacon, epsilon_ppm: int) -> tuple[Pledged, Secret]:
        """Return a pledge that witnesses saw in time, with its secret."""
        pledge, attempt = self._find_pledge(), 1
        if pledge is not None:
            secret = await asyncio.to_thread(self._drawer.read)
            if secret is not None and secret.opens(pledge.said):
                shown = secret.note or await self._show(settings, pledge)
                if shown:
                    return pledge, await self._note(secret, shown)
            attempt, epsilon_ppm = pledge.said.attempt + 1, draw.MILLION
        asked, cosigned_s = await self._witnessed()
        if asked.accepted.checkpoint.size <= self._last_size:
            raise UnavailableError("nothing was logged since the last epoch", Reason.CONFLICT)
        await asyncio.to_thread(self._keeper.vault.turn)
        turn = Turn(self._count + 1, attempt, self._last_size + 1)
        secret = await asyncio.to_thread(self._drawer.fresh, turn.epoch, attempt)
        now_s = max(cosigned_s, self._recorder.clock_ms() // 1000)
        number = beacon.first_round_after(
            settings.chain, now_s + settings.margin_s + settings.lead_s
        )
        statement = make_pledge(
            turn,
            settings.chain.name,
            number,
            epsilon_ppm,
            Entropy(bytes.fromhex(secret.entropy)),
            self._hands.provider,
        )
        envelope = sign_envelope(encode(statement), self._hands.gateway)
        async with self._keeper.lock:  # nothing is dropped from under a pledge
            await self._recorder.enter("entropy", envelope)
            pledge = self._find_pledge()
        shown = "" if pledge is None else await self._show(settings, pledge)
        if pledge is None or not shown:
            raise UnavailableError(
                "the witnesses saw the pledge too late: the next one draws everything",
                Reason.UNWITNESSED,
            )
        return pledge, await self._note(secret, shown)

    async def _note(self, secret: Secret, note: str) -> Secret:
        if secret.note:
            return secret
        return await asyncio.to_thread(self._drawer.witnessed, secret, note.encode())

    async def _show(self, settings: Beacon, pledge: Pledged) -> str:
        """Return a checkpoint that was cosigned over a pledge in time, empty if it is too late."""
        found, cosigned_s = await self._witnessed()
        earliest = schedule.acceptable_round(settings.chain, cosigned_s, settings.margin_s)
        return found.note.decode() if earliest <= pledge.said.round else ""

    async def _witnessed(self) -> tuple[Witnessed, int]:
        found = await self._checkpointer.witnessed()
        if found.accepted.time_s is None:
            raise UnavailableError("this gateway has no witnesses, so it opens no epochs")
        return found, found.accepted.time_s

    def _find_pledge(self) -> Pledged | None:
        """Return the newest pledge of the next epoch, if there is one, and have it respected."""
        entries = self._journal.of_kind("entropy")
        if not entries or entries[-1] <= self._last_size:
            self._keeper.pledged = 0
            return None
        payload = self._payload(entries[-1])
        said = entropy.parse(payload).predicate
        self._keeper.pledged = entries[-1]
        return Pledged(entries[-1], said, hashlib.sha256(payload).digest())

    def _payload(self, number: int) -> bytes:
        keys = {self._hands.gateway.keyid: self._hands.gateway.public}
        return open_envelope(self._journal.read(number).body, keys, keys)

    def _take(self, said: Predicate) -> None:
        pledge = hashlib.sha256(self._journal.read(said.tree_size).statement()).digest()
        origin = said.checkpoint.partition("\n")[0]
        randomness, revealed = bytes.fromhex(said.beacon.randomness), bytes.fromhex(said.entropy)
        alpha = draw.alpha(
            origin, said.epoch, said.tree_size, pledge, said.beacon.round, randomness, revealed
        )
        output = vrf.prove(self._hands.vrf.seed(), alpha)
        if output.pi.hex() != said.vrf_proof:
            raise ConfigurationError(f"epoch {said.epoch} was drawn with another VRF key")
        drawn = draw.draw(output.beta, said.first, said.tree_size, said.epsilon_ppm)
        self._drawn.update(drawn)
        self._keeper.learn(Decision(said.epoch, said.first, said.tree_size, frozenset(drawn)))
        self._count, self._last_size = said.epoch, said.tree_size
        self._keeper.pledged = 0


def make_epoch(pledge: Pledged, secret: Secret, source: tuple[Chain, Round], hands: Hands) -> Epoch:
    """Return the statement of an epoch: its draw is fixed by its pledge and by our VRF key.

    ``secret`` holds the randomness that the pledge committed to and the witnessed checkpoint that
    covers it, ``source`` is the beacon's chain and the round that was pledged.
    """
    said, (chain, answer), note = pledge.said, source, secret.note.encode()
    alpha = draw.alpha(
        secret.note.partition("\n")[0],
        said.epoch,
        pledge.entry,
        pledge.digest,
        answer.number,
        answer.randomness,
        bytes.fromhex(secret.entropy),
    )
    return Epoch(
        subject=subject("checkpoint", hashlib.sha256(note).digest()),
        predicate=Predicate(
            epoch=said.epoch,
            first=said.first,
            tree_size=pledge.entry,
            checkpoint=secret.note,
            beacon=beacon.to_record(chain, answer),
            epsilon_ppm=said.epsilon_ppm,
            entropy=secret.entropy,
            vrf_proof=vrf.prove(hands.vrf.seed(), alpha).pi.hex(),
            provider=hands.provider,
        ),
    )
