"""Heads of messages: which fields pass, which stop, and how ours are spelt. Pure.

Nothing of a peer's head is relayed as bytes: names and values that a strict parser gave are written
again, so that two parsers can never see two different messages.
"""

from collections.abc import Iterable, Sequence
from http import HTTPStatus

import msgspec

from lydite.errors import Reason, UnavailableError
from lydite.gateway.wire import OURS

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


def upstream_head(
    method: bytes, target: bytes, host: bytes, fields: Fields, length: int, own: Fields
) -> bytes:
    """Return the head of a request to the engine: the client's fields that pass, then ``own``."""
    lines = [b"%s %s HTTP/1.1\r\nhost: %s\r\n" % (method, target, host)]
    lines += [b"%s: %s\r\n" % field for field in end_to_end(fields, _NOT_UPSTREAM)]
    lines += [b"%s: %s\r\n" % field for field in own]
    lines.append(b"accept-encoding: identity\r\n")
    if method == b"POST":
        lines.append(b"content-length: %d\r\n" % length)
    lines.append(b"\r\n")
    return b"".join(lines)


def refuse_redirect(status: int) -> None:
    """Refuse an answer that sends the client elsewhere: a client that goes there gets no receipt.

    Raises:
        UnavailableError: the status is 3xx.
    """
    if 300 <= status < 400:
        raise UnavailableError(f"engine: redirects with {status}", Reason.UPSTREAM_FAILED)


def answer_fields(fields: Fields) -> list[Field]:
    """Return the fields of an engine's answer that a client sees: none sends it elsewhere."""
    return end_to_end(fields, _NOT_DOWNSTREAM)


def answer_head(
    status: int, fields: Iterable[Field], framing: Field | None, *, keep: bool
) -> bytes:
    """Return the head of an answer; ``framing`` is its length or coding."""
    lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d Unknown\r\n" % status]
    lines += [b"%s: %s\r\n" % field for field in fields]
    if framing is not None:
        lines.append(b"%s: %s\r\n" % framing)
    lines.append(b"\r\n" if keep else b"connection: close\r\n\r\n")
    return b"".join(lines)


def content_length(length: int) -> Field:
    """Return the field that frames a body of known length."""
    return b"content-length", b"%d" % length


CHUNKED: Field = (b"transfer-encoding", b"chunked")
JSON: Field = (b"content-type", b"application/json")


def fault_body(message: str, reason: Reason, status: int) -> bytes:
    """Return an error in the shape that the OpenAI SDKs read; ``code`` is the published reason."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return msgspec.json.encode(_FaultBody(_Fault(message, kind, None, reason.value)))


def answer(status: int, fields: Iterable[Field], body: bytes, *, keep: bool) -> bytes:
    """Return a whole answer of known length."""
    return answer_head(status, fields, content_length(len(body)), keep=keep) + body


def fault(message: str, reason: Reason, status: int, *, keep: bool) -> bytes:
    """Return a whole answer that says what went wrong."""
    return answer(status, (JSON,), fault_body(message, reason, status), keep=keep)


def fault_event(message: str, reason: Reason) -> bytes:
    """Return an error as an event of a stream, on which the OpenAI SDKs raise."""
    return b"data: " + fault_body(message, reason, 502) + b"\n\n"
