"""One connection of a client: starts one exchange at a time, and drops who is too slow.

What it reads is parsed in ``reading``. Knows nothing of where requests lead.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Protocol, cast

from lydite.gateway import heads
from lydite.gateway.plane.memory import FREE_BYTES, Memory, Share
from lydite.gateway.plane.reading import RefusedError, Request, RequestReader
from lydite.gateway.settings import Limits

_WRITE_HIGH_BYTES = 64 * 1024
_SEND_BUFFER_BYTES = 128 * 1024
"""What the system holds of an answer; left alone it lets an idle reader take megabytes."""
_LINGER_S = 1.0


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
    memory: Memory

    def seat(self, client: "ClientConnection", peer: str) -> bool:
        """Give a connection its place among those of ``peer``, or say that all are taken."""

    def leave(self, client: "ClientConnection", peer: str) -> None:
        """Free its place, if it has one."""

    def admit(self, method: bytes, target: bytes) -> None:
        """Raise a RefusedError if no route leads there, before any body is read."""

    def handle(self, request: Request, client: "ClientConnection") -> Handler:
        """Return who answers ``request``, not yet started."""


class ClientConnection(asyncio.Protocol):
    """One running handler, and at most one request that waits behind it."""

    def __init__(self, desk: Desk, now: Callable[[], float]) -> None:
        self._desk = desk
        self._limits = desk.limits
        self._now = now
        self.memory = desk.memory
        self._behind = Share(desk.memory)
        self._reader = RequestReader(self, desk.limits, now)
        self._transport: asyncio.Transport | None = None
        self._seated = False
        self.give_up: Callable[[], object] = lambda: None
        """Ends the handshake, if one runs."""
        self._peer = ""
        self._handler: Handler | None = None
        self._keep = True
        self._closing = False
        self._paused = False
        self._unsent = 0

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
        self._reader.deadline = self._now() + self._limits.idle_timeout_ms / 1000
        if self._reader.ready:
            self._next()

    def sweep(self, now: float) -> None:
        """Drop a connection that is too slow; let a running handler look at its own timeouts."""
        if self._handler is not None:
            self._handler.sweep(now)
            if not self._paused:
                return
        if self._transport is None:
            return
        unsent = self._transport.get_write_buffer_size()
        if unsent < self._unsent:  # it reads, if slowly
            self._reader.deadline = now + self._patience_s(unsent)
        self._unsent = unsent
        self._count(unsent)
        crowded = self._behind.length > 0 and self.memory.taken > self.memory.limit
        if crowded or now >= self._reader.deadline:
            self._behind.free()
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
        else:
            self.give_up()

    # What the door asks.

    def expect(self, peer: str) -> bool:
        """Take a place among those of ``peer``, or say that all are taken."""
        self._peer = peer
        self._seated = self._desk.seat(self, peer)
        return self._seated

    # What the reader asks.

    def admit(self, method: bytes, target: bytes) -> None:
        """Raise a RefusedError if no route leads there."""
        self._desk.admit(method, target)

    def under_way(self) -> bool:
        """Say whether a request is being answered."""
        return self._handler is not None

    def go_on(self) -> None:
        """Tell the client that its body is welcome, unless an answer is being written."""
        if self._handler is None:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a place, unless there is one already, or hang up when all are taken."""
        self._transport = cast(asyncio.Transport, transport)
        seated = self._seated or self.expect(address(self._transport))
        if self._closing or not seated:
            self._transport.abort()
            return
        self._transport.set_write_buffer_limits(high=_WRITE_HIGH_BYTES)
        _bound_send_buffer(self._transport)
        self._reader.deadline = self._now() + self._limits.head_timeout_ms / 1000

    def data_received(self, data: bytes) -> None:
        """Parse what came and start what is whole."""
        if self._closing:
            return
        self._reader.feed(data)
        if self._handler is None and self._reader.ready:
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
        self._reader.forget()
        self._behind.free()
        self._desk.leave(self, self._peer)
        handler, self._handler = self._handler, None
        if handler is not None:
            handler.hang_up()

    def pause_writing(self) -> None:
        """Pass the client's pace on to the handler."""
        self._paused = True
        self._reader.deadline = self._now() + self._limits.idle_timeout_ms / 1000
        if self._transport is not None:
            self._count(self._transport.get_write_buffer_size())
        if self._handler is not None:
            self._handler.pause()

    def resume_writing(self) -> None:
        """Pass the client's pace on to the handler."""
        self._paused = False
        self._behind.free()
        if self._handler is not None:
            self._handler.resume()

    def _next(self) -> None:
        turn = self._reader.ready.pop(0)
        if isinstance(turn, RefusedError):
            self.write(heads.fault(str(turn), turn.reason, turn.status, keep=False))
            self._close()
            return
        self._keep = self._keep and turn.keep
        handler = self._handler = self._desk.handle(turn, self)
        handler.start()
        if self._paused and self._handler is handler:
            handler.pause()

    def _count(self, unsent: int) -> None:
        """Count what a client leaves unread, beside what every connection may hold."""
        more = unsent - _WRITE_HIGH_BYTES - FREE_BYTES - self._behind.length
        if more > 0:
            self._behind.add(more)

    def _patience_s(self, unsent: int) -> float:
        """Return how long a client may do nothing: less once it has all that it will get."""
        if self._closing and not unsent:
            return _LINGER_S
        return self._limits.idle_timeout_ms / 1000

    def _close(self) -> None:
        """Hang up behind what is written, leaving a slow client time to read it."""
        self._closing = True
        self._keep = False
        if self._transport is None:
            self.give_up()
            return
        if self._transport.is_closing():
            return
        self._reader.deadline = self._now() + self._patience_s(
            self._transport.get_write_buffer_size()
        )
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()


def _bound_send_buffer(transport: asyncio.Transport) -> None:
    """Keep the system from taking much of an answer that its client does not read."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)


def address(transport: asyncio.Transport) -> str:
    """Return the address of the other side, without its port; empty where there is none."""
    return of_peer(transport.get_extra_info("peername"))


def of_peer(peer: object) -> str:
    """Return the address in what a socket says of its other side."""
    return str(peer[0]) if isinstance(peer, tuple) else ""
