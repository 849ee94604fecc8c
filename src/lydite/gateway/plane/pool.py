"""Connections to one engine: kept warm, last used first, and what becomes of each request.

A request goes out twice in two cases only. A *reused* connection closed before any byte of an
answer: the engine had let go of it before it could have read anything. Or no connection could be
made: then it goes to another engine, once.
"""

import asyncio
import logging
import ssl
from collections import Counter, deque
from collections.abc import Callable
from typing import Literal
from urllib.parse import urlsplit

from lydite.errors import ConfigurationError, Reason, UnavailableError
from lydite.errors.quoting import shown, why
from lydite.gateway.plane.health import Breaker
from lydite.gateway.plane.upstream import Sink, UpstreamConnection
from lydite.gateway.settings import Health, Limits, Upstream

Failure = Literal["connect", "protocol", "reset", "timeout"]
"""How an upstream fails: the ``kind`` of ``lydite_upstream_errors_total``."""
_logger = logging.getLogger(__name__)
_HOST_LINE = b"\r\nhost: %b\r\n"


class Pool:
    """Connections to one engine, its load and its breaker."""

    def __init__(
        self,
        upstream: Upstream,
        limits: Limits,
        health: Health,
        loop: asyncio.AbstractEventLoop,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Take the engine's address apart.

        Raises:
            ConfigurationError: it is not ``http://host[:port]`` or ``https://host[:port]``.
        """
        self.upstream = upstream
        self.name, self._address, secure = _origin(upstream.url)
        self.host = self.name.encode("ascii")
        self.models = frozenset(upstream.models)
        self.outstanding = 0
        """Requests under way."""
        self.errors: Counter[Failure] = Counter()
        self.spare: Callable[[Pool, str | None], Pool | None] = lambda *_: None
        """Who else may take a request for a model that could not be sent here."""
        if secure != (tls is not None):
            raise ConfigurationError(
                f"upstream {shown(upstream.url)!r}: TLS is for https, and only there"
            )
        self._limits = limits
        self._tls = tls
        self._loop = loop
        self._breaker = Breaker(health)
        self._well = True
        self._retired = False
        self._idle: deque[UpstreamConnection] = deque()

    def renew(self, limits: Limits, health: Health, tls: ssl.SSLContext | None) -> None:
        """Follow new settings; connections made under other authorities are not used again."""
        self._limits = limits
        self._breaker.health = health
        self._tls = tls
        if tls is not None:
            self._drop_idle()

    @property
    def well(self) -> bool:
        """Whether the last checks found it up."""
        return self._well

    def checked(self, *, well: bool) -> None:
        """Take note of what checks found."""
        self._well = well

    def revived(self) -> None:
        """Forget what was held against it: another machine answers there now."""
        self._well = True
        self._breaker.succeeded()
        self._drop_idle()

    def usable(self, now: float) -> bool:
        """Say whether a request may be sent."""
        return self._well and self._breaker.usable(now)

    def call(
        self, request: bytes, sink: Sink, model: str | None = None, rest: bytes = b""
    ) -> "Call":
        """Start an exchange; ``sink`` is told of the answer, never before this returns.

        ``rest`` is a long body, sent behind ``request`` without being copied.
        """
        call = Call(self, request, sink, model, rest)
        idle = self._take()
        if idle is None:
            call.connect()
        else:
            call.use(idle)
        return call

    def entered(self) -> None:
        """Count a request that is on its way."""
        self.outstanding += 1
        self._breaker.sent()

    def answered(self) -> None:
        """Count a request that was answered."""
        self.outstanding -= 1
        self._breaker.succeeded()

    def left(self, failure: Failure | None, *, heard: bool) -> None:
        """Count a request that ended without a whole answer; None: by no fault of the engine.

        One that was ``heard`` to answer may break on one request and serve the next: only silence
        moves the breaker.
        """
        self.outstanding -= 1
        if failure is not None:
            self.errors[failure] += 1
        if failure is None or heard:
            self._breaker.abandoned()
        elif self._breaker.failed(self._loop.time()):
            _logger.warning("upstream %s does not answer: breaker open", self.name)

    def put(self, connection: UpstreamConnection) -> None:
        """Take back a connection that may serve another exchange."""
        if self._retired:
            connection.abort()
            return
        connection.reused = True
        connection.since = self._loop.time()
        connection.resume()
        self._idle.append(connection)

    def sweep(self) -> None:
        """Close connections that have been idle for too long, oldest first."""
        limit = self._loop.time() - self._limits.pool_idle_ms / 1000
        while self._idle and self._idle[0].since < limit:
            self._idle.popleft().abort()

    def close(self) -> None:
        """Close every idle connection, and keep none any more."""
        self._retired = True
        self._drop_idle()

    async def open(self) -> UpstreamConnection:
        """Return a fresh connection.

        Raises:
            UnavailableError: the engine cannot be reached in time.
        """
        host, port = self._address
        try:
            async with asyncio.timeout(self._limits.connect_timeout_ms / 1000):
                _, connection = await self._loop.create_connection(
                    lambda: UpstreamConnection(self._lost), host, port, ssl=self._tls
                )
        except (OSError, TimeoutError) as error:
            raise UnavailableError("engine: cannot be reached", Reason.UPSTREAM_FAILED) from error
        return connection

    async def streams(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a fresh connection for a check.

        Raises:
            OSError: the engine cannot be reached.
        """
        return await asyncio.open_connection(*self._address, ssl=self._tls)

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.pop().abort()

    def _take(self) -> UpstreamConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                return connection
        return None

    def _lost(self, connection: UpstreamConnection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)


class Call:
    """One request on its way: it may be cancelled in any phase, and retried once."""

    def __init__(
        self, pool: Pool, request: bytes, sink: Sink, model: str | None, rest: bytes
    ) -> None:
        self._pool = pool
        self._request = request
        self._rest = rest
        self._sink = sink
        self._model = model
        self._connection: UpstreamConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._paused = False
        self._counted = True
        pool.entered()

    def use(self, connection: UpstreamConnection) -> None:
        """Send the request on this connection."""
        self._connection = connection
        connection.send(self._request, self._rest, self._sink)
        if self._paused:
            connection.pause()

    def connect(self) -> None:
        """Send the request on a fresh connection, once there is one."""
        self._connecting = asyncio.ensure_future(self._connect())

    def retry(self) -> bool:
        """Try again on a fresh connection if the failed one had been reused; say whether."""
        failed, self._connection = self._connection, None
        if failed is None:
            return False
        if not failed.reused:
            self._leave(failed.failure)
            return False
        self.connect()
        return True

    def pause(self) -> None:
        """Read no more of the answer for now."""
        self._paused = True
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """Read on."""
        self._paused = False
        if self._connection is not None:
            self._connection.resume()

    def finish(self) -> None:
        """Give the connection back after a whole answer."""
        if self._counted:
            self._counted = False
            self._pool.answered()
        connection, self._connection = self._connection, None
        if connection is not None and connection.release():
            self._pool.put(connection)

    def expire(self) -> None:
        """Hold it against the engine that it is silent, unless it is us who do not listen."""
        self._leave(None if self._paused else "timeout")

    def cancel(self) -> None:
        """Stop: the engine sees its connection close."""
        if self._connecting is not None:
            self._connecting.cancel()
        self._leave(None if self._connection is None else self._connection.failure)
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()

    def _leave(self, failure: Failure | None) -> None:
        """Be counted out, once."""
        if self._counted:
            self._counted = False
            heard = self._connection is not None and self._connection.heard
            self._pool.left(failure, heard=heard)

    async def _connect(self) -> None:
        try:
            try:
                connection = await self._pool.open()
            except UnavailableError as error:
                self._move(error)
                connection = await self._pool.open()
        except UnavailableError as error:
            self._leave("connect")
            self._sink.fail(error, fresh=True)
            return
        self._connecting = None
        self.use(connection)

    def _move(self, error: UnavailableError) -> None:
        """Turn to another engine, or raise ``error`` again if there is none."""
        other = self._pool.spare(self._pool, self._model)
        if other is None:
            raise error
        self._leave("connect")
        old, new = _HOST_LINE % self._pool.host, _HOST_LINE % other.host
        self._request = self._request.replace(old, new, 1)  # ours is the first line of the head
        self._pool = other
        self._counted = True
        other.entered()


def _origin(url: str) -> tuple[str, tuple[str, int], bool]:
    """Return host and port as spelt, the address, and whether it is TLS."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigurationError(f"upstream {shown(url)!r}: {why(url, error)}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not parts.netloc.isascii():
        raise ConfigurationError(f"upstream {shown(url)!r} is not an http or https URL")
    if parts.path.rstrip("/") or parts.query:
        raise ConfigurationError(f"upstream {shown(url)!r} must be a bare origin, without a path")
    secure = parts.scheme == "https"
    name = parts.netloc.rpartition("@")[2]
    return name, (parts.hostname, port or (443 if secure else 80)), secure
