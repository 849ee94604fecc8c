"""Scores served tokens against the declared model's own logits, one teacher-forced pass later.

Pure arithmetic on logits that the auditor computed. Has its own account of the filters and shares
only the noise with whoever samples. Judges nothing: the scores are recorded, and the appraisal
reads them against the Reference Value.
"""

from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from lydite.errors import FormatError, Reason
from lydite.evidence.tokens import noise
from lydite.evidence.tokens import reference as expected
from lydite.evidence.tokens.claims import Claims, check_vocabulary
from lydite.evidence.tokens.logprobs import Served
from lydite.evidence.tokens.reference import (
    CAP_MICRO,
    KIND,
    MARGIN,
    OUTSIDE,
    RESIDUAL,
    RESIDUAL_CAP_MICRO,
    SCALE_MICRO,
    SEEDED,
    SURPRISAL,
    Reference,
)
from lydite.evidence.tokens.sampling import Sampling
from lydite.messages.finding import Finding, Measure
from lydite.messages.tier import Tier

CLIP_NATS = 6.0
"""Surprisals are clipped here before they are centred."""
LEADING_NATS = 8.0
"""Tokens this far behind the best one are drawn too rarely to matter to an honest machine."""
MARGIN_UNIT, SURPRISAL_UNIT, RESIDUAL_UNIT = "micro-logit", "micro-nat/6", "micro-nat"
SEEDED_UNIT = "micro-hit"

_Row = NDArray[np.float64]
_Set = NDArray[np.bool_]


class Support(NamedTuple):
    """Which tokens the filters leave, given that honest logits may differ by the noise."""

    certain: _Set
    """Left by the filters however the logits were nudged."""
    possible: _Set
    """Left by the filters for some nudge of the logits."""


def verify(claims: Claims, logits: NDArray[np.floating], reference: Reference) -> Finding:
    """Score every token of ``claims``; ``logits`` has shape (output tokens, vocabulary).

    Row t holds the declared model's logits, in nats, after the prompt and the first t tokens.

    1. The request leaves the outcome to chance, in a way that the reference was calibrated for.
    2. Margin: by how much the served token loses against the best one, after the noise of this
       seed and position, ``max over C of (l_v + T g_v) - (l_y + T g_y)``, at most half a logit,
       where C are the tokens that the filters leave however the logits are nudged; ``OUTSIDE``
       for a token that they exclude even so. Left out where the sampler has no seed to repeat.
    3. Surprisal: ``f(y) - E_p f`` over ``CLIP_NATS``, with ``f(v) = min(-ln p(v), CLIP_NATS)`` and
       p the distribution over C: mean zero for tokens drawn from p, by whatever sampler. Zero for
       a token that the filters may leave or not, the clip for one that is outside.

    4. Residual, where the answer gives log-probabilities: ``|served - recomputed|``, less half of
       what they were rounded to, at most ten nats. They are those of the unfiltered model at
       temperature 1, or, on servers so set, those that the token was drawn with: the nearer counts.
    5. Seeded: 1 if the served token is the best one after the noise, else 0, less its probability
       p(y) among C and itself: mean zero for tokens that were chosen without looking at the noise,
       by whatever model. Left out where margins are.

    The scores are integers in millionths. The tier is always ``NONE``: one answer proves nothing.
    An answer without tokens has measures without values.

    Raises:
        UnavailableError: step 1 fails, so that a score could be held against nobody, or we cannot
            repeat the noise of the reference's sampler.
        FormatError: the logits do not fit the tokens, or are not finite.
        VerificationError: a token is not in the model's vocabulary.

    **Does not show** who computed the tokens, on what machine, or whether another model with the
    same choices at these positions did; nor that the answer ended where the model would have
    ended it, nor anything of activations. A quantisation so fine that it moves no choice among
    these tokens leaves no trace here, nor does another choice among tokens at the edge of top-p
    or top-k. Surprisal alone does not see another model whose temperature was tuned to be as
    surprising on average. A seed that the provider could choose would prove less than one it
    could not; where the seed comes from is for the receipt to show.
    """
    # 1.
    expected.check_covered(reference, claims.sampling)
    _check(claims, logits)
    return Finding(
        kind=KIND,
        tier=Tier.NONE,
        reason=Reason.RECORDED,
        reference=expected.digest(reference),
        measures=_measures(claims, logits, reference),
    )


