"""Reads requests off one connection: parses strictly, within bounds, and knows a head again.

What a parser lets pass but no honest client sends is refused here: no or two Hosts, other versions,
odd transfer codings, absolute targets, upgrades, heads and bodies that are too large or too slow.
Knows nothing of sockets or answers.
"""

from collections.abc import Callable
from typing import Protocol

import httptools
import msgspec

from lydite.errors import FormatError, Reason
from lydite.gateway import heads
from lydite.gateway.heads import Field, RequestHead
from lydite.gateway.plane import known
from lydite.gateway.plane.known import Known
from lydite.gateway.plane.memory import FREE_BYTES, Memory, Share, gather
from lydite.gateway.settings import Limits

_BODY_FLOOR_BYTES_PER_S = 16 * 1024
_FRAMES_BYTES = 64 * 1024
"""Room for head, chunk sizes and extensions, beside sixteen bytes for each of the body."""
_BLANK_LINES = b"\r\n\r\n\r\n"
_NO_UPGRADE = "no other protocol is spoken here"


class Request(msgspec.Struct, frozen=True):
    """A whole request."""

    head: RequestHead
    body: bytes
    share: Share | None = None
    """What a long body takes of the memory of all."""

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


class Owner(Protocol):
    """The connection that is read from."""

    memory: Memory

    def admit(self, method: bytes, target: bytes) -> None:
        """Raise a RefusedError if no route leads there, before any body is read."""

    def under_way(self) -> bool:
        """Say whether a request is being answered."""

    def go_on(self) -> None:
        """Tell the client that its body is welcome."""


