"""Whether tokens may be bet on one by one, or only whole responses.

Bins of ``statistics.bins`` are safe if a bin's ceiling holds *whatever came before*. Scores that
follow their neighbours break that: raw surprisals gave 13 % false accusations at a level of .5 %.
Such scores are judged a response at a time (``statistics.conformal``). Decided on honest streams,
before any provider is judged. Knows nothing of what a score measures.
"""

import enum
import math
from collections.abc import Sequence
from typing import NamedTuple

from lydite.errors import FormatError

LIMIT = 0.05
"""Autocorrelation beyond which tokens are not bet on one by one."""


class Level(enum.StrEnum):
    """What one bet is placed on."""

    TOKENS = "tokens"
    RESPONSES = "responses"


class Dependence(NamedTuple):
    """How far honest scores follow the one before them, within their response."""

    rho: float
    """Lag-1 autocorrelation about the mean of all responses, from -1 to 1."""
    standard_error: float
    """Clustered by response."""
    responses: int
    pairs: int


class Choice(NamedTuple):
    """At which level a score is judged, and why."""

    level: Level
    why: str


def lag_one(responses: Sequence[Sequence[int]]) -> Dependence:
    """Measure how far scores follow the one before, over honest responses.

    ``rho = sum of d_i d_(i+1) / sum of (d_i^2 + d_(i+1)^2) / 2`` over neighbours within a response,
    d the difference from the mean of all scores. As that mean is common, responses that differ as
    a whole count as dependent too, which for a bet on tokens they are. 0 if nothing varies.

    Raises:
        FormatError: fewer than two responses with a neighbouring pair.
    """
    kept = [response for response in responses if len(response) > 1]
    if len(kept) < 2:
        raise FormatError("autocorrelation needs two responses of two tokens or more")
    mean = sum(map(sum, kept)) / sum(map(len, kept))
    rows = [_products([value - mean for value in response]) for response in kept]
    whole = math.fsum(square for _, square in rows)
    pairs = sum(map(len, kept)) - len(kept)
    if whole == 0.0:
        return Dependence(0.0, 0.0, len(kept), pairs)
    rho = math.fsum(product for product, _ in rows) / whole
    residuals = math.fsum((product - rho * square) ** 2 for product, square in rows)
    error = math.sqrt(residuals * len(kept) / (len(kept) - 1)) / whole
    return Dependence(rho, error, len(kept), pairs)


def choose(dependence: Dependence) -> Choice:
    """Decide whether a score is judged by tokens or by responses.

    Responses if |rho| is above .05, or measured too coarsely to tell (two standard errors above
    .05): doubt costs power, never an honest provider.
    """
    rho, error = dependence.rho, dependence.standard_error
    if not (math.isfinite(rho) and math.isfinite(error)):
        raise FormatError("an autocorrelation that is not a number")
    measured = f"lag-1 autocorrelation {rho:+.3f} +- {error:.3f}"
    if abs(rho) > LIMIT:
        return Choice(Level.RESPONSES, f"{measured} is beyond {LIMIT}: tokens follow each other")
    if 2.0 * error > LIMIT:
        return Choice(Level.RESPONSES, f"{measured} is too coarse to tell whether tokens do")
    return Choice(Level.TOKENS, f"{measured} is within {LIMIT}")


def _products(differences: Sequence[float]) -> tuple[float, float]:
    """Return the sums over neighbours of their product and of their mean square."""
    ahead = differences[1:]
    product = math.fsum(a * b for a, b in zip(differences, ahead, strict=False))
    square = math.fsum((a * a + b * b) / 2 for a, b in zip(differences, ahead, strict=False))
    return product, square
