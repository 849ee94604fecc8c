"""A new stack held against accepted ones, token by token, until time or evidence is enough.

Inside, outside or underpowered; if outside, by which score and at which token. Accuses nobody: this
is a provider's own test of its own build. Knows nothing of how answers come about.
"""

import enum
import itertools
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from lydite.errors import FormatError
from lydite.evidence.tokens import reference as tokens
from lydite.evidence.tokens.reference import MARGIN, RESIDUAL, SURPRISAL, Reference
from lydite.messages.tier import Tier
from lydite.numerics.scoring import Scored
from lydite.statistics import betting, bins, sizing
from lydite.statistics.merging import log_average
from lydite.statistics.nearest import smoothed
from lydite.statistics.sizing import Goal

LEAST_ANSWERS = 40
"""Fewer are never enough to be inside, nor for a candidate: chats and plain prompts in turn."""


LEAST_SHARE_PPM, _WHOLE_PPM = 900_000, 1_000_000
"""A channel that fewer answers have has not been watched."""


class Outcome(enum.StrEnum):
    """What became of a self-check."""

    INSIDE = "inside"
    """Enough tokens, and none of the accepted stacks would be surprised by them."""
    OUTSIDE = "outside"
    """No accepted stack gives such scores, at the level asked."""
    UNDERPOWERED = "underpowered"
    """Too few tokens to tell."""

    @property
    def tier(self) -> Tier:
        """What a command ends with."""
        return {
            "inside": Tier.AFFIRMING,
            "outside": Tier.WARNING,
            "underpowered": Tier.NONE,
        }[self.value]


class Crossing(NamedTuple):
    """Where evidence first reached the level; both count from 1."""

    answer: int
    token: int
    """Of that answer."""
    seen: int
    """Tokens up to here, of all answers."""


class Watched(NamedTuple):
    """How far every channel's e-value came."""

    log10_e: float
    """Of the average of all channels, at its highest."""
    channels: dict[str, float]
    """log10 of each channel's e-value against the nearest stack, at the crossing or the end."""
    answers: int
    tokens: int
    crossing: Crossing | None
    missing: dict[str, int]
    """Answers without it, for each channel that an accepted stack has."""

    @property
    def unwatched(self) -> frozenset[str]:
        """The channels of accepted stacks that too few answers have."""
        least = LEAST_SHARE_PPM * self.answers
        return frozenset(
            name
            for name, missing in self.missing.items()
            if (self.answers - missing) * _WHOLE_PPM < least
        )

    @property
    def loudest(self) -> str:
        """The channel that says most."""
        return max(self.channels, key=lambda name: self.channels[name])


def watch(references: Sequence[Reference], answers: Sequence[Scored], level: float) -> Watched:
    """Bet with every token of ``answers``, in their order, against each accepted stack by itself.

    ``references`` are those stacks', one each. A build is one stack throughout, so what counts is
    the accepted stack that it is most like: the least of their e-values, each the average of the
    channels that both sides have, with equal weights. That pays no toll for the others. A channel
    stands still throughout an answer that lacks it.

    Guarantee (Ville): for a build within any one of them this ever reaches 1/level with probability
    at most ``level``, however long it is watched.

    Raises:
        FormatError: a level that is not between 0 and 1, no stack, or no answer.
    """
    if not 0.0 < level < 1.0 or not answers or not references:
        raise FormatError("a self-check needs a stack, a level between 0 and 1, and an answer")
    runs = [_run(reference, answers) for reference in references]
    highest, nearest, crossing = -math.inf, _Point(0.0, {}), None
    for seen, points in enumerate(zip(*runs, strict=True), 1):
        nearest = min(points, key=lambda point: point.average)
        highest = max(highest, nearest.average)
        if nearest.average >= -math.log(level):
            crossing = _place(answers, seen)
            break
    return Watched(
        log10_e=highest / math.log(10),
        channels={name: log / math.log(10) for name, log in nearest.channels.items()},
        answers=len(answers),
        tokens=sum(answer.tokens for answer in answers),
        crossing=crossing,
        missing=_missing(references, answers),
    )


def decide(watched: Watched, needed: int | None) -> Outcome:
    """Return what the evidence comes to; ``needed`` tokens tell another stack, None: none do.

    Inside takes ``LEAST_ANSWERS`` besides: some faults show in chats alone, or in few tokens. And
    every channel of the accepted stacks has to have been watched.
    """
    if watched.crossing is not None:
        return Outcome.OUTSIDE
    if needed is None or watched.unwatched:
        return Outcome.UNDERPOWERED
    if watched.tokens < needed or watched.answers < LEAST_ANSWERS:
        return Outcome.UNDERPOWERED
    return Outcome.INSIDE


