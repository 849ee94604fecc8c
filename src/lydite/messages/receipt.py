"""The inference receipt: which bytes went in, which came out, under which declaration.

Signed by provider and gateway over the same payload (``signing.dsse``). Knows nothing of keys.
"""

from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec

from lydite.errors import FormatError
from lydite.messages.canonical import Count, Hex32, Message, Word, decode
from lydite.messages.statement import Subject

ReceiptId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
Timestamp = Annotated[
    str,
    msgspec.Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z\Z"),
]
Outcome = Literal["complete", "aborted", "refused"]


class RequestPart(Message, frozen=True, kw_only=True):
    """The request as a salted commitment, its method and its length in bytes."""

    commitment: Hex32
    length: Count
    method: Literal["POST"]


class ResponsePart(Message, frozen=True, kw_only=True):
    """The answer: HTTP status, length in bytes, and how it ended."""

    length: Count
    outcome: Outcome
    status: Count
    streamed: bool


class Timing(Message, frozen=True, kw_only=True):
    """When the gateway had the request, and when it had the whole answer (RFC 3339, UTC)."""

    received: Timestamp
    completed: Timestamp


class Predicate(Message, frozen=True, kw_only=True):
    """What happened to one request. ``declaration`` is the digest of the provider's envelope."""

    receipt_id: ReceiptId
    request: RequestPart
    response: ResponsePart
    declaration: Hex32
    sampler: Word
    timing: Timing
    provider: Word
    gateway: Word


class Receipt(Message, frozen=True, kw_only=True):
    """In-toto Statement whose subject is the salted commitment to the answer."""

    statement_type: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(
        name="_type", default="https://in-toto.io/Statement/v1"
    )
    subject: tuple[Subject]
    predicate_type: Literal["https://lydite.dev/attestations/inference-receipt/v1"] = (
        "https://lydite.dev/attestations/inference-receipt/v1"
    )
    predicate: Predicate


def parse(payload: bytes) -> Receipt:
    """Parse a receipt's payload, at most 64 KiB, in its one spelling."""
    return decode(payload, Receipt, limit=1 << 16)


def unix_ms(time: Timestamp) -> int:
    """Return a statement's time in milliseconds since 1970.

    Raises:
        FormatError: there is no such time.
    """
    try:
        parsed = datetime.fromisoformat(time).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise FormatError(f"no time: {time}") from error
    return int(parsed.timestamp()) * 1000 + parsed.microsecond // 1000
