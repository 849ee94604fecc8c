"""The service: puts the parts together, listens, and winds them down in order."""

import asyncio
import contextlib
import hashlib
import logging
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec

from lydite.errors import (
    ConfigurationError,
    FormatError,
    LyditeError,
    Reason,
    UnavailableError,
)
from lydite.gateway.draws.beacons import BeaconClient
from lydite.gateway.draws.epochs import Epochs, Hands
from lydite.gateway.egress import egress
from lydite.gateway.egress.egress import Egress
from lydite.gateway.egress.egress_routes import EgressRoutes
from lydite.gateway.ledger.notary import Notary
from lydite.gateway.ledger.pairs import Journal
from lydite.gateway.ledger.receipts import Stamp
from lydite.gateway.ledger.recorder import GroupRecorder, TurnRecorder, Writer
from lydite.gateway.ledger.scribe import Scribe
from lydite.gateway.modes import moded
from lydite.gateway.modes.moded import Around, Modal
from lydite.gateway.office import deeds, resealing
from lydite.gateway.office.admin import Admin, Place
from lydite.gateway.office.control import Control, Office
from lydite.gateway.office.operations import Operations
from lydite.gateway.plane import front
from lydite.gateway.plane.front import Front
from lydite.gateway.sealing import archive
from lydite.gateway.sealing import sealed as seals
from lydite.gateway.sealing.sealer import Sealer
from lydite.gateway.settings import Settings
from lydite.messages import declaration, entry
from lydite.sampling import vrf
from lydite.signing import notes
from lydite.signing.dsse import Envelope, PublicKey, digest, key_id, open_envelope, payload_of
from lydite.signing.keys import Signer
from lydite.tlog import policy as policies
from lydite.tlog.checkpointer import Checkpointer
from lydite.tlog.store import LogStore
from lydite.tlog.witness_client import WitnessClient

if TYPE_CHECKING:
    from starlette.routing import Route

_logger = logging.getLogger(__name__)


