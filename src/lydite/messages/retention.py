"""What a gateway says it destroyed: a claim that anyone recounts from the log and the draw.

Written into the log before the bytes go, so that nothing goes silently; afterwards the log holds
the commitments and this statement, and the gateway holds nothing.
"""

import bisect
import hashlib
from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec

from lydite.messages.canonical import Count, Hex32, Message, Word, decode
from lydite.messages.receipt import Timestamp
from lydite.messages.statement import Subject

Cause = Literal["undrawn", "full", "old", "expired", "audited", "damaged"]
Span = tuple[Count, Count]
MAX_SPANS = 20_000

_LABEL = b"lydite/destroyed/v1\x00"


class Predicate(Message, frozen=True, kw_only=True):
    """Inputs and outputs of receipts among entries ``first`` to ``last`` are destroyed.

    ``cause`` says which, and why: ``undrawn``, all that ``epoch`` did not draw, but for those in
    ``spans``, which had been lost before; ``full`` and ``old``, all of a range that no epoch had
    drawn from yet, because there was no room or they had waited too long; ``expired``, ``audited``
    and ``damaged``, those in ``spans``, which were drawn and kept too long, were drawn and are
    audited, or could not be read. A span is its first and last entry. ``destroyed`` and
    ``destroyed_digest`` count and name the receipts whose pairs went, ``kept`` and ``kept_digest``
    those that an epoch drew and whose pairs stay. ``epoch`` is 0 where none is meant.
    """

    cause: Cause
    epoch: Count
    first: Count
    last: Count
    spans: Annotated[tuple[Span, ...], msgspec.Meta(max_length=MAX_SPANS)]
    kept: Count
    kept_digest: Hex32
    destroyed: Count
    destroyed_digest: Hex32
    at: Timestamp
    provider: Word


class Retention(Message, frozen=True, kw_only=True):
    """In-toto Statement whose subject is the digest of what was destroyed."""

    statement_type: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(
        name="_type", default="https://in-toto.io/Statement/v1"
    )
    subject: tuple[Subject]
    predicate_type: Literal["https://lydite.dev/attestations/retention/v1"] = (
        "https://lydite.dev/attestations/retention/v1"
    )
    predicate: Predicate


class Tally:
    """A set of receipts, counted and named as they come, in the order of their entries.

    The name is SHA-256 of a label, then for each its number in eight bytes and the 32 bytes of
    SHA-256 that its leaf holds, which commit to the receipt's statement and so to input and output.
    """

    def __init__(self, entries: Iterable[tuple[int, bytes]] = ()) -> None:
        self.count = 0
        self._total = hashlib.sha256(_LABEL)
        for number, statement in entries:
            self.add(number, statement)

    def add(self, number: int, statement: bytes) -> None:
        """Add the receipt at an entry, by the SHA-256 of its statement."""
        self.count += 1
        self._total.update(number.to_bytes(8) + statement)

    def digest(self) -> bytes:
        """Return the name of the set."""
        return self._total.digest()


def digest(entries: Iterable[tuple[int, bytes]]) -> bytes:
    """Return the name of a set of receipts: see ``Tally``."""
    return Tally(entries).digest()


def parse(payload: bytes) -> Retention:
    """Parse a retention statement's payload, at most 1 MiB, in its one spelling."""
    return decode(payload, Retention, limit=1 << 20)


def spans_of(numbers: Iterable[int]) -> tuple[Span, ...]:
    """Return entry numbers, given in order, as spans of neighbours."""
    spans: list[Span] = []
    for number in numbers:
        if spans and spans[-1][1] == number - 1:
            spans[-1] = (spans[-1][0], number)
        else:
            spans.append((number, number))
    return tuple(spans)


class Spans:
    """Spans of entries, joined where they touch."""

    def __init__(self, spans: Iterable[Span]) -> None:
        self.spans: list[Span] = []
        for first, last in sorted(spans):
            if self.spans and first <= self.spans[-1][1] + 1:
                self.spans[-1] = (self.spans[-1][0], max(last, self.spans[-1][1]))
            else:
                self.spans.append((first, last))

    def hold(self, number: int) -> bool:
        """Say whether an entry is in one of them."""
        return self.cover((number, number))

    def within(self, span: Span) -> list[Span]:
        """Return the parts of them that lie in ``span``."""
        first, last = span
        return [(max(a, first), min(b, last)) for a, b in self.spans if a <= last and b >= first]

    def cover(self, span: Span) -> bool:
        """Say whether all of ``span`` is in one of them."""
        place = bisect.bisect_right(self.spans, span[0], key=lambda each: each[0]) - 1
        return place >= 0 and span[1] <= self.spans[place][1]
