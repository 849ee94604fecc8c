"""One spelling for every message: RFC 8785, reached by construction, and refused otherwise.

A message holds strings, integers within 2^53 - 1, booleans, null, lists and structs with ASCII
names, so that sorted msgspec output *is* the JSON Canonicalization Scheme; tests hold it against
an RFC 8785 library. Knows nothing of what a message means or who signed it.
"""

from typing import Annotated, TypeVar

import msgspec

from lydite.errors import FormatError, Reason

T = TypeVar("T")

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What reading hostile JSON or TOML raises: of another form, not UTF-8, nested too deep."""

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
SAFE_INTEGER = 2**53 - 1

Count = Annotated[int, msgspec.Meta(ge=0, le=SAFE_INTEGER)]
Integer = Annotated[int, msgspec.Meta(ge=-SAFE_INTEGER, le=SAFE_INTEGER)]
Hex32 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Hex = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{2})*\Z", max_length=1 << 20)]
Word = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Message(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"
):
    """Base of all nouns: frozen, by name, camel case on the wire, no unknown fields."""


_encoder = msgspec.json.Encoder(order="sorted")
encode = _encoder.encode
"""Return the one spelling of a message, as bytes."""


def decode(payload: bytes, kind: type[T], *, limit: int = MAX_MESSAGE_BYTES) -> T:
    """Parse ``payload`` as ``kind``, accepting only the spelling that ``encode`` would write.

    Raises:
        FormatError: too large, not JSON of that type, or another spelling of it (a key given
            twice, spaces, another order, an escape that is not needed).
    """
    if len(payload) > limit:
        raise FormatError(f"{len(payload)} bytes, at most {limit} allowed", Reason.TOO_LARGE)
    named = getattr(kind, "__name__", "message")  # which a union does not have
    try:
        message = msgspec.json.decode(payload, type=kind)
    except UNREADABLE as error:
        raise FormatError(f"{named}: {error}") from error
    if encode(message) != payload:
        raise FormatError(f"{named}: not in canonical form", Reason.NOT_CANONICAL)
    return message
