"""An answer that its client chose to have examined: what it says, after the price of the choice.

The client saw the answer first, and may have picked the strangest of many. So no such answer is
evidence about a provider, and one alone accuses only if it would, had every entry of the log been
asked about: entry n has the share 1/(n(n+1)) of the error budget, and these sum to one. The share
was fixed before the answer was made, so picking gains nothing. Pure arithmetic and checks.
"""

import math
from collections.abc import Sequence

from lydite.appraisal import decision, policy, receipts
from lydite.appraisal import references as yardsticks
from lydite.appraisal.policy import Policy
from lydite.appraisal.receipts import Exchange, Served
from lydite.appraisal.references import Reference
from lydite.appraisal.report import Fact, Report
from lydite.appraisal.trust import Trust
from lydite.errors import FormatError, Reason, VerificationError
from lydite.messages import examination, receipt
from lydite.messages.audit import Verdict
from lydite.messages.canonical import Message, decode, encode
from lydite.messages.examination import Predicate
from lydite.messages.finding import Finding
from lydite.messages.tier import Tier
from lydite.signing.dsse import Envelope, digest, open_envelope, payload_of

CAVEATS = (
    "anything about other answers of this provider: the client chose this one",
    "which machine answered",
    "that the auditor measured honestly: its statement is signed, and others can repeat it",
)


class Asked(Message, frozen=True, kw_only=True):
    """What a recomputer answers: the receipt, the signed statement, and what it rests on."""

    receipt: Served
    examination: Envelope
    policy: Policy
    references: tuple[Reference, ...]


def price_milli(entry: int) -> int:
    """Return what choosing entry ``entry`` costs, in thousandths of log10 E, rounded up.

    Guarantee: if every honest answer has an e-value E, the probability that any entry of a log ever
    has log10 E - price >= a is at most 10^-a, whoever chooses and whenever: by Markov's inequality
    it is at most 10^-a/(n(n+1)) for entry n, and these sum to 10^-a.

    Raises:
        FormatError: entries are counted from 1.
    """
    if entry < 1:
        raise FormatError(f"there is no entry {entry}")
    return math.ceil(1000 * (math.log10(entry) + math.log10(entry + 1)))


def judge(
    rules: Policy, references: Sequence[Reference], findings: Sequence[Finding], entry: int
) -> tuple[Verdict, Tier, Reason]:
    """Return the verdict on one answer as if drawn, and what is left of it for a chosen one."""
    verdict = decision.decide(rules, references, [findings])
    accused = (*decision.INCONSISTENT.values(), Reason.OTHER_NUMERICS, Reason.SEED_IGNORED)
    if verdict.reason not in accused:
        return verdict, verdict.tier, verdict.reason
    if verdict.log10_e_milli - price_milli(entry) >= rules.accuse_milli:
        return verdict, verdict.tier, verdict.reason
    return verdict, Tier.NONE, Reason.SUSPECTED


def check(
    payload: bytes, trust: Trust, own: Exchange | None = None, receipt_id: str | None = None
) -> Report:
    """Check the answer to a client that asked for its own request to be examined.

    1. The receipt is valid (``receipts.check``), and about the client's own bytes if given.
    2. An accepted auditor signed the statement, and it is about this receipt.
    3. Policy and references are those that the trust file pins.
    4. The verdict, the price of the choice and what is left follow from the findings.

    Affirming takes the client's bytes besides.

    Raises:
        FormatError, VerificationError: a step fails; the reason says which.

    **Does not show**: see ``CAVEATS``, which every report repeats.
    """
    asked = decode(payload, Asked, limit=1 << 23)
    # 1.
    base = receipts.check(encode(asked.receipt), trust, own, receipt_id)
    about = receipt.parse(payload_of(asked.receipt.envelope)).predicate
    # 2.
    envelope = encode(asked.examination)
    statement = examination.parse(open_envelope(envelope, trust.auditor_keys(), ()))
    said = statement.predicate
    subject = digest(encode(asked.receipt.envelope)).hex()
    shown = (said.receipt_id, said.provider, said.entry, statement.subject[0].digest.sha256)
    if shown != (about.receipt_id, about.provider, asked.receipt.index, subject):
        raise VerificationError(Reason.BAD_COMMITMENT, "the examination is of another receipt")
    # 3.
    policy.check(asked.policy)
    yardsticks.check_pinned(asked.references, trust)
    pinned = (policy.digest(asked.policy), yardsticks.digests(asked.references))
    if (said.policy, said.references) != pinned or said.policy != trust.policy:
        raise VerificationError(Reason.UNKNOWN_POLICY, "examined by another policy or reference")
    # 4.
    judged = judge(asked.policy, asked.references, said.findings, said.entry)
    follows = (*judged, price_milli(said.entry))
    if (said.verdict, said.tier, said.reason, said.choice_milli) != follows:
        raise VerificationError(Reason.VERDICT_MISMATCH, "it does not follow from its findings")
    return _report(base, said, compared=own is not None)


def _report(base: Report, said: Predicate, *, compared: bool) -> Report:
    verdict, tier, reason = said.verdict, said.tier, said.reason
    if tier is Tier.AFFIRMING and not compared:
        tier, reason = Tier.NONE, Reason.NOT_COMPARED
    named = ", ".join(f"{finding.kind} {finding.reason}" for finding in said.findings)
    left = (verdict.log10_e_milli - said.choice_milli) / 1000
    return Report(
        tier=tier,
        reason=reason,
        headline=f"your request was recomputed because you asked: alone it is {said.tier.words}",
        provider=base.provider,
        log10_e_milli=verdict.log10_e_milli,
        audited=verdict.audited,
        scored=verdict.scored,
        tokens=verdict.tokens,
        facts=(
            *base.facts,
            Fact(name="found", value=named),
            Fact(
                name="log10 E",
                value=f"{verdict.log10_e_milli / 1000:.3f}, and {left:.3f} after "
                f"{said.choice_milli / 1000:.3f} for having been chosen",
            ),
            Fact(
                name="power",
                value=f"{verdict.tokens} tokens; {verdict.tokens_needed} tell the declared model "
                "from the alternatives in nine runs of ten",
            ),
            Fact(name="counts for the provider", value="nothing: it was chosen, not drawn"),
        ),
        skipped=verdict.skipped,
        caveats=CAVEATS,
    )