class Gateway:
    """One gateway before one engine. ``async with Gateway(settings)`` starts and stops it."""

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float] = time.time,
        reread: Callable[[], Settings] | None = None,
    ) -> None:
        """Read keys and declaration, open log and journal; ``reread`` is for a reload.

        Raises:
            ConfigurationError: a key, the declaration, a policy or a URL cannot be used.
            StorageError: the state is damaged or the disk refuses.
        """
        self._settings = settings
        self._prepared = front.prepare(settings)
        moded.check(settings)
        self._sealed = seals.unlock(settings)
        self._reread = seals.guarded(reread, self._sealed)
        try:
            self._open(settings, clock)
        except BaseException:
            if self._sealed is not None:
                self._sealed.close()
            raise

    def _open(self, settings: Settings, clock: Callable[[], float]) -> None:
        state = Path(settings.state)
        signers = seals.signers(settings, self._sealed)
        self._provider, self._gateway = signers["provider"], signers["gateway"]
        self._vrf = signers["vrf"]
        self._declaration, stamp = _declared(settings, self._provider, self._gateway)
        self._log = LogStore.open(state / "log", settings.origin, signers["log"])
        try:
            self._journal = seals.open_journal(settings, self._sealed)
            self._vault = archive.open_vault(settings, self._sealed)
            kept_s = settings.near_signatures_s
            self._notary = Notary(self._gateway, kept_s, clock) if kept_s else None
            self._scribe = Scribe(
                self._journal,
                self._vault,
                self._log,
                stamp,
                settings.durability,
                settings.receipts,
                self._notary,
            )
            self._checkpointer = _checkpointer(settings, self._log, self._scribe.sync)
        except BaseException:
            self._log.close()
            raise
        self._stamp = stamp
        self._recorder = _recorder(settings, self._scribe, clock)
        signer = (self._gateway, self._provider.keyid)
        self._keeper = archive.keeper(
            settings, self._journal, self._vault, self._recorder, signer, clock, self._sealed
        )
        self._clock = clock
        self.failure: LyditeError | None = None
        """Why it told its process to end."""
        self._sealer = self._beat(settings)
        self._tasks: list[asyncio.Task[None]] = []
        self._control: Control | None = None
        self._egress: Egress | None = None
        self._modal: Modal | None = None
        self.operations: Operations | None = None
        """Its running parts, once started."""

    @property
    def port(self) -> int:
        """The port that it listens on, once started."""
        if self.operations is None:
            raise ConfigurationError("the gateway is not started")
        return self.operations.port

    @property
    def modal(self) -> Modal | None:
        """The modes, once started, where the settings ask for them."""
        return self._modal

    @property
    def egress(self) -> Egress | None:
        """The accounts of egress, once started, where the settings ask for them."""
        return self._egress

    @property
    def log_key(self) -> notes.VerifierKey:
        """The key that verifies the log's checkpoints."""
        return self._log.key

    async def start(self) -> None:
        """Enter the declaration, then listen. What fails leaves nothing running.

        Raises:
            ConfigurationError: the log begins with another declaration.
            StorageError: journal and log contradict each other, or cannot be written.
            OSError: the address cannot be listened on.
        """
        try:
            await self._start(asyncio.get_running_loop())
        except BaseException:
            await self.stop()
            raise

    async def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        _check_first(self._log, self._journal, self._declaration)
        self._recorder.start(loop)
        if self._sealer is not None:
            await self._sealer.start()
        await self._recorder.enter("declaration", self._declaration)
        self._egress = egress.open_accounts(
            self._settings, self._journal, self._keeper.vault, self._recorder, self._stamp
        )
        rows = () if self._egress is None else EgressRoutes(self._egress).rows()
        if self._egress is not None:
            await self._egress.begin()
        self._control = Control(self._office(), rows)
        await self._keeper.recall()
        self.operations = Operations(
            self._prepared, self._recorder, self._control, lambda: self._log.size, self._reread
        )
        if isinstance(self.operations.front, Front):
            self._modal = await moded.start(self._settings, self._around(self.operations.front))
            if self._egress is not None:
                self.operations.front.carry_by(self._egress)
        if self._modal is not None:
            self.operations.add_check("mode", self._modal.gate)
        routes = await self._admin_routes(self.operations)
        if self._modal is not None:
            await self._modal.listen()
        await self.operations.start(routes)
        runs = [self._checkpointer.run(), self._keeper.run()]
        runs += [self._sealer.run()] if self._sealer else []
        self._tasks = [asyncio.create_task(each) for each in runs]

    async def stop(self) -> None:
        """Take no more, let what runs finish within its time, sign a last checkpoint, close."""
        if self.operations is not None:
            await self.operations.serve_no_more()
        if self._modal is not None:
            await self._modal.stop()
        if self._egress is not None:
            await self._egress.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._recorder.stop)
        with contextlib.suppress(LyditeError):  # unwitnessed or unwritten: the next start does it
            if self._checkpointer.behind:
                await self._checkpointer.witnessed()
        self._checkpointer.close()
        self._scribe.close()
        self._keeper.close()
        self._vault.close()
        self._journal.close()
        self._log.close()
        if self.operations is not None:
            await self.operations.stop()
        if self._sealer is not None:
            await self._sealer.stop()

    def _beat(self, settings: Settings) -> Sealer | None:
        if self._sealed is None or settings.device is None:
            return None
        grown = (self._log, self._journal)
        every_s = settings.device.seal_every_s
        return Sealer(self._sealed, grown, every_s, self._scribe.compare, self._broken)

    def _broken(self, error: LyditeError) -> None:
        """End the process as if it were told to: it must not serve what it cannot seal."""
        self.failure = error
        signal.raise_signal(signal.SIGTERM)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _admin_routes(self, operations: Operations) -> "list[Route]":
        """Return where officers give orders, once what lasts of older orders is done again."""
        authority = self._settings.admin
        if authority is None:
            return []
        if self._settings.control_port is None:
            raise ConfigurationError("officers give their orders at control_port: name one")
        from lydite.gateway.office.admin_routes import routes

        place = Place(self._settings.origin, self._gateway, self._journal, self._recorder)
        if self._sealer is not None:
            place = place._replace(seal=self._sealer.now)
        actions = deeds.of_operations(operations) | resealing.deeds(self._sealed)
        if self._modal is not None:
            actions |= deeds.of_modes(self._modal)
        if self._egress is not None:
            actions |= deeds.of_egress(self._egress)
        admin = Admin(authority, place, actions)
        await admin.recall()
        return routes(admin)

    def _around(self, front: Front) -> Around:
        return Around(
            recorder=self._recorder,
            signer=self._gateway,
            declaration=self._declaration,
            front=front,
            tls=self._prepared.context,
        )

    def _office(self) -> Office:
        settings = self._settings
        beacon = settings.beacon
        source = None if beacon is None else (beacon, BeaconClient(beacon, self._clock))
        hands = Hands(self._gateway, self._vrf, self._provider.keyid)
        epochs = Epochs(
            self._journal,
            self._recorder,
            self._checkpointer,
            hands,
            source,
            archive.drawer(settings),
            self._keeper,
        )
        epochs.recall()
        auditors = [_public(key) for key in settings.auditors]
        return Office(
            journal=self._journal,
            log=self._log,
            recorder=self._recorder,
            checkpointer=self._checkpointer,
            stamp=self._stamp,
            epochs=epochs,
            keeper=self._keeper,
            keys=self._public_keys(),
            provider=self._provider.keyid,
            auditors={key_id(key): key for key in auditors},
            token=settings.audit_token,
            mode=self._mode,
            notary=self._notary,
        )

    def _mode(self) -> bytes:
        if self._modal is None:
            raise UnavailableError("this gateway keeps no modes", Reason.NOT_IN_LOG)
        return self._modal.report()

    def _public_keys(self) -> bytes:
        return msgspec.json.encode(
            {
                "gateway": self._gateway.public.hex(),
                "log": str(self._log.key),
                "provider": self._provider.public.hex(),
                "vrf": vrf.public_key(self._vrf.seed()).hex(),
            }
        )


