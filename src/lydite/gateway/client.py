"""One connection of a client: parses strictly, within bounds, and starts one exchange at a time.

What a parser lets pass but no honest client sends is refused here: no or two Hosts, other versions,
odd transfer codings, absolute targets, upgrades, heads and bodies that are too large or too slow.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

import httptools
import msgspec

from lydite.errors import FormatError, Reason
from lydite.gateway import heads, known
from lydite.gateway.heads import Field, RequestHead
from lydite.gateway.known import Known
from lydite.gateway.settings import Limits

_WRITE_HIGH_BYTES = 64 * 1024
_BODY_FLOOR_BYTES_PER_S = 16 * 1024
_LINGER_S = 1.0
_NEVER = float("inf")
_NO_UPGRADE = "no other protocol is spoken here"


class Request(msgspec.Struct, frozen=True):
    """A whole request."""

    head: RequestHead
    body: bytes

    @property
    def method(self) -> bytes:
        """Its method."""
        return self.head.method

    @property
    def target(self) -> bytes:
        """Its target, as the client spelt it."""
        return self.head.target

    @property
    def fields(self) -> heads.Fields:
        """Its fields, names in lower case."""
        return self.head.fields

    @property
    def keep(self) -> bool:
        """Whether the connection stays for another request."""
        return self.head.keep


class RefusedError(FormatError):
    """A request that is answered by the gateway with an error, after which it hangs up."""

    def __init__(self, status: int, message: str, reason: Reason = Reason.MALFORMED) -> None:
        super().__init__(message, reason)
        self.status = status


class Handler(Protocol):
    """What answers one request, by calls to its client."""

    def start(self) -> None:
        """Begin; the answer may be written before this returns."""

    def pause(self) -> None:
        """Produce no more for now: the client reads too slowly."""

    def resume(self) -> None:
        """Go on."""

    def hang_up(self) -> None:
        """Stop: the client is gone."""

    def sweep(self, now: float) -> None:
        """Look at timeouts; ``now`` in the loop's seconds."""


class Desk(Protocol):
    """Where a connection takes its requests."""

    limits: Limits
    clients: "set[ClientConnection]"

    def admit(self, method: bytes, target: bytes) -> None:
        """Raise a RefusedError if no route leads there, before any body is read."""

    def handle(self, request: Request, client: "ClientConnection") -> Handler:
        """Return who answers ``request``, not yet started."""


