"""Streams of answers from an engine, scored as an auditor would: for calibration and benchmarks.

Asks an engine directly, without gateway, receipts or draws, so that many tokens cost little.
Judges nothing: callers read the running e-values against a level of their own.
"""

import asyncio
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lydite.engines.protocol import Codec, Engine, Job
from lydite.evidence.tokens import verifier
from lydite.evidence.tokens.claims import Claims
from lydite.evidence.tokens.logprobs import Served
from lydite.evidence.tokens.reference import MARGIN, SURPRISAL, Reference, bin_of, null
from lydite.evidence.tokens.sampling import Sampling
from lydite.messages.finding import Finding
from lydite.statistics import betting, bins
from lydite.statistics.merging import log_average

EQUAL = (0.5, 0.5)
"""Weights of the margin and the surprisal channel, as in the default policy."""


class Question(NamedTuple):
    """One request to an engine, all but its name."""

    prompt_ids: tuple[int, ...]
    sampling: Sampling
    seed: int


def render(codec: Codec, prompt: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the ids of a stored prompt: ``{"messages": [...]}`` or ``{"prompt": "..."}``."""
    if "messages" in prompt:
        return tuple(codec.render_chat(prompt["messages"]))
    return tuple(codec.encode(prompt["prompt"]))


def seed_of(*names: object) -> int:
    """Return a seed in [0, 2^63) that follows from ``names``, equal on any machine."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def ask(
    engine: Engine,
    questions: Sequence[Question],
    *,
    at_once: int | None = None,
    scored: bool = True,
) -> list[Claims]:
    """Let ``engine`` answer all questions, in groups of ``at_once`` (None: all together).

    ``scored``: each token's log-probability is asked for, and comes as a server writes it.
    """
    size = at_once or max(len(questions), 1)
    groups = [questions[i : i + size] for i in range(0, len(questions), size)]

    async def all_of_them() -> list[Claims]:
        answers: list[Claims] = []
        for group in groups:
            answers += await asyncio.gather(*(_answer(engine, one, scored) for one in group))
        return answers

    return asyncio.run(all_of_them())


def score(auditor: Engine, answers: Sequence[Claims], reference: Reference) -> list[Finding]:
    """Recompute every answer with the auditor's engine, and return its scores."""
    return [
        verifier.verify(one, auditor.recompute(one.prompt_ids, one.output_ids).logits, reference)
        for one in answers
    ]


def log_path(
    reference: Reference, findings: Sequence[Finding], weights: tuple[float, float] = EQUAL
) -> Iterator[float]:
    """Yield the merged log e-value, in nats, after each token of a provider's findings.

    Margin and surprisal channels, averaged with fixed ``weights``, all from the first token on. A
    verdict mixes over the starts, which costs a cheat from the first answer on ln 2 at most.
    """
    paths = (margin_path(reference, findings), surprisal_path(reference, findings))
    for pair in zip(*paths, strict=True):
        yield log_average(pair, weights)


def margin_path(reference: Reference, findings: Sequence[Finding]) -> Iterator[float]:
    """Yield the log e-value of the margins alone, in nats, after each token."""
    margins = (value for finding in findings for value in finding.values(MARGIN))
    return bins.running((bin_of(reference, value) for value in margins), null(reference))


def surprisal_path(reference: Reference, findings: Sequence[Finding]) -> Iterator[float]:
    """Yield the log e-value of the surprisals alone, in nats, after each token."""
    surprisals = (value for finding in findings for value in finding.values(SURPRISAL))
    return betting.running(surprisals, reference.drift_micro)


def log10(nats: float) -> float:
    """Return a natural logarithm as one to base ten."""
    return nats / math.log(10)


async def _answer(engine: Engine, question: Question, scored: bool) -> Claims:
    job = Job(
        request_id=str(question.seed),
        prompt_ids=question.prompt_ids,
        sampling=question.sampling,
        seed=question.seed,
        noise_position=len(question.prompt_ids) - 1,
        top_logprobs=0 if scored else None,
    )
    pieces = [piece async for piece in engine.generate(job)]
    values = tuple(one.logprob for piece in pieces for one in piece.logprobs)
    return Claims(
        prompt_ids=question.prompt_ids,
        output_ids=tuple(token for piece in pieces for token in piece.token_ids),
        sampling=question.sampling,
        seed=question.seed,
        served=Served(values=values, unit=0.0) if scored else None,
    )
