"""From Findings to a verdict: one e-process a channel, one fixed-weight average, one error budget.

Pure and exact: whoever holds the findings recomputes the verdict. Knows no provider by name.

**Does not show** anything about receipts that were not drawn, or about cheats below the power that
the verdict states.
"""

import collections
import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import msgspec

from lydite.appraisal import references as yardsticks
from lydite.appraisal.policy import WHOLE_PPM, Policy
from lydite.appraisal.references import Reference
from lydite.errors import FormatError, Reason
from lydite.messages.audit import Channel, Skip, Verdict
from lydite.messages.calibration import Alternative
from lydite.messages.declaration import Declaration
from lydite.messages.finding import Finding
from lydite.messages.tier import Tier
from lydite.statistics.merging import log_average, log_sum

INCONSISTENT = {
    "tokens": Reason.INCONSISTENT_TOKENS,
    "activations": Reason.INCONSISTENT_ACTIVATIONS,
}
"""What an accusation is called, by the kind of evidence that carries most of it."""

OTHER_MODEL = "smaller-model"
"""The alternative that stands for tokens which another model chose: who calls an ignored seed an
honest mistake has to have excluded it by other evidence than margins."""

MARGINS = "tokens/margin"

_NO_ANSWER = Reason.UPSTREAM_FAILED
"""A client that got an error was served nothing, so there was nothing to examine."""


def decide(
    policy: Policy,
    references: Sequence[Reference],
    audits: Sequence[Sequence[Finding]],
    declared: Declaration | None = None,
) -> Verdict:
    """Judge one provider by the findings on each drawn receipt, in log order.

    1. Findings that taught nothing are skipped by name and counted.
    2. A piece of evidence that is false by itself decides at once.
    3. The channels' e-processes are averaged with the policy's weights, never multiplied.
    4. Answers that are odd by their own doing warn, beyond the share that the policy tolerates.
    5. Only enough tokens, scored on enough of the answers, can affirm. An answer is scored if every
       mandatory kind of evidence has some measure of it that the policy weighs; tokens are counted
       on the channels that tell the hardest of the alternatives, and only on those that are there
       for as many of the answers. Of others what the provider shows can accuse it, and no more.

    Scores accuse only where the reference covers the stack that is ``declared`` (its numerics were
    measured); elsewhere the same scores warn, as an honest machine might give them. Nor do margins
    accuse that an engine which ignores its seed has: they warn (``Reason.SEED_IGNORED``) once there
    are tokens enough to have told another model by the other channels, and say nothing before.
    """
    judged = yardsticks.kinds(references)
    read = [[finding for finding in audit if finding.kind in judged] for audit in audits]
    findings = [finding for audit in read for finding in audit]
    recorded = [finding for finding in findings if finding.reason is Reason.RECORDED]
    channels = _channels(policy, references, recorded)
    merged = log_average(
        [channel.log10_e_milli / 1000 * math.log(10) for channel in channels],
        [channel.weight_ppm / WHOLE_PPM for channel in channels],
    )
    tokens, needed = _power(policy, references, _covering(policy, read))
    verdict = Verdict(
        tier=Tier.NONE,
        reason=Reason.UNDERPOWERED,
        log10_e_milli=_milli(merged / math.log(10)),
        channels=channels,
        audited=len(audits),
        scored=sum(_scored(policy, audit) for audit in audits),
        tokens=tokens,
        tokens_needed=needed,
        skipped=_skips(policy, judged, audits),
    )
    accusing = _Accusing(
        channels=_seeded(channels, yardsticks.seeded(references, recorded)),
        kinds=yardsticks.covered(references, declared),
        model_known=_told(policy, references, recorded),
    )
    tier, reason = _judge(policy, read, verdict, accusing)
    return msgspec.structs.replace(verdict, tier=tier, reason=reason)


def tokens_needed(policy: Policy, references: Sequence[Reference]) -> int:
    """Return how many tokens give 90 % power against every alternative that the policy names.

    Raises:
        FormatError: the references hold no power for a named alternative, so nothing could affirm.
    """
    return _power(policy, references, {})[1]


