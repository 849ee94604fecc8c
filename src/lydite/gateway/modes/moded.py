"""Puts the modes of one gateway together: whitelist, store, power, upload port, reloads.

The only module that knows all of them. Without ``modes`` in the settings nothing here is used.
"""

import asyncio
import ssl
from pathlib import Path
from typing import NamedTuple

from lydite.errors import ConfigurationError, LyditeError, UnavailableError
from lydite.gateway.ledger.receipts import timestamp
from lydite.gateway.ledger.recorder import Recorder
from lydite.gateway.modes import reloads
from lydite.gateway.modes.bundles import Anchors
from lydite.gateway.modes.intake import Store
from lydite.gateway.modes.keeper import Change, Keeper, World
from lydite.gateway.modes.modes import Fail
from lydite.gateway.modes.power import Commands, Ipmi, Power, secret_file
from lydite.gateway.modes.redfish import Redfish
from lydite.gateway.modes.upload import HEAD_S, Port, UploadConnection, report
from lydite.gateway.modes.whitelist import Whitelist
from lydite.gateway.plane import health
from lydite.gateway.plane.front import Front
from lydite.gateway.plane.reading import RefusedError
from lydite.gateway.settings import CommandPower, IpmiPower, Modes, Settings
from lydite.messages import declaration
from lydite.messages.canonical import decode, encode
from lydite.messages.mode import Cause, ModeChange, Predicate
from lydite.messages.statement import subject
from lydite.signing.dsse import Envelope, digest, payload_of
from lydite.signing.keys import Signer, sign_envelope

_WATCH_S = 0.25


class Around(NamedTuple):
    """The rest of the gateway, as far as the modes need it."""

    recorder: Recorder
    signer: Signer
    declaration: bytes
    """The declaration's envelope: its digest is the subject of every change of mode."""
    front: Front
    tls: ssl.SSLContext | None
    """How uploaders are spoken to: as clients are."""


class Modal:
    """The modes of one gateway, while it runs. ``keeper`` and ``whitelist`` take instructions."""

    def __init__(self, settings: Settings, modes: Modes, around: Around) -> None:
        """Read the whitelist and find the power switch; nothing is switched yet.

        Raises:
            ConfigurationError: a setting cannot be used.
            StorageError: the disk refuses.
        """
        self._modes = modes
        self._around = around
        envelope = decode(around.declaration, Envelope)
        self._subject = subject("declaration", digest(around.declaration))
        self._probe = settings.health.path
        anchors = Anchors(
            tuple(map(Path, modes.signing_keys)), tuple(map(Path, modes.certificates))
        )
        self.whitelist = Whitelist(
            anchors, Path(settings.state) / "whitelist", tuple(map(Path, modes.whitelist))
        )
        world = World(
            power=connect(modes),
            store=Store(Path(modes.store)),
            whitelist=self.whitelist,
            declared=declaration.parse(payload_of(envelope)).predicate.weights_root,
            enter=self._enter,
            answers=self._answers,
            hang_up=around.front.abort,
            clock_ms=around.recorder.clock_ms,
        )
        self.keeper = Keeper(modes, world)
        self._server: asyncio.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def port(self) -> int:
        """The upload port, once started."""
        if self._server is None:
            raise ConfigurationError("the gateway is not started")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def gate(self) -> None:
        """Let a request to the model through, or not.

        Raises:
            RefusedError: 503, the mode is not SERVING.
        """
        try:
            self.keeper.check()
        except UnavailableError as error:
            raise RefusedError(503, str(error), error.reason) from error

    def report(self) -> bytes:
        """Return what ``/v1/mode`` answers."""
        return report(self.keeper)

    async def start(self) -> None:
        """Cut the power; return when it is off, or with an alarm."""
        modes, keeper = self._modes, self.keeper
        keeper.start()
        await keeper.settled()
        self._tasks = [asyncio.create_task(self._watch())]
        if modes.reload_every_s is not None:
            self._tasks.append(asyncio.create_task(reloads.run(keeper, modes.reload_every_s)))

    async def listen(self) -> None:
        """Take weights on the upload port, now that the whitelist is what it was ordered to be.

        Raises:
            OSError: the port cannot be had.
        """
        modes, keeper = self._modes, self.keeper
        port = Port(keeper, modes.stall_ms / 1000, modes.upload_token, set())
        self._server = await asyncio.get_running_loop().create_server(
            lambda: UploadConnection(port),
            modes.upload_host,
            modes.upload_port,
            ssl=self._around.tls,
            ssl_handshake_timeout=HEAD_S if self._around.tls else None,
        )

    async def stop(self) -> None:
        """Take no more uploads, and cut the power."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await self.keeper.stop()

    async def _watch(self) -> None:
        """Cut the power of a machine that checks have found down: it may come back as another."""
        while True:
            await self.keeper.served.wait()
            attempt = self.keeper.state.attempt
            if not self._around.front.fleet.pools[0].well:
                self.keeper.tell(Fail(Cause.LOST, attempt), "checks found it down")
            await asyncio.sleep(_WATCH_S)

    async def _enter(self, change: Change) -> None:
        statement = self._statement(change)
        await self._around.recorder.enter(
            "mode", sign_envelope(encode(statement), self._around.signer)
        )

    def _statement(self, change: Change) -> ModeChange:
        state = change.state
        return ModeChange(
            subject=self._subject,
            predicate=Predicate(
                boot=self.keeper.boot,
                sequence=change.sequence,
                mode=state.mode,
                cause=change.cause,
                detail=change.detail,
                weights_root=state.model,
                signature=change.signature,
                received=state.received,
                size=state.size,
                at=timestamp(change.at_ms).decode(),
                gateway=self._around.signer.keyid,
            ),
        )

    async def _answers(self) -> bool:
        """Ask the machine once; the connections kept to the one before it are forgotten."""
        try:
            async with asyncio.timeout(self._modes.load_timeout_ms / 1000):
                found = await health.status(self._around.front.fleet.pools[0], self._probe)
        except (LyditeError, OSError, ValueError, EOFError, TimeoutError):
            return False
        if found < 300:
            self._around.front.fleet.pools[0].revived()
        return found < 300


def connect(modes: Modes) -> Power:
    """Return the switch that the settings name.

    Raises:
        ConfigurationError: a password file or a certificate file cannot be used.
    """
    given = modes.power
    if isinstance(given, CommandPower):
        return Commands(given)
    if isinstance(given, IpmiPower):
        return Ipmi(given)
    return Redfish(given, secret_file(given.password_file))


def check(settings: Settings, before: Settings | None = None) -> None:
    """Refuse settings that ask for modes and for what they cannot be kept with.

    ``before`` are those that hold now: no running gateway turns to a machine that it never saw off.

    Raises:
        ConfigurationError: several machines, several workers, or another machine than before.
    """
    if settings.modes is None:
        return
    if settings.upstream is None:
        raise ConfigurationError("modes keep one machine: name one upstream")
    if settings.workers != 1:
        raise ConfigurationError("modes keep one process: workers = 1")
    if before is not None and before.upstream != settings.upstream:
        raise ConfigurationError("modes keep one machine: another upstream needs a new start")


async def start(settings: Settings, around: Around) -> Modal | None:
    """Start the modes that the settings ask for, if they do; from here on the gate is closed.

    No weights are taken before ``listen``.

    Raises:
        ConfigurationError: a setting cannot be used.
        StorageError: the disk refuses.
    """
    if settings.modes is None:
        return None
    modal = Modal(settings, settings.modes, around)
    around.front.guard(modal.gate)
    await modal.start()
    return modal
