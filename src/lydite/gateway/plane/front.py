"""The data plane of one process: its upstreams, its clients, and the sockets that it listens on.

Whoever owns it says where drafts are recorded and who answers the routes that are not an engine's;
the same in the one process of a small gateway and in each worker of a large one. Holds no key.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

from lydite.errors import ConfigurationError
from lydite.gateway.plane import fleet, tls
from lydite.gateway.plane.client import ClientConnection
from lydite.gateway.plane.desk import Carrier, Desk, Routes
from lydite.gateway.plane.door import Door
from lydite.gateway.plane.exchange import Plane, Records
from lydite.gateway.plane.fleet import Fleet
from lydite.gateway.plane.health import Watch
from lydite.gateway.plane.memory import Memory
from lydite.gateway.settings import Settings
from lydite.gateway.tally import Tally

if TYPE_CHECKING:
    from lydite.gateway.plane.tracing import Tracer

_BACKLOG = 1024
_DRAIN_LOOK_S = 0.02
_CLAIMS = 10
_CLAIM_S = 0.05
_logger = logging.getLogger(__name__)


class Prepared(NamedTuple):
    """What settings ask of a data plane, checked: every file read, nothing opened."""

    settings: Settings
    members: fleet.Plan
    context: ssl.SSLContext | None
    allowed: tls.Allowed


def prepare(settings: Settings) -> Prepared:
    """Check everything that can be wrong before anything is changed.

    Raises:
        ConfigurationError: an upstream, a certificate, a key or a list of names cannot be used.
    """
    given = settings.tls
    context = None if given is None else tls.server_context(given)
    names = () if given is None else given.client_names
    return Prepared(settings, fleet.plan(settings), context, tls.Allowed(names))


class Front:
    """One data plane. Belongs to the event loop that it is made for."""

    def __init__(
        self,
        prepared: Prepared,
        records: Records,
        routes: Routes,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._loop = loop
        self._records = records
        self._prepared = prepared
        self._fleet = Fleet(loop)
        self._tally = Tally()
        self._memory = Memory(prepared.settings.limits.unread_bytes)
        self._tracer = _tracer(prepared.settings)
        self._desk = Desk(self._plane(), routes, loop.time)
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.Server | Door] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._watching: asyncio.Task[None] | None = None

    @property
    def fleet(self) -> Fleet:
        """The upstreams."""
        return self._fleet

    @property
    def ready(self) -> bool:
        """Whether any upstream may be asked."""
        return self._fleet.usable() > 0

    def tally(self) -> Tally:
        """Return what has been counted so far; it goes on counting."""
        self._tally.failures = dict(self._fleet.errors())
        return self._tally

    def tallies(self) -> list[Tally]:
        """Return the tallies of all processes that serve: this one's."""
        return [self.tally()]

    def guard(self, gate: Callable[[], None]) -> None:
        """Ask ``gate`` before each request to a model; it raises a RefusedError, or does not."""
        self._desk.gate = gate

    def carry_by(self, carrier: Carrier) -> None:
        """Let ``carrier`` take the requests that leave a receipt to the engines."""
        self._desk.carrier = carrier

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Serve clients that come to ``sockets``, which are bound and now belong to this."""
        self._sockets = list(sockets)
        self._watch()
        self._servers = await self._listen()
        self._tasks = [asyncio.create_task(self._sweep())]

    async def change(self, prepared: Prepared) -> None:
        """Follow new settings. No connection is dropped: what was accepted goes on as it was."""
        before, self._prepared = self._prepared, prepared
        self._desk.renew(self._plane())
        self._watch()
        if (before.context, prepared.context) != (None, None):
            old, self._servers = self._servers, await self._listen()
            for server in old:
                server.close()

    async def stop(self) -> None:
        """Take no more, let what runs finish within its time, then close."""
        for server in self._servers:
            server.close()
        for each in self._sockets:
            each.close()
        if self._servers:
            await self._drain(self._prepared.settings.limits.drain_ms / 1000)
        self._fleet.close()
        tasks = [*self._tasks, *([self._watching] if self._watching else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._tracer is not None:
            await asyncio.to_thread(self._tracer.close)

    def abort(self) -> None:
        """Hang up on every client at once."""
        for client in list(self._desk.clients):
            client.abort()

    async def _listen(self) -> list[asyncio.Server | Door]:
        """Accept on duplicates of the sockets, so that servers can follow one another on them."""
        context, limits = self._prepared.context, self._prepared.settings.limits
        receive = _receiver(self._desk, self._loop, self._prepared.allowed)
        if context is None:
            return [
                await self._loop.create_server(receive, sock=each.dup(), backlog=_BACKLOG)
                for each in self._sockets
            ]
        patience_s = limits.head_timeout_ms / 1000
        doors = [
            Door(self._loop, each.dup(), receive, context, patience_s) for each in self._sockets
        ]
        for door in doors:
            door.open(_BACKLOG)
        return [*doors]

    def _plane(self) -> Plane:
        """Set the fleet as the settings say, and return what exchanges share."""
        settings = self._prepared.settings
        self._fleet.set(self._prepared.members, settings.limits, settings.health)
        self._memory.limit = settings.limits.unread_bytes
        return Plane(
            self._fleet,
            self._records,
            settings.limits,
            self._tally,
            self._memory,
            notarised=settings.near_signatures_s > 0,
            serving=settings.serving,
            spans=self._tracer,
        )

    def _watch(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
        watch = Watch(self._prepared.settings.health, lambda: self._fleet.pools)
        self._watching = asyncio.ensure_future(watch.run())

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._prepared.settings.limits.sweep_ms / 1000)
            try:
                self._desk.sweep()
            except Exception:  # a bug met with one connection must not let all others wait for ever
                _logger.exception("sweep")

    async def _drain(self, limit_s: float) -> None:
        """Let running answers finish, within a limit."""
        for client in list(self._desk.clients):
            client.drain()
        deadline = self._loop.time() + limit_s
        while self._desk.clients and self._loop.time() < deadline:
            await asyncio.sleep(_DRAIN_LOOK_S)
        self.abort()


def _tracer(settings: Settings) -> "Tracer | None":
    if settings.telemetry is None:
        return None
    try:
        from lydite.gateway.plane.tracing import Tracer
    except ImportError as error:
        raise ConfigurationError(
            f"telemetry needs {error.name}: pip install 'lydite[telemetry]'"
        ) from error
    return Tracer(settings.telemetry)


class _KnownClient(ClientConnection):
    """A connection that is served only if its certificate carries an allowed name."""

    def __init__(self, desk: Desk, loop: asyncio.AbstractEventLoop, allowed: tls.Allowed) -> None:
        super().__init__(desk, loop.time)
        self._allowed = allowed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hang up on a stranger."""
        certificate = transport.get_extra_info("peercert")
        if self._allowed.admits(certificate):
            super().connection_made(transport)
            return
        _logger.warning("a client came as %s, which is not allowed", tls.names_of(certificate))
        cast(asyncio.Transport, transport).abort()


