"""Calibrate sketches of activations of one model: honest implementations in, a Reference Value out.

Runs the declared model in every implementation that is to be accepted, has each answer sketched
as a provider would, and scores it as the auditor does: fp32 arithmetic, one teacher-forced pass,
batch 1. The step of the residues is four times the noise of the worst implementation, to two
digits. Nothing of the null sees a cheat; cheats are run afterwards, only to say how many tokens
each needs before it is found out.

    python scripts/calibrate_sketch.py lydite-base               measure, then derive (minutes)
    python scripts/calibrate_sketch.py lydite-base --derive      derive again from the kept data

writes ``data/reference/activations/MODEL.npz``, the raw scores, and the references for 2 and 4
bytes a token, ``MODEL-2.json`` and ``MODEL-4.json``.
"""

import argparse
import asyncio
import hashlib
import json
import math
import random
from collections.abc import Iterable, Iterator, Sequence
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
    STREAMS,
    sha256,
)
from numpy.typing import NDArray
from run_cells import questions, versions

from lydite.engines.protocol import Engine, Job
from lydite.engines.transformers_engine import TransformersEngine
from lydite.engines.weights import check_manifest
from lydite.errors import Reason
from lydite.evidence.activations import attester, verifier
from lydite.evidence.activations import reference as references
from lydite.evidence.activations import spec as specs
from lydite.evidence.activations.claims import Claims
from lydite.evidence.activations.reference import KIND, SCALE_MICRO, SKETCH, Reference
from lydite.evidence.activations.spec import Spec
from lydite.evidence.activations.verifier import Taps
from lydite.laboratory.cheats import CHEATS, Workshop
from lydite.laboratory.crossings import crossings
from lydite.laboratory.streams import Question, render, seed_of
from lydite.messages.calibration import Alternative, Binned, Cheat, Histogram, Provenance
from lydite.messages.canonical import encode
from lydite.messages.finding import Finding, Measure
from lydite.messages.tier import Tier
from lydite.statistics import bins
from lydite.statistics.power import tokens_for_power

DATA = Path("data/reference/activations")
PROMPTS = Path("data/reference/tokens/prompts.json")
SCRIPTS = ("calibrate_sketch.py", "run_cells.py")
QUANTILES = (0.98, 0.995)
"""Of the scores of the noisiest implementation: where the bins begin."""
SIGMAS_A_STEP = 4
CHEAT_ANSWERS = 72
SIZES = (2, 4)
"""Bytes a token."""

