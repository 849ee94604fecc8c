"""Answers kept with all that was behind them, so that every kind of evidence scores the very same.

Lets a provider answer and say what a provider can say of itself, log-probabilities and states, and
recomputes each answer as an auditor does. Judges nothing, and knows no kind of evidence but the
scores of tokens, for which the logits would be too large to keep.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lydite.engines.protocol import Engine, Job, Piece
from lydite.evidence.tokens import verifier
from lydite.evidence.tokens.claims import Claims
from lydite.evidence.tokens.logprobs import Served
from lydite.evidence.tokens.reference import Reference
from lydite.laboratory.streams import Question
from lydite.messages.finding import Finding


class Capture(NamedTuple):
    """One answer, as its provider told it and as the auditor recomputed it."""

    receipt_id: str
    claims: Claims
    text: str
    true: NDArray[np.float64]
    """Log-probability of each token by the auditor, in nats."""
    theirs: NDArray[np.float32]
    """States of the provider, whose model may have another width; shape (tokens, width)."""
    ours: NDArray[np.float32]
    """States of the auditor."""
    tokens: Finding
    """Margin, surprisal and residual of each token."""
    recompute_s: float
    """Processor time of the recomputation, in seconds."""
    score_s: float
    """Processor time of the scores of ``tokens``."""


def capture(
    provider: Engine,
    auditor: Engine,
    questions: Sequence[Question],
    reference: Reference,
    first: int = 0,
) -> list[Capture]:
    """Let ``provider`` answer, the ``first`` before all others, and recompute what is not empty.

    Request ids follow from the seeds, so that equal questions get equal treatment.
    """

    async def every() -> list[list[Piece]]:
        said: list[list[Piece]] = []
        for some in (questions[:first], questions[first:]):
            said += await asyncio.gather(*(_pieces(provider, each) for each in some))
        return said

    told = zip(questions, asyncio.run(every()), strict=True)
    return [
        _recomputed(auditor, question, pieces, reference)
        for question, pieces in told
        if any(piece.token_ids for piece in pieces)
    ]


async def _pieces(provider: Engine, question: Question) -> list[Piece]:
    job = Job(
        request_id=str(question.seed),
        prompt_ids=question.prompt_ids,
        sampling=question.sampling,
        seed=question.seed,
        noise_position=len(question.prompt_ids) - 1,
        top_logprobs=0,
        tapped=True,
    )
    return [piece async for piece in provider.generate(job)]


def _recomputed(
    auditor: Engine, question: Question, pieces: Sequence[Piece], reference: Reference
) -> Capture:
    told = tuple(each.logprob for piece in pieces for each in piece.logprobs)
    claims = Claims(
        prompt_ids=question.prompt_ids,
        output_ids=tuple(token for piece in pieces for token in piece.token_ids),
        sampling=question.sampling,
        seed=question.seed,
        served=Served(values=told, unit=0.0),
    )
    started = time.process_time()
    recomputed = auditor.recompute(claims.prompt_ids, claims.output_ids)
    between = time.process_time()
    finding = verifier.verify(claims, recomputed.logits, reference)
    ended = time.process_time()
    return Capture(
        receipt_id=f"{question.seed:016x}",
        claims=claims,
        text="".join(piece.text for piece in pieces),
        true=_log_chances(recomputed.logits, claims.output_ids),
        theirs=np.concatenate([piece.states for piece in pieces if piece.states is not None]),
        ours=recomputed.states,
        tokens=finding,
        recompute_s=between - started,
        score_s=ended - between,
    )


def _log_chances(logits: NDArray[np.float32], tokens: Sequence[int]) -> NDArray[np.float64]:
    """Return the log-probability of each token, unfiltered and at temperature 1."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    whole = np.log(np.exp(shifted).sum(axis=1))
    chances: NDArray[np.float64] = shifted[np.arange(len(tokens)), list(tokens)] - whole
    return chances