def _declared(settings: Settings, provider: Signer, gateway: Signer) -> tuple[bytes, Stamp]:
    """Return the declaration's envelope and the stamp that follows from it."""
    path = Path(settings.declaration)
    try:
        envelope = path.read_bytes()
        payload = open_envelope(envelope, {provider.keyid: provider.public}, (provider.keyid,))
        predicate = declaration.parse(payload).predicate
    except OSError as error:
        raise ConfigurationError(f"cannot read declaration {path}: {error.strerror}") from error
    except LyditeError as error:
        raise ConfigurationError(f"declaration {path}: {error}") from error
    if predicate.provider != provider.keyid:
        raise ConfigurationError(f"declaration {path} is of provider {predicate.provider}")
    return envelope, Stamp(provider, gateway, digest(envelope).hex(), predicate.sampler)


def _check_first(log: LogStore, journal: Journal, envelope: bytes) -> None:
    """Hold a log to the declaration that it begins with: verifiers know one a log.

    Raises:
        ConfigurationError: it begins with another.
    """
    statement = payload_of(msgspec.json.decode(envelope, type=Envelope))
    ours = first = hashlib.sha256(statement).hexdigest()
    if log.size:
        first = entry.parse(log.entry(0)).sha256
    elif len(journal):  # a crash came before the log had it
        first = hashlib.sha256(journal.read(1).statement()).hexdigest()
    if first != ours:
        raise ConfigurationError(
            "the log in this state directory begins with another declaration, and no verifier would"
            " believe two: start a new log, in a new state directory, with a new origin"
        )


def _recorder(settings: Settings, scribe: Scribe, clock: Callable[[], float]) -> Writer:
    if settings.durability == "process":
        return TurnRecorder(scribe, clock)
    return GroupRecorder(scribe, clock)


def _checkpointer(settings: Settings, log: LogStore, before: Callable[[], None]) -> Checkpointer:
    text = f"log {log.key}\n{settings.policy}"
    try:
        policy = policies.parse(text.encode())
        witnesses = tuple(
            WitnessClient(each.url, notes.parse_key(each.vkey)) for each in settings.witnesses
        )
    except FormatError as error:
        raise ConfigurationError(f"witnesses: {error}") from error
    beat_s = settings.checkpoint_ms / 1000
    return Checkpointer(log, policy, witnesses, beat_s, before)


def _public(key: str) -> PublicKey:
    try:
        raw = bytes.fromhex(key)
    except ValueError as error:
        raise ConfigurationError(f"auditor key {key!r} is not hexadecimal") from error
    if len(raw) != 32:
        raise ConfigurationError(f"auditor key {key!r} is not 32 bytes")
    return PublicKey(raw)
