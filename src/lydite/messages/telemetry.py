"""A record of telemetry that was held against declared work, kept for disputes.

Each record names the one before, the declared work, the reference and the sealed segments, so that
whoever has those repeats it. Says nothing of what follows: telemetry accuses nobody.
"""

from typing import Literal

import msgspec

from lydite.messages.canonical import Hex32, Message, Word, decode
from lydite.messages.finding import Finding
from lydite.messages.receipt import Timestamp
from lydite.messages.segment import SegmentPointer
from lydite.messages.statement import Subject


class Predicate(Message, frozen=True, kw_only=True):
    """What was found, and what it was found from."""

    finding: Finding
    provider: Word
    session: Word
    segments: tuple[SegmentPointer, ...]
    """Where the telemetry was sealed; none, and nobody can tell whether it is as it was."""
    traces: tuple[Hex32, ...]
    """SHA-256 of the files that were read."""
    previous: Hex32 | None
    """Digest of the envelope before this one in the same log."""
    issued: Timestamp


class Record(Message, frozen=True, kw_only=True):
    """In-toto Statement whose subject is the digest of the declared work."""

    statement_type: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(
        name="_type", default="https://in-toto.io/Statement/v1"
    )
    subject: tuple[Subject]
    predicate_type: Literal["https://lydite.dev/attestations/telemetry-finding/v1"] = (
        "https://lydite.dev/attestations/telemetry-finding/v1"
    )
    predicate: Predicate


def parse(payload: bytes) -> Record:
    """Parse a record's payload, at most 1 MiB, in its one spelling."""
    return decode(payload, Record, limit=1 << 20)
