"""What a gateway's processes say to each other: typed messages in frames, over a pair of sockets.

A worker serves clients and holds no key; the main process records, signs and answers for the log.
What one turn of a loop has to say goes in one frame. Whoever sees the other's end close knows that
the other is gone. Knows nothing of what becomes of a message.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

import msgspec

from lydite.errors import FormatError, Reason
from lydite.gateway.ledger.receipts import Draft
from lydite.gateway.ledger.scribe import Entered
from lydite.gateway.settings import Settings
from lydite.gateway.tally import Tally

FRAME_BYTES = 512 * 1024 * 1024
"""Largest frame; one request and its answer fit in with room to spare."""
_LENGTH_BYTES = 4


class _Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Base of all messages."""


class Begin(_Message, frozen=True, tag=True):
    """To a worker, first of all: serve by these settings and these routes of the main process."""

    settings: Settings
    routes: list[tuple[bytes, bytes]]
    failing: bool


class Follow(_Message, frozen=True, tag=True):
    """To a worker: serve by these settings from now on."""

    settings: Settings


class Drain(_Message, frozen=True, tag=True):
    """To a worker: take no more, finish what runs, end."""


class State(_Message, frozen=True, tag=True):
    """To a worker: whether anything can be recorded."""

    failing: bool


class Recorded(_Message, frozen=True, tag=True):
    """To a worker: its draft of this number is in the log."""

    number: int
    entered: Entered


class Unrecorded(_Message, frozen=True, tag=True):
    """To a worker: its draft of this number could not be recorded."""

    number: int
    message: str
    reason: Reason


class Answered(_Message, frozen=True, tag=True):
    """To a worker: the answer to what it asked."""

    number: int
    body: bytes
    content_type: bytes
    status: int


class Ready(_Message, frozen=True, tag=True):
    """From a worker: it follows the settings, or says why it cannot."""

    refusal: str | None


class Submit(_Message, frozen=True, tag=True):
    """From a worker: record this."""

    number: int
    draft: Draft


class Ask(_Message, frozen=True, tag=True):
    """From a worker: a client's request for a route of the main process."""

    number: int
    method: bytes
    target: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes


class Counted(_Message, frozen=True, tag=True):
    """From a worker: what it has counted since it began, and how many upstreams are usable."""

    tally: Tally
    usable: int


Down = Begin | Follow | Drain | State | Recorded | Unrecorded | Answered
Up = Ready | Submit | Ask | Counted

T = TypeVar("T")


class Channel(asyncio.Protocol, Generic[T]):
    """One end: takes messages of type ``T``, sends any. Belongs to the event loop."""

    def __init__(self, kind: Any, received: Callable[[T], None], lost: Callable[[], None]) -> None:
        self._decoder = msgspec.msgpack.Decoder(list[kind])
        self._encoder = msgspec.msgpack.Encoder()
        self._received = received
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._queue: list[_Message] = []
        self._buffer = bytearray()

    async def connect(self, end: socket.socket) -> None:
        """Speak over a connected socket, which now belongs to this."""
        end.setblocking(False)
        await self._loop.create_connection(lambda: self, sock=end)

    def send(self, message: _Message) -> None:
        """Send ``message`` with all others of this turn; to nobody if the other end is gone."""
        self._queue.append(message)
        if len(self._queue) == 1:
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Send what is queued."""
        queue, self._queue = self._queue, []
        if queue:
            self._write(queue)

    def close(self) -> None:
        """Close this end; the other sees it."""
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Take whole frames; whoever sends anything else is cut off."""
        self._buffer += data
        try:
            while (frame := self._frame()) is not None:
                for message in self._decoder.decode(frame):
                    self._received(message)
        except (msgspec.DecodeError, FormatError):
            self.close()

    def connection_lost(self, *_: object) -> None:
        """Say so."""
        self._transport = None
        self._lost()

    def _write(self, queue: list[_Message]) -> None:
        """Send messages in one frame, or in several where one would be too large."""
        frame = self._encoder.encode(queue)
        half = len(queue) // 2
        if half and len(frame) > FRAME_BYTES // 2:
            self._write(queue[:half])
            self._write(queue[half:])
        elif self._transport is not None and not self._transport.is_closing():
            self._transport.write(len(frame).to_bytes(_LENGTH_BYTES, "little") + frame)

    def _frame(self) -> bytes | None:
        """Return the next whole frame.

        Raises:
            FormatError: it is too large.
        """
        if len(self._buffer) < _LENGTH_BYTES:
            return None
        end = _LENGTH_BYTES + int.from_bytes(self._buffer[:_LENGTH_BYTES], "little")
        if end > FRAME_BYTES:
            raise FormatError("a frame that is too large", Reason.TOO_LARGE)
        if len(self._buffer) < end:
            return None
        frame = bytes(self._buffer[_LENGTH_BYTES:end])
        del self._buffer[:end]
        return frame
