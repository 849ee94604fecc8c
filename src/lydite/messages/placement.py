"""Where a compact receipt stands in an HTTP answer, and how it is read from there.

In a header of an answer that is whole, in a comment inside the last event of a stream. Client and
gateway share these names. Pure: no sockets, no clock.
"""

import base64
import re

from lydite.errors import FormatError
from lydite.messages.canonical import decode
from lydite.messages.compact import Compact

HEADER = b"x-lydite-receipt"
ID_HEADER = b"x-lydite-receipt-id"
SALT_HEADER = b"x-lydite-salt"
MARK = b": lydite-receipt "
"""How the comment line begins that holds a stream's receipt."""

_OUR_LINE = re.compile(rb"^: lydite-receipt (\{[^\r\n]*\})\n", re.MULTILINE)
_LIMIT_BYTES = 4096


def from_header(value: bytes) -> Compact:
    """Parse the header's value.

    Raises:
        FormatError: not base64 of a compact receipt in its one spelling.
    """
    try:
        payload = base64.b64decode(value, validate=True)
    except ValueError as error:  # not base64, or not even ASCII
        raise FormatError(f"receipt header: not base64: {error}") from error
    return decode(payload, Compact, limit=_LIMIT_BYTES)


def from_stream(body: bytes) -> tuple[Compact, bytes]:
    """Split a streamed body into its compact receipt and the bytes that it commits to.

    Raises:
        FormatError: there is not exactly one receipt line.
    """
    lines = list(_OUR_LINE.finditer(body))
    if len(lines) != 1:
        raise FormatError(f"{len(lines)} receipt lines in the stream, expected 1")
    line = lines[0]
    receipt = decode(line.group(1), Compact, limit=_LIMIT_BYTES)
    return receipt, body[: line.start()] + body[line.end() :]
