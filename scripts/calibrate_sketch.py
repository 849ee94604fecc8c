"""Calibrate sketches of activations of one model: honest implementations in, a Reference Value out.

Runs the declared model in every implementation that is to be accepted, has each answer sketched
as a provider would, and scores it as the auditor does: fp32 arithmetic, one teacher-forced pass,
batch 1. The step of the residues is four times the noise of the worst implementation, to three
digits. Nothing of the null sees a cheat; cheats are run afterwards, only to say how many tokens
each needs before it is found out.

    python scripts/calibrate_sketch.py lydite-base               2 bytes a token
    python scripts/calibrate_sketch.py lydite-base --bytes 4

writes ``data/reference/activations/MODEL-BYTES.npz``, the raw scores, and ``.json``, the reference.
"""

import argparse
import asyncio
import hashlib
import json
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from derive_reference import (
    AUDITOR,
    CELLS,
    DRAWN,
    ERROR_PPM,
    LEVEL_MILLI,
    LONGEST,
    MODELS,
    ONSET,
    STREAMS,
    sha256,
)
from numpy.typing import NDArray
from run_cells import questions, versions

from lydite.engines.protocol import Engine, Job
from lydite.engines.transformers_engine import TransformersEngine
from lydite.engines.weights import check_manifest
from lydite.evidence.activations import attester, verifier
from lydite.evidence.activations import reference as references
from lydite.evidence.activations import spec as specs
from lydite.evidence.activations.claims import Claims
from lydite.evidence.activations.reference import KIND, SCALE_MICRO, SKETCH, Reference
from lydite.evidence.activations.spec import Spec
from lydite.evidence.activations.verifier import Taps
from lydite.laboratory.cheats import CHEATS, Workshop
from lydite.laboratory.streams import Question, render, seed_of
from lydite.messages.calibration import Alternative, Binned, Histogram, Provenance
from lydite.messages.canonical import encode
from lydite.statistics import bins
from lydite.statistics.power import first_crossing, tokens_for_power

DATA = Path("data/reference/activations")
PROMPTS = Path("data/reference/tokens/prompts.json")
SCRIPTS = ("calibrate_sketch.py", "run_cells.py")
QUANTILES = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
"""Of all honest scores: where the bins begin."""
SIGMAS_A_STEP = 4
CHEAT_ANSWERS = 72

States = NDArray[np.float32]
Scores = list[list[int]]


class Answer(NamedTuple):
    """What a provider said, and the states that it and the auditor have behind it."""

    prompt_ids: tuple[int, ...]
    output_ids: tuple[int, ...]
    theirs: States
    ours: States


def main() -> None:
    """Measure and derive as the command line asks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", help="a directory under models/")
    parser.add_argument("--bytes", type=int, choices=[2, 4], default=2, help="a token")
    parser.add_argument("--share", type=float, default=1.0, help="of the answers, to try it out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    name, share = arguments.model, arguments.share
    ids = prompts(name)
    auditor = TransformersEngine.load(MODELS / name, "fp32", 1)
    honest = {cell.name: run_cell(name, cell, ids, auditor, share) for cell in CELLS}
    sigma, noise = spread(honest)
    spec = Spec(coordinates=4 * arguments.bytes, delta=step(SIGMAS_A_STEP * sigma))
    blank = blank_reference(name, auditor.width, spec, sigma, noise)
    scores = {f"honest/{cell}": scored(cell, said, blank) for cell, said in honest.items()}
    for cheat in cheats_of(name):
        said = run_cheat(name, cheat, ids, auditor, round(CHEAT_ANSWERS * share))
        scores[f"cheat/{cheat}"] = scored(cheat, said, blank)
    auditor.close()
    DATA.mkdir(parents=True, exist_ok=True)
    kept = DATA / f"{name}-{arguments.bytes}.npz"
    np.savez_compressed(kept, **{key: flat(rows) for key, rows in scores.items()})
    reference = derive(blank, scores, kept)
    path = kept.with_suffix(".json")
    path.write_bytes(encode(reference))
    summarise(references.parse(path.read_bytes()), path)


def prompts(name: str) -> list[tuple[int, ...]]:
    """Return the stored prompts as the model's tokens."""
    engine = TransformersEngine.load(MODELS / name, "fp32", 1)
    try:
        return [render(engine.codec, each) for each in json.loads(PROMPTS.read_text("utf-8"))]
    finally:
        engine.close()


