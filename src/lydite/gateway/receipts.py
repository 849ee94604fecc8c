"""From an exchange that is over to its receipt and its opening. Does no I/O and reads no clock."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from lydite.messages import opening
from lydite.messages.canonical import encode
from lydite.messages.commitment import RequestCommitment, ResponseCommitment, Salt
from lydite.messages.opening import Opening
from lydite.messages.receipt import (
    Outcome,
    Predicate,
    Receipt,
    RequestPart,
    ResponsePart,
    Timing,
)
from lydite.messages.statement import subject
from lydite.signing.keys import Signer, sign_envelope


class Stamp(NamedTuple):
    """Who stands for the receipts, and under which declaration (digest of its envelope)."""

    provider: Signer
    gateway: Signer
    declaration: str
    sampler: str


class Draft(NamedTuple):
    """One exchange, over: everything that its receipt says and its opening opens."""

    receipt_id: str
    salt: Salt
    path: bytes
    request: bytes
    asked: RequestCommitment
    response: Sequence[bytes]
    answered: ResponseCommitment
    status: int
    outcome: Outcome
    streamed: bool
    received_ms: int
    completed_ms: int


def seal(draft: Draft, stamp: Stamp) -> bytes:
    """Return the canonical envelope of one exchange, signed by provider and gateway."""
    return sign_envelope(encode(receipt_of(draft, stamp)), stamp.provider, stamp.gateway)


def opening_of(draft: Draft) -> Opening:
    """Return what the receipt's commitments cover."""
    return opening.make(
        draft.receipt_id,
        draft.salt,
        draft.path,
        draft.request,
        b"".join(draft.response),
        draft.status,
    )


def receipt_of(draft: Draft, stamp: Stamp) -> Receipt:
    """Return the statement of one exchange."""
    return Receipt(
        subject=subject("response", draft.answered),
        predicate=Predicate(
            receipt_id=draft.receipt_id,
            request=RequestPart(
                commitment=draft.asked.hex(), length=len(draft.request), method="POST"
            ),
            response=ResponsePart(
                length=sum(map(len, draft.response)),
                outcome=draft.outcome,
                status=draft.status,
                streamed=draft.streamed,
            ),
            declaration=stamp.declaration,
            sampler=stamp.sampler,
            timing=Timing(
                received=_timestamp(draft.received_ms), completed=_timestamp(draft.completed_ms)
            ),
            provider=stamp.provider.keyid,
            gateway=stamp.gateway.keyid,
        ),
    )


def _timestamp(time_ms: int) -> str:
    """Return RFC 3339 in UTC with milliseconds."""
    second = datetime.fromtimestamp(time_ms // 1000, UTC).isoformat()[:19]
    return f"{second}.{time_ms % 1000:03d}Z"
