"""From an exchange that is over to its receipt and its opening. Does no I/O, reads no clock."""

import functools
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

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


class Stamp:
    """Who stands for the receipts, and under which declaration (digest of its envelope)."""

    def __init__(self, provider: Signer, gateway: Signer, declaration: str, sampler: str) -> None:
        self.provider = provider
        self.gateway = gateway
        self.declaration = declaration
        self.sampler = sampler
        self.template = _template(self)


class Draft(msgspec.Struct, frozen=True, kw_only=True):
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
    bearer: bytes = b""
    """Digest of who asked, kept only for those who may ask for its signature later."""


def seal(statement: bytes, stamp: Stamp) -> bytes:
    """Return the canonical envelope of a receipt's statement, signed by provider and gateway.

    Ed25519 is deterministic: whenever this is done, the same bytes come out.
    """
    return sign_envelope(statement, stamp.provider, stamp.gateway)


def statement_of(draft: Draft, stamp: Stamp) -> bytes:
    """Return the statement of one exchange in its one spelling, as ``encode(receipt_of(...))``.

    Written from a template, four times as fast; every value is digits, hexadecimal, a word of ours
    or of the declaration, in JSON already.
    """
    return stamp.template % (
        draft.receipt_id.encode(),
        draft.asked.hex().encode(),
        len(draft.request),
        sum(map(len, draft.response)),
        draft.outcome.encode(),
        draft.status,
        b"true" if draft.streamed else b"false",
        timestamp(draft.completed_ms),
        timestamp(draft.received_ms),
        draft.answered.hex().encode(),
    )


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
                received=timestamp(draft.received_ms).decode(),
                completed=timestamp(draft.completed_ms).decode(),
            ),
            provider=stamp.provider.keyid,
            gateway=stamp.gateway.keyid,
        ),
    )


def _template(stamp: Stamp) -> bytes:
    """Return the statement of ``stamp``'s receipts with a place for each value that varies."""
    known = (stamp.declaration, stamp.gateway.keyid, stamp.provider.keyid, stamp.sampler)
    declaration, gateway, provider, sampler = (
        encode(word)[1:-1].replace(b"%", b"%%") for word in known
    )
    return (
        b'{"_type":"https://in-toto.io/Statement/v1","predicate":{"declaration":"'
        + declaration
        + b'","gateway":"'
        + gateway
        + b'","provider":"'
        + provider
        + b'","receiptId":"%b","request":{"commitment":"%b","length":%d,"method":"POST"},'
        b'"response":{"length":%d,"outcome":"%b","status":%d,"streamed":%b},"sampler":"'
        + sampler
        + b'","timing":{"completed":"%b","received":"%b"}},"predicateType":'
        b'"https://lydite.dev/attestations/inference-receipt/v1",'
        b'"subject":[{"digest":{"sha256":"%b"},"name":"response"}]}'
    )


@functools.lru_cache(maxsize=64)
def timestamp(time_ms: int) -> bytes:
    """Return RFC 3339 in UTC with milliseconds."""
    return b"%b.%03dZ" % (_second(time_ms // 1000), time_ms % 1000)


@functools.lru_cache(maxsize=8)
def _second(time_s: int) -> bytes:
    return datetime.fromtimestamp(time_s, UTC).isoformat()[:19].encode()
