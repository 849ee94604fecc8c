"""What the auditor makes of a stack's answers: scores, and how far the two stacks' logits differ.

The one place where a passport's numbers come from; the verifier's own scores, and nothing of a
stack's own account but its tokens and log-probabilities. Judges nothing.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from lydite.engines.protocol import Engine
from lydite.errors import FormatError, Reason, UnavailableError
from lydite.evidence.activations import claims as activations
from lydite.evidence.activations import verifier as sketch_verifier
from lydite.evidence.activations.reference import INNER, SKETCH
from lydite.evidence.activations.reference import Reference as Sketches
from lydite.evidence.activations.verifier import Taps
from lydite.evidence.tokens import verifier
from lydite.evidence.tokens.claims import Claims
from lydite.evidence.tokens.reference import (
    MARGIN,
    RESIDUAL,
    SCALE_MICRO,
    SURPRISAL,
    Reference,
)
from lydite.evidence.tokens.sampling import Sampling
from lydite.messages.passport import TOKENS
from lydite.numerics.asking import Answer

NOISE_QUANTILE = 0.9999
_Row = NDArray[np.float64]


class Scored(NamedTuple):
    """The scores of one answer, one a token, at most 128: as findings record them."""

    margins: tuple[int, ...]
    """Empty where the sampler has no seed to repeat."""
    surprisals: tuple[int, ...]
    residuals: tuple[int, ...]
    """Micro-nats; empty where the stack told no log-probabilities."""
    flips: int
    """Tokens outside of what the auditor's filters leave without any slack."""
    chat: bool
    prompt_tokens: int
    """As the auditor renders the prompt."""
    told_tokens: int | None
    """As the stack says."""
    sketch: tuple[int, ...] = ()
    inner: tuple[int, ...] = ()
    """Scores of the answer's sketch; empty where there is none, or no second tap."""
    spread: tuple[float, float] | None = None
    """Mean and greatest of the tokens' mean squared differences of states, where both are known."""

    @property
    def tokens(self) -> int:
        """How many tokens were scored."""
        return len(self.surprisals)


class Difference(NamedTuple):
    """How far the logits of the two stacks differ."""

    noise_micro: int
    drift_micro: int


def score(
    auditor: Engine, answer: Answer, blank: Reference, sketched: Sketches | None = None
) -> Scored:
    """Recompute one answer and score its first 128 tokens; its sketch against ``sketched``.

    Raises:
        FormatError, VerificationError: tokens that the model does not have, or do not fit into it;
            a sketch of other tokens, or by another spec.
        UnavailableError: a sketch was asked for, and the answer has none.
    """
    claims = cut(answer)
    recomputed = auditor.recompute(claims.prompt_ids, claims.output_ids)
    logits, taps = recomputed.logits, Taps(recomputed.states, recomputed.inner)
    finding = verifier.verify(claims, logits, blank)
    return Scored(
        margins=finding.values(MARGIN),
        surprisals=finding.values(SURPRISAL),
        residuals=finding.values(RESIDUAL),
        flips=_flips(logits, claims.output_ids, claims.sampling),
        chat=answer.question.prompt.chat,
        prompt_tokens=len(claims.prompt_ids),
        told_tokens=answer.prompt_tokens,
        **({} if sketched is None else _sketch(answer, claims, taps, sketched)),
    )


def _sketch(answer: Answer, claims: Claims, taps: Taps, sketched: Sketches) -> dict[str, Any]:
    """Return what is known of an answer's sketch.

    Raises:
        UnavailableError: it has none (``Reason.NO_SKETCH``).
        FormatError: it is none of these tokens, of which there may be 128.
    """
    if answer.stated is None:
        raise UnavailableError("the stack makes no sketches", Reason.NO_SKETCH)
    if len(answer.claims.output_ids) > TOKENS:
        raise FormatError(f"a sketch of more than {TOKENS} tokens")
    claimed = activations.claims(
        answer.stated,
        sketched.spec,
        receipt_id=answer.receipt_id,
        weights_root=sketched.weights_root,
        prompt_ids=claims.prompt_ids,
        output_ids=claims.output_ids,
    )
    finding = sketch_verifier.verify(claimed, taps, sketched)
    spread = None
    if answer.states is not None:
        squares = np.square(answer.states.astype(np.float64) - taps.states).mean(axis=1)
        spread = (float(squares.mean()), float(squares.max()))
    return {
        "sketch": finding.values(SKETCH),
        "inner": finding.values(INNER),
        "spread": spread,
    }


