"""One connection to the engine: writes a request, parses the answer strictly, tells a sink.

Any doubt about where the answer ends fails the exchange and closes the connection: an answer
without length or chunks, a second answer in the same read, an oversized head.
"""

import asyncio
from collections.abc import Callable
from typing import Literal, Protocol, cast

import httptools

from lydite.errors import FormatError, LyditeError, Reason, UnavailableError
from lydite.gateway.heads import AnswerHead, Field, values
from lydite.gateway.plane import known
from lydite.gateway.plane.known import Known

_HEAD_BYTES = 64 * 1024
_FIELDS = 200
_WRITE_HIGH_BYTES = 256 * 1024
_BODILESS = (204, 304)


class Sink(Protocol):
    """Who wants the answer. After ``end`` or ``fail`` nothing more is told."""

    def head(self, head: AnswerHead) -> None:
        """Take the head of the answer."""

    def data(self, data: bytes) -> None:
        """Take the next bytes of the body."""

    def end(self) -> None:
        """Take note that the body is complete."""

    def fail(self, error: LyditeError, *, fresh: bool) -> None:
        """Take note that there will be no more; ``fresh``: no byte of an answer had come."""


class UpstreamConnection(asyncio.Protocol):
    """A keep-alive connection, used by one exchange at a time."""

    def __init__(self, lost: Callable[["UpstreamConnection"], None]) -> None:
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._sink: Sink | None = None
        self._known: Known[AnswerHead] | None = None
        self._keep = True
        self._complete = False
        self.heard = False
        """Whether a byte of the answer has come."""
        self.reused = False
        """Whether it has served an exchange before."""
        self.failure: Literal["protocol", "reset"] | None = None
        """How it failed."""
        self.since = 0.0
        """When it was last put back or last gave bytes, in the loop's seconds."""

    def _start_parser(self, data: bytes) -> httptools.HttpResponseParser:
        self._fields: list[Field] = []
        self._answer: AnswerHead | None = None
        self._came: bytes | None = data
        self._body_bytes = 0
        self._head_bytes = 0
        self._loose_bytes = 0
        self._head_done = False
        self._interim = False
        parser = self._parser = httptools.HttpResponseParser(self)
        return parser

    # What the owner of the connection asks.

    @property
    def open(self) -> bool:
        """Whether a request can be written."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, request: bytes, rest: bytes, sink: Sink) -> None:
        """Write a whole request, in one part or two, and tell ``sink`` of its answer."""
        self.heard = self._complete = False
        self._parser = None
        self._sink = sink
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(request)
            if rest:
                self._transport.write(rest)

    def release(self) -> bool:
        """Forget the sink; say whether the connection may serve another exchange."""
        self._sink = None
        if not self._complete:
            self.abort()
        return self.open

    def pause(self) -> None:
        """Read no more from the engine for now."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close at once; the sink hears nothing more."""
        self._sink = None
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_WRITE_HIGH_BYTES)

    def data_received(self, data: bytes) -> None:
        """Parse what came; on doubt fail the exchange and close."""
        if self._sink is None or self._complete:
            self.abort()  # an engine that speaks unasked
            return
        if not self.heard and self._is_known(self._sink, data):
            return
        self.heard = True
        parser = self._parser or self._start_parser(data)
        in_head = not self._head_done
        try:
            parser.feed_data(data)
            self._loose_bytes += len(data) if in_head else 0
            if not self._head_done and self._loose_bytes > _HEAD_BYTES:
                raise FormatError("the engine's head is too large", Reason.TOO_LARGE)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, FormatError) as error:
            self.failure = "protocol"
            self._fail(UnavailableError(f"engine: {_why(error)}", Reason.UPSTREAM_FAILED))
            return
        if self._complete:
            self._finish()

    def _is_known(self, sink: Sink, data: bytes) -> bool:
        """Take a whole answer whose head came before (``known``); say whether this was one."""
        found = None if self._known is None else self._known.match(data)
        if found is None or self._known is None or len(data) != sum(found):
            return False
        self.heard = self._complete = True
        sink.head(self._known.head)
        if self._sink is not None:  # it may refuse
            sink.data(data[found[0] :])
            self._finish()
        return True

    def eof_received(self) -> bool:
        """Close when the engine does."""
        return False

    def connection_lost(self, *_: object) -> None:
        """Tell the sink if it still waits."""
        self._transport = None
        self._lost(self)
        self.failure = self.failure or "reset"
        self._fail(UnavailableError("engine: connection lost", Reason.UPSTREAM_FAILED))

    def _fail(self, error: LyditeError) -> None:
        sink, self._sink = self._sink, None
        if self._transport is not None:
            self._transport.abort()
        if sink is not None:
            sink.fail(error, fresh=not self.heard)

    def _finish(self) -> None:
        sink = self._sink
        if not self._keep and self._transport is not None:
            self._transport.close()
        if sink is not None:
            sink.end()

    # Callbacks of httptools.

    def on_message_begin(self) -> None:
        """Refuse a second answer; skip interim ones."""
        if self._complete:
            raise FormatError("more than one answer to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a field; those after the body are trailers and dropped."""
        if self._head_done:
            return
        self._head_bytes += len(name) + len(value)
        if len(self._fields) >= _FIELDS or self._head_bytes > _HEAD_BYTES:
            raise FormatError("the engine's head is too large", Reason.TOO_LARGE)
        self._fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Check the framing and tell the sink."""
        parser, sink = self._parser, self._sink
        if parser is None or sink is None:
            return
        status = parser.get_status_code()
        self._interim = 100 <= status < 200
        if self._interim:
            if status == 101:
                raise FormatError("the engine switches protocols")
            self._fields = []
            self._came = None
            return
        self._head_done = True
        _check_framing(status, self._fields)
        self._body_bytes = 0
        self._answer = AnswerHead(status, self._fields)
        sink.head(self._answer)

    def on_body(self, body: bytes) -> None:
        """Pass on bytes of the body."""
        self._body_bytes += len(body)
        if self._sink is not None:
            self._sink.data(body)

    def on_message_complete(self) -> None:
        """Note that the answer is whole; keep-alive is known only here."""
        if self._interim or self._parser is None:
            return
        self._complete = True
        self._keep = self._parser.should_keep_alive()
        answer, came = self._answer, self._came
        if not self._keep or came is None or answer is None:
            return
        bodiless = answer.status in _BODILESS  # whatever length it gives
        if not bodiless and not values(answer.fields, b"transfer-encoding"):
            self._known = known.learn(came, answer, self._body_bytes)


def _check_framing(status: int, fields: list[Field]) -> None:
    if status < 100:
        raise FormatError(f"status {status}")
    lengths = values(fields, b"content-length")
    codings = values(fields, b"transfer-encoding")
    if status in _BODILESS:
        return
    if codings and codings != [b"chunked"]:
        raise FormatError("transfer coding other than chunked")
    if not codings and len(lengths) != 1:
        raise FormatError("an answer whose end cannot be told from a broken connection")


def _why(error: BaseException) -> str:
    """Return the reason that a callback gave, or the parser's own."""
    cause = error.__context__
    return str(cause) if isinstance(cause, LyditeError) else str(error)