def run_cell(
    name: str, cell: Any, ids: Sequence[tuple[int, ...]], auditor: TransformersEngine, share: float
) -> list[Answer]:
    """Let one honest implementation answer its share of the prompts."""
    torch.set_num_threads(cell.threads)
    engine = TransformersEngine.load(MODELS / name, cell.dtype, cell.batch)
    torch.set_num_threads(1)
    count = max(4, round(cell.answers * share))
    try:
        return ask(engine, questions(cell.name, cell.sampling, ids, count), auditor, cell.batch)
    finally:
        engine.close()


def run_cheat(
    name: str,
    cheat: str,
    ids: Sequence[tuple[int, ...]],
    auditor: TransformersEngine,
    count: int,
) -> list[Answer]:
    """Let one cheat answer, a few requests at a time."""
    workshop = Workshop(model=MODELS / name, small_model=MODELS / "lydite-small", max_batch=16)
    return ask(CHEATS[cheat](workshop), questions(cheat, DRAWN, ids, count), auditor, 16)


def cheats_of(name: str) -> list[str]:
    """Return the cheats that mean something for this model: none is smaller than the smallest."""
    without = {"honest"} | ({"smaller-model", "mixed-20"} if name == "lydite-small" else set())
    return [cheat for cheat in CHEATS if cheat not in without]


def ask(
    engine: Engine, asked: Sequence[Question], auditor: TransformersEngine, at_once: int
) -> list[Answer]:
    """Return the answers with the states behind each, the provider's and the auditor's."""

    async def one(question: Question) -> tuple[tuple[int, ...], States]:
        job = Job(
            request_id=str(question.seed),
            prompt_ids=question.prompt_ids,
            sampling=question.sampling,
            seed=question.seed,
            noise_position=len(question.prompt_ids) - 1,
            tapped=True,
        )
        pieces = [piece async for piece in engine.generate(job)]
        output = tuple(token for piece in pieces for token in piece.token_ids)
        states = [piece.states for piece in pieces if piece.states is not None]
        return output, np.concatenate(states)

    async def every() -> list[tuple[tuple[int, ...], States]]:
        said: list[tuple[tuple[int, ...], States]] = []
        for first in range(0, len(asked), at_once):
            said += await asyncio.gather(*map(one, asked[first : first + at_once]))
        return said

    return [
        Answer(q.prompt_ids, output, theirs, auditor.recompute(q.prompt_ids, output).states)
        for q, (output, theirs) in zip(asked, asyncio.run(every()), strict=True)
    ]


def spread(honest: dict[str, list[Answer]]) -> tuple[float, float]:
    """Return the noise of the worst implementation, and the most before any one token."""
    worst, most = 0.0, 0.0
    for said in honest.values():
        squares = np.concatenate([np.square(a.theirs - a.ours).mean(axis=1) for a in said])
        worst = max(worst, math.sqrt(squares.mean()))
        most = max(most, math.sqrt(squares.max()))
    return worst, most


def step(size: float) -> str:
    """Return ``size`` to two digits, in the spelling of a step."""
    digits = 1 - math.floor(math.log10(size))
    return f"{size:.{digits}f}".rstrip("0")


def scored(label: str, said: Sequence[Answer], blank: Reference) -> Scores:
    """Sketch every answer as the provider that gave it would, and score it."""
    return [_score(f"{label}-{number}", each, blank) for number, each in enumerate(said)]


def _score(receipt_id: str, said: Answer, blank: Reference) -> list[int]:
    key = specs.key(
        blank.spec,
        receipt_id=receipt_id,
        weights_root=blank.weights_root,
        prompt_ids=said.prompt_ids,
        output_ids=said.output_ids,
    )
    claim = Claims(
        receipt_id=receipt_id,
        prompt_ids=said.prompt_ids,
        output_ids=said.output_ids,
        sketch=attester.sketch(said.theirs, key, blank.spec),
    )
    return list(verifier.verify(claim, Taps(said.ours), blank).values(SKETCH))


