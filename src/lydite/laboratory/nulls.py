"""What is honest for each channel, from honest answers alone, and what streams are worth then.

The null of a channel is composite: in every bin, the highest rate of any calibrated implementation,
raised by its calibration error (``statistics.composite``). Nothing here sees a cheat or a stream
that is judged.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lydite.evidence.tokens.reference import Reference
from lydite.laboratory.channels import Channel
from lydite.messages.calibration import Binned, Histogram
from lydite.statistics import betting, bins, composite, dependence
from lydite.statistics.dependence import Dependence
from lydite.statistics.merging import log_average

QUANTILES = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
"""Of all honest scores: where bins begin."""
ERROR_PPM = 1000
MERGED = ("tokens/margin", "tokens/surprisal", "tokens/residual", "activations/sketch-4")
"""What lydite averages where a provider tells log-probabilities and sketches."""
ALL = "lydite, all"
MARGINS, SURPRISALS = "tokens/margin", "tokens/surprisal"

Answer = Mapping[str, tuple[int, ...]]
"""The scores of one answer, by channel."""


class Null(NamedTuple):
    """What honest scores of one channel look like."""

    binned: Binned
    """Empty for surprisals, which need none: they are centred."""
    ceilings: tuple[float, ...]
    drift_micro: int
    dependence: tuple[tuple[str, Dependence], ...]
    """How far scores follow the one before, for each implementation."""


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
        return Null(Binned(edges=(), histograms=()), (), reference.drift_micro, follows)
    edges = reference.margin.edges if name == MARGINS else _edges(rows)
    histograms = tuple(histogram(label, each, edges) for label, each in rows.items())
    binned = Binned(edges=edges, histograms=histograms)
    ceilings = composite.ceilings(binned, len(edges) + 1, ERROR_PPM)
    return Null(binned, ceilings, 0, follows)


def _follows(rows: Sequence[Sequence[int]]) -> Dependence:
    """Return how far scores follow the one before; not at all where answers have one each."""
    if sum(len(row) > 1 for row in rows) < 2:
        return Dependence(0.0, 0.0, len(rows), 0)
    return dependence.lag_one(rows)


def _edges(rows: Mapping[str, Sequence[Sequence[int]]]) -> tuple[int, ...]:
    pooled = np.concatenate([np.array(row) for each in rows.values() for row in each])
    return tuple(sorted({int(edge) for edge in np.quantile(pooled, QUANTILES)} - {0}))


def histogram(name: str, rows: Sequence[Sequence[int]], edges: Sequence[int]) -> Histogram:
    """Return how the scores of some answers fall into the bins, clustered by answer."""
    table = np.array([bins.count(edges, row) for row in rows], dtype=np.int64)
    lengths = table.sum(axis=1)
    return Histogram(
        name=name,
        responses=len(rows),
        tokens=int(lengths.sum()),
        tokens_squared=int((lengths**2).sum()),
        counts=tuple(table.sum(axis=0).tolist()),
        counts_squared=tuple((table**2).sum(axis=0).tolist()),
        crosses=tuple((table * lengths[:, None]).sum(axis=0).tolist()),
    )


def path(name: str, null: Null, answers: Sequence[Answer]) -> Iterator[float]:
    """Yield the log e-value of one channel, in nats, after each of its scores."""
    scores = [score for answer in answers for score in answer[name]]
    if name == SURPRISALS:
        return betting.running(scores, null.drift_micro)
    places = np.searchsorted(null.binned.edges, scores, side="right").tolist()
    return bins.running(places, null.ceilings)


def merged(nulls: Mapping[str, Null], answers: Sequence[Answer]) -> Iterator[float]:
    """Yield the average of the channels of ``MERGED`` after each token, equal weights."""
    paths = [path(name, nulls[name], answers) for name in MERGED]
    weights = [1 / len(MERGED)] * len(MERGED)
    return (log_average(logs, weights) for logs in zip(*paths, strict=True))


def first_over(logs: Iterator[float], levels: Sequence[float]) -> tuple[int | None, ...]:
    """Return after how many scores a path first reaches each of the ascending ``levels``."""
    found: list[int | None] = []
    highest = -math.inf
    for number, log in enumerate(logs, 1):
        highest = max(highest, log)
        while len(found) < len(levels) and highest >= levels[len(found)]:
            found.append(number)
        if len(found) == len(levels):
            break
    return (*found, *[None] * (len(levels) - len(found)))