def cut(answer: Answer) -> Claims:
    """Return the claims of an answer's first 128 tokens."""
    claims = answer.claims
    served = claims.served
    return msgspec.structs.replace(
        claims,
        output_ids=claims.output_ids[:TOKENS],
        served=served and msgspec.structs.replace(served, values=served.values[:TOKENS]),
    )


def by_states(
    auditor: Engine, answers: Sequence[Answer], head: Any, samplings: Sequence[Sampling]
) -> Difference:
    """Compare whole rows of logits; ``head`` makes a stack's logits of the states that it tapped.

    Noise: the 99.99 % quantile of the difference, its mean over the vocabulary taken out. Drift:
    the most that the mean of a clipped surprisal moves at any token, in any way to sample.

    Raises:
        FormatError: an answer without states.
    """
    gaps, rows = [], []
    for answer in answers:
        if answer.states is None:
            raise FormatError("this engine does not show the states that it draws from")
        claims = cut(answer)
        ours = auditor.recompute(claims.prompt_ids, claims.output_ids).logits.astype(np.float64)
        theirs = head(answer.states[:TOKENS]).astype(np.float64)
        gap = theirs - ours
        gaps.append(np.abs(gap - gap.mean(axis=1, keepdims=True)).astype(np.float32))
        rows.append((theirs, ours))
    noise = float(np.quantile(np.concatenate(gaps), NOISE_QUANTILE))
    most = max(
        abs(drift(theirs, ours, sampling, noise))
        for their_rows, our_rows in rows
        for theirs, ours in zip(their_rows, our_rows, strict=True)
        for sampling in samplings
    )
    return Difference(math.ceil(SCALE_MICRO * noise), math.ceil(SCALE_MICRO * most))


def by_logprobs(
    auditor: Engine, answers: Sequence[Answer], blank: Reference, samplings: Sequence[Sampling]
) -> Difference:
    """Compare log-probabilities of the drawn tokens alone, all that a server tells.

    Noise: the 99.99 % quantile of the residuals. Drift: ``(exp(noise / T) - 1) / 2`` at the lowest
    temperature T, a bound on the distance in total variation of two distributions whose
    log-probabilities differ by at most that much; several times what whole rows would show.

    Raises:
        FormatError: the server told no log-probabilities.
    """
    scored = [score(auditor, answer, blank) for answer in answers]
    return by_residuals([value for one in scored for value in one.residuals], samplings)


def by_residuals(told: Sequence[int], samplings: Sequence[Sampling]) -> Difference:
    """Return what ``by_logprobs`` makes of residuals that are known already, in micro-nats.

    Raises:
        FormatError: there are none.
    """
    if not told:
        raise FormatError("the stack tells no log-probabilities, so its noise cannot be measured")
    noise = float(np.quantile(np.asarray(told, dtype=np.float64), NOISE_QUANTILE))
    coldest = min(sampling.temperature for sampling in samplings)
    bound = math.expm1(noise / SCALE_MICRO / coldest) / 2
    return Difference(math.ceil(noise), min(SCALE_MICRO // 2, math.ceil(SCALE_MICRO * bound)))


def drift(theirs: _Row, ours: _Row, sampling: Sampling, noise: float) -> float:
    """Return the mean that the auditor's surprisals have when tokens are drawn from ``theirs``.

    Both are logits after the same tokens, shape (vocabulary,); in units of the clip.
    """
    scaled, clip = ours / sampling.temperature, verifier.CLIP_NATS
    kept = verifier.support(scaled, sampling, noise / sampling.temperature)
    honest = _chances(scaled, kept.certain)
    f = np.where(kept.certain, np.minimum(-np.log(np.maximum(honest, 1e-300)), clip), 0.0)
    mean = float(np.dot(honest, f))
    x = np.where(kept.certain, f - mean, np.where(kept.possible, 0.0, clip - mean))
    drawn = theirs / sampling.temperature
    chances = _chances(drawn, verifier.support(drawn, sampling, 0.0).possible)
    return float(np.dot(chances, x)) / clip


def _flips(logits: NDArray[np.floating], output_ids: Sequence[int], sampling: Sampling) -> int:
    return sum(
        not verifier.support(row.astype(np.float64) / sampling.temperature, sampling, 0.0).possible[
            token
        ]
        for token, row in zip(output_ids, logits, strict=True)
    )


def _chances(scaled: _Row, kept: NDArray[np.bool_]) -> _Row:
    """Return the softmax of ``scaled`` over the ``kept`` tokens, zero elsewhere."""
    weights = np.where(kept, np.exp(scaled - scaled.max()), 0.0)
    whole: _Row = weights / max(weights.sum(), 1e-300)
    return whole
