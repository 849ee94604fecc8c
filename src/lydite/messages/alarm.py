"""An alarm: what was found against a gateway, what the policy says to do, and what became of it.

Entered before anything is done, and again with the outcome. Knows nothing of how a server is shut
down, nor of who listens.
"""

from typing import Annotated, Literal

import msgspec

from lydite.errors import Reason
from lydite.messages.canonical import Count, Hex32, Integer, Message, Word, decode
from lydite.messages.receipt import Timestamp
from lydite.messages.statement import Subject

Weight = Literal["accusation", "fault"]
"""An accusation is what the error budget carries, or a false statement that the gateway signed. A
fault is everything that a cut line or a full disk could have done as well."""
Stage = Literal["raised", "done", "failed"]
Action = Literal["nothing", "stop-routing", "shut-down"]
Mode = Literal["shadow", "enforce"]
Text = Annotated[str, msgspec.Meta(max_length=500)]


class Predicate(Message, frozen=True, kw_only=True):
    """What was found against ``provider``, and ``action``, which shadow mode only names.

    ``result`` is the digest of the result statement that carries the finding, where one does.
    """

    weight: Weight
    reason: Reason
    detail: Text
    log10_e_milli: Integer
    accuse_milli: Count
    result: Hex32 | None
    mode: Mode
    action: Action
    stage: Stage
    issued: Timestamp
    provider: Word
    recomputer: Word


class Alarm(Message, frozen=True, kw_only=True):
    """In-toto Statement whose subject is the root of the accused's declared weights."""

    statement_type: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(
        name="_type", default="https://in-toto.io/Statement/v1"
    )
    subject: tuple[Subject]
    predicate_type: Literal["https://lydite.dev/attestations/alarm/v1"] = (
        "https://lydite.dev/attestations/alarm/v1"
    )
    predicate: Predicate


def parse(payload: bytes) -> Alarm:
    """Parse an alarm's payload, at most 64 KiB, in its one spelling."""
    return decode(payload, Alarm, limit=1 << 16)
