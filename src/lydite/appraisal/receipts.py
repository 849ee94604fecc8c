"""One receipt, checked by the client it was given to. Bytes and trust anchors in, a report out."""

import hashlib
import hmac

import msgspec

from lydite.appraisal.report import Fact, Report
from lydite.appraisal.trust import Anchor, Trust
from lydite.errors import FormatError, Reason, VerificationError
from lydite.messages import entry, receipt
from lydite.messages.canonical import Count, Message, decode, encode
from lydite.messages.commitment import Salt, commit_request, commit_response
from lydite.messages.compact import Compact
from lydite.messages.receipt import Predicate, Receipt
from lydite.messages.tier import Tier
from lydite.signing.dsse import Envelope, key_id, open_envelope
from lydite.tlog import proof as proofs
from lydite.tlog.hashing import leaf_hash

CAVEATS = (
    "that the declared model made the answer: only an audit of drawn receipts speaks to that",
    "which machine answered",
)


class Served(Message, frozen=True, kw_only=True):
    """What a gateway answers at ``/v1/receipts/ID``; no proof until a checkpoint covers it."""

    envelope: Envelope
    index: Count | None
    proof: str | None


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """A client's own copy of what was sent and received, with the salt that came along."""

    salt: Salt
    path: bytes
    request: bytes
    response: bytes


def check(
    payload: bytes,
    trust: Trust,
    own: Exchange | Compact | None = None,
    receipt_id: str | None = None,
) -> Report:
    """Check one receipt as its gateway serves it; ``receipt_id`` is the one that was asked for.

    1. It is in its one spelling and about a provider that the relying party knows.
    2. Provider and gateway signed it, and it is the one that was asked for.
    3. It is in the witnessed log.
    4. It commits to the client's own copy, or is what was promised; else nothing is affirmed.

    Raises:
        FormatError, VerificationError: a step fails; the reason says which.

    **Does not show**: see ``CAVEATS``, which every report repeats.
    """
    # 1.
    served = decode(payload, Served, limit=1 << 20)
    envelope = encode(served.envelope)
    anchor = _anchor(served.envelope, trust)
    # 2.
    keys = {key_id(key): key for key in (anchor.provider_public, anchor.gateway_public)}
    said = open_envelope(envelope, keys, list(keys))
    statement = receipt.parse(said)
    if receipt_id not in {None, statement.predicate.receipt_id}:
        raise VerificationError(
            Reason.BAD_COMMITMENT, f"asked for {receipt_id}, got {statement.predicate.receipt_id}"
        )
    # 3.
    logged = _logged(served, entry.of_statement(said, "receipt", anchor.provider), trust, anchor)
    # 4.
    _compare(own, statement, said, served)
    compared = "match" if own is not None else "not compared"
    facts = (
        *_facts(statement.predicate, anchor),
        Fact(name="log", value=logged),
        Fact(name="your bytes", value=compared),
    )
    tier, reason, headline, detail = _outcome(served, own, statement.predicate)
    return Report(
        tier=tier,
        reason=reason,
        headline=headline,
        detail=detail,
        provider=anchor.name,
        facts=facts,
        caveats=CAVEATS,
    )


def _facts(told: Predicate, anchor: Anchor) -> tuple[Fact, ...]:
    return (
        Fact(name="provider", value=f"{anchor.name} ({anchor.provider})"),
        Fact(name="receipt", value=told.receipt_id),
        Fact(name="answer", value=f"HTTP {told.response.status}, {told.response.outcome}"),
        Fact(name="received", value=told.timing.received),
    )


def _outcome(
    served: Served, own: Exchange | Compact | None, told: Predicate
) -> tuple[Tier, Reason, str, str]:
    """Say how far a valid receipt goes: of an answer that was not complete, not to affirming."""
    if served.proof is None:
        detail = "no checkpoint covers it yet; ask again in a second"
        return Tier.NONE, Reason.NOT_IN_LOG, "receipt signed, not yet logged", detail
    if own is None:
        detail = "give --salt, --request and --response to compare it with your own bytes"
        return Tier.NONE, Reason.NOT_COMPARED, "receipt signed and logged", detail
    if told.response.outcome != "complete":
        headline = "receipt valid, and about an answer that is not complete"
        detail = f"its receipt says: HTTP {told.response.status}, {told.response.outcome}"
        return Tier.WARNING, Reason.BROKEN_OFF, headline, detail
    return Tier.AFFIRMING, Reason.CONSISTENT, "receipt valid, and about your bytes", ""


def _anchor(envelope: Envelope, trust: Trust) -> Anchor:
    signers = {signature.keyid for signature in envelope.signatures}
    for anchor in trust.providers:
        if anchor.provider in signers:
            return anchor
    raise VerificationError(Reason.UNKNOWN_KEY, "no provider that you trust signed this receipt")


def _logged(served: Served, leaf: bytes, trust: Trust, anchor: Anchor) -> str:
    if served.proof is None:
        return "waiting for a checkpoint"
    proof = proofs.parse(served.proof.encode())
    if served.index is None or proof.index != served.index - 1:
        raise FormatError(f"receipt at entry {served.index}, its proof at {proof.index + 1}")
    accepted = proofs.verify(proof, leaf_hash(leaf), trust.log_policy(anchor))
    witnesses = ", ".join(accepted.witnesses) or "nobody"
    return f"entry {served.index} of {accepted.checkpoint.origin}, witnessed by {witnesses}"


def _compare(
    own: Exchange | Compact | None, statement: Receipt, said: bytes, served: Served
) -> None:
    if isinstance(own, Compact):
        _promised(statement, said, served, own)
    elif own is not None:
        _same(statement, own)


def _promised(statement: Receipt, said: bytes, served: Served, own: Compact) -> None:
    """Hold the statement against the compact receipt that came with the answer."""
    told = statement.predicate
    same = (
        hmac.compare_digest(own.request, told.request.commitment),
        hmac.compare_digest(own.response, statement.subject[0].digest.sha256),
        hmac.compare_digest(own.statement, hashlib.sha256(said).hexdigest()),
        own.id == told.receipt_id,
        own.status == told.response.status,
        own.outcome == told.response.outcome,
        served.index in {None, own.entry},
    )
    if not all(same):
        raise VerificationError(
            Reason.BROKEN_PROMISE, f"receipt {own.id} is not what was promised with the answer"
        )


def _same(statement: Receipt, own: Exchange) -> None:
    asked = commit_request(own.salt, own.path, own.request).hex()
    if not hmac.compare_digest(asked, statement.predicate.request.commitment):
        raise VerificationError(
            Reason.BAD_COMMITMENT,
            "the receipt is about another request: another path than "
            f"{own.path.decode('ascii', 'replace')}, another salt, or other bytes",
        )
    answered = commit_response(own.salt, own.response).hex()
    if not hmac.compare_digest(answered, statement.subject[0].digest.sha256):
        raise VerificationError(Reason.BAD_COMMITMENT, "the receipt is about another answer")
    told = statement.predicate
    if (told.request.length, told.response.length) != (len(own.request), len(own.response)):
        raise VerificationError(Reason.BAD_COMMITMENT, "the receipt states other lengths")
