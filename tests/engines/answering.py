"""Short ways to ask an engine and to look at its answer, for the tests of this room."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

import numpy as np

from lydite.engines.protocol import Engine, Job, Piece
from lydite.evidence.tokens.noise.murmur import gumbel
from lydite.evidence.tokens.sampling import Sampling

MODELS = Path(__file__).parents[2] / "models"
SMALL = MODELS / "lydite-small"

T = TypeVar("T")


def job(engine: Engine, prompt: str, sampling: Sampling, seed: int = 7) -> Job:
    ids = tuple(engine.codec.render_chat([{"role": "user", "content": prompt}]))
    return Job(
        request_id=prompt,
        prompt_ids=ids,
        sampling=sampling,
        seed=seed,
        noise_position=len(ids) - 1,
    )


async def answer(engine: Engine, job: Job) -> list[Piece]:
    return [piece async for piece in engine.generate(job)]


async def together(*work: Awaitable[T]) -> list[T]:
    return list(await asyncio.gather(*work))


def tokens(pieces: list[Piece]) -> list[int]:
    return [token for piece in pieces for token in piece.token_ids]


def text(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def margins(engine: Engine, job: Job, output: list[int]) -> np.ndarray:
    """How far each token fell short of the one that teacher forcing would have drawn, in nats."""
    logits = engine.logits(job.prompt_ids, output).astype(np.float64)
    scaled = logits / job.sampling.temperature
    for index in range(len(output)):
        scaled[index] += gumbel(job.seed, job.noise_position + index, engine.vocabulary)
    return scaled.max(axis=1) - scaled[np.arange(len(output)), output]
