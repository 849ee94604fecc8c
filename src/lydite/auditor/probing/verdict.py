"""What is said of an endpoint, and every number that it rests on.

Three ways not to affirm are told apart: accused, differing in a way that honest mistakes or other
numerics explain, and not learnt. Knows nothing of HTTP.

**Does not show** anything beyond the alternatives that the verdict names.
"""

import collections
import math
from collections.abc import Sequence

import msgspec

from lydite.errors import Reason
from lydite.evidence.endpoint import reference as expected
from lydite.evidence.endpoint.reference import Bounds, Levels, Plan
from lydite.messages.audit import Skip
from lydite.messages.canonical import Count, Integer, Message, Word
from lydite.messages.finding import Finding
from lydite.messages.tier import Tier

NUMERICS = "numerics"
"""The channel that warns of unknown numerics, by the residuals."""
SUSPECT_MILLI = 1301
"""log10 of 20: from here on nothing is affirmed."""
COVERED_LEAST = 0.9
"""Nothing is affirmed on fewer of the answers, and on no channel that has spoken of fewer."""


class Alternative(Message, frozen=True, kw_only=True):
    """What it takes to notice one other way of serving, in nine runs of ten; None: never."""

    name: Word
    accused_within: Count | None
    noticed_within: Count | None
    channels: dict[str, Count | None]


class Verdict(Message, frozen=True, kw_only=True):
    """The judgement on one endpoint, and what it follows from."""

    tier: Tier
    reason: Reason
    detail: str
    alpha_ppm: Count
    levels: tuple[Levels, ...]
    answers: Count
    scored: Count
    tokens: Count
    masked: Count
    alternatives: tuple[Alternative, ...]
    skipped: tuple[Skip, ...]


class Evidence(msgspec.Struct, kw_only=True):
    """What was found so far."""

    plan: Plan
    draws: tuple[str, ...]
    """The ways of drawing that were scored, that asked for first."""
    findings: list[Finding] = []
    tokens: int = 0
    masked: int = 0
    answers: int = 0
    skipped: collections.Counter[Reason] = msgspec.field(default_factory=collections.Counter)
    """Answers that taught nothing, and why."""
    unread: collections.Counter[Reason] = msgspec.field(default_factory=collections.Counter)
    """Answers of which only the log-probabilities were of no use, and why."""

    def weighed(self) -> dict[str, int]:
        """Return on how many tokens each channel spoke, of the draw that was asked for."""
        counts = {
            name: sum(len(finding.values(name)) for finding in self.findings)
            for name in (expected.SURPRISAL, expected.PIT, expected.MARGIN, expected.RESIDUAL)
        }
        return {**counts, NUMERICS: counts[expected.RESIDUAL]}

    def covers(self, name: str) -> bool:
        """Say whether a channel spoke of nearly all answers that were weighed, and of their tokens.

        A server that goes quiet once it was believed has not been listened to.
        """
        channel = expected.RESIDUAL if name == NUMERICS else name
        drawn = expected.MARGIN if self.plan.greedy else expected.SURPRISAL
        spoken = [(len(one.values(channel)), len(one.values(drawn))) for one in self.findings]
        # an end that is only counted has no log-probability
        whole = [tokens for said, tokens in spoken if said and said >= tokens - 1]
        least = (COVERED_LEAST * len(spoken), COVERED_LEAST * sum(tokens for _, tokens in spoken))
        return bool(whole) and len(whole) >= least[0] and sum(whole) >= least[1]

    def skips(self) -> tuple[Skip, ...]:
        """Return what was skipped, by name and counted."""
        counted = [(expected.KIND, r, n) for r, n in self.skipped.items()]
        counted += [(f"{expected.KIND}/{expected.RESIDUAL}", r, n) for r, n in self.unread.items()]
        return tuple(Skip(kind=k, reason=r, count=n) for k, r, n in sorted(counted))


def levels(bounds: Bounds, evidence: Evidence) -> tuple[Levels, ...]:
    """Return the e-values as asked for, and under every habit of servers that was scored."""
    return tuple(
        expected.levels(bounds, evidence.plan, evidence.findings, draw) for draw in evidence.draws
    )


