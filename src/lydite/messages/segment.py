"""A sealed segment of telemetry: what a monitor read in one stretch of time, and what it lost.

The samples lie in a file of columns beside it; the statement names that file by digest, the segment
before by the digest of its envelope, and every sample that was left out by reason. Knows nothing of
sensors, files or keys.

Two clocks: samples carry the *sampling clock*, which nobody sets back; statements of others carry
Unix time. ``zero_us`` leads from one to the other.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from lydite.errors import FormatError
from lydite.messages.canonical import SAFE_INTEGER, Count, Hex32, Integer, Message, Word, decode
from lydite.messages.receipt import Timestamp
from lydite.messages.statement import Subject

RunId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
Clock = Literal["monotonic", "recorded"]
"""Whose time samples carry: that of the machine that sampled, or that of the record replayed."""


class Counted(Message, frozen=True, kw_only=True):
    """How many samples were mended, left out or never read, for one reason."""

    reason: Word
    count: Count


class Lost(Message, frozen=True, kw_only=True):
    """An earlier run ended without sealing the segment that it had opened at ``since_us``."""

    run: RunId
    index: Count
    since_us: Count
    """Unix time."""


class Predicate(Message, frozen=True, kw_only=True):
    """Samples in ``[from_us, to_us)`` of the sampling clock, in the monitor's ``index``-th segment.

    Unix time is sampling time plus ``zero_us``, measured at the start, or ``zero_end_us``, at the
    end: they part where somebody set the machine's clock. For recorded samples there is none.
    ``counted`` ascends by reason. ``last`` says that the run ended on purpose.
    """

    run: RunId
    index: Count
    previous: Hex32 | None
    clock: Clock
    from_us: Count
    to_us: Count
    zero_us: Integer | None
    zero_end_us: Integer | None
    devices: tuple[Word, ...]
    samples: Count
    length: Count
    """Bytes of the file of columns."""
    counted: tuple[Counted, ...]
    selfcheck: Hex32 | None
    """Digest of the report in force of what each sensor is worth."""
    lost: Lost | None
    last: bool
    issued: Timestamp
    monitor: Word


class Segment(Message, frozen=True, kw_only=True):
    """In-toto Statement whose subject is the digest of the file of columns."""

    statement_type: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(
        name="_type", default="https://in-toto.io/Statement/v1"
    )
    subject: tuple[Subject]
    predicate_type: Literal["https://lydite.dev/attestations/telemetry-segment/v1"] = (
        "https://lydite.dev/attestations/telemetry-segment/v1"
    )
    predicate: Predicate


class SegmentPointer(Message, frozen=True, kw_only=True):
    """Samples of ``[from_us, to_us)`` on the sampling clock, in the segment sealed so."""

    segment: Hex32
    """Digest of the segment's envelope."""
    from_us: Count
    to_us: Count


def counted(counts: Mapping[str, int]) -> tuple[Counted, ...]:
    """Return counts by reason in their one order, without those that are nought.

    A count beyond what a message holds, of a meter that skips ages, is the largest that it does.
    """
    return tuple(
        Counted(reason=reason, count=min(count, SAFE_INTEGER))
        for reason, count in sorted(counts.items())
        if count
    )


def parse(payload: bytes) -> Segment:
    """Parse a segment's payload, at most 64 KiB, in its one spelling.

    Raises:
        FormatError: it is not one, ends before it starts, or counts one reason twice.
    """
    segment = decode(payload, Segment, limit=1 << 16)
    said = segment.predicate
    if said.to_us < said.from_us:
        raise FormatError(f"segment {said.index} ends before it starts")
    if (said.zero_us is None) != (said.clock == "recorded"):
        raise FormatError(f"segment {said.index}: a {said.clock} clock, Unix time {said.zero_us}")
    reasons = [each.reason for each in said.counted]
    if reasons != sorted(set(reasons)):
        raise FormatError(f"segment {said.index}: reasons not in order, or one twice")
    return segment


def parse_pointer(payload: bytes) -> SegmentPointer:
    """Parse a pointer into a segment, at most 4 KiB, in its one spelling.

    Raises:
        FormatError: it is not one, or spans no time.
    """
    pointer = decode(payload, SegmentPointer, limit=1 << 12)
    if pointer.to_us <= pointer.from_us:
        raise FormatError("a pointer that spans no time")
    return pointer
