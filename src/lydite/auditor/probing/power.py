"""How many tokens it takes to notice a named alternative: from its own logits at these positions.

What an alternative would have drawn and reported is computed exactly, so that sizes are those of
the model and the prompts at hand. Judges nothing.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lydite.auditor.probing.verdict import NUMERICS
from lydite.evidence.endpoint import reference as expected
from lydite.evidence.endpoint.claims import Draw
from lydite.evidence.endpoint.reference import MARGIN, PIT, RESIDUAL, SURPRISAL, Bounds, Plan
from lydite.evidence.endpoint.verifier import CLIP_NATS, clipped, distribution
from lydite.statistics import betting, bounded, pit, sizing
from lydite.statistics.sizing import Goal

MICRO = 1_000_000
_POSITIONS = 400
"""How many positions are looked at: enough for a size, few enough for a large vocabulary."""

_Rows = NDArray[np.float64]


class Seen(NamedTuple):
    """What there is to see of an answer."""

    plan: Plan
    draw: Draw
    half: float = 0.0
    """Half of the coarsest last decimal that log-probabilities came with, in nats."""


class Needed(NamedTuple):
    """Tokens for 90 % power against one alternative, None where it is never seen."""

    accuse: int | None
    """Until it is called inconsistent."""
    notice: int | None
    """Until it is called inconsistent or misconfigured."""
    channels: dict[str, int | None]


def needed(
    bounds: Bounds, seen: Seen, pairs: Sequence[tuple[_Rows, _Rows]], alpha: float
) -> Needed:
    """Return what it takes, ``pairs`` being logits of the declared model and of the alternative.

    Both of shape (tokens, vocabulary), after the same tokens. Sizes are those of bets from the
    first token on, by arithmetic (``statistics.sizing``).
    """
    rows = [pair for both in pairs for pair in zip(*both, strict=True)][:_POSITIONS]
    if not rows:
        return Needed(None, None, {})
    plan, scene = seen.plan, _Scene(bounds, *seen, rows)
    size_of = {
        SURPRISAL: scene.surprisal,
        PIT: scene.place,
        RESIDUAL: scene.residual,
        MARGIN: scene.margin,
    }
    sizes = {
        name: size_of[name](Goal(math.log(1 / alpha), weight=weight / 2))
        for name, weight in plan.weights().items()
    }
    accuse = _least(sizes.values())
    if not plan.logprobs:
        return Needed(accuse, accuse, sizes)
    warn = _by_mean(scene.residuals(), bounds.numerics_mean_micro, Goal(math.log(1 / alpha)))
    return Needed(accuse, _least([accuse, warn]), {**sizes, NUMERICS: warn})


def _least(sizes: Iterable[int | None]) -> int | None:
    return min((size for size in sizes if size is not None), default=None)


class _Scene(NamedTuple):
    """The positions that are looked at, and what an honest endpoint may do there."""

    bounds: Bounds
    plan: Plan
    draw: Draw
    half: float
    rows: list[tuple[_Rows, _Rows]]

    def surprisal(self, goal: Goal) -> int | None:
        toll = expected.drift(self.bounds, self.plan) / MICRO
        means = np.zeros(len(betting.BETS))
        squares = np.zeros(len(betting.BETS))
        for p, q in self._distributions():
            f = clipped(p)
            x = (f - np.dot(p, f)) / CLIP_NATS
            for i, bet in enumerate(betting.BETS):
                gain = np.log1p(bet * x - abs(bet) * toll)
                means[i] += np.dot(q, gain)
                squares[i] += np.dot(q, gain**2)
        means, squares = means / len(self.rows), squares / len(self.rows)
        return _by_best(means, squares - means**2, goal)

    def place(self, goal: Goal) -> int | None:
        filled = np.zeros(pit.BINS)
        grid = np.linspace(0.0, 1.0, pit.BINS + 1)
        for p, q in self._distributions():
            order = np.argsort(-p, kind="stable")
            ends = np.minimum(np.cumsum(p[order]), 1.0)
            mass = np.cumsum(q[order])
            # a token's mass lies evenly over its place, so the bins' edges cut it in proportion
            filled += np.diff(np.interp(grid, np.append(0.0, ends), np.append(0.0, mass)))
        null = pit.null(expected.drift(self.bounds, self.plan))
        return sizing.learnt(_shares(filled), null, goal)

    def residual(self, goal: Goal) -> int | None:
        values, shares = self.residuals()
        if self.bounds.calibrated is None:
            return _by_mean((values, shares), self.bounds.residual_mean_micro, goal)
        beyond = expected.tails(self.bounds)
        one = goal._replace(weight=goal.weight / max(len(beyond), 1))
        return _least(
            _by_mean(((values * MICRO >= edge).astype(np.float64), shares), rate, one)
            for edge, rate in beyond
        )

    def margin(self, goal: Goal) -> int | None:
        lost = [float(row.max() - row[int(other.argmax())]) for row, other in self.rows]
        values = np.minimum(np.array(lost), expected.MARGIN_CAP_MICRO / MICRO)
        shares = np.full(len(lost), 1 / len(lost))
        return _by_mean((values, shares), self.bounds.margin_mean_micro, goal)

    def residuals(self) -> tuple[_Rows, _Rows]:
        """Return residuals in nats of all that may be drawn, and the chance of each.

        A last decimal may hide half of itself each time, as the verifier grants it.
        """
        values, shares = [], []
        for row, other in self.rows:
            if self.draw.temperature > 0.0:
                chance = distribution(other, self.draw)
            else:
                chance = (np.arange(other.size) == other.argmax()).astype(np.float64)
            values.append(np.maximum(np.abs(_logs(row) - _logs(other)) - self.half, 0.0))
            shares.append(chance / len(self.rows))
        return np.concatenate(values), np.concatenate(shares)

    def _distributions(self) -> Iterator[tuple[_Rows, _Rows]]:
        for row, other in self.rows:
            yield distribution(row, self.draw), distribution(other, self.draw)


def _logs(row: _Rows) -> _Rows:
    shifted = row - row.max()
    logs: _Rows = shifted - np.log(np.exp(shifted).sum())
    return logs


def _by_mean(drawn: tuple[_Rows, _Rows], mean_micro: int, goal: Goal) -> int | None:
    """Return the size of a bet on the mean of values that are capped at one."""
    values, shares = np.minimum(drawn[0], 1.0), drawn[1]
    gains = [np.log1p(stake * (values * MICRO / mean_micro - 1.0)) for stake in bounded.STAKES]
    means = np.array([np.dot(shares, gain) for gain in gains])
    squares = np.array([np.dot(shares, gain**2) for gain in gains])
    return _by_best(means, squares - means**2, goal)


def _by_best(means: _Rows, variances: _Rows, goal: Goal) -> int | None:
    """Return the size of the best of several bets, which share the stake."""
    best, paid = int(np.argmax(means)), math.log(len(means))
    nats = float(means[best])
    if nats <= 0.0:
        return None
    return sizing.needed(lambda m: m * nats - paid, max(float(variances[best]), 0.0), goal)


def _shares(filled: _Rows) -> list[float]:
    """Return a histogram as shares without gaps, which sizes are computed from."""
    smoothed = filled + 1e-9
    return [float(share) for share in smoothed / smoothed.sum()]
