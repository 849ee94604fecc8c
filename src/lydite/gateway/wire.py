"""The receipt on the wire, as the gateway writes it: in a header, or in a stream's last event.

A client checks with it at once that the gateway saw the same bytes; the signed statement follows at
``/v1/receipts/{id}`` and must have the digest named there. Pure: no sockets, no clock.
"""

import binascii
import re

from lydite.messages.placement import (
    HEADER,
    ID_HEADER,
    MARK,
    SALT_HEADER,
    from_header,
    from_stream,
)

__all__ = [
    "HEADER",
    "ID_HEADER",
    "OURS",
    "SALT_HEADER",
    "SEED_HEADER",
    "comment_line",
    "from_header",
    "from_stream",
    "header_value",
    "holds_forged_line",
]

SEED_HEADER = b"x-lydite-seed"
OURS = b"x-lydite-"
"""Headers that only the gateway may set; those of a client or an engine are dropped."""

_FORGED = re.compile(rb"(?:^(?:\xef\xbb\xbf)?|[\r\n])[ \t]*:[ \t]*lydite-receipt")


def header_value(compact: bytes) -> bytes:
    """Return the value of the ``x-lydite-receipt`` header for a compact receipt's bytes."""
    return binascii.b2a_base64(compact, newline=False)


def comment_line(compact: bytes) -> bytes:
    """Return the line that goes into the ``[DONE]`` event of a stream, with its newline."""
    return MARK + compact + b"\n"


def holds_forged_line(stream: bytes) -> bool:
    """Say whether bytes of an engine's stream, whole lines of it, imitate our comment line."""
    return _FORGED.search(stream) is not None
