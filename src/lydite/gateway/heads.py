"""Heads of messages: which fields pass, which stop, and how ours are spelt. Pure.

Nothing of a peer's head is relayed as bytes: names and values that a strict parser gave are written
again, so that two parsers can never see two different messages.
"""

import hashlib
from collections.abc import Iterable, Sequence
from http import HTTPStatus

import msgspec

from lydite.errors import FormatError, Reason, UnavailableError
from lydite.gateway.wire import OURS
from lydite.messages import coding

Field = tuple[bytes, bytes]
Fields = Sequence[Field]

_HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
_NOT_UPSTREAM = _HOP_BY_HOP | {
    b"accept-encoding",
    b"content-length",
    b"expect",
    b"host",
    b"x-request-id",
}
_NOT_DOWNSTREAM = _HOP_BY_HOP | {b"content-length", b"alt-svc", b"location", b"refresh"}
_EVENT_STREAM = b"text/event-stream"
_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}


class _Fault(msgspec.Struct, frozen=True):
    message: str
    type: str
    param: str | None
    code: str


class _FaultBody(msgspec.Struct, frozen=True):
    error: _Fault


def values(fields: Fields, name: bytes) -> list[bytes]:
    """Return every value of a field whose lower-case name is ``name``."""
    return [value for key, value in fields if key == name]


def bearer_of(fields: Fields) -> bytes:
    """Return what is kept of who asked: SHA-256 of Authorization, empty if there is none."""
    given = values(fields, b"authorization")
    return hashlib.sha256(b"\x00".join(given)).digest() if given else b""


def end_to_end(fields: Fields, stopped: frozenset[bytes]) -> list[Field]:
    """Return the fields that pass: not stopped by name, not named by Connection, not ours.

    A name with underscores is judged as if they were dashes, since some servers read it so.
    """
    named = {
        token.strip().lower()
        for value in values(fields, b"connection")
        for token in value.split(b",")
    }
    return [
        (name, value)
        for name, value in fields
        if name not in named and not _stops(name.replace(b"_", b"-"), stopped)
    ]


def _stops(name: bytes, stopped: frozenset[bytes]) -> bool:
    return name in stopped or name.startswith(OURS)


class RequestHead:
    """What a parser read in the head of a request; ``target`` is as the client spelt it."""

    __slots__ = ("_engine_lines", "fields", "keep", "method", "old", "path", "target")

    def __init__(self, method: bytes, target: bytes, fields: Fields, *, keep: bool, old: bool):
        self.method = method
        self.target = target
        self.path = target.partition(b"?")[0]
        self.fields = fields
        """Names in lower case, and values; the length is of the request that it was read in."""
        self.keep = keep
        """Whether the connection stays for another request."""
        self.old = old
        """Whether it is HTTP/1.0, which knows no chunks."""
        self._engine_lines: dict[bytes, bytes] = {}

    def engine_lines(self, host: bytes) -> bytes:
        """Return how the head goes on to the engine: the fields that pass, none of ours yet.

        Written once for each engine.
        """
        known = self._engine_lines.get(host)
        if known is not None:
            return known
        lines = [b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (self.method, self.target, host)]
        lines += [b"%b: %b\r\n" % field for field in end_to_end(self.fields, _NOT_UPSTREAM)]
        lines.append(b"accept-encoding: identity\r\n")
        written = self._engine_lines[host] = b"".join(lines)
        return written


class AnswerHead:
    """What a parser read in the head of an engine's answer, and how it goes on to the client."""

    __slots__ = ("coded", "fields", "lines", "refused", "status", "streams")

    def __init__(self, status: int, fields: Fields) -> None:
        self.status = status
        self.fields = fields
        """Names in lower case, and values."""
        self.lines = _status_line(status) + b"".join(
            [b"%b: %b\r\n" % field for field in end_to_end(fields, _NOT_DOWNSTREAM)]
        )
        """Status line and the fields that a client sees: none sends it elsewhere."""
        kinds = values(fields, b"content-type")
        self.streams = any(kind.strip().lower().startswith(_EVENT_STREAM) for kind in kinds)
        """Whether it is an event stream."""
        self.refused = 300 <= status < 400 or status in (204, 205)
        """Whether it sends the client elsewhere, where it would get no receipt."""
        self.coded = _coded(values(fields, b"content-encoding"), kinds)
        """What is wrong with a body whose bytes are not its text; none was asked for."""


def _coded(encodings: Sequence[bytes], kinds: Sequence[bytes]) -> FormatError | None:
    try:
        coding.check(b",".join(encodings).decode("latin-1"), b",".join(kinds).decode("latin-1"))
    except FormatError as error:
        return error
    return None


def end_of_head(framing: bytes, *, keep: bool) -> bytes:
    """Return the last lines of an answer's head; ``framing`` is a whole line, or empty."""
    return framing + (b"\r\n" if keep else b"connection: close\r\n\r\n")


def _status_line(status: int) -> bytes:
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d Unknown\r\n" % status


CHUNKED = b"transfer-encoding: chunked\r\n"
"""The line that frames a stream."""
LENGTH = b"content-length: %d\r\n"
"""The line that frames a body of known length."""
REFUSED = _status_line(502) + b"content-type: application/json\r\n"
"""The head of an answer in place of an engine's, but for its end."""
CROWDED = _status_line(503) + b"content-type: application/json\r\n"
"""The same where there is no room for the engine's answer."""
JSON: Field = (b"content-type", b"application/json")


def refusal(status: int) -> UnavailableError:
    """Return why an answer that sends its client elsewhere, or is none, is refused."""
    what = "redirects" if status >= 300 else "gives no answer"
    return UnavailableError(f"engine: {what} with {status}", Reason.UPSTREAM_FAILED)


def fault_body(message: str, reason: Reason, status: int) -> bytes:
    """Return an error in the shape that the OpenAI SDKs read; ``code`` is the published reason."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return msgspec.json.encode(_FaultBody(_Fault(message, kind, None, reason.value)))


def answer(status: int, fields: Iterable[Field], body: bytes, *, keep: bool) -> bytes:
    """Return a whole answer of known length."""
    lines = [_status_line(status), *(b"%b: %b\r\n" % field for field in fields)]
    return b"".join((*lines, end_of_head(LENGTH % len(body), keep=keep), body))


def fault(message: str, reason: Reason, status: int, *, keep: bool) -> bytes:
    """Return a whole answer that says what went wrong."""
    return answer(status, (JSON,), fault_body(message, reason, status), keep=keep)


def fault_event(message: str, reason: Reason) -> bytes:
    """Return an error as an event of a stream, on which the OpenAI SDKs raise."""
    return b"data: " + fault_body(message, reason, 502) + b"\n\n"
