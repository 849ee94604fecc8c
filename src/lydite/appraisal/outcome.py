"""What became of one request: drawn or not, examined or not, and how its provider stands.

What a recomputer answers to the client that asks for its own request; every part is signed, logged
and proved, so that the client checks it with its trust file alone. Knows nothing of HTTP.
"""

import hashlib
from typing import Literal, NamedTuple

from lydite.appraisal import decision, policy, receipts, references, selection
from lydite.appraisal.policy import Policy
from lydite.appraisal.receipts import Exchange, Served
from lydite.appraisal.references import Reference
from lydite.appraisal.report import Fact, Report
from lydite.appraisal.trust import Anchor, Trust
from lydite.errors import FormatError, Reason, VerificationError
from lydite.messages import audit, entropy, entry, epoch, receipt
from lydite.messages.audit import AuditPredicate, ResultPredicate, Verdict
from lydite.messages.canonical import Count, Message, decode, encode
from lydite.messages.entry import EntryKind
from lydite.messages.finding import Finding
from lydite.messages.tier import Tier
from lydite.sampling import draw
from lydite.signing.dsse import (
    Envelope,
    KeyId,
    PublicKey,
    digest,
    key_id,
    open_envelope,
    payload_of,
)
from lydite.tlog import proof as proofs
from lydite.tlog.hashing import leaf_hash

Stage = Literal["unlogged", "waiting", "undrawn", "drawn", "audited"]
"""Not in a witnessed checkpoint yet; logged, and no draw covers it yet; covered and not drawn;
drawn, and not examined yet; drawn and examined."""

CAVEATS = (
    "that this very answer is the declared model's: one answer alone seldom says so",
    "which machine answered",
    "that the auditor measured honestly: its records are signed, and others can repeat them",
    "that no newer verdict says otherwise: see when this one was issued, and give --max-age",
    "how the provider's verdict follows from all its records: lydite verify does, from the bundle",
)
_STAGES: dict[Stage, str] = {
    "unlogged": "your request is not in the witnessed log yet",
    "waiting": "your request is logged, and the draw over it is to come",
    "undrawn": "your request was not drawn",
    "drawn": "your request was drawn, and is to be recomputed",
    "audited": "your request was drawn and recomputed",
}


class Proven(Message, frozen=True, kw_only=True):
    """A signed envelope, the 1-based number of its entry, and its tlog-proof."""

    envelope: Envelope
    index: Count
    proof: str


class Outcome(Message, frozen=True, kw_only=True):
    """What became of one request; ``result`` is a verdict on its provider, the newest if honest.

    ``epoch`` is the one that covers the receipt, ``pledge`` what it was pledged by. ``policy`` and
    ``references`` are the documents that the numbers rest on, in the form that a trust file pins.
    """

    v: Literal[1] = 1
    receipt: Served
    stage: Stage
    epoch: Proven | None = None
    pledge: Proven | None = None
    audit: Proven | None = None
    result: Proven | None = None
    policy: Policy | None = None
    references: tuple[Reference, ...] = ()


class _Known(NamedTuple):
    """The parts of an outcome, each verified."""

    stage: Stage
    own: Verdict | None
    """What the policy makes of this one answer, where it was drawn and recomputed."""
    findings: tuple[Finding, ...]
    result: ResultPredicate | None
    """The provider's verdict, if it covers this receipt's draw."""