class _Point(NamedTuple):
    """Log e-values against one stack after one token."""

    average: float
    channels: dict[str, float]


def _run(reference: Reference, answers: Sequence[Scored]) -> Iterator[_Point]:
    paths = _paths(reference, answers)
    weights = [1 / len(paths)] * len(paths)
    for logs in zip(*paths.values(), strict=True):
        yield _Point(log_average(logs, weights), dict(zip(paths, logs, strict=True)))


def needed_tokens(
    reference: Reference, level: float, unwatched: Collection[str] = ()
) -> int | None:
    """Return how many tokens tell a stack from an accepted one, nine times in ten.

    The largest over what the reference knows of cheats that are found at all, each by its quickest
    channel of those that are not ``unwatched``; where it knows none, over a stack every second of
    whose residuals lies one bin further out than in the widest accepted one. None where neither is
    known, or a cheat is found by unwatched channels alone: then nothing is ever inside.
    """
    found: dict[str, int] = {}
    hidden = {f"{tokens.KIND}/{name}" for name in unwatched}
    told = [one for one in reference.alternatives if hidden.isdisjoint(one.channels)]
    if {one.name for one in told} != {one.name for one in reference.alternatives}:
        return None
    for one in told:
        raised = -math.log10(level) / (one.log10_level_milli / 1000)
        tokens_needed = math.ceil(one.tokens * max(1.0, raised))
        found[one.name] = min(found.get(one.name, tokens_needed), tokens_needed)
    if found:
        return max(found.values())
    return None if RESIDUAL in unwatched else _shifted(reference, level)


def _shifted(reference: Reference, level: float) -> int | None:
    known = reference.residual
    if known is None or not known.edges:
        return None
    null = tokens.residual_null(reference)
    rows = [one.counts for one in known.histograms]
    widest = max(rows, key=lambda counts: sum(b * n for b, n in enumerate(counts)) / sum(counts))
    pairs = zip([0, *widest], [*widest, 0], strict=True)
    *moved, beyond = [(before + here) // 2 for before, here in pairs]
    moved[-1] += beyond
    return sizing.learnt(smoothed(moved), null, Goal(-math.log(level), weight=1 / 3))


def _paths(reference: Reference, answers: Sequence[Scored]) -> dict[str, Iterator[float]]:
    """Return the running log e-value of each channel that both sides have."""
    paths: dict[str, Iterator[float]] = {
        SURPRISAL: betting.running(
            (value for answer in answers for value in answer.surprisals), reference.drift_micro
        )
    }
    known = reference.residual
    if any(answer.margins for answer in answers):
        found = (tokens.bin_of(reference, value) for answer in answers for value in answer.margins)
        paths[MARGIN] = _held(bins.running(found, tokens.null(reference)), MARGIN, answers)
    if known is not None and any(answer.residuals for answer in answers):
        edges = known.edges
        into = (
            sum(value >= edge for edge in edges) for answer in answers for value in answer.residuals
        )
        null = tokens.residual_null(reference)
        paths[RESIDUAL] = _held(bins.running(into, null), RESIDUAL, answers)
    return paths


_TOLD: Mapping[str, Callable[[Scored], tuple[int, ...]]] = {
    MARGIN: lambda answer: answer.margins,
    RESIDUAL: lambda answer: answer.residuals,
}


def _held(path: Iterator[float], name: str, answers: Sequence[Scored]) -> Iterator[float]:
    """Yield a channel's log e-values, the last one again for every token that it lacks."""
    last = 0.0
    for answer in answers:
        told = len(_TOLD[name](answer))
        for last in itertools.islice(path, told):
            yield last
        yield from itertools.repeat(last, answer.tokens - told)


def _missing(references: Sequence[Reference], answers: Sequence[Scored]) -> dict[str, int]:
    """Return how many answers lack each channel that an accepted stack has."""
    have = {RESIDUAL} if any(one.residual is not None for one in references) else set()
    if any(one.margin.edges for one in references):
        have.add(MARGIN)
    return {name: sum(not _TOLD[name](answer) for answer in answers) for name in sorted(have)}


def _place(answers: Sequence[Scored], seen: int) -> Crossing:
    left = seen
    for number, answer in enumerate(answers, 1):
        if left <= answer.tokens:
            return Crossing(number, left, seen)
        left -= answer.tokens
    raise FormatError(f"there is no token {seen}")
