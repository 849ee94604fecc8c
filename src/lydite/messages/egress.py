"""What is said of egress: a meter's score of one answer, and a gateway's notice about an account.

Bits are given as millionths of a bit. Knows nothing of how either is counted.
"""

from typing import Literal

import msgspec

from lydite.errors import Reason
from lydite.messages.canonical import Count, Hex32, Message, Word, decode
from lydite.messages.finding import Finding
from lydite.messages.receipt import ReceiptId, Timestamp
from lydite.messages.statement import Subject

Event = Literal["alarm", "stop", "budget", "profile"]
"""A threshold was passed, an account was stopped, its budget was changed, its traffic is odd."""
Scope = Literal["session", "day"]


class ScorePredicate(Message, frozen=True, kw_only=True):
    """What one answer can carry at most, by channel, and the finding it follows from.

    ``since`` is the entry of the first answer that the meter's code of this session has learnt
    from: whoever charges the findings from there on in order gets the same numbers.
    """

    entry: Count
    receipt_id: ReceiptId
    session: Word
    tokens_micro: Count
    ending_micro: Count
    frame_micro: Count
    coarse_micro: Count
    since: Count
    finding: Finding
    meter: Word
    issued: Timestamp

    @property
    def micro_bits(self) -> int:
        """The sum of the channels."""
        return self.tokens_micro + self.ending_micro + self.frame_micro + self.coarse_micro


class Score(Message, frozen=True, kw_only=True):
    """In-toto Statement whose subject is the digest of the opening that was weighed."""

    statement_type: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(
        name="_type", default="https://in-toto.io/Statement/v1"
    )
    subject: tuple[Subject]
    predicate_type: Literal["https://lydite.dev/attestations/egress-score/v1"] = (
        "https://lydite.dev/attestations/egress-score/v1"
    )
    predicate: ScorePredicate


class NoticePredicate(Message, frozen=True, kw_only=True):
    """What happened to the account of ``session`` (or of all, for the day) on UTC ``day``.

    ``day`` counts from 1970-01-01. ``charged`` is scored, ``waiting`` is charged by size until a
    score comes.
    """

    event: Event
    scope: Scope
    session: Word
    day: Count
    charged_micro: Count
    waiting_micro: Count
    budget_micro: Count
    entry: Count
    reason: Reason
    provider: Word
    gateway: Word
    issued: Timestamp


class Notice(Message, frozen=True, kw_only=True):
    """In-toto Statement whose subject is the digest of the session's pseudonym."""

    statement_type: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(
        name="_type", default="https://in-toto.io/Statement/v1"
    )
    subject: tuple[Subject]
    predicate_type: Literal["https://lydite.dev/attestations/egress-notice/v1"] = (
        "https://lydite.dev/attestations/egress-notice/v1"
    )
    predicate: NoticePredicate


class StandingPredicate(Message, frozen=True, kw_only=True):
    """How far the file of accounts had come: its newest line's number and authentication code.

    ``renewed``: officers had it begun anew, since what lay there was not believed.
    """

    lines: Count
    code: Hex32
    renewed: bool
    provider: Word
    gateway: Word
    issued: Timestamp


class Standing(Message, frozen=True, kw_only=True):
    """In-toto Statement whose subject is the accounts, by the code of their newest line."""

    statement_type: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(
        name="_type", default="https://in-toto.io/Statement/v1"
    )
    subject: tuple[Subject]
    predicate_type: Literal["https://lydite.dev/attestations/egress-accounts/v1"] = (
        "https://lydite.dev/attestations/egress-accounts/v1"
    )
    predicate: StandingPredicate


class Flow(Message, frozen=True, kw_only=True):
    """One exchange as its bytes look from outside; for profiles of traffic."""

    at_ms: Count
    bytes_in: Count
    bytes_out: Count
    packed_in: Count
    """The bytes of the request, compressed."""
    packed_out: Count
    tokens: Count
    """As many as the answer declares."""
    blobs: Count
    """Bytes, in or out, that stand in long runs without a space, as encoded data does."""


def parse_score(payload: bytes) -> Score:
    """Parse a score's payload, at most 8 MiB, in its one spelling."""
    return decode(payload, Score)


def parse_notice(payload: bytes) -> Notice:
    """Parse a notice's payload, at most 64 KiB, in its one spelling."""
    return decode(payload, Notice, limit=1 << 16)


def parse_standing(payload: bytes) -> Standing:
    """Parse the payload of a statement on accounts, at most 64 KiB, in its one spelling."""
    return decode(payload, Standing, limit=1 << 16)


def reference_of(score: ScorePredicate) -> Hex32 | None:
    """Return the digest of the Reference Value that a score was made with, if any was."""
    return score.finding.reference