def check(
    payload: bytes,
    trust: Trust,
    own: Exchange | None = None,
    receipt_id: str | None = None,
    not_before_ms: int = 0,
) -> Report:
    """Check what became of one request, as a client that trusts whom ``trust`` names.

    1. The receipt is valid (``receipts.check``), and about the client's own bytes if given.
    2. The epoch is the gateway's, logged, and its draw is recounted: it covers the receipt.
    3. The audit is an accepted auditor's, logged, about this receipt, and only if it was drawn.
    4. The result is an accepted auditor's, logged, and rests on what the trust file pins; it was
       issued at ``not_before_ms`` (Unix) or later.

    Affirming takes a consistent provider whose draws cover the receipt, and the client's bytes.

    Raises:
        FormatError, VerificationError: a step fails; the reason says which.

    **Does not show**: see ``CAVEATS``, which every report repeats.
    """
    outcome = decode(payload, Outcome, limit=1 << 23)
    # 1.
    base = receipts.check(encode(outcome.receipt), trust, own, receipt_id)
    said = receipt.parse(payload_of(outcome.receipt.envelope)).predicate
    book = _Book(outcome, trust, trust.anchor(said.provider))
    # 2.
    epoch_number, drawn = book.epoch()
    # 3.
    findings = book.audit(epoch_number) if drawn else None
    if outcome.audit is not None and not drawn:
        raise VerificationError(Reason.UNDRAWN_AUDIT, "an audit of a receipt that nobody drew")
    # 4.
    result = book.result()
    if result is not None and receipt.unix_ms(result.issued) < not_before_ms:
        raise VerificationError(Reason.STALE, f"the verdict was issued at {result.issued}")
    stage = _stage(outcome, drawn=drawn)
    if stage != outcome.stage:
        raise VerificationError(
            Reason.VERDICT_MISMATCH, f"said to be {outcome.stage}, shown to be {stage}"
        )
    known = _Known(stage, book.judged(findings), findings or (), result)
    return _report(base, known, compared=own is not None)


class _Book:
    """How the parts of one outcome are opened."""

    def __init__(self, outcome: Outcome, trust: Trust, anchor: Anchor) -> None:
        self.outcome = outcome
        self.trust = trust
        self.anchor = anchor
        self.entry = outcome.receipt.index or 0
        if outcome.policy is not None:
            policy.check(outcome.policy)
            if policy.digest(outcome.policy) != trust.policy:
                raise VerificationError(Reason.UNKNOWN_POLICY, "the policy is not the pinned one")

    def epoch(self) -> tuple[int, bool]:
        """Return the number of the epoch that covers the receipt, and whether it drew it."""
        shown = self.outcome.epoch
        if shown is None:
            return 0, False
        key = self.anchor.gateway_public
        said = epoch.parse(self._open(shown, "epoch", {key_id(key): key})).predicate
        if said.provider != self.anchor.provider:
            raise VerificationError(Reason.WRONG_PROVIDER, f"epoch {said.epoch} of another")
        if self.outcome.receipt.proof is None or not said.first <= self.entry <= said.tree_size:
            raise VerificationError(
                Reason.SELECTION_GAP, f"epoch {said.epoch} does not cover entry {self.entry}"
            )
        if self.outcome.policy is None:
            raise FormatError("an epoch is shown without the policy that fixes its rate")
        log, vrf_key = self.trust.log_policy(self.anchor), bytes.fromhex(self.anchor.vrf_key)
        turn = selection.turn(
            said, self._pledge(key), log, self.trust.beacon, vrf_key, self.outcome.policy
        )
        return said.epoch, draw.selected(turn.beta, self.entry, said.epsilon_ppm)

    def _pledge(self, key: PublicKey) -> selection.Pledged:
        shown = self.outcome.pledge
        if shown is None:
            raise FormatError("an epoch is shown without its pledge")
        payload = self._open(shown, "entropy", {key_id(key): key})
        said = entropy.parse(payload).predicate
        return selection.Pledged(shown.index, said, hashlib.sha256(payload).digest())

    def audit(self, epoch_number: int) -> tuple[Finding, ...] | None:
        """Return the findings on the receipt, None where there is no record of it yet."""
        shown = self.outcome.audit
        if shown is None:
            return None
        statement = audit.parse_audit(self._open(shown, "audit", self.trust.auditor_keys()))
        said: AuditPredicate = statement.predicate
        about = digest(encode(self.outcome.receipt.envelope)).hex()
        expected = (self.entry, epoch_number, self.anchor.provider, about)
        subject = statement.subject[0].digest.sha256
        if (said.entry, said.epoch, said.provider, subject) != expected:
            raise VerificationError(Reason.BAD_COMMITMENT, "the audit is about another receipt")
        return said.findings

    def result(self) -> ResultPredicate | None:
        """Return the provider's verdict, None where none covers the receipt."""
        shown = self.outcome.result
        if shown is None:
            return None
        said = audit.parse_result(self._open(shown, "result", self.trust.auditor_keys())).predicate
        if said.provider != self.anchor.provider:
            raise VerificationError(Reason.WRONG_PROVIDER, "result about another provider")
        if said.policy != self.trust.policy:
            raise VerificationError(Reason.UNKNOWN_POLICY, "result under another policy")
        if not set(said.references) <= set(self.trust.references):
            raise VerificationError(Reason.UNKNOWN_REFERENCE, "result by another reference")
        return said if said.tree_size >= self.entry > 0 else None

    def judged(self, findings: tuple[Finding, ...] | None) -> Verdict | None:
        """Return what the policy makes of these findings alone."""
        if findings is None or self.outcome.policy is None:
            return None
        references.check_pinned(self.outcome.references, self.trust)
        return decision.decide(self.outcome.policy, self.outcome.references, [findings])

    def _open(self, shown: Proven, kind: EntryKind, keys: dict[KeyId, PublicKey]) -> bytes:
        payload = open_envelope(encode(shown.envelope), keys, ())
        proof = proofs.parse(shown.proof.encode())
        if proof.index != shown.index - 1:
            raise FormatError(f"{kind} at entry {shown.index}, its proof at {proof.index + 1}")
        leaf = entry.of_statement(payload, kind, self.anchor.provider)
        proofs.verify(proof, leaf_hash(leaf), self.trust.log_policy(self.anchor))
        return payload