def settled(
    logits: NDArray[np.floating], others: NDArray[np.floating], reference: Reference
) -> _Set:
    """Return for every output token whether two honest machines agree on what comes before it.

    ``logits`` and ``others`` have shape (output tokens, vocabulary), both of the declared model
    after the same tokens: in the auditor's arithmetic, and in that of the declared data type. They
    agree where no two tokens within ``LEADING_NATS`` of the best one differ between them by more
    than the reference's noise. That depends on what came before a token and not on the token, so
    leaving out the others biases nothing; it keeps a client from picking prompts that honest
    machines read unlike one another.

    Raises:
        FormatError: the two do not have the same shape.
    """
    if logits.shape != others.shape:
        raise FormatError(f"logits of shapes {logits.shape} and {others.shape}")
    if not len(logits):
        return np.zeros(0, dtype=bool)
    difference = others.astype(np.float64) - logits
    leading = logits >= logits.max(axis=1, keepdims=True) - LEADING_NATS
    highest = np.where(leading, difference, -np.inf).max(axis=1)
    lowest = np.where(leading, difference, np.inf).min(axis=1)
    agree: _Set = SCALE_MICRO * (highest - lowest) <= reference.noise_micro
    return agree


def keep(finding: Finding, kept: _Set) -> Finding:
    """Return ``finding`` with the scores of the tokens in ``kept`` alone."""
    measures = tuple(
        msgspec.structs.replace(
            measure, values=tuple(v for v, k in zip(measure.values, kept, strict=True) if k)
        )
        for measure in finding.measures
    )
    return msgspec.structs.replace(finding, measures=measures)


def support(scaled: _Row, sampling: Sampling, slack: float) -> Support:
    """Return which tokens the filters leave of ``scaled`` = logits / temperature.

    ``slack`` is the noise in the same units. Nudging every logit by at most that much multiplies
    the odds of any set of tokens by at most ``exp(2 slack)``, and moves ranks by twice it: so
    the mass at which top-p ends moves little where it is close to one.
    """
    possible = scaled >= _boundary(scaled, sampling, slack) - 2 * slack
    certain = scaled >= _boundary(scaled, sampling, -slack) + 2 * slack
    return Support(certain, possible)


def _boundary(scaled: _Row, sampling: Sampling, slack: float) -> float:
    """Return the least logit that top-k, then top-p at ``exp(2 slack)`` its odds, leave."""
    limited = 0 < sampling.top_k < scaled.size
    if not limited and sampling.top_p >= 1.0:
        return -np.inf
    ranked = np.sort(scaled)[::-1]
    if limited:
        ranked = ranked[: sampling.top_k]
    if sampling.top_p >= 1.0:
        return float(ranked[-1])
    weights = np.exp(ranked - ranked[0])
    mass = np.cumsum(weights) / weights.sum()
    odds = sampling.top_p * np.exp(slack)
    wanted = odds / (odds + (1.0 - sampling.top_p) * np.exp(-slack))
    last = int(np.searchsorted(mass, wanted))
    return float(ranked[min(last, ranked.size - 1)])


def _measures(
    claims: Claims, logits: NDArray[np.floating], reference: Reference
) -> tuple[Measure, ...]:
    scored = _scores(claims, logits, reference)
    measures = [Measure(name=SURPRISAL, unit=SURPRISAL_UNIT, values=scored.surprisals)]
    if reference.sampler != expected.UNSEEDED:
        measures.insert(0, Measure(name=MARGIN, unit=MARGIN_UNIT, values=scored.margins))
        measures.append(Measure(name=SEEDED, unit=SEEDED_UNIT, values=scored.seeded))
    if claims.served is not None:
        residuals = _residuals(claims, claims.served, logits, reference.noise_micro / SCALE_MICRO)
        measures.append(Measure(name=RESIDUAL, unit=RESIDUAL_UNIT, values=residuals))
    return tuple(measures)


class _Scores(NamedTuple):
    """Scores of each token, in millionths; no margins and hits without a seed to repeat."""

    margins: tuple[int, ...]
    surprisals: tuple[int, ...]
    seeded: tuple[int, ...]


def _scores(claims: Claims, logits: NDArray[np.floating], reference: Reference) -> _Scores:
    heat, slack = claims.sampling.temperature, reference.noise_micro / SCALE_MICRO
    draws = None if reference.sampler == expected.UNSEEDED else _Draws(claims, logits, reference)
    margins, surprisals, seeded = [], [], []
    for token, row in zip(claims.output_ids, logits, strict=True):
        scaled = row.astype(np.float64) / heat
        kept = support(scaled, claims.sampling, slack / heat)
        surprisal, chance = _surprisal(scaled, token, kept)
        surprisals.append(surprisal)
        if draws is not None:
            drawn = draws.next(scaled, kept, slack / heat)
            own = heat * float(scaled[token] + drawn.most[token])
            margins.append(_margin(heat * (scaled + drawn.least), own, token, kept))
            hit = _hit(scaled + drawn.own, token, kept)
            seeded.append(round(SCALE_MICRO * (hit - chance)))
    return _Scores(tuple(margins), tuple(surprisals), tuple(seeded))


class _Noise(NamedTuple):
    """The noise of each token at one position."""

    least: _Row
    most: _Row
    """The least and the most that honest machines may have had; mostly the same."""
    own: _Row
    """What the auditor's own ranking of the tokens gives."""


