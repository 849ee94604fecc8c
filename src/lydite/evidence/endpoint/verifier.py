"""Scores an endpoint's tokens and log-probabilities against the declared model's own logits.

Pure arithmetic on logits that the auditor computed. Needs neither seed nor the endpoint's
co-operation. Judges nothing: the scores are recorded, and ``reference`` reads them.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lydite.errors import FormatError, Reason, VerificationError
from lydite.evidence.endpoint.claims import Draw
from lydite.evidence.endpoint.reference import (
    ABSENT,
    CAP_MICRO,
    KIND,
    MARGIN,
    MARGIN_CAP_MICRO,
    PIT,
    RESIDUAL,
    SURPRISAL,
    named,
)
from lydite.messages.finding import Finding, Measure
from lydite.messages.tier import Tier
from lydite.statistics import pit, ties

CLIP_NATS = 6.0
"""Surprisals are clipped here before they are centred."""
MICRO = 1_000_000

_Row = NDArray[np.float64]


def verify(
    output_ids: Sequence[int],
    logits: NDArray[np.floating],
    draws: Mapping[str, Draw],
    logprobs: tuple[Sequence[float | None], int] | None,
    nonce: bytes,
) -> Finding:
    """Score every token; row t of ``logits`` is the declared model's, in nats, before token t.

    ``draws`` are ways in which the tokens may have been drawn, by name; each is scored.
    ``logprobs`` are the served ones, one a token or None, and the decimals that they have.
    ``nonce``, 32 bytes that the endpoint could not know, breaks ties.

    1. Surprisal ``f(y) - E_p f`` over ``CLIP_NATS``, ``f(v) = min(-ln p(v), CLIP_NATS)``: mean
       zero for tokens drawn from p. The clip for a token that p excludes.
    2. PIT: where the token falls in p, uniform if it was drawn from p; ``ABSENT`` if excluded.
    3. Residual ``|served - recomputed|`` less half of the last decimal, at most a nat, of the raw
       log-probability or of that under p, whichever is nearer.
    4. At temperature 0 only the margin ``max l - l_y`` instead of 1 and 2, at most half a logit.

    The scores are integers in millionths. The tier is always ``NONE``: one answer proves nothing.

    Raises:
        FormatError: the logits do not fit the tokens or are not finite, or logprobs and tokens
            differ in number.
        VerificationError: a token is not in the model's vocabulary (``Reason.UNKNOWN_TOKEN``).

    **Does not show** who computed the tokens, nor what the endpoint serves to others: a recognised
    auditor is served honestly, and text can be made to look right. Without log-probabilities a
    quantisation, a fine-tune or another model of nearly the same distribution leaves no trace;
    reported log-probabilities may be another model's than the one that chose the tokens.
    """
    _check(output_ids, logits, logprobs)
    measures = []
    for name, draw in draws.items():
        rows = [_Scored(row.astype(np.float64), draw) for row in logits]
        scored = list(zip(rows, output_ids, strict=True))
        if draw.temperature > 0.0:
            surprisals = [row.surprisal(y) for row, y in scored]
            tied = [ties.uniform(named(PIT, name), nonce, at) for at in range(len(rows))]
            places = [row.place(y, tie) for (row, y), tie in zip(scored, tied, strict=True)]
            measures.append(_measure(named(SURPRISAL, name), "micro-nat/6", surprisals))
            measures.append(_measure(named(PIT, name), "micro", places))
        else:
            margins = [row.margin(y) for row, y in scored]
            measures.append(_measure(named(MARGIN, name), "micro-logit", margins))
        if logprobs is not None:
            residuals = _residuals(scored, *logprobs)
            measures.append(_measure(named(RESIDUAL, name), "micro-nat", residuals))
    return Finding(kind=KIND, tier=Tier.NONE, reason=Reason.RECORDED, measures=tuple(measures))


def distribution(row: _Row, draw: Draw) -> _Row:
    """Return the probability of every token when ``draw`` draws from the logits ``row``."""
    scaled = (row - row.max()) / draw.temperature
    p = np.exp(scaled)
    p /= p.sum()
    keep = p >= draw.min_p * p.max()
    if draw.top_k or draw.top_p < 1.0:
        order = np.argsort(-p, kind="stable")
    if 0 < draw.top_k < p.size:
        keep[order[draw.top_k :]] = False
    if draw.top_p < 1.0:
        mass = np.cumsum(np.where(keep, p, 0.0)[order]) / p[keep].sum()
        keep[order[int(np.searchsorted(mass, draw.top_p)) + 1 :]] = False
    p = np.where(keep, p, 0.0)
    filtered: _Row = p / p.sum()
    return filtered


def clipped(p: _Row) -> _Row:
    """Return ``min(-ln p, CLIP_NATS)`` of every token."""
    with np.errstate(divide="ignore"):
        surprise: _Row = np.minimum(-np.log(p), CLIP_NATS)
    return surprise


class _Scored:
    """One row of logits, and what a draw from it looks like."""

    def __init__(self, row: _Row, draw: Draw) -> None:
        self._row = row
        shifted = row - row.max()
        self._raw = shifted - np.log(np.exp(shifted).sum())
        if draw.temperature > 0.0:
            self._p = distribution(row, draw)
        else:
            self._p = np.exp(self._raw)

    def surprisal(self, token: int) -> int:
        f = clipped(self._p)
        return round(MICRO * float(f[token] - np.dot(self._p, f)) / CLIP_NATS)

    def place(self, token: int, tie: float) -> int:
        mass = float(self._p[token])
        if mass <= 0.0:
            return ABSENT
        above = float(self._p[self._p > mass].sum())
        tied = float(self._p[self._p == mass].sum())
        return pit.value_micro(max(0.0, min(above, 1.0 - tied)), tied, tie)

    def margin(self, token: int) -> int:
        return min(round(MICRO * float(self._row.max() - self._row[token])), MARGIN_CAP_MICRO)

    def residual(self, token: int, served: float, half: float) -> int:
        apart = abs(served - float(self._raw[token]))
        if self._p[token] > 0.0:
            apart = min(apart, abs(served - float(np.log(self._p[token]))))
        return min(round(MICRO * max(apart - half, 0.0)), CAP_MICRO)


def _residuals(
    scored: Sequence[tuple[_Scored, int]], served: Sequence[float | None], decimals: int
) -> list[int]:
    half = 0.5 * 10.0**-decimals
    said = zip(scored, served, strict=True)
    return [row.residual(y, value, half) for (row, y), value in said if value is not None]


def _measure(name: str, unit: str, values: list[int]) -> Measure:
    return Measure(name=name, unit=unit, values=tuple(values))


def _check(
    output_ids: Sequence[int],
    logits: NDArray[np.floating],
    logprobs: tuple[Sequence[float | None], int] | None,
) -> None:
    if logits.ndim != 2 or len(logits) != len(output_ids):
        raise FormatError(f"logits of shape {logits.shape} for {len(output_ids)} tokens")
    worst = max(output_ids, default=0)
    if not 0 <= min(output_ids, default=0) <= worst < logits.shape[1]:
        raise VerificationError(
            Reason.UNKNOWN_TOKEN, f"token {worst} is not among the model's {logits.shape[1]}"
        )
    if not np.isfinite(logits).all():
        raise FormatError("logits that are not finite")
    if logprobs is not None and len(logprobs[0]) != len(output_ids):
        raise FormatError(f"{len(logprobs[0])} logprobs for {len(output_ids)} tokens")
