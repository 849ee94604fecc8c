"""One request to one gateway, its answer handed on piece by piece as it arrives.

A connection for each request; whoever closes it stops the work behind it. Reads no faster than its
caller takes. Knows nothing of models or receipts.
"""

import asyncio
import contextlib
import ssl
import urllib.parse
from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple, Self

import h11

from lydite.errors import ConfigurationError, Reason, UnavailableError, quoting

Field = tuple[bytes, bytes]

_HEAD_BYTES: Final = 64 * 1024
_READ_BYTES: Final = 64 * 1024


class Address(NamedTuple):
    """Where a gateway answers."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    path: str

    @classmethod
    def parse(cls, url: str) -> Self:
        """Return the address in a URL.

        Raises:
            ConfigurationError: it is not http(s)://HOST[:PORT][/PATH].
        """
        try:
            parts = urllib.parse.urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ConfigurationError(
                f"gateway URL {quoting.shown(url)!r}: {quoting.why(url, error)}"
            ) from None
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigurationError(
                f"gateway URL {quoting.shown(url)!r} is not http(s)://HOST[:PORT]"
            )
        tls = ssl.create_default_context() if parts.scheme == "https" else None
        return cls(parts.hostname, port or (443 if tls else 80), tls, parts.path.rstrip("/"))


class Head(NamedTuple):
    """How an answer begins."""

    status: int
    fields: list[Field]


class Line:
    """A connection to one gateway, for one request."""

    def __init__(
        self, address: Address, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._address = address
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES)

    @classmethod
    async def open(cls, address: Address, timeout_s: float) -> Self:
        """Return a line to ``address``.

        Raises:
            UnavailableError: there is none within the time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await asyncio.open_connection(
                    address.host, address.port, ssl=address.tls, limit=_READ_BYTES
                )
        except (OSError, TimeoutError) as error:
            raise UnavailableError(f"{address.host}:{address.port}: {error}") from error
        return cls(address, reader, writer)

    async def ask(self, method: str, target: bytes, fields: Sequence[Field], body: bytes) -> Head:
        """Send a request whole and return how its answer begins.

        Raises:
            UnavailableError: the gateway broke off, or what it says is no answer.
        """
        host = f"{self._address.host}:{self._address.port}".encode()
        own = [(b"host", host), (b"connection", b"close"), (b"content-length", b"%d" % len(body))]
        request = h11.Request(
            method=method,
            target=self._address.path.encode() + target,
            headers=[*own, *fields],
        )
        try:
            for piece in (request, h11.Data(data=body), h11.EndOfMessage()):
                self._writer.write(self._http.send(piece) or b"")
            await self._writer.drain()
        except (OSError, h11.LocalProtocolError) as error:
            raise UnavailableError(f"gateway: {error}", Reason.UPSTREAM_FAILED) from error
        while True:
            event = await self._next()
            if isinstance(event, h11.Response):
                return Head(event.status_code, list(event.headers.raw_items()))
            if not isinstance(event, h11.InformationalResponse):
                raise UnavailableError("gateway: no answer", Reason.UPSTREAM_FAILED)

    async def parts(self) -> AsyncIterator[bytes]:
        """Yield the bytes of the body as they come, up to its proper end.

        Raises:
            UnavailableError: it broke off.
        """
        while not isinstance(event := await self._next(), h11.EndOfMessage):
            if not isinstance(event, h11.Data):
                raise UnavailableError("gateway: no whole answer", Reason.UPSTREAM_FAILED)
            yield bytes(event.data)

    def close(self) -> None:
        """Cut the line at once, whatever is under way."""
        self._writer.transport.abort()

    async def _next(self) -> h11.Event:
        try:
            while not isinstance(event := self._http.next_event(), h11.Event):
                if event is h11.PAUSED:
                    raise UnavailableError("gateway: said more than asked", Reason.UPSTREAM_FAILED)
                self._http.receive_data(await self._reader.read(_READ_BYTES))
        except (OSError, h11.RemoteProtocolError) as error:
            raise UnavailableError(f"gateway: {error}", Reason.UPSTREAM_FAILED) from error
        return event


async def fetch(
    address: Address, method: str, target: str, body: bytes, timeout_s: float, limit: int
) -> tuple[Head, bytes]:
    """Return a whole answer of at most ``limit`` bytes.

    Raises:
        UnavailableError: there is none within the time, or it is longer.
    """
    try:
        async with asyncio.timeout(timeout_s):
            line = await Line.open(address, timeout_s)
            with contextlib.closing(line):
                head = await line.ask(method, target.encode(), (), body)
                content = b""
                async for part in line.parts():
                    content += part
                    if len(content) > limit:
                        raise UnavailableError("gateway: an answer too large", Reason.TOO_LARGE)
                return head, content
    except TimeoutError as error:
        raise UnavailableError(f"gateway: no answer within {timeout_s} s") from error