def _stage(outcome: Outcome, *, drawn: bool) -> Stage:
    if outcome.receipt.proof is None:
        return "unlogged"
    if outcome.epoch is None:
        return "waiting"
    if not drawn:
        return "undrawn"
    return "drawn" if outcome.audit is None else "audited"


def _report(base: Report, known: _Known, *, compared: bool) -> Report:
    tier, reason = _judge(known, compared=compared)
    words = _STAGES[known.stage]
    if known.result is not None:
        words += f"; its provider is {known.result.verdict.tier.words}"
    own = known.own
    return Report(
        tier=tier,
        reason=reason,
        headline=words,
        provider=base.provider,
        log10_e_milli=own.log10_e_milli if own else 0,
        tokens=own.tokens if own else 0,
        facts=(*base.facts, *_own(known), *_provider(known)),
        skipped=own.skipped if own else (),
        caveats=CAVEATS,
    )


def _judge(known: _Known, *, compared: bool) -> tuple[Tier, Reason]:
    """Return how far a client may go: on its own answer first, then on its provider."""
    if known.stage == "unlogged":
        return Tier.NONE, Reason.NOT_IN_LOG
    own, result = known.own, known.result
    if own is not None and own.tier in (Tier.CONTRAINDICATED, Tier.WARNING):
        return own.tier, own.reason
    if known.stage == "waiting" or result is None:
        return Tier.NONE, Reason.PENDING
    verdict = result.verdict
    if verdict.tier is not Tier.AFFIRMING:
        return verdict.tier, verdict.reason
    if known.stage == "drawn":
        return Tier.NONE, Reason.PENDING
    return (Tier.AFFIRMING, verdict.reason) if compared else (Tier.NONE, Reason.NOT_COMPARED)


def _own(known: _Known) -> tuple[Fact, ...]:
    if known.own is None:
        return ()
    named = ", ".join(f"{finding.kind} {finding.reason}" for finding in known.findings)
    return (
        Fact(name="found", value=named),
        Fact(
            name="your answer alone",
            value=f"log10 E {known.own.log10_e_milli / 1000:.3f} on {known.own.tokens} tokens; "
            f"{known.own.tokens_needed} would be needed to tell",
        ),
    )


def _provider(known: _Known) -> tuple[Fact, ...]:
    if known.result is None:
        return (Fact(name="provider's verdict", value="none yet that covers your request"),)
    said, verdict = known.result, known.result.verdict
    return (
        Fact(
            name="provider's verdict",
            value=f"{verdict.tier.words} ({verdict.reason}), log10 E "
            f"{verdict.log10_e_milli / 1000:.3f} on {verdict.tokens} tokens of {verdict.scored} "
            f"drawn answers",
        ),
        Fact(name="issued", value=f"{said.issued}, over entries 1 to {said.tree_size}"),
    )
