"""The receipt on the wire: the compact form that travels with each answer, and where it stands.

A client checks with it at once that the gateway saw the same bytes; the signed statement follows at
``/v1/receipts/{id}`` and must have the digest named there. Pure: no sockets, no clock.
"""

import base64
import binascii
import re

from lydite.errors import FormatError
from lydite.messages.canonical import decode
from lydite.messages.compact import Compact

HEADER = b"x-lydite-receipt"
ID_HEADER = b"x-lydite-receipt-id"
SALT_HEADER = b"x-lydite-salt"
SEED_HEADER = b"x-lydite-seed"
OURS = b"x-lydite-"
"""Headers that only the gateway may set; those of a client or an engine are dropped."""

_MARK = b": lydite-receipt "
_OUR_LINE = re.compile(rb"^: lydite-receipt (\{[^\r\n]*\})\n", re.MULTILINE)
_FORGED = re.compile(rb"(?:^(?:\xef\xbb\xbf)?|[\r\n])[ \t]*:[ \t]*lydite-receipt")


def header_value(compact: bytes) -> bytes:
    """Return the value of the ``x-lydite-receipt`` header for a compact receipt's bytes."""
    return base64.b64encode(compact)


def comment_line(compact: bytes) -> bytes:
    """Return the line that goes into the ``[DONE]`` event of a stream, with its newline."""
    return _MARK + compact + b"\n"


def from_header(value: bytes) -> Compact:
    """Parse the header's value.

    Raises:
        FormatError: not base64 of a compact receipt in its one spelling.
    """
    try:
        payload = base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise FormatError(f"receipt header: not base64: {error}") from error
    return decode(payload, Compact, limit=4096)


def from_stream(body: bytes) -> tuple[Compact, bytes]:
    """Split a streamed body into its compact receipt and the bytes that it commits to.

    Raises:
        FormatError: there is not exactly one receipt line.
    """
    lines = list(_OUR_LINE.finditer(body))
    if len(lines) != 1:
        raise FormatError(f"{len(lines)} receipt lines in the stream, expected 1")
    line = lines[0]
    receipt = decode(line.group(1), Compact, limit=4096)
    return receipt, body[: line.start()] + body[line.end() :]


def holds_forged_line(stream: bytes) -> bool:
    """Say whether bytes of an engine's stream, whole lines of it, imitate our comment line."""
    return _FORGED.search(stream) is not None