def derive(blank: Reference, scores: dict[str, Scores], kept: Path) -> Reference:
    """Return the Reference Value that follows from the scores; no model is run."""
    groups: dict[str, Scores] = {}
    for cell in CELLS:
        groups.setdefault(f"{cell.dtype}/drawn", []).extend(scores[f"honest/{cell.name}"])
    pooled = np.concatenate([np.array(row) for rows in groups.values() for row in rows])
    edges = tuple(sorted({int(edge) for edge in np.quantile(pooled, QUANTILES)}))
    histograms = tuple(histogram(group, rows, edges) for group, rows in groups.items())
    reference = msgspec.structs.replace(
        blank,
        sketch=Binned(edges=edges, histograms=histograms),
        provenance=Provenance(
            script=hashlib.sha256(
                b"".join(Path(__file__).with_name(script).read_bytes() for script in SCRIPTS)
            ).hexdigest(),
            data=sha256(kept),
            prompts=sha256(PROMPTS),
            versions=tuple(versions()),
        ),
    )
    found = tuple(alternatives(reference, scores))
    return msgspec.structs.replace(reference, alternatives=found)


def histogram(label: str, rows: Scores, edges: Sequence[int]) -> Histogram:
    """Return how the scores of some answers fall into the bins."""
    table = np.array([bins.count(edges, row) for row in rows], dtype=np.int64)
    lengths = table.sum(axis=1)
    return Histogram(
        name=label,
        responses=len(rows),
        tokens=int(lengths.sum()),
        tokens_squared=int((lengths**2).sum()),
        counts=tuple(table.sum(axis=0).tolist()),
        counts_squared=tuple((table**2).sum(axis=0).tolist()),
        crosses=tuple((table * lengths[:, None]).sum(axis=0).tolist()),
    )


def alternatives(reference: Reference, scores: dict[str, Scores]) -> Iterator[Alternative]:
    """Yield for every cheat how many tokens tell it, if 8000 do nine times in ten."""
    level = LEVEL_MILLI / 1000 * math.log(10) + ONSET
    ceilings = references.null(reference)
    for key, rows in scores.items():
        kind, _, cheat = key.partition("/")
        if kind != "cheat":
            continue
        dice = random.Random(seed_of("sketch", reference.name, cheat))
        mean = sum(map(len, rows)) / len(rows)
        crossings = []
        for _ in range(STREAMS):
            stream = dice.choices(rows, k=math.ceil(LONGEST / mean))
            binned = (at for row in stream for at in places(reference.sketch.edges, row))
            crossings.append(first_crossing(bins.running(binned, ceilings), level))
        tokens = tokens_for_power(crossings)
        if tokens is not None:
            channels = (f"{KIND}/{SKETCH}",)
            yield Alternative(
                name=cheat, channels=channels, log10_level_milli=LEVEL_MILLI, tokens=tokens
            )


def places(edges: Sequence[int], row: Sequence[int]) -> list[int]:
    """Return the bin of each score."""
    found: list[int] = np.searchsorted(edges, row, side="right").tolist()
    return found


def blank_reference(name: str, width: int, spec: Spec, sigma: float, noise: float) -> Reference:
    """Return a reference that tells the verifier what it needs before anything is calibrated."""
    return Reference(
        name=name,
        weights_root=check_manifest(MODELS / name).root,
        width=width,
        spec=spec,
        auditor=AUDITOR,
        sketch=Binned(edges=(), histograms=()),
        inner=None,
        error_ppm=ERROR_PPM,
        sigma_micro=math.ceil(SCALE_MICRO * sigma),
        noise_micro=math.ceil(SCALE_MICRO * noise),
        alternatives=(),
        provenance=Provenance(script="0" * 64, data="0" * 64, prompts="0" * 64, versions=()),
    )


def flat(rows: Scores) -> NDArray[np.int32]:
    """Return scores of answers in one array, each answer behind its length."""
    return np.array([value for row in rows for value in (len(row), *row)], dtype=np.int32)


def summarise(reference: Reference, path: Path) -> None:
    """Print what was learnt."""
    print(f"{path}: {path.stat().st_size} bytes, spec {specs.digest(reference.spec)[:16]}")
    print(f"sigma {reference.sigma_micro} micro, step {reference.spec.delta}")
    print(f"edges {reference.sketch.edges}")
    for one in reference.sketch.histograms:
        print(f"{one.name:24} {one.responses:4} answers {one.tokens:6} tokens {one.counts}")
    print("null  " + "  ".join(f"{ceiling:.5f}" for ceiling in references.null(reference)))
    for cheat in reference.alternatives:
        print(f"{cheat.name:24} {cheat.tokens:6} tokens to 10^{cheat.log10_level_milli / 1000:g}")


if __name__ == "__main__":
    main()
