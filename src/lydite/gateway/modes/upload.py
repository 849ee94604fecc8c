"""The upload port: ``PUT /v1/upload/ROOT`` of exactly the listed bytes, and ``GET /v1/mode``.

The body is the model's files one behind another, in the order of their names. It is received into
the intake's buffers and nowhere else; where these are full, nothing is read. One request a
connection. Knows nothing of digests, power or the log.
"""

import asyncio
import hmac
import re
from collections.abc import Callable
from typing import NamedTuple, cast

import httptools
import msgspec

from lydite.errors import FormatError, LyditeError, Reason, VerificationError
from lydite.gateway import heads
from lydite.gateway.heads import Field
from lydite.gateway.modes.keeper import Change, Keeper, Upload
from lydite.gateway.plane.answers import status_of
from lydite.gateway.plane.client import address
from lydite.messages.mode import Cause, Mode

_HEAD_BYTES = 16 * 1024
_FIELDS = 100
HEAD_S = 10.0
"""How long a connection may take to say what it wants, and to show its token."""
_LINGER_S = 2.0
_SCRATCH_BYTES = 64 * 1024
_MOST = 64
"""How many connections there may be at once; more are hung up on."""
_SHARE = 8
"""How many of them one address may have."""
_UPLOAD = re.compile(rb"/v1/upload/([0-9a-f]{64})")
_MODE = b"/v1/mode"
_STATUS = {
    Cause.WRONG_WEIGHTS: (422, Reason.WRONG_WEIGHTS),
    Cause.TOO_LONG: (400, Reason.WRONG_LENGTH),
    Cause.BROKEN_OFF: (400, Reason.WRONG_LENGTH),
    Cause.STALLED: (408, Reason.UNAVAILABLE),
    Cause.NO_ROOM: (507, Reason.DISK_FULL),
    Cause.UNLOGGED: (503, Reason.DISK_FULL),
}
_ELSE = (503, Reason.UNAVAILABLE)


class ModeReport(msgspec.Struct, frozen=True, kw_only=True):
    """What ``GET /v1/mode`` answers. ``received`` is the volatile counter, in bytes."""

    mode: Mode
    cause: Cause
    model: str | None
    received: int
    size: int
    boot: str
    sequence: int
    alarm: str | None


def report(keeper: Keeper) -> bytes:
    """Return the mode and its counter as JSON."""
    state = keeper.state
    return msgspec.json.encode(
        ModeReport(
            mode=state.mode,
            cause=keeper.last.cause,
            model=state.model,
            received=state.received,
            size=state.size,
            boot=keeper.boot,
            sequence=keeper.last.sequence,
            alarm=keeper.alarm,
        )
    )


