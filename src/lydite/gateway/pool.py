"""Connections to the engine: kept warm, last used first, and retried only where that is safe.

A request goes out twice only if a *reused* connection closed before any byte of an answer: the
engine had let go of it before it could have read anything.
"""

import asyncio
import ssl
from collections import deque
from urllib.parse import urlsplit

from lydite.errors import ConfigurationError, Reason, UnavailableError
from lydite.gateway.settings import Limits
from lydite.gateway.upstream import Sink, UpstreamConnection


class Pool:
    """Connections to one engine, at ``http://host[:port]`` or ``https://host[:port]``."""

    def __init__(self, url: str, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(f"upstream {url!r} is not an http or https URL")
        if parts.path.rstrip("/") or parts.query:
            raise ConfigurationError(f"upstream {url!r} must be a bare origin, without a path")
        self.host = parts.netloc.rpartition("@")[2].encode("ascii")
        self._name = parts.hostname
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._limits = limits
        self._loop = loop
        self._idle: deque[UpstreamConnection] = deque()

    def call(self, request: bytes, sink: Sink) -> "Call":
        """Start an exchange; ``sink`` is told of the answer, never before this returns."""
        call = Call(self, request, sink)
        idle = self._take()
        if idle is None:
            call.connect()
        else:
            call.use(idle)
        return call

    def put(self, connection: UpstreamConnection) -> None:
        """Take back a connection that may serve another exchange."""
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
        """Close every idle connection."""
        while self._idle:
            self._idle.pop().abort()

    async def open(self) -> UpstreamConnection:
        """Return a fresh connection.

        Raises:
            UnavailableError: the engine cannot be reached in time.
        """
        try:
            async with asyncio.timeout(self._limits.connect_timeout_ms / 1000):
                _, connection = await self._loop.create_connection(
                    lambda: UpstreamConnection(self._lost), self._name, self._port, ssl=self._tls
                )
        except (OSError, TimeoutError) as error:
            raise UnavailableError("engine: cannot be reached", Reason.UPSTREAM_FAILED) from error
        return connection

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

    def __init__(self, pool: Pool, request: bytes, sink: Sink) -> None:
        self._pool = pool
        self._request = request
        self._sink = sink
        self._connection: UpstreamConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._paused = False

    def use(self, connection: UpstreamConnection) -> None:
        """Send the request on this connection."""
        self._connection = connection
        connection.send(self._request, self._sink)
        if self._paused:
            connection.pause()

    def connect(self) -> None:
        """Send the request on a fresh connection, once there is one."""
        self._connecting = asyncio.ensure_future(self._connect())

    def retry(self) -> bool:
        """Try again on a fresh connection if the failed one had been reused; say whether."""
        failed, self._connection = self._connection, None
        if failed is None or not failed.reused:
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
        connection, self._connection = self._connection, None
        if connection is not None and connection.release():
            self._pool.put(connection)

    def cancel(self) -> None:
        """Stop: the engine sees its connection close."""
        if self._connecting is not None:
            self._connecting.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()

    async def _connect(self) -> None:
        try:
            connection = await self._pool.open()
        except UnavailableError as error:
            self._sink.fail(error, fresh=True)
            return
        self._connecting = None
        self.use(connection)
