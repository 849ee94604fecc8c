"""From Findings to a verdict: one e-process a channel, one fixed-weight average, one error budget.

Pure and exact: whoever holds the findings recomputes the verdict. Knows no provider by name.

**Does not show** anything about receipts that were not drawn, or about cheats below the power that
the verdict states.
"""

import collections
import math
from collections.abc import Sequence

import msgspec

from lydite.appraisal.policy import WHOLE_PPM, Policy
from lydite.errors import FormatError, Reason, VerificationError
from lydite.evidence.tokens import reference as tokens
from lydite.messages.audit import Channel, Skip, Verdict
from lydite.messages.declaration import Declaration
from lydite.messages.finding import Finding
from lydite.messages.tier import Tier
from lydite.statistics.merging import log_average

JUDGED = frozenset({"tokens"})
"""Kinds of evidence whose recorded findings this version judges; others are named skips."""

_NO_ANSWER = Reason.UPSTREAM_FAILED
"""A client that got an error was served nothing, so there was nothing to examine."""


def decide(
    policy: Policy, reference: tokens.Reference, audits: Sequence[Sequence[Finding]]
) -> Verdict:
    """Judge one provider by the findings on each drawn receipt, in log order.

    1. Findings that taught nothing are skipped by name and counted.
    2. A piece of evidence that is false by itself decides at once.
    3. The channels' e-processes are averaged with the policy's weights, never multiplied.
    4. Answers that are odd by their own doing warn, beyond the share that the policy tolerates.
    5. Only enough tokens, scored on enough of the answers, can affirm; an answer is scored if the
       policy weighs some measure of its tokens.
    """
    findings = [finding for audit in audits for finding in audit if finding.kind in JUDGED]
    recorded = [finding for finding in findings if finding.reason is Reason.RECORDED]
    channels = _channels(policy, reference, recorded)
    merged = log_average(
        [channel.log10_e_milli / 1000 * math.log(10) for channel in channels],
        [channel.weight_ppm / WHOLE_PPM for channel in channels],
    )
    weighed = [size for finding in recorded for size in _weighed(policy, finding)]
    verdict = Verdict(
        tier=Tier.NONE,
        reason=Reason.UNDERPOWERED,
        log10_e_milli=_milli(merged / math.log(10)),
        channels=channels,
        audited=len(audits),
        scored=len(weighed),
        tokens=sum(weighed),
        tokens_needed=tokens_needed(policy, reference),
        skipped=_skips(policy, audits),
    )
    tier, reason = _judge(policy, findings, verdict)
    return msgspec.structs.replace(verdict, tier=tier, reason=reason)


def check_fit(declared: Declaration, reference: tokens.Reference) -> None:
    """Refuse to judge a declaration by a reference that is for something else.

    Raises:
        VerificationError: the reference is for other weights or another sampler.

    **Does not show** that the provider runs what it declares.
    """
    said = declared.predicate
    if (said.weights_root, said.sampler) != (reference.weights_root, reference.sampler):
        raise VerificationError(
            Reason.UNKNOWN_REFERENCE,
            f"reference {reference.name} is for weights {reference.weights_root[:16]} and sampler "
            f"{reference.sampler}, declared are {said.weights_root[:16]} and {said.sampler}",
        )


def tokens_needed(policy: Policy, reference: tokens.Reference) -> int:
    """Return how many tokens give 90 % power against every alternative that the policy names.

    Raises:
        FormatError: the reference holds no power for a named alternative, so nothing could affirm.
    """
    known = {a.name: a.tokens for a in reference.alternatives}
    missing = [name for name in policy.alternatives if name not in known]
    if missing:
        raise FormatError(f"reference has no power against {', '.join(missing)}")
    return max(known[name] for name in policy.alternatives)


def _judge(policy: Policy, findings: Sequence[Finding], verdict: Verdict) -> tuple[Tier, Reason]:
    false = next((f for f in findings if f.tier is Tier.CONTRAINDICATED), None)
    if false is not None:
        return Tier.CONTRAINDICATED, false.reason
    if verdict.log10_e_milli >= policy.accuse_milli:
        return Tier.CONTRAINDICATED, Reason.INCONSISTENT_TOKENS
    answers = max(1, verdict.audited - sum(f.reason is _NO_ANSWER for f in findings))
    odd = [finding.reason for finding in findings if finding.tier is Tier.WARNING]
    if len(odd) * WHOLE_PPM > policy.odd_ppm * answers:
        return Tier.WARNING, _commonest(odd)
    if verdict.log10_e_milli >= policy.suspect_milli:
        return Tier.NONE, Reason.SUSPECTED
    enough = verdict.scored * WHOLE_PPM >= policy.scored_ppm * answers
    if not enough or not JUDGED.issuperset(policy.mandatory):
        silent = [f.reason for f in findings if f.reason not in {Reason.RECORDED, _NO_ANSWER}]
        return Tier.NONE, _commonest(silent)
    if verdict.tokens < verdict.tokens_needed:
        return Tier.NONE, Reason.UNDERPOWERED
    return Tier.AFFIRMING, Reason.CONSISTENT


def _commonest(reasons: Sequence[Reason]) -> Reason:
    """Return the reason that occurs most often, the first of several; unavailable if none does."""
    counts = collections.Counter(reasons)
    return max(counts, key=counts.__getitem__, default=Reason.UNAVAILABLE)


def _weighed(policy: Policy, finding: Finding) -> list[int]:
    """Return how many tokens of a finding the policy weighs, empty if it weighs none of its rows.

    A row may be there without a token: then honest machines differ throughout that answer.
    """
    channels = {weight.channel for weight in policy.weights}
    sizes = [len(m.values) for m in finding.measures if f"{finding.kind}/{m.name}" in channels]
    return sizes and [max(sizes)]


def _channels(
    policy: Policy, reference: tokens.Reference, scored: Sequence[Finding]
) -> tuple[Channel, ...]:
    levels = dict(tokens.channel_log10_e(reference, scored))
    unknown = [w.channel for w in policy.weights if w.channel not in levels]
    if unknown:
        raise FormatError(f"no such channel: {', '.join(unknown)}")
    return tuple(
        Channel(
            name=weight.channel,
            weight_ppm=weight.weight_ppm,
            log10_e_milli=_milli(levels[weight.channel]),
        )
        for weight in policy.weights
    )


def _skips(policy: Policy, audits: Sequence[Sequence[Finding]]) -> tuple[Skip, ...]:
    counts: collections.Counter[tuple[str, Reason]] = collections.Counter()
    for audit in audits:
        counts.update((f.kind, Reason.NEEDS_EXTRA) for f in audit if f.kind not in JUDGED)
        judged = [f for f in audit if f.kind in JUDGED]
        counts.update((f.kind, f.reason) for f in judged if f.reason is not Reason.RECORDED)
        present = {f.kind for f in judged}
        counts.update(
            (kind, Reason.UNAVAILABLE) for kind in policy.mandatory if kind not in present
        )
    return tuple(
        Skip(kind=kind, reason=reason, count=count)
        for (kind, reason), count in sorted(counts.items())
    )


def _milli(log10: float) -> int:
    return round(1000 * max(-1e6, min(1e6, log10)))