def _receiver(
    desk: Desk, loop: asyncio.AbstractEventLoop, allowed: tls.Allowed
) -> Callable[[], ClientConnection]:
    """Return what makes a protocol for each connection."""
    if allowed:
        return lambda: _KnownClient(desk, loop, allowed)
    return lambda: ClientConnection(desk, loop.time)


def places(settings: Settings) -> list[socket.socket]:
    """Return a bound socket for each worker, all at one address.

    Raises:
        OSError: the address cannot be had.
    """
    if settings.workers == 1:
        return [bind(settings.host, settings.port)]
    _claim(settings.host, settings.port)
    made = [bind(settings.host, settings.port, shared=True)]
    port = made[0].getsockname()[1]
    return made + [bind(settings.host, port, shared=True) for _ in range(settings.workers - 1)]


def _claim(host: str, port: int) -> None:
    """Make sure that no other gateway shares this port; wait for the end of one that was killed.

    Raises:
        OSError: the address cannot be had.
    """
    for _ in range(_CLAIMS):
        with contextlib.suppress(OSError):
            bind(host, port).close()
            return
        time.sleep(_CLAIM_S)
    bind(host, port).close()


def bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Return a bound socket that does not listen yet; ``shared``: with others at the same port.

    Raises:
        OSError: the address cannot be had.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
        bound.setblocking(False)
    except BaseException:
        bound.close()
        raise
    return bound
