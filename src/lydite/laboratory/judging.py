"""Streams of scored answers, judged: after how many tokens each kind of evidence accuses.

Answers in, cells of the verdict table out; no model is run. Streams are watched by the arithmetic
of verdicts (``laboratory.wealth``), which does not know when a cheat began either.
"""

import math
import random
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from lydite.laboratory import nulls, texts, toploc
from lydite.laboratory.channels import Channel
from lydite.laboratory.nulls import ALL, Answer, Null
from lydite.laboratory.streams import seed_of
from lydite.statistics import tails
from lydite.statistics.nearest import smoothed
from lydite.statistics.rates import highest

ALPHAS = (0.005, 0.001)
LEVELS = tuple(math.log(1 / alpha) for alpha in ALPHAS)
PUBLISHED, LIKELIHOOD, UNLIKE = "toploc/published", "text/likelihood", "text/mmd"
FIXED = (LIKELIHOOD, UNLIKE)
MMD_RESAMPLES = 10

Crossings = tuple[int | None, ...]
"""For each of ``ALPHAS``: after how many tokens a stream is accused, None if it is not."""


class Kept(NamedTuple):
    """What is kept of one answer."""

    scores: Answer
    text: str
    surprise: float
    """Mean surprise of the declared model, in nats a token."""
    rejected: tuple[bool, ...]
    """For each whole block, whether TOPLOC's published thresholds reject it."""
    tokens: int


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One attack by one kind of evidence; two numbers each, for the two levels."""

    found: tuple[float, float]
    """Share of the streams that are accused."""
    tokens: tuple[int | None, int | None]
    """Median tokens to the verdict; none where less than half are accused."""
    nats: float | None = None
    """What the best bet on this very cheat gains a score, by any test of the same bins."""


class Alarms(msgspec.Struct, frozen=True, kw_only=True):
    """Honest streams by one kind of evidence."""

    streams: int
    accused: tuple[int, int]
    """How many are accused, at the two levels."""
    at_most: tuple[float, float]
    """Upper bounds of 95 % on the share that would be."""
    highest_log10_e: float | None
    """Of all streams, at any token; none for tests without an e-value."""


class Yardstick(NamedTuple):
    """All that answers are judged by."""

    channels: tuple[Channel, ...]
    nulls: Mapping[str, Null]
    likelihood: texts.Likelihood
    known: tuple[str, ...]
    """Texts of the declared model."""

    def names(self) -> tuple[str, ...]:
        """Return every kind of evidence, in the order of the table."""
        ours = [each.name for each in self.channels if each.ours]
        peers = [each.name for each in self.channels if not each.ours]
        return (*ours, ALL, *peers, PUBLISHED, *FIXED)


def cells(by: Yardstick, answers: Sequence[Kept], label: str, size: "Size") -> dict[str, Cell]:
    """Return the row of one attack, from streams drawn with replacement from its answers."""
    dice = random.Random(seed_of("verdicts", label))
    mean = statistics.fmean(each.tokens for each in answers)
    count = math.ceil(size.longest / mean)
    streams = [dice.choices(answers, k=count) for _ in range(size.streams)]
    row = {
        name: _cell([crossings(by, name, stream) for stream in streams], _nats(by, name, answers))
        for name in by.names()
        if name not in FIXED
    }
    return row | {name: _fixed(by, name, answers, label) for name in FIXED}


class Size(NamedTuple):
    """How many streams of an attack, and of how many tokens."""

    streams: int
    longest: int


def alarms(by: Yardstick, streams: Sequence[Sequence[Kept]], label: str) -> dict[str, Alarms]:
    """Return what each kind of evidence says of honest streams, watched token by token."""
    dice = np.random.default_rng(seed_of("alarms", label))
    row = {}
    for name in by.names():
        if name in FIXED:
            levels = None
            accused = [
                [_accuses(by, name, stream, alpha, dice) for alpha in ALPHAS] for stream in streams
            ]
        else:
            accused = [[c is not None for c in crossings(by, name, each)] for each in streams]
            levels = [_highest(by, name, stream) for stream in streams]
        counts = [sum(column) for column in zip(*accused, strict=True)]
        row[name] = Alarms(
            streams=len(streams),
            accused=(counts[0], counts[1]),
            at_most=(highest(counts[0], len(streams)), highest(counts[1], len(streams))),
            highest_log10_e=max(levels) if levels and name != PUBLISHED else None,
        )
    return row


def crossings(by: Yardstick, name: str, stream: Sequence[Kept]) -> Crossings:
    """Return when one stream is accused by one kind of evidence that may be watched."""
    if name == PUBLISHED:
        blocks = [block for each in stream for block in each.rejected]
        first = next((n for n, rejected in enumerate(blocks, 1) if rejected), None)
        return (None if first is None else toploc.BLOCK_TOKENS * first,) * len(ALPHAS)
    answers = [each.scores for each in stream]
    if name == ALL:
        return nulls.first_over(nulls.merged(by.nulls, answers), LEVELS)
    every = next(each.every for each in by.channels if each.name == name)
    found = nulls.first_over(nulls.path(name, by.nulls[name], answers), LEVELS)
    return tuple(None if each is None else every * each for each in found)


def _highest(by: Yardstick, name: str, stream: Sequence[Kept]) -> float:
    if name == PUBLISHED:
        return 0.0
    answers = [each.scores for each in stream]
    if name == ALL:
        paths = nulls.merged(by.nulls, answers)
    else:
        paths = nulls.path(name, by.nulls[name], answers)
    return max((float(logs.max()) for logs in paths if logs.size), default=0.0) / math.log(10)


def _nats(by: Yardstick, name: str, answers: Sequence[Kept]) -> float | None:
    """Return what no test of a channel's bins exceeds on this cheat, in nats a score."""
    null = by.nulls.get(name)
    rows = [each.scores[name] for each in answers] if null and null.survival else []
    if null is None or not any(rows):
        return None
    counts = nulls.histogram(name, rows, null.binned.edges).counts
    return round(tails.nats(smoothed(counts), null.survival), 4)