States = NDArray[np.float32]
Scores = list[list[int]]
Raw = dict[str, NDArray[Any]]
"""``spread``: noise of the worst implementation, most before one token, width; ``versions``; and
``SIZE/honest/CELL`` or ``SIZE/cheat/NAME``: the scores of answers, each behind its length."""


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
    parser.add_argument("--derive", action="store_true", help="only derive from the kept data")
    parser.add_argument("--share", type=float, default=1.0, help="of the answers, to try it out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    DATA.mkdir(parents=True, exist_ok=True)
    kept = DATA / f"{arguments.model}.npz"
    if not arguments.derive:
        np.savez_compressed(kept, **measure(arguments.model, arguments.share))
    with np.load(kept) as raw:
        for size in SIZES:
            reference = derive(arguments.model, size, dict(raw), kept)
            path = DATA / f"{arguments.model}-{size}.json"
            path.write_bytes(encode(reference))
            summarise(references.parse(path.read_bytes()), path)


def measure(name: str, share: float) -> Raw:
    """Run every honest cell and every cheat, and return the scores of each answer."""
    ids = prompts(name)
    auditor = TransformersEngine.load(MODELS / name, "fp32", 1)
    said = {f"honest/{c.name}": run_cell(name, c, ids, auditor, share) for c in CELLS}
    sigma, noise = spread(said.values())
    for cheat in cheats_of(name):
        count = round(CHEAT_ANSWERS * share)
        said[f"cheat/{cheat}"] = run_cheat(name, cheat, ids, auditor, count)
    auditor.close()
    micro = [math.ceil(SCALE_MICRO * each) for each in (sigma, noise)]
    raw = {"spread": np.array([*micro, auditor.width]), "versions": np.array(versions())}
    for size in SIZES:
        blank = blank_reference(name, size, raw)
        raw |= {f"{size}/{key}": flat(scored(key, each, blank)) for key, each in said.items()}
    return raw


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


def spread(honest: Iterable[list[Answer]]) -> tuple[float, float]:
    """Return the noise of the worst implementation, and the most before any one token."""
    worst, most = 0.0, 0.0
    for said in honest:
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


def derive(name: str, size: int, raw: Raw, kept: Path) -> Reference:
    """Return the Reference Value that follows from the scores; no model is run."""
    scores = {
        key.partition("/")[2]: unflat(row) for key, row in raw.items() if key[:2] == f"{size}/"
    }
    groups: dict[str, Scores] = {}
    for cell in CELLS:
        groups.setdefault(f"{cell.dtype}/drawn", []).extend(scores[f"honest/{cell.name}"])
    edges = edges_of(list(groups.values()))
    histograms = tuple(histogram(group, rows, edges) for group, rows in groups.items())
    cheats = tuple(
        Cheat(name=cheat, counts=histogram(cheat, rows, edges).counts)
        for cheat, rows in cheats_in(scores)
    )
    reference = msgspec.structs.replace(
        blank_reference(name, size, raw),
        sketch=Binned(edges=edges, histograms=histograms, cheats=cheats),
        provenance=Provenance(
            script=hashlib.sha256(
                b"".join(Path(__file__).with_name(script).read_bytes() for script in SCRIPTS)
            ).hexdigest(),
            data=sha256(kept),
            prompts=sha256(PROMPTS),
            versions=tuple(map(str, raw["versions"])),
        ),
    )
    found = tuple(alternatives(reference, scores))
    return msgspec.structs.replace(reference, alternatives=found)


def edges_of(groups: Sequence[Scores]) -> tuple[int, ...]:
    """Return where the bins begin: at high quantiles of the scores of the noisiest implementation.

    A quieter one has nearly all of its scores in the lowest bin, and a null that covers both then
    costs as many nats a token as the noisiest one has scores above it: two in a hundred.
    """
    pooled = [np.concatenate([np.array(row) for row in rows]) for rows in groups]
    noisiest = max(pooled, key=lambda scores: float(np.quantile(scores, QUANTILES[0])))
    return tuple(sorted({int(edge) for edge in np.quantile(noisiest, QUANTILES)}))


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
    ways, read = [(f"{KIND}/{SKETCH}",)], references.channel_log10_e
    for cheat, rows in cheats_in(scores):
        answers = [finding(reference, row) for row in rows]
        dice = random.Random(seed_of("sketch", reference.name, cheat))
        size = math.ceil(LONGEST * len(rows) / sum(map(len, rows)))
        streams = [dice.choices(answers, k=size) for _ in range(STREAMS)]
        level = LEVEL_MILLI / 1000
        tokens = tokens_for_power([crossings(reference, s, ways, level, read)[0] for s in streams])
        if tokens is not None:
            yield Alternative(
                name=cheat, channels=ways[0], log10_level_milli=LEVEL_MILLI, tokens=tokens
            )


def cheats_in(scores: dict[str, Scores]) -> Iterator[tuple[str, Scores]]:
    """Yield the name and the scores of every cheat."""
    for key, rows in scores.items():
        kind, _, name = key.partition("/")
        if kind == "cheat":
            yield name, rows


def finding(reference: Reference, row: Sequence[int]) -> Finding:
    """Return the scores of one answer as an auditor records them."""
    return Finding(
        kind=KIND,
        tier=Tier.NONE,
        reason=Reason.RECORDED,
        reference=references.digest(reference),
        measures=(Measure(name=SKETCH, unit=verifier.UNIT, values=tuple(row)),),
    )


def blank_reference(name: str, size: int, raw: Raw) -> Reference:
    """Return a reference that tells the verifier what it needs before anything is calibrated."""
    sigma, noise, width = map(int, raw["spread"])
    delta = step(SIGMAS_A_STEP * sigma / SCALE_MICRO)
    return Reference(
        name=name,
        weights_root=check_manifest(MODELS / name).root,
        width=width,
        spec=Spec(coordinates=8 if size == 2 else 16, delta=delta),
        auditor=AUDITOR,
        sketch=Binned(edges=(), histograms=()),
        inner=None,
        error_ppm=ERROR_PPM,
        sigma_micro=sigma,
        noise_micro=noise,
        alternatives=(),
        provenance=Provenance(script="0" * 64, data="0" * 64, prompts="0" * 64, versions=()),
    )


def flat(rows: Scores) -> NDArray[np.int32]:
    """Return scores of answers in one array, each answer behind its length."""
    return np.array([value for row in rows for value in (len(row), *row)], dtype=np.int32)


def unflat(row: NDArray[np.int32]) -> Scores:
    """Return what ``flat`` was made from."""
    rows, at = [], 0
    while at < len(row):
        size = int(row[at])
        rows.append(row[at + 1 : at + 1 + size].tolist())
        at += 1 + size
    return rows


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
