"""The pledge of an epoch: how it will be drawn, in the log before anyone can know what that draws.

It fixes everything but what nobody can choose: the range ends at the pledge's own entry, rate and
beacon round are named, and the gateway's own randomness is committed to. The epoch opens it.
"""

import hashlib
from typing import Annotated, Literal, NewType

import msgspec

from lydite.messages.canonical import Count, Hex32, Message, Word, decode
from lydite.messages.epoch import Ppm
from lydite.messages.statement import Subject

Entropy = NewType("Entropy", bytes)

_LABEL = b"lydite/entropy/v1\x00"


class Predicate(Message, frozen=True, kw_only=True):
    """Epoch ``epoch`` draws from 1-based entry ``first`` up to the entry of this pledge.

    It does so at ``epsilon_ppm``, with round ``round`` of the chain of that name. ``attempt``
    counts the pledges of one epoch from 1.
    """

    epoch: Count
    attempt: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    first: Count
    epsilon_ppm: Ppm
    chain: Word
    round: Count
    commitment: Hex32
    provider: Word


class Pledge(Message, frozen=True, kw_only=True):
    """In-toto Statement whose subject is the commitment to the gateway's randomness."""

    statement_type: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(
        name="_type", default="https://in-toto.io/Statement/v1"
    )
    subject: tuple[Subject]
    predicate_type: Literal["https://lydite.dev/attestations/audit-entropy/v1"] = (
        "https://lydite.dev/attestations/audit-entropy/v1"
    )
    predicate: Predicate


def commit(epoch: int, attempt: int, entropy: Entropy) -> bytes:
    """Return the commitment to 32 bytes of randomness for one pledge of one epoch.

    SHA-256 of a label, the two numbers in eight bytes each, and the bytes.
    """
    return hashlib.sha256(_LABEL + epoch.to_bytes(8) + attempt.to_bytes(8) + entropy).digest()


def parse(payload: bytes) -> Pledge:
    """Parse a pledge's payload, at most 64 KiB, in its one spelling."""
    return decode(payload, Pledge, limit=1 << 16)