def _power(
    policy: Policy, references: Sequence[Reference], sizes: Mapping[str, int]
) -> tuple[int, int]:
    """Return the tokens that were weighed and those that are needed, for the hardest alternative.

    Of several ways to tell an alternative the one counts that has come furthest.
    """

    def share(pair: tuple[int, int]) -> float:
        return pair[0] / max(pair[1], 1)

    pairs = []
    for name in policy.alternatives:
        known = yardsticks.alternatives(references, name, policy.method)
        ways = [_way(policy, one, sizes) for one in known]
        told = [way for way in ways if way is not None]
        if not told:
            raise FormatError(f"the policy weighs no channel that tells {name}")
        best = max(told, key=lambda pair: (share(pair), -pair[1]))
        pairs.append(best)
    return min(pairs, key=lambda pair: (share(pair), -pair[1]))


def _way(
    policy: Policy, alternative: Alternative, sizes: Mapping[str, int]
) -> tuple[int, int] | None:
    """Return tokens weighed and needed to tell ``alternative`` as it says, if the policy can.

    Its figure is for an equal average of its channels. Under the policy's weights the merged
    e-value is at least ``r`` times that average, ``r`` the smallest ratio of the weights, so the
    level lies ``-log10 r`` higher; the tokens are taken to grow in proportion, and never shrink.
    """
    weights = {weight.channel: weight.weight_ppm for weight in policy.weights}
    if not weights.keys() >= set(alternative.channels):
        return None
    equal = WHOLE_PPM / len(alternative.channels)
    ratio = min(weights[channel] / equal for channel in alternative.channels)
    level = policy.accuse_milli - 1000 * math.log10(ratio)
    needed = math.ceil(alternative.tokens * max(1.0, level / alternative.log10_level_milli))
    return min(sizes.get(channel, 0) for channel in alternative.channels), needed


class _Accusing(NamedTuple):
    """What may accuse, of all that was measured."""

    channels: tuple[Channel, ...]
    """With margins as far as an ignored seed cannot explain them."""
    kinds: Collection[str]
    """Whose references cover the declared stack."""
    model_known: bool
    """Whether another model would show by now without margins."""


def _seeded(channels: Sequence[Channel], levels: Mapping[str, float]) -> tuple[Channel, ...]:
    """Return the channels with those of ``levels`` lowered to them."""
    return tuple(
        msgspec.structs.replace(
            one, log10_e_milli=min(one.log10_e_milli, _milli(levels.get(one.name, math.inf)))
        )
        for one in channels
    )


def _told(policy: Policy, references: Sequence[Reference], recorded: Sequence[Finding]) -> bool:
    """Say whether there are tokens enough to tell ``OTHER_MODEL`` without margins."""
    sizes = _sizes(recorded)
    known = [one for r in references for one in r.alternatives if one.name == OTHER_MODEL]
    ways = [_way(policy, one, sizes) for one in known if MARGINS not in one.channels]
    return any(way is not None and way[0] >= way[1] for way in ways)


def _sizes(recorded: Sequence[Finding]) -> dict[str, int]:
    """Return how many tokens were recorded on each channel."""
    sizes: collections.Counter[str] = collections.Counter()
    for finding in recorded:
        for measure in finding.measures:
            sizes[f"{finding.kind}/{measure.name}"] += len(measure.values)
    return dict(sizes)


def _covering(policy: Policy, audits: Sequence[Sequence[Finding]]) -> dict[str, int]:
    """Return the tokens of each channel that is there for the share ``scored_ppm`` of the answers.

    Else a provider would choose the few answers that it is told apart by.
    """
    recorded = [[f for f in audit if f.reason is Reason.RECORDED] for audit in audits]
    counts: collections.Counter[str] = collections.Counter()
    for audit in recorded:
        counts.update({f"{f.kind}/{measure.name}" for f in audit for measure in f.measures})
    least = policy.scored_ppm * _answers(audits)
    sizes = _sizes([finding for audit in recorded for finding in audit])
    return {name: size for name, size in sizes.items() if counts[name] * WHOLE_PPM >= least}


def _answers(audits: Sequence[Sequence[Finding]]) -> int:
    """Return how many of the drawn receipts are of an answer, 1 at least."""
    failed = (any(finding.reason is _NO_ANSWER for finding in audit) for audit in audits)
    return max(1, len(audits) - sum(failed))


