"""What a client is told of its own request when it asks for that one to be recomputed.

The client saw the answer before it asked, so this is no draw: such a statement stands in the
recomputer's log and never in a provider's evidence. Knows nothing of how scores are judged.
"""

from typing import Literal

import msgspec

from lydite.errors import Reason
from lydite.messages.audit import Verdict
from lydite.messages.canonical import Count, Hex32, Message, Word, decode
from lydite.messages.finding import Finding
from lydite.messages.receipt import ReceiptId, Timestamp
from lydite.messages.statement import Subject
from lydite.messages.tier import Tier


class Predicate(Message, frozen=True, kw_only=True):
    """The findings on the receipt at 1-based ``entry``, which its client chose.

    ``verdict`` is what the policy makes of this one answer as if it had been drawn; ``tier`` and
    ``reason`` are what is left of that after ``choice_milli``, the price of the choice in
    thousandths of log10 E.
    """

    selected_by: Literal["client"] = "client"
    receipt_id: ReceiptId
    entry: Count
    findings: tuple[Finding, ...]
    verdict: Verdict
    choice_milli: Count
    tier: Tier
    reason: Reason
    policy: Hex32
    references: tuple[Hex32, ...]
    provider: Word
    auditor: Word
    issued: Timestamp


class Examination(Message, frozen=True, kw_only=True):
    """In-toto Statement whose subject is the digest of the examined receipt's statement."""

    statement_type: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(
        name="_type", default="https://in-toto.io/Statement/v1"
    )
    subject: tuple[Subject]
    predicate_type: Literal["https://lydite.dev/attestations/examination/v1"] = (
        "https://lydite.dev/attestations/examination/v1"
    )
    predicate: Predicate


def parse(payload: bytes) -> Examination:
    """Parse an examination's payload, at most 4 MiB, in its one spelling."""
    return decode(payload, Examination, limit=1 << 22)