class ClientConnection(asyncio.Protocol):
    """Parser state, one running handler, and at most one request that waits behind it."""

    def __init__(self, desk: Desk, now: Callable[[], float]) -> None:
        self._desk = desk
        self._limits = desk.limits
        self._now = now
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._handler: Handler | None = None
        self._ready: list[Request | RefusedError] = []
        self._keep = True
        self._closing = False
        self._paused = False
        self._deadline = _NEVER
        self._unsent = 0
        self._loose_bytes = 0
        self._known: Known[RequestHead] | None = None
        self._came: bytes | None = None
        self._due: RequestHead | None = None
        self._due_bytes = 0
        self._reset()

    def _reset(self) -> None:
        self._target = b""
        self._fields: list[Field] = []
        self._body: list[bytes] = []
        self._head_bytes = 0
        self._body_bytes = 0
        self._in_head = True
        self._body_since = 0.0

    # What a handler asks.

    @property
    def open(self) -> bool:
        """Whether the client still listens."""
        return self._transport is not None and not self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Send bytes, unless the client is gone."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def finished(self, *, keep: bool) -> None:
        """Take note that the handler's answer is written; close, or serve the next request."""
        self._handler = None
        if not (keep and self._keep):
            self._close()
            return
        self._deadline = self._now() + self._limits.idle_timeout_ms / 1000
        if self._ready:
            self._next()

    def sweep(self, now: float) -> None:
        """Drop a connection that is too slow; let a running handler look at its own timeouts."""
        if self._handler is not None:
            self._handler.sweep(now)
            return
        if self._transport is None:
            return
        unsent = self._transport.get_write_buffer_size()
        if unsent < self._unsent:  # it reads, if slowly
            self._deadline = now + self._patience_s(unsent)
        self._unsent = unsent
        if now >= self._deadline:
            self._transport.abort()

    def drain(self) -> None:
        """Close as soon as nothing is being answered."""
        self._keep = False
        if self._handler is None:
            self._close()

    def abort(self) -> None:
        """Hang up at once."""
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a place, or hang up when all are taken."""
        self._transport = cast(asyncio.Transport, transport)
        if len(self._desk.clients) >= self._limits.connections:
            self._transport.abort()
            return
        self._desk.clients.add(self)
        self._transport.set_write_buffer_limits(high=_WRITE_HIGH_BYTES)
        self._deadline = self._now() + self._limits.head_timeout_ms / 1000

    def data_received(self, data: bytes) -> None:
        """Parse what came and start what is whole."""
        if self._closing:
            return
        try:
            if self._due is not None:
                self._finish_known(self._due, data)
            elif self._known is None or self._handler is not None or not self._begin_known(data):
                self._parse(data)
        except RefusedError as refusal:
            self._closing = True  # and read nothing more
            self._ready.append(refusal)
        if self._ready and self._handler is None:
            self._next()

    def eof_received(self) -> bool:
        """Treat a half-closed connection as closed: nobody is left to read."""
        if self._handler is not None and self._transport is not None:
            self._transport.abort()
        return False

    def connection_lost(self, *_: object) -> None:
        """Free the place and stop the handler."""
        self._transport = None
        self._closing = True
        self._desk.clients.discard(self)
        handler, self._handler = self._handler, None
        if handler is not None:
            handler.hang_up()

    def pause_writing(self) -> None:
        """Pass the client's pace on to the handler."""
        self._paused = True
        if self._handler is not None:
            self._handler.pause()

    def resume_writing(self) -> None:
        """Pass the client's pace on to the handler."""
        self._paused = False
        if self._handler is not None:
            self._handler.resume()

    # Callbacks of httptools.

    def on_message_begin(self) -> None:
        """Start over."""
        if len(self._ready) + (self._handler is not None) > 1:
            raise RefusedError(400, "too many requests at once on one connection")
        self._reset()

    def on_url(self, url: bytes) -> None:
        """Collect the target."""
        self._target += url
        if len(self._target) > self._limits.target_bytes:
            raise RefusedError(414, "target too long", Reason.TOO_LARGE)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a field; those behind the body are trailers, which end here."""
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > self._limits.head_bytes:
            raise RefusedError(431, "head too large", Reason.TOO_LARGE)
        if not self._in_head:
            return
        if len(self._fields) >= self._limits.fields:
            raise RefusedError(431, "too many fields", Reason.TOO_LARGE)
        self._fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Check the head before a byte of the body is read."""
        self._in_head = False
        self._loose_bytes = 0
        _check_head(self._parser.get_http_version(), self._target, self._fields)
        self._desk.admit(self._parser.get_method(), self._target)
        lengths = heads.values(self._fields, b"content-length")
        if lengths and int(lengths[0]) > self._limits.body_bytes:
            raise self._too_large()
        self._body_since = self._now()
        self._deadline = self._body_since + self._limits.body_timeout_ms / 1000
        if heads.values(self._fields, b"expect") == [b"100-continue"] and self._handler is None:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Collect the body within its bound, and not too slowly."""
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.body_bytes:
            raise self._too_large()
        self._body.append(body)
        grace = self._limits.body_timeout_ms / 1000
        self._deadline = self._body_since + grace + self._body_bytes / _BODY_FLOOR_BYTES_PER_S

    def on_message_complete(self) -> None:
        """Queue the request; keep-alive is known only here."""
        old = self._parser.get_http_version() == "1.0"
        self._in_head = True
        keep = self._parser.should_keep_alive() and not old
        head = RequestHead(
            self._parser.get_method(), self._target, self._fields, keep=keep, old=old
        )
        self._ready.append(Request(head, b"".join(self._body)))
        self._body = []
        came, self._came = self._came, None
        if came is not None and keep and not _is_special(self._fields):
            self._known = known.learn(came, head, self._body_bytes)

    # A head that came before (``known``): no parser is asked.

    def _begin_known(self, data: bytes) -> bool:
        """Take a request whose head is known; say whether this was one, and the only one."""
        found = None if self._known is None or self._came is not None else self._known.match(data)
        if found is None or self._known is None or self._loose_bytes or not self._in_head:
            return False
        start, length = found
        if len(data) > start + length or length > self._limits.body_bytes:
            return False
        head = self._known.head
        self._desk.admit(head.method, head.target)
        if len(data) == start + length:
            self._ready.append(Request(head, data[start:]))
            return True
        self._due, self._due_bytes, self._body, self._body_bytes = head, length, [], 0
        self._body_since = self._now()
        self.on_body(data[start:])
        return True

    def _finish_known(self, head: RequestHead, data: bytes) -> None:
        """Take more of a body that belongs to a known head."""
        left = self._due_bytes - self._body_bytes
        self.on_body(data[:left])
        if len(data) < left:
            return
        self._due = None
        self._ready.append(Request(head, b"".join(self._body)))
        self._body = []
        if len(data) > left:
            self._parse(data[left:])

    def _too_large(self) -> RefusedError:
        return RefusedError(
            413, f"body of more than {self._limits.body_bytes} bytes", Reason.TOO_LARGE
        )

    def _count_loose(self, length: int) -> None:
        """Bound a head that never ends, blank lines before it included."""
        self._loose_bytes += length
        if self._loose_bytes > self._limits.head_bytes:
            raise RefusedError(431, "head too large", Reason.TOO_LARGE)

    def _parse(self, data: bytes) -> None:
        """Feed the parser, and let every way in which it refuses become one."""
        loose = self._in_head
        if loose and not self._loose_bytes:
            self._came = data
            self._deadline = self._now() + self._limits.head_timeout_ms / 1000
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as error:  # CONNECT; upgrades are refused by then
            raise RefusedError(400, _NO_UPGRADE) from error
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, RefusedError):
                raise
            raise error.__context__ from None
        except httptools.HttpParserError as error:
            raise RefusedError(400, f"malformed request: {error}") from error
        if loose and self._in_head:
            self._count_loose(len(data))

    def _next(self) -> None:
        turn = self._ready.pop(0)
        if isinstance(turn, RefusedError):
            self.write(heads.fault(str(turn), turn.reason, turn.status, keep=False))
            self._close()
            return
        self._keep = self._keep and turn.keep
        handler = self._handler = self._desk.handle(turn, self)
        handler.start()
        if self._paused and self._handler is handler:
            handler.pause()

    def _patience_s(self, unsent: int) -> float:
        """Return how long a client may do nothing: less once it has all that it will get."""
        if self._closing and not unsent:
            return _LINGER_S
        return self._limits.idle_timeout_ms / 1000

    def _close(self) -> None:
        """Hang up behind what is written, leaving a slow client time to read it."""
        self._closing = True
        self._keep = False
        if self._transport is None or self._transport.is_closing():
            return
        self._deadline = self._now() + self._patience_s(self._transport.get_write_buffer_size())
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()


def _is_special(fields: list[Field]) -> bool:
    """Say whether a head must be parsed each time: chunks, or a question before the body."""
    return any(name in (b"transfer-encoding", b"expect") for name, _ in fields)


def _check_head(version: str, target: bytes, fields: list[Field]) -> None:
    """Refuse what two parsers could read in two ways.

    Raises:
        RefusedError: with the status to answer.
    """
    if version not in ("1.0", "1.1"):
        raise RefusedError(505, f"HTTP/{version} is not spoken here")
    if len(heads.values(fields, b"host")) != 1:
        raise RefusedError(400, "exactly one Host field is needed")
    codings = heads.values(fields, b"transfer-encoding")
    if codings and (version == "1.0" or codings != [b"chunked"]):
        raise RefusedError(400, "transfer coding other than chunked")
    if heads.values(fields, b"upgrade"):
        raise RefusedError(400, _NO_UPGRADE)
    if not target.startswith(b"/") or not target.isascii():
        raise RefusedError(400, "the target must be a path in ASCII")