def decide(
    evidence: Evidence,
    found: Sequence[Levels],
    alternatives: Sequence[Alternative],
    alpha: float,
    accusing: Sequence[Levels] | None = None,
) -> Verdict:
    """Judge an endpoint.

    ``accusing`` are the e-values that may accuse, where they are not those ``found``: against
    bounds for any machine, where no reference covers the stack that the endpoint says it runs.

    1. Contraindicated if tokens and log-probabilities are beyond the bounds under *every* way of
       drawing that an honest server may have fallen into: the smallest of their e-values is one
       against all of them together.
    2. Warning if they are beyond the bounds as asked for, and some habit explains them; or if they
       are beyond honest stacks of which none is said to be the endpoint's; or if the
       numbers are unlike those of every honest machine that was measured.
    3. None if more than a tenth of the answers taught nothing (a warning if what most of them lack
       is our prompt), if there is suspicion, or if there are fewer tokens than it takes to notice
       the alternatives, by channels that spoke of nine answers in ten.
    4. Affirming otherwise.
    """
    both = (found, found if accusing is None else accusing)
    tier, reason, detail = _judge(evidence, both, alternatives, alpha)
    return Verdict(
        tier=tier,
        reason=reason,
        detail=detail,
        alpha_ppm=round(alpha * 1e6),
        levels=tuple(found),
        answers=evidence.answers,
        scored=len(evidence.findings),
        tokens=evidence.tokens,
        masked=evidence.masked,
        alternatives=tuple(alternatives),
        skipped=evidence.skips(),
    )


def settled(found: Sequence[Levels], alpha: float) -> bool:
    """Say whether more answers could only repeat what is known: an accusation stands."""
    return min(level.merged for level in found) >= _milli(alpha)


def _judge(
    evidence: Evidence,
    levels: tuple[Sequence[Levels], Sequence[Levels]],
    alternatives: Sequence[Alternative],
    alpha: float,
) -> tuple[Tier, Reason, str]:
    found, accusing = levels
    level, declared = _milli(alpha), found[0]
    explains = [one.draw for one in accusing if one.merged < level]
    if not explains:
        return Tier.CONTRAINDICATED, Reason.INCONSISTENT_TOKENS, ""
    if accusing[0].merged >= level:
        words = f"as if drawn with {', '.join(explains)}"
        return Tier.WARNING, Reason.SAMPLING_DIFFERS, words
    if declared.merged >= level:
        words = "unlike the honest stacks that were given, of which none is said to be this one"
        return Tier.WARNING, Reason.OTHER_NUMERICS, words
    if declared.numerics >= level:
        words = "log-probabilities unlike those of any honest machine that was measured"
        return Tier.WARNING, Reason.NUMERICS_DIFFER, words
    taught = evidence.answers - sum(evidence.skipped.values())
    if taught < COVERED_LEAST * evidence.answers or not evidence.tokens:
        return _skipped(evidence)
    if max(declared.merged, declared.numerics) >= SUSPECT_MILLI:
        return Tier.NONE, Reason.SUSPECTED, "evidence that does not reach the level"
    return _powered(evidence, alternatives)


def _powered(evidence: Evidence, alternatives: Sequence[Alternative]) -> tuple[Tier, Reason, str]:
    weighed = evidence.weighed()
    for one in alternatives:
        sizes = {name: size for name, size in one.channels.items() if size is not None}
        spoken = {name for name in sizes if evidence.covers(name)}
        if any(weighed[name] >= sizes[name] for name in spoken):
            continue
        if spoken != sizes.keys():
            return _quiet(evidence, one.name)
        wanted = "no number of" if one.noticed_within is None else f"{one.noticed_within}"
        return Tier.NONE, Reason.UNDERPOWERED, f"{wanted} tokens would show {one.name}"
    if not alternatives:
        return Tier.NONE, Reason.UNDERPOWERED, "no alternative was named"
    return Tier.AFFIRMING, Reason.CONSISTENT, ""


def _quiet(evidence: Evidence, name: str) -> tuple[Tier, Reason, str]:
    [(reason, _)] = evidence.unread.most_common(1) or [(Reason.BAD_LOGPROBS, 0)]
    missed = f"{sum(evidence.unread.values())} of {len(evidence.findings)} answers"
    words = f"no log-probabilities of {missed}, and the rest does not show {name}"
    return Tier.NONE, reason, words


def _skipped(evidence: Evidence) -> tuple[Tier, Reason, str]:
    [(reason, _)] = evidence.skipped.most_common(1) or [(Reason.UNAVAILABLE, 0)]
    tier = Tier.WARNING if reason is Reason.PROMPT_DIFFERS else Tier.NONE
    words = f"{sum(evidence.skipped.values())} of {evidence.answers} answers could not be weighed"
    return tier, reason, words


def _milli(alpha: float) -> int:
    return round(-1000 * math.log10(alpha))


def log10(milli: Integer) -> str:
    """Return a level as a person reads it."""
    return f"{milli / 1000:.2f}"
