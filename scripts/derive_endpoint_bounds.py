"""Measure how far honest machines are from an auditor's own pass, and derive the generic bounds.

Runs the declared model in every honest way that the laboratory knows, and recomputes each answer in
fp32, as ``lydite audit`` does. No cheat is looked at. The bounds of ``evidence.endpoint`` are ten
times the worst of these for what accuses and three times for what warns: another vendor's machine
may be that much further off (a judgement, no measurement).

    python scripts/derive_endpoint_bounds.py              measure, then derive (minutes)
    python scripts/derive_endpoint_bounds.py --derive     derive again from the kept data

writes ``data/reference/endpoint/honest.json``, what was measured, and ``generic.json``, the bounds.
"""

import argparse
import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch

from lydite.engines.protocol import Engine, Job
from lydite.engines.transformers_engine import TransformersEngine
from lydite.evidence.endpoint.claims import Draw
from lydite.evidence.endpoint.reference import Bounds
from lydite.evidence.endpoint.verifier import CLIP_NATS, clipped, distribution
from lydite.evidence.tokens.sampling import Sampling
from lydite.laboratory.cheats import Workshop
from lydite.laboratory.honest import HONEST
from lydite.laboratory.streams import render, seed_of
from lydite.messages.canonical import encode

MODELS = Path("models")
PROMPTS = Path("data/reference/tokens/prompts.json")
OUT = Path("data/reference/endpoint")
ANSWERS, TOKENS = 24, 48
FOUND_ANSWERS = 120
ACCUSE, WARN = 10, 3
"""How many times the worst honest machine is still taken for honest."""
STEP_MICRO = 10_000
"""Bounds are rounded up to whole steps."""


def main() -> None:
    """Measure if asked to, derive, and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--derive", action="store_true", help="from what was measured before")
    kept = OUT / "honest.json"
    if not parser.parse_args().derive:
        torch.set_num_threads(1)
        OUT.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(measured(), indent=1) + "\n", "utf-8")
    bounds = derive(kept.read_bytes())
    (OUT / "generic.json").write_bytes(encode(bounds))
    print(msgspec.json.format(encode(bounds), indent=2).decode())


def derive(data: bytes) -> Bounds:
    """Return the bounds that follow from what was measured."""
    cells: Mapping[str, Mapping[str, int]] = json.loads(data)
    worst = {
        name: max(cell[name] for cell in cells.values()) for name in next(iter(cells.values()))
    }
    return Bounds(
        name="generic",
        drift_micro=_up(ACCUSE * worst["totalVariation"]),
        retokenised_micro=_up(ACCUSE * worst["foundAgain"]),
        residual_mean_micro=_up(ACCUSE * worst["residual"]),
        numerics_mean_micro=_up(WARN * worst["residual"]),
        margin_mean_micro=_up(ACCUSE * worst["margin"]),
        source=hashlib.sha256(data).hexdigest(),
    )


def measured() -> dict[str, dict[str, int]]:
    """Return for each model and honest way to run it what its tokens leave, in millionths."""
    cells = {}
    for name in ("lydite-base", "lydite-small"):
        auditor = TransformersEngine.load(MODELS / name, "fp32", 1)
        workshop = Workshop(model=MODELS / name, small_model=MODELS / "lydite-small")
        for way, make in HONEST.items():
            engine = make(workshop)
            cells[f"{name}/{way}"] = _cell(way, engine, auditor)
            print(f"{name}/{way}", cells[f"{name}/{way}"], flush=True)
            if isinstance(engine, TransformersEngine):
                engine.close()
        auditor.close()
    return cells


def _cell(way: str, engine: Engine, auditor: Engine) -> dict[str, int]:
    drawn = _answers(way, engine, Sampling(max_tokens=TOKENS), ANSWERS)
    greedy = _answers(way, engine, Sampling(temperature=0.0, max_tokens=TOKENS), ANSWERS // 2)
    residuals: list[float] = []
    variations: list[float] = []
    for prompt, ids, logprobs in drawn:
        ours = auditor.recompute(prompt, ids).logits.astype(np.float64)
        theirs = engine.recompute(prompt, ids).logits.astype(np.float64)
        for row, other, token, said in zip(ours, theirs, ids, logprobs, strict=True):
            p, q = distribution(row, Draw()), distribution(other, Draw())
            variations.append(float(np.abs(p - q).sum()) / 2)
            residuals.append(min(abs(said - float(np.log(p[token]))), 1.0))
    margins = [
        min(float(row.max() - row[token]), 0.5)
        for prompt, ids, _ in greedy
        for row, token in zip(auditor.recompute(prompt, ids).logits, ids, strict=True)
    ]
    return {
        "totalVariation": _micro(variations),
        "residual": _micro(residuals),
        "margin": _micro(margins),
        "foundAgain": _found(engine, auditor) if way == "bf16/batch-16" else 0,
    }


def _found(engine: Engine, auditor: Engine) -> int:
    """Return how far surprisals lean where only answers count whose text has their tokens."""
    scores: list[float] = []
    for prompt, ids, _ in _answers("found", engine, Sampling(max_tokens=TOKENS), FOUND_ANSWERS):
        codec = auditor.codec
        if len(codec.encode(codec.decode(ids))) != len([t for t in ids if not engine.is_end(t)]):
            continue
        for row, token in zip(auditor.recompute(prompt, ids).logits, ids, strict=True):
            p = distribution(row.astype(np.float64), Draw())
            f = clipped(p)
            scores.append(float(f[token] - np.dot(p, f)) / CLIP_NATS)
    print(f"found again: {len(scores)} tokens", flush=True)
    return abs(_micro(scores)) if scores else 0


def _answers(
    way: str, engine: Engine, sampling: Sampling, count: int
) -> list[tuple[tuple[int, ...], list[int], list[float]]]:
    prompts = json.loads(PROMPTS.read_text("utf-8"))
    asked = [render(engine.codec, prompts[i % len(prompts)]) for i in range(count)]

    async def one(
        i: int, prompt: tuple[int, ...]
    ) -> tuple[tuple[int, ...], list[int], list[float]]:
        job = Job(
            request_id=f"{i}",
            prompt_ids=prompt,
            sampling=sampling,
            seed=seed_of("endpoint", way, i),
            noise_position=len(prompt) - 1,
            top_logprobs=0,
        )
        pieces = [piece async for piece in engine.generate(job)]
        ids = [token for piece in pieces for token in piece.token_ids]
        return prompt, ids, [said.logprob for piece in pieces for said in piece.logprobs]

    async def every() -> list[tuple[tuple[int, ...], list[int], list[float]]]:
        return list(await asyncio.gather(*(one(i, prompt) for i, prompt in enumerate(asked))))

    return asyncio.run(every())


def _micro(values: Sequence[float]) -> int:
    return round(1e6 * float(np.mean(values)))


def _up(value: int) -> int:
    return max(-(-value // STEP_MICRO), 1) * STEP_MICRO


if __name__ == "__main__":
    main()