def _judge(
    policy: Policy, audits: Sequence[Sequence[Finding]], verdict: Verdict, accusing: _Accusing
) -> tuple[Tier, Reason]:
    findings, answers = [finding for audit in audits for finding in audit], _answers(audits)
    false = next((f for f in findings if f.tier is Tier.CONTRAINDICATED), None)
    if false is not None:
        return Tier.CONTRAINDICATED, false.reason
    if verdict.log10_e_milli >= policy.accuse_milli:
        return _beyond(policy, accusing)
    odd = [finding.reason for finding in findings if finding.tier is Tier.WARNING]
    if len(odd) * WHOLE_PPM > policy.odd_ppm * answers:
        return Tier.WARNING, _commonest(odd)
    if verdict.log10_e_milli >= policy.suspect_milli:
        return Tier.NONE, Reason.SUSPECTED
    enough = verdict.scored * WHOLE_PPM >= policy.scored_ppm * answers
    if not enough:
        silent = [f.reason for f in findings if f.reason not in {Reason.RECORDED, _NO_ANSWER}]
        return Tier.NONE, _commonest(silent)
    if verdict.tokens < verdict.tokens_needed:
        return Tier.NONE, Reason.UNDERPOWERED
    return Tier.AFFIRMING, Reason.CONSISTENT


def _beyond(policy: Policy, accusing: _Accusing) -> tuple[Tier, Reason]:
    """Judge a provider whose e-value has reached the level of an accusation.

    1. Margins that an ignored seed explains: a warning if nothing else can be behind them.
    2. Numerics of a stack that nobody measured: a warning.
    3. An accusation otherwise.
    """
    channels, kinds = accusing.channels, accusing.kinds
    if _within(channels, {one.name.partition("/")[0] for one in channels}) < policy.accuse_milli:
        if accusing.model_known:
            return Tier.WARNING, Reason.SEED_IGNORED
        return Tier.NONE, Reason.UNDERPOWERED
    if _within(channels, kinds) < policy.accuse_milli:
        return Tier.WARNING, Reason.OTHER_NUMERICS
    return Tier.CONTRAINDICATED, INCONSISTENT[_leading(channels, kinds)]


def _leading(channels: Sequence[Channel], kinds: Collection[str]) -> str:
    """Return the kind of the channel that makes up most of the average, of those in ``kinds``."""
    named = [(_within([channel], kinds), channel.name.partition("/")[0]) for channel in channels]
    return max(pair for pair in named if pair[1] in kinds)[1]


def _within(channels: Sequence[Channel], kinds: Collection[str]) -> int:
    """Return log10 of what the channels of ``kinds`` alone make of the average, in thousandths."""
    parts = [
        math.log(channel.weight_ppm / WHOLE_PPM) + channel.log10_e_milli / 1000 * math.log(10)
        for channel in channels
        if channel.name.partition("/")[0] in kinds
    ]
    return _milli(log_sum(parts or [-math.inf]) / math.log(10))


def _commonest(reasons: Sequence[Reason]) -> Reason:
    """Return the reason that occurs most often, the first of several; unavailable if none does."""
    counts = collections.Counter(reasons)
    return max(counts, key=counts.__getitem__, default=Reason.UNAVAILABLE)


def _scored(policy: Policy, audit: Sequence[Finding]) -> bool:
    """Say whether every mandatory kind weighs something of this answer.

    A row may be there without a token: then honest machines differ throughout that answer.
    """
    channels = {weight.channel for weight in policy.weights}
    seen = {
        finding.kind
        for finding in audit
        if finding.reason is Reason.RECORDED
        for measure in finding.measures
        if f"{finding.kind}/{measure.name}" in channels
    }
    return seen.issuperset(policy.mandatory)


def _channels(
    policy: Policy, references: Sequence[Reference], scored: Sequence[Finding]
) -> tuple[Channel, ...]:
    levels = yardsticks.levels(references, scored, policy.method)
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


def _skips(
    policy: Policy, judged: Collection[str], audits: Sequence[Sequence[Finding]]
) -> tuple[Skip, ...]:
    counts: collections.Counter[tuple[str, Reason]] = collections.Counter()
    for audit in audits:
        counts.update((f.kind, Reason.NEEDS_EXTRA) for f in audit if f.kind not in judged)
        read = [f for f in audit if f.kind in judged]
        counts.update((f.kind, f.reason) for f in read if f.reason is not Reason.RECORDED)
        present = {f.kind for f in read}
        counts.update(
            (kind, Reason.UNAVAILABLE) for kind in policy.mandatory if kind not in present
        )
    return tuple(
        Skip(kind=kind, reason=reason, count=count)
        for (kind, reason), count in sorted(counts.items())
    )


def _milli(log10: float) -> int:
    return round(1000 * max(-1e6, min(1e6, log10)))