def _cell(found: Sequence[Crossings], nats: float | None = None) -> Cell:
    columns = list(zip(*found, strict=True))
    shares = [sum(each is not None for each in column) / len(column) for column in columns]
    medians = [_median(column) for column in columns]
    return Cell(found=(shares[0], shares[1]), tokens=(medians[0], medians[1]), nats=nats)


def _median(column: Sequence[int | None]) -> int | None:
    """Return the median where more than half crossed, as those that did not come last."""
    ordered = sorted(math.inf if each is None else each for each in column)
    middle = statistics.median_high(ordered)
    return None if math.isinf(middle) else int(middle)


def _fixed(by: Yardstick, name: str, answers: Sequence[Kept], label: str) -> Cell:
    """Return for a test of fixed size the smallest that accuses half, and the power of the largest.

    Answers are drawn without replacement, as equal answers would look like another distribution.
    """
    dice = np.random.default_rng(seed_of(name, label))
    mean = statistics.fmean(each.tokens for each in answers)
    found: list[tuple[float, int | None]] = []
    for alpha in ALPHAS:
        smallest, share = None, 0.0
        for size in (size for size in texts.SIZES if size <= min(len(answers), len(by.known))):
            trials = [
                _accuses(by, name, [answers[i] for i in chosen], alpha, dice)
                for chosen in _subsets(dice, len(answers), size)
            ]
            share = statistics.fmean(trials)
            if smallest is None and share >= 0.5:
                smallest = round(size * mean)
        found.append((share, smallest))
    (share, tokens), (strict_share, strict_tokens) = found
    return Cell(found=(share, strict_share), tokens=(tokens, strict_tokens))


def _subsets(dice: np.random.Generator, whole: int, size: int) -> list[list[int]]:
    return [dice.permutation(whole)[:size].tolist() for _ in range(MMD_RESAMPLES)]


def _accuses(
    by: Yardstick, name: str, stream: Sequence[Kept], alpha: float, dice: np.random.Generator
) -> bool:
    if name == LIKELIHOOD:
        return by.likelihood.accuses([each.surprise for each in stream], alpha)
    known = [by.known[i] for i in dice.permutation(len(by.known))[: len(stream)]]
    return texts.unlike([each.text for each in stream], known, dice) <= alpha
