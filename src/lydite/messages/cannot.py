"""The receipt of a request that nobody could serve: which model, who was asked, and since when.

Signed by the recomputer and entered into its own log, so that a refusal can be counted and proved
even while no gateway is up. Knows nothing of routes.
"""

from typing import Annotated, Literal

import msgspec

from lydite.messages.canonical import Count, Hex32, Message, Word, decode
from lydite.messages.receipt import ReceiptId, Timestamp
from lydite.messages.statement import Subject

Why = Literal["other-model", "shut-down", "unhealthy", "unreachable", "unverified"]
"""Why a gateway was not the one: it declares another model, was shut down, failed its last check,
did not take the connection, or its declaration could not be verified."""


class Asked(Message, frozen=True, kw_only=True):
    """One gateway, by the provider behind it, and why it was not the one."""

    provider: Word
    why: Why


class Predicate(Message, frozen=True, kw_only=True):
    """Nobody served ``model`` within ``deadline_ms``; ``request`` is the salted commitment."""

    id: ReceiptId
    model: Word
    request: Hex32
    asked: Annotated[tuple[Asked, ...], msgspec.Meta(max_length=1000)]
    deadline_ms: Count
    received: Timestamp
    issued: Timestamp
    recomputer: Word


class Cannot(Message, frozen=True, kw_only=True):
    """In-toto Statement whose subject is the salted commitment to the request."""

    statement_type: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(
        name="_type", default="https://in-toto.io/Statement/v1"
    )
    subject: tuple[Subject]
    predicate_type: Literal["https://lydite.dev/attestations/cannot/v1"] = (
        "https://lydite.dev/attestations/cannot/v1"
    )
    predicate: Predicate


def parse(payload: bytes) -> Cannot:
    """Parse the payload of a *cannot*, at most 256 KiB, in its one spelling."""
    return decode(payload, Cannot, limit=1 << 18)
