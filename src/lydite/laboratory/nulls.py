"""What is honest for each channel, from honest answers alone, and what streams are worth then.

The null of a channel is composite: the highest rate of every tail of scores in any calibrated
implementation, raised by its calibration error (``statistics.composite.tails``). Nothing of it
sees a cheat or a stream that is judged; bets on measured cheats are placed by other answers of
theirs, to other prompts. For ours and for the peers alike.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from lydite.evidence.tokens.reference import Reference
from lydite.laboratory import wealth
from lydite.laboratory.channels import Channel
from lydite.laboratory.wealth import Floats
from lydite.messages.calibration import Binned, Cheat, Histogram
from lydite.statistics import bins, channel, composite, dependence, sizing
from lydite.statistics.dependence import Dependence
from lydite.statistics.nearest import smoothed

DECILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
QUANTILES = (*DECILES, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
"""Of the scores of the noisiest honest implementation, the one with the largest mean: where bins
begin. Fixed before any cheat was scored by them."""
ERROR_PPM = 1000
MERGED = ("tokens/margin", "tokens/surprisal", "tokens/residual", "activations/sketch-4")
"""What lydite averages where a provider tells log-probabilities and sketches."""
ALL = "lydite, all"
MARGINS, SURPRISALS = "tokens/margin", "tokens/surprisal"

Answer = Mapping[str, tuple[int, ...]]
"""The scores of one answer, by channel."""


class Null(NamedTuple):
    """What honest scores of one channel look like, and what cheats are bet on."""

    binned: Binned
    """Empty for surprisals, which need none: they are centred."""
    survival: tuple[float, ...]
    drift_micro: int
    dependence: tuple[tuple[str, Dependence], ...]
    """How far scores follow the one before, for each implementation."""
    answers: Mapping[str, Sequence[Sequence[int]]]
    """The scores of each honest answer in each bin, by implementation."""

    def effect(self) -> float:
        """Return how many tokens count for one."""
        return composite.effect(self.binned)

    def knowing(self, name: str, cheats: Mapping[str, Sequence[Answer]]) -> "Null":
        """Return the same null with bets on what these answers of each cheat score in ``name``."""
        if not self.survival:
            return self
        edges = self.binned.edges
        rows = {cheat: [one[name] for one in said] for cheat, said in cheats.items()}
        known = tuple(
            Cheat(name=cheat, counts=histogram(cheat, each, edges).counts)
            for cheat, each in rows.items()
            if any(each)
        )
        histograms = self.binned.histograms
        widened = tuple(self._widened(one, known) for one in histograms)
        return self._replace(binned=Binned(edges=edges, histograms=widened, cheats=known))

    def _widened(self, one: Histogram, known: Sequence[Cheat]) -> Histogram:
        """Return a histogram with the effect of its clustering on any bet that is placed."""
        _, bets = channel.wagers(self.survival, [smoothed(cheat.counts) for cheat in known])
        effects = (sizing.design_effect(self.answers[one.name], bet) for bet in bets)
        return replace(one, effect_milli=math.ceil(1000 * max(effects)))

    def cheats(self) -> list[tuple[float, ...]]:
        """Return the distributions that are bet on."""
        return [smoothed(cheat.counts) for cheat in self.binned.cheats]


def calibrate(
    channels: Sequence[Channel], honest: Mapping[str, Sequence[Answer]], reference: Reference
) -> dict[str, Null]:
    """Return the null of every channel from the honest answers of each implementation.

    Margins have the edges of the committed ``reference``, surprisals its bound on drift.
    """
    return {each.name: _null(each.name, honest, reference) for each in channels}


def _null(name: str, honest: Mapping[str, Sequence[Answer]], reference: Reference) -> Null:
    rows = {label: [answer[name] for answer in said] for label, said in honest.items()}
    follows = tuple((label, _follows(each)) for label, each in rows.items())
    if name == SURPRISALS:
        return Null(Binned(edges=(), histograms=()), (), reference.drift_micro, follows, {})
    edges = reference.margin.edges if name == MARGINS else _edges(rows)
    histograms = tuple(histogram(label, each, edges) for label, each in rows.items())
    binned = Binned(edges=edges, histograms=histograms)
    survival = composite.tails(binned, len(edges) + 1, ERROR_PPM)
    counts = {label: [bins.count(edges, row) for row in each] for label, each in rows.items()}
    return Null(binned, survival, 0, follows, counts).knowing(name, {})


def _follows(rows: Sequence[Sequence[int]]) -> Dependence:
    """Return how far scores follow the one before; not at all where answers have one each."""
    if sum(len(row) > 1 for row in rows) < 2:
        return Dependence(0.0, 0.0, len(rows), 0)
    return dependence.lag_one(rows)


def _edges(rows: Mapping[str, Sequence[Sequence[int]]]) -> tuple[int, ...]:
    pooled = [np.concatenate([np.array(row) for row in each]) for each in rows.values()]
    noisiest = max(pooled, key=lambda scores: float(scores.mean()))
    return tuple(sorted({math.ceil(edge) for edge in np.quantile(noisiest, QUANTILES)} - {0}))


def histogram(name: str, rows: Sequence[Sequence[int]], edges: Sequence[int]) -> Histogram:
    """Return how the scores of some answers fall into the bins, clustered by answer."""
    table = np.array([bins.count(edges, row) for row in rows], dtype=np.int64)
    lengths = table.sum(axis=1)
    tails = table[:, ::-1].cumsum(axis=1)[:, ::-1]
    return Histogram(
        name=name,
        responses=len(rows),
        tokens=int(lengths.sum()),
        tokens_squared=int((lengths**2).sum()),
        counts=tuple(table.sum(axis=0).tolist()),
        counts_squared=tuple((table**2).sum(axis=0).tolist()),
        crosses=tuple((table * lengths[:, None]).sum(axis=0).tolist()),
        tails_squared=tuple((tails**2).sum(axis=0).tolist()),
    )


def path(name: str, null: Null, answers: Sequence[Answer]) -> Iterator[Floats]:
    """Yield for each answer the log e-value of one channel, in nats, after each of its scores."""
    scores = [np.array(answer[name], dtype=np.int64) for answer in answers]
    if name == SURPRISALS:
        return wealth.centred(scores, null.drift_micro)
    answered = [places(null, each) for each in scores]
    return wealth.binned(answered, null.survival, null.cheats(), null.effect())


def places(null: Null, scores: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the bin of every score."""
    return np.searchsorted(null.binned.edges, scores, side="right")


def merged(nulls: Mapping[str, Null], answers: Sequence[Answer]) -> Iterator[Floats]:
    """Yield for each answer the average of the channels of ``MERGED`` after each of its tokens."""
    paths = [path(name, nulls[name], answers) for name in MERGED]
    for logs in zip(*paths, strict=True):
        yield np.logaddexp.reduce(logs) - math.log(len(MERGED))


def first_over(paths: Iterator[Floats], levels: Sequence[float]) -> tuple[int | None, ...]:
    """Return after how many scores a path first reaches each of the ascending ``levels``."""
    found: list[int | None] = []
    seen = 0
    for logs in paths:
        while (
            len(found) < len(levels) and (over := np.flatnonzero(logs >= levels[len(found)])).size
        ):
            found.append(seen + int(over[0]) + 1)
        if len(found) == len(levels):
            break
        seen += len(logs)
    return (*found, *[None] * (len(levels) - len(found)))