class _Draws:
    """The noise of one answer, token by token, as the reference's sampler draws it."""

    def __init__(self, claims: Claims, logits: NDArray[np.floating], reference: Reference) -> None:
        sampling, last = claims.sampling, len(claims.prompt_ids) - 1
        filtered = 0 < sampling.top_k < logits.shape[1] or sampling.top_p < 1.0
        self._rows = noise.rows(reference.sampler, claims.seed, last, logits.shape[1])
        self._ranked = filtered and noise.adapter(reference.sampler).ranked

    def next(self, scaled: _Row, kept: Support, slack: float) -> _Noise:
        """Return the noise that each token may have had at the next position.

        Where columns are ranks, honest machines may rank tokens within twice the ``slack`` of one
        another either way, so each may have had the noise of any of those ranks.
        """
        drawn = next(self._rows)
        if not self._ranked:
            return _Noise(drawn, drawn, drawn)
        own = np.empty_like(drawn)
        own[np.argsort(-scaled, kind="stable")] = drawn
        ascending = np.sort(scaled)
        least, most = drawn.copy(), drawn.copy()
        for token in np.flatnonzero(kept.possible):
            above = scaled.size - np.searchsorted(ascending, scaled[token] + 2 * slack, "right")
            below = scaled.size - np.searchsorted(ascending, scaled[token] - 2 * slack, "left")
            least[token], most[token] = drawn[above:below].min(), drawn[above:below].max()
        return _Noise(least, most, own)


def _margin(noisy: _Row, own: float, token: int, kept: Support) -> int:
    """Return by how much ``own``, the most that the token may have reached, falls short."""
    if not kept.possible[token]:
        return OUTSIDE
    best = float(noisy[kept.certain].max(initial=own))
    return min(round(SCALE_MICRO * (best - own)), CAP_MICRO)


def _hit(noisy: _Row, token: int, kept: Support) -> bool:
    """Say whether the token is the best one after the noise, of those that count and itself."""
    own = float(noisy[token])
    return own >= float(noisy[kept.certain].max(initial=own))


def _surprisal(scaled: _Row, token: int, kept: Support) -> tuple[int, float]:
    """Return the surprisal of a token in millionths, and its probability among C and itself."""
    shifted = scaled[kept.certain] - scaled.max()
    weights = np.exp(shifted)
    total, own = float(weights.sum()), float(np.exp(scaled[token] - scaled.max()))
    chance = own / total if kept.certain[token] else own / (total + own) if total else 1.0
    if kept.possible[token] and not kept.certain[token]:
        return 0, chance  # whoever draws it or not by a last digit has done nothing
    log_p = shifted - np.log(total) if shifted.size else shifted
    mean = float(np.dot(np.exp(log_p), np.minimum(-log_p, CLIP_NATS)))
    if not kept.possible[token]:
        return round(SCALE_MICRO * (CLIP_NATS - mean) / CLIP_NATS), chance
    rank = int(np.count_nonzero(kept.certain[:token]))
    value = min(-float(log_p[rank]), CLIP_NATS)
    return round(SCALE_MICRO * (value - mean) / CLIP_NATS), chance


def _residuals(
    claims: Claims, served: Served, logits: NDArray[np.floating], slack: float
) -> tuple[int, ...]:
    """Return the residual of each token, in millionths of a nat."""
    heat = claims.sampling.temperature
    found = []
    for token, said, row in zip(claims.output_ids, served.values, logits, strict=True):
        scaled = row.astype(np.float64) / heat
        kept = support(scaled, claims.sampling, slack / heat)
        plain = _log_p(scaled * heat, token, np.ones_like(kept.certain))
        # Drawn with: which tokens the filters left may hang on a last digit.
        least, most = (_log_p(scaled, token, some) for some in kept)
        drawn = min(max(said, min(least, most)), max(least, most))
        off = min(abs(said - plain), abs(said - drawn)) - served.unit / 2
        found.append(min(round(SCALE_MICRO * max(off, 0.0)), RESIDUAL_CAP_MICRO))
    return tuple(found)


def _log_p(scaled: _Row, token: int, kept: _Set) -> float:
    """Return the log-probability of ``token`` among ``kept``, of which it may be one."""
    among = scaled[kept]
    high = max(float(among.max(initial=-np.inf)), float(scaled[token]))
    total = np.exp(among - high).sum() + (0.0 if kept[token] else np.exp(scaled[token] - high))
    return float(scaled[token]) - high - float(np.log(total))


def _check(claims: Claims, logits: NDArray[np.floating]) -> None:
    if logits.ndim != 2 or len(logits) != len(claims.output_ids):
        raise FormatError(f"logits of shape {logits.shape} for {len(claims.output_ids)} tokens")
    if claims.served is not None and len(claims.served.values) != len(logits):
        raise FormatError(f"{len(claims.served.values)} log-probabilities for {len(logits)} tokens")
    check_vocabulary(claims, logits.shape[1])
    if not np.isfinite(logits).all():
        raise FormatError("logits that are not finite")