class _Head:
    """One request's head, parsed strictly: what two parsers could read in two ways is refused."""

    def __init__(self, data: bytes) -> None:
        """Parse a head that ends with its blank line.

        Raises:
            FormatError: it is not one that an honest client sends.
        """
        self.target = b""
        self.fields: list[Field] = []
        parser = httptools.HttpRequestParser(self)
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise FormatError(f"malformed request: {error}") from error
        self.method: bytes = parser.get_method()
        hosts = heads.values(self.fields, b"host")
        if parser.get_http_version() != "1.1" or len(hosts) != 1 or len(self.fields) > _FIELDS:
            raise FormatError("expected HTTP/1.1 with one Host field")
        if heads.values(self.fields, b"transfer-encoding"):
            raise FormatError("an upload has a Content-Length and no transfer coding")

    @property
    def length(self) -> int:
        """Content-Length, 0 without."""
        found = heads.values(self.fields, b"content-length")
        return int(found[0]) if found else 0

    def on_url(self, url: bytes) -> None:
        """Collect the target."""
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a field."""
        self.fields.append((name.lower(), value))


class Port(NamedTuple):
    """What the connections of one upload port share."""

    keeper: Keeper
    stall_s: float
    token: str | None
    peers: "set[UploadConnection]"


class UploadConnection(asyncio.BufferedProtocol):
    """One connection: a head, then at most one upload, then an answer."""

    def __init__(self, port: Port) -> None:
        self._peers = port.peers
        self._keeper = port.keeper
        self._stall_s = port.stall_s
        self._token = port.token
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._address = ""
        self._scratch = bytearray(_SCRATCH_BYTES)
        self._head = b""
        self._rest = b""
        self._upload: Upload | None = None
        self._answered = False
        self._paused = False
        self._moved = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Give the head its time, or hang up when all places are taken."""
        self._transport = cast(asyncio.Transport, transport)
        self._address = address(self._transport)
        neighbours = sum(each._address == self._address for each in self._peers)
        if neighbours >= _SHARE or len(self._peers) >= _MOST:
            self._transport.abort()
            return
        self._peers.add(self)
        self._watch(HEAD_S, self._too_slow)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Return where the next bytes go: for a body, the intake's own buffer."""
        if self._upload is not None and not self._answered:
            room = self._upload.buffer()
            if room is not None:
                return room
        return memoryview(self._scratch)

    def buffer_updated(self, nbytes: int) -> None:
        """Take note of what came."""
        self._moved = self._loop.time()
        if self._answered:
            return
        if self._upload is None:
            self._collect(bytes(self._scratch[:nbytes]))
        else:
            self._upload.took(nbytes)
            self._pace()

    def eof_received(self) -> bool:
        """Take an end before the last byte for what it is; wait for the answer otherwise."""
        if self._upload is not None and self._upload.missing:
            self._upload.fail(Cause.BROKEN_OFF)
        return self._upload is not None and not self._answered

    def connection_lost(self, *_: object) -> None:
        """End an upload that is not whole; one that is goes on without its client."""
        self._transport = None
        self._peers.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._upload is not None and self._upload.missing:
            self._upload.fail(Cause.BROKEN_OFF)

    # The head

    def _collect(self, data: bytes) -> None:
        self._head += data
        head, blank, body = self._head.partition(b"\r\n\r\n")
        if not blank:
            if len(self._head) > _HEAD_BYTES:
                self._refuse(FormatError("head too large", Reason.TOO_LARGE))
            return
        self._head = b""
        try:
            self._start(_Head(head + blank), body)
        except LyditeError as error:
            self._refuse(error)

    def _start(self, head: _Head, body: bytes) -> None:
        if head.target == _MODE and head.method == b"GET" and not head.length:
            self._answer(200, report(self._keeper))
            return
        match = _UPLOAD.fullmatch(head.target)
        if match is None or head.method != b"PUT":
            raise FormatError("this port takes PUT /v1/upload/ROOT and GET /v1/mode")
        self._authenticate(head)
        self._upload = self._keeper.begin(match[1].decode(), head.length)
        self._upload.on_room = self._resume
        self._upload.over.add_done_callback(self._settle)
        self._watch(self._stall_s, self._look)
        if heads.values(head.fields, b"expect") == [b"100-continue"]:
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._feed(body)

    def _feed(self, body: bytes) -> None:
        """Hand over what came behind the head."""
        upload = self._upload
        while body and upload is not None and not upload.over.done():
            room = upload.buffer()
            if room is None and upload.missing:
                self._rest = body
                break
            taken = len(body) if room is None else min(len(room), len(body))
            if room is not None:
                room[:taken] = body[:taken]
            upload.took(taken)
            body = body[taken:]
        self._pace()

    def _authenticate(self, head: _Head) -> None:
        given = b"".join(heads.values(head.fields, b"authorization"))
        wanted = b"Bearer " + (self._token or "").encode()
        if self._token is not None and not hmac.compare_digest(given, wanted):
            raise VerificationError(Reason.UNKNOWN_KEY, "the uploader's bearer token is needed")

    # Pace

    def _pace(self) -> None:
        """Read on only where there is room, or where nothing more may come."""
        upload = self._upload
        if upload is None or self._transport is None or self._answered:
            return
        if upload.missing and upload.buffer() is None:
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if not self._paused or self._transport is None:
            return
        self._paused = False
        self._moved = self._loop.time()
        rest, self._rest = self._rest, b""
        self._feed(rest)
        if not self._paused:
            self._transport.resume_reading()

    def _look(self) -> None:
        """End an upload that stands still, unless it is we who hold it."""
        upload = self._upload
        if upload is None or upload.over.done():
            return
        idle_s = self._loop.time() - self._moved
        if upload.missing and not self._paused and idle_s >= self._stall_s:
            upload.fail(Cause.STALLED)
        else:
            self._watch(max(self._stall_s - idle_s, self._stall_s / 8), self._look)

    def _too_slow(self) -> None:
        if self._upload is None and self._transport is not None:
            self._transport.abort()

    def _watch(self, delay_s: float, look: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(delay_s, look)

    # The answer

    def _settle(self, over: "asyncio.Future[Change]") -> None:
        change = over.result()
        if change.state.mode is Mode.SERVING:
            self._answer(200, report(self._keeper))
            return
        status, reason = _STATUS.get(change.cause, _ELSE)
        text = f"the upload ended after {change.state.received} of {change.state.size} bytes: "
        text += f"{change.cause}{': ' if change.detail else ''}{change.detail}; the power is cut"
        self._answer(status, heads.fault_body(text, reason, status))

    def _refuse(self, error: LyditeError) -> None:
        status = status_of(error)
        self._answer(status, heads.fault_body(str(error), error.reason, status))

    def _answer(self, status: int, body: bytes) -> None:
        """Answer once, then read and forget what still comes, for a while, so that it is read."""
        if self._answered:
            return
        self._answered = True
        self._rest = b""
        self._resume()
        self._write(heads.answer(status, (heads.JSON,), body, keep=False))
        if self._transport is not None and self._transport.can_write_eof():
            self._transport.write_eof()
        self._watch(_LINGER_S, self._close)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()