class RequestReader:
    """Parser state of one connection, and the requests that have come whole."""

    def __init__(self, owner: Owner, limits: Limits, now: Callable[[], float]) -> None:
        self._owner = owner
        self._limits = limits
        self._now = now
        self._parser = httptools.HttpRequestParser(self)
        self.ready: list[Request | RefusedError] = []
        """What has come and is not yet answered; nothing is read behind a refusal."""
        self.deadline = 0.0
        """When the client must have done what it is about, in the loop's seconds."""
        self._over = False
        self._loose_bytes = 0
        self._raw_bytes = 0
        self._begun = False
        """Whether a message has begun that is not over."""
        self._known: Known[RequestHead] | None = None
        self._came: bytes | None = None
        self._due: RequestHead | None = None
        self._due_bytes = 0
        self._share = Share(owner.memory)
        self._reset()

    def _reset(self) -> None:
        self._target = b""
        self._fields: list[Field] = []
        self._body: list[bytes] = []
        self._gathered = 0
        self._head_bytes = 0
        self._body_bytes = 0
        self._in_head = True
        self._body_since = 0.0

    def feed(self, data: bytes) -> None:
        """Parse what came."""
        if self._over:
            return
        try:
            if self._due is not None:
                self._finish_known(self._due, data)
            elif self._known is None or not self._begin_known(self._known, data):
                if data.startswith(_BLANK_LINES) and self._in_head and not self._begun:
                    raise RefusedError(400, "blank lines before a request")
                self._parse(data)
        except RefusedError as refusal:
            self._over = True
            self.forget()
            self.ready.append(refusal)

    def forget(self) -> None:
        """Let go of a body that will not come whole."""
        self._share.free()
        self._body = []

    # Callbacks of httptools.

    def on_message_begin(self) -> None:
        """Start over."""
        self._begun = True
        if len(self.ready) + self._owner.under_way() > 1:
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
        self._owner.admit(self._parser.get_method(), self._target)
        lengths = heads.values(self._fields, b"content-length")
        if lengths and int(lengths[0]) > self._limits.body_bytes:
            raise self._too_large()
        self._body_since = self._now()
        self.deadline = self._body_since + self._limits.body_timeout_ms / 1000
        old = self._parser.get_http_version() == "1.0"
        if not old and heads.values(self._fields, b"expect") == [b"100-continue"]:
            self._owner.go_on()

    def on_body(self, body: bytes) -> None:
        """Collect the body within its bound, and not too slowly."""
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.body_bytes:
            raise self._too_large()
        if not self._share.take(len(body)):
            self.forget()
            raise RefusedError(503, "too many bodies are on their way", Reason.OVERLOADED)
        self._body.append(body)
        self._gathered = gather(self._body, self._gathered)
        grace = self._limits.body_timeout_ms / 1000
        self.deadline = self._body_since + grace + self._body_bytes / _BODY_FLOOR_BYTES_PER_S

    def on_message_complete(self) -> None:
        """Queue the request; keep-alive is known only here."""
        old = self._parser.get_http_version() == "1.0"
        self._in_head = True
        self._begun = False
        keep = self._parser.should_keep_alive() and not old
        head = RequestHead(
            self._parser.get_method(), self._target, self._fields, keep=keep, old=old
        )
        self._take_whole(head)
        came, self._came = self._came, None
        if came is not None and keep and not _is_special(self._fields):
            self._known = known.learn(came, head, self._body_bytes)

    # A head that came before (``known``): no parser is asked.

    def _begin_known(self, known: Known[RequestHead], data: bytes) -> bool:
        """Take a request whose head is known; say whether this was one, and the only one."""
        found = known.match(data)
        between = self._in_head and not self._begun and not self._loose_bytes
        if found is None or self._came is not None or not between:
            return False
        start, length = found
        if len(data) > start + length or length > self._limits.body_bytes or self.ready:
            return False
        if self._owner.under_way():
            return False
        head = known.head
        self._owner.admit(head.method, head.target)
        if len(data) == start + length and length <= FREE_BYTES:
            self.ready.append(Request(head, data[start:]))
            return True
        self._reset()
        self._due, self._due_bytes = head, length
        self._body_since = self._now()
        self._finish_known(head, data[start:])
        return True

    def _finish_known(self, head: RequestHead, data: bytes) -> None:
        """Take more of a body that belongs to a known head."""
        left = self._due_bytes - self._body_bytes
        self.on_body(data[:left])
        if len(data) < left:
            return
        self._due = None
        self._take_whole(head)
        if len(data) > left:
            self._parse(data[left:])

    def _take_whole(self, head: RequestHead) -> None:
        """Queue a request, and what it takes of the memory with it if it is long."""
        body = b"".join(self._body)
        if len(body) > FREE_BYTES:
            self.ready.append(Request(head, body, self._share))
            self._share = Share(self._owner.memory)
        else:
            self.ready.append(Request(head, body))
        self.forget()

    def _too_large(self) -> RefusedError:
        return RefusedError(
            413, f"body of more than {self._limits.body_bytes} bytes", Reason.TOO_LARGE
        )

    def _count_loose(self, length: int) -> None:
        """Bound a head that never ends, blank lines before it included."""
        self._loose_bytes += length
        if self._loose_bytes > self._limits.head_bytes:
            raise RefusedError(431, "head too large", Reason.TOO_LARGE)

    def _check_framing(self, whole: int) -> None:
        """Bound what comes around a body, as extensions of chunks do; ``whole`` requests stay."""
        if self._raw_bytes > _FRAMES_BYTES + 16 * self._body_bytes:
            del self.ready[whole:]
            raise RefusedError(400, "more framing than body", Reason.TOO_LARGE)

    def _parse(self, data: bytes) -> None:
        """Feed the parser, and let every way in which it refuses become one."""
        loose, whole = self._in_head, len(self.ready)
        if loose and not self._loose_bytes:
            self._came = None if self._begun else data  # else it begins within a head
            self._raw_bytes = 0
            self.deadline = self._now() + self._limits.head_timeout_ms / 1000
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
        if loose and self._in_head and len(self.ready) == whole:
            self._count_loose(len(data))
        self._raw_bytes += len(data)
        if not self._begun or not self._in_head:
            self._check_framing(whole)


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
    if not target.startswith(b"/") or not target.isascii() or b"#" in target:
        raise RefusedError(400, "the target must be a path in ASCII")
