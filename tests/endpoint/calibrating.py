"""A Reference Value with residuals, made from honest stacks that the test itself runs."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np

from lydite.engines.protocol import Engine, Job
from lydite.evidence.tokens.reference import Reference, parse
from lydite.evidence.tokens.sampling import Sampling
from lydite.laboratory.streams import render, seed_of
from lydite.messages.calibration import Binned, Histogram
from lydite.statistics import bins

DATA = Path(__file__).parents[2] / "data" / "reference" / "tokens"
QUANTILES = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99)


def with_residuals(
    name: str, auditor: Engine, stacks: Mapping[str, Engine], answers: int, tokens: int
) -> Reference:
    """The committed Reference Value of a model, and residuals of ``stacks`` beside it."""
    known = parse((DATA / f"{name}.json").read_bytes())
    rows = {way: residuals(auditor, engine, answers, tokens) for way, engine in stacks.items()}
    pooled = [value for every in rows.values() for row in every for value in row]
    positive = [value for value in pooled if value > 100]
    edges = sorted({1, *(int(np.quantile(positive, q)) for q in QUANTILES)})
    histograms = tuple(histogram(way, edges, every) for way, every in rows.items())
    return msgspec.structs.replace(
        known, residual=Binned(edges=tuple(edges), histograms=histograms)
    )


def residuals(auditor: Engine, engine: Engine, answers: int, tokens: int) -> list[list[int]]:
    prompts = json.loads((DATA / "prompts.json").read_text("utf-8"))

    async def one(i: int) -> list[int]:
        prompt = render(auditor.codec, prompts[i])
        job = Job(
            request_id=str(i),
            prompt_ids=prompt,
            sampling=Sampling(max_tokens=tokens),
            seed=seed_of("residuals", i),
            noise_position=len(prompt) - 1,
            top_logprobs=0,
        )
        pieces = [piece async for piece in engine.generate(job)]
        ids = [token for piece in pieces for token in piece.token_ids]
        said = [one.logprob for piece in pieces for one in piece.logprobs]
        logits = auditor.recompute(prompt, ids).logits.astype(np.float64)
        logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        ours = logs[np.arange(len(ids)), ids]
        return [round(1e6 * abs(a - b)) for a, b in zip(ours, said, strict=True)]

    async def every() -> list[list[int]]:
        return list(await asyncio.gather(*map(one, range(answers))))

    return asyncio.run(every())


def histogram(name: str, edges: list[int], rows: list[list[int]]) -> Histogram:
    counted = np.array([bins.count(edges, row) for row in rows])
    sizes = np.array([len(row) for row in rows])
    return Histogram(
        name=name,
        responses=len(rows),
        tokens=int(sizes.sum()),
        tokens_squared=int((sizes**2).sum()),
        counts=tuple(map(int, counted.sum(axis=0))),
        counts_squared=tuple(map(int, (counted**2).sum(axis=0))),
        crosses=tuple(map(int, (counted * sizes[:, None]).sum(axis=0))),
    )
