"""Calibrate the tokens evidence of one model: honest implementations in, a Reference Value out.

Runs the declared model as honest providers do, in every implementation that is to be accepted,
and recomputes each answer as the auditor does: fp32 arithmetic on the stored weights, one
teacher-forced pass, batch 1. (Auditing in bf16 halves the mismatches of bf16 providers, but makes
as many for fp32 ones, larger ones, and hangs on the auditor's own processor; fp32 does not.)
Margins and residuals become histograms, the difference of the logits becomes the drift bound and
the support's slack. Nothing of this sees a cheat. Cheats are run afterwards, only to say how many
tokens each needs before it is found out.

    python scripts/calibrate_tokens.py lydite-base                measure, then derive (minutes)
    python scripts/calibrate_tokens.py lydite-base --derive       derive again from the kept data

writes ``data/reference/tokens/MODEL.npz``, the raw scores, and ``MODEL.json``, the reference.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from derive_reference import (
    CELLS,
    COLD,
    DATA,
    DRAWN,
    MODELS,
    NUCLEUS,
    TOP_K,
    UNITS,
    Cell,
    Raw,
    blank_reference,
    derive,
    noise_of,
)
from numpy.typing import NDArray
from run_cells import questions, run_cell, versions

from lydite.engines.transformers_engine import TransformersEngine
from lydite.evidence.tokens.claims import Claims
from lydite.evidence.tokens.reference import (
    MARGIN,
    SCALE_MICRO,
    Reference,
    null,
    parse,
    residual_null,
)
from lydite.evidence.tokens.sampling import Sampling
from lydite.evidence.tokens.verifier import CLIP_NATS, support
from lydite.laboratory.cheats import CHEATS, Workshop
from lydite.laboratory.streams import ask, render, score
from lydite.messages.canonical import encode
from lydite.messages.finding import Finding

SMALL = "lydite-small"
CHEAT_ANSWERS = 72
MEASURED = (
    "smaller-model",
    "int4-weights",
    "int8-weights",
    "fp8-weights",
    "fp8-cache",
    "truncated-context",
    "injected-prompt",
    "replayed-answers",
    "mixed-20",
    "prefilled",
    "other-temperature",
)
"""The cheats whose power is stated: one of each kind that the threat model has."""
NOISE_QUANTILE = 0.9999
SAMPLINGS = (DRAWN, COLD, NUCLEUS, TOP_K)
"""Under which the drift is measured."""


def main() -> None:
    """Measure and derive as the command line asks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", help="a directory under models/")
    parser.add_argument("--derive", action="store_true", help="only derive from the kept data")
    parser.add_argument("--again", nargs="+", metavar="NAME", help="measure only these anew")
    parser.add_argument("--share", type=float, default=1.0, help="of the answers, to try it out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    kept = DATA / f"{arguments.model}.npz"
    if arguments.again:
        with np.load(kept) as raw:
            renewed = dict(raw) | again(arguments.model, arguments.again)
        np.savez_compressed(kept, **renewed)
    elif not arguments.derive:
        np.savez_compressed(kept, **measure(arguments.model, arguments.share))
    with np.load(kept) as raw:
        reference = derive(arguments.model, dict(raw), kept)
    path = DATA / f"{arguments.model}.json"
    path.write_bytes(encode(reference))
    parse(path.read_bytes())
    summarise(reference, path)


def measure(name: str, share: float) -> Raw:
    """Run every honest cell and every cheat, and return the scores of each answer."""
    prompts = json.loads((DATA / "prompts.json").read_text("utf-8"))
    auditor = TransformersEngine.load(MODELS / name, "fp32", 1)
    ids = [render(auditor.codec, prompt) for prompt in prompts]
    cells = [cell._replace(answers=max(4, round(cell.answers * share))) for cell in CELLS]
    cheats = cheats_of(name)
    sayings = round(CHEAT_ANSWERS * share)
    progress = Progress(sum(cell.answers for cell in cells) + sayings * len(cheats))
    raw: Raw = {"versions": np.array(versions())}
    answered = {}
    for cell in cells:
        raw_decode: list[torch.Tensor] = []
        answered[cell.name] = run_cell(name, cell, ids, raw_decode)
        if cell.batch == 1:
            raw |= differences(cell, answered[cell.name], raw_decode, auditor)
        progress.step(cell.name, cell.answers)
    blank = blank_reference(name, noise_of(raw))
    for cell in cells:
        raw |= rows(f"honest/{cell.name}", score(auditor, answered[cell.name], blank))
    for cheat in cheats:
        raw |= rows(f"cheat/{cheat}", run_cheat(name, cheat, ids, auditor, blank, sayings))
        progress.step(cheat, sayings)
    auditor.close()
    return raw


def again(name: str, chosen: Sequence[str]) -> Raw:
    """Run only the honest cells and the cheats that ``chosen`` names, and return their scores."""
    prompts = json.loads((DATA / "prompts.json").read_text("utf-8"))
    auditor = TransformersEngine.load(MODELS / name, "fp32", 1)
    ids = [render(auditor.codec, prompt) for prompt in prompts]
    with np.load(DATA / f"{name}.npz") as kept:
        blank = blank_reference(name, noise_of(dict(kept)))
    raw: Raw = {}
    cells = [cell for cell in CELLS if cell.name in chosen]
    cheats = [cheat for cheat in cheats_of(name) if cheat in chosen]
    progress = Progress(sum(cell.answers for cell in cells) + CHEAT_ANSWERS * len(cheats))
    for cell in cells:
        decoded: list[torch.Tensor] = []
        answers = run_cell(name, cell, ids, decoded)
        if cell.batch == 1:
            raw |= differences(cell, answers, decoded, auditor)
        raw |= rows(f"honest/{cell.name}", score(auditor, answers, blank))
        progress.step(cell.name, cell.answers)
    for cheat in cheats:
        found = run_cheat(name, cheat, ids, auditor, blank, CHEAT_ANSWERS)
        raw |= rows(f"cheat/{cheat}", found)
        progress.step(cheat, CHEAT_ANSWERS)
    auditor.close()
    return raw


def differences(
    cell: Cell, answers: Sequence[Claims], decoded: Sequence[torch.Tensor], auditor: Any
) -> Raw:
    """Return how far the logits that a provider drew from lie from the auditor's.

    ``noise``: a high quantile of their difference, in micro-logits. ``drift``: for each token and
    each way to sample, by how much the expectation of a clipped surprisal moves, in millionths.
    """
    theirs = torch.stack(list(decoded)).numpy().astype(np.float64)
    ours = np.concatenate([auditor.logits(a.prompt_ids, a.output_ids) for a in answers])
    ours = ours.astype(np.float64)
    gaps = theirs - ours
    gaps -= gaps.mean(axis=1, keepdims=True)
    noise = float(np.quantile(np.abs(gaps), NOISE_QUANTILE))
    drifts = [
        [drift(t, o, sampling, noise) for t, o in zip(theirs, ours, strict=True)]
        for sampling in SAMPLINGS
    ]
    return {
        f"noise/{cell.name}": np.array([math.ceil(SCALE_MICRO * noise)], dtype=np.int32),
        f"drift/{cell.name}": np.rint(SCALE_MICRO * np.array(drifts)).astype(np.int32),
    }


def drift(
    theirs: NDArray[np.float64], ours: NDArray[np.float64], sampling: Sampling, noise: float
) -> float:
    """Return the mean that the auditor's surprisals have when tokens are drawn from ``theirs``."""
    kept = support(ours / sampling.temperature, sampling, noise / sampling.temperature)
    log_p = np.log(np.maximum(chances(ours / sampling.temperature, kept.certain), 1e-300))
    f = np.where(kept.certain, np.minimum(-log_p, CLIP_NATS), 0.0)
    mean = float(np.dot(chances(ours / sampling.temperature, kept.certain), f))
    x = np.where(kept.certain, f - mean, np.where(kept.possible, 0.0, CLIP_NATS - mean))
    drawn_from = support(theirs / sampling.temperature, sampling, 0.0).possible
    return float(np.dot(chances(theirs / sampling.temperature, drawn_from), x)) / CLIP_NATS


def chances(scaled: NDArray[np.float64], kept: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the softmax of ``scaled`` over the ``kept`` tokens, zero elsewhere."""
    weights = np.where(kept, np.exp(scaled - scaled.max()), 0.0)
    return weights / max(weights.sum(), 1e-300)


def run_cheat(
    name: str,
    cheat: str,
    ids: Sequence[tuple[int, ...]],
    auditor: TransformersEngine,
    blank: Reference,
    count: int,
) -> list[Finding]:
    """Let one cheat answer, a few requests at a time, and score what it says."""
    workshop = Workshop(model=MODELS / name, small_model=MODELS / SMALL, max_batch=16)
    engine = CHEATS[cheat](workshop)
    return score(auditor, ask(engine, questions(cheat, DRAWN, ids, count), at_once=16), blank)


def cheats_of(name: str) -> list[str]:
    """Return the cheats that mean something for this model: none is smaller than the smallest."""
    without = {"smaller-model", "mixed-20", "prefilled"} if name == SMALL else set()
    return [cheat for cheat in MEASURED if cheat not in without]


def rows(key: str, findings: Sequence[Finding]) -> Raw:
    """Return the scores of some answers as arrays: lengths, and each measure of each token."""
    raw = {f"{key}/lengths": np.array([len(f.values(MARGIN)) for f in findings], dtype=np.int32)}
    for name in UNITS:
        values = [value for finding in findings for value in finding.values(name)]
        raw[f"{key}/{name}s"] = np.array(values, dtype=np.int32)
    return raw


def summarise(reference: Reference, path: Path) -> None:
    """Print what was learnt."""
    print(f"{path}: {path.stat().st_size} bytes")
    print(f"noise {reference.noise_micro / 1e6:.4f} logits, drift {reference.drift_micro} ppm")
    channels = ((reference.margin, null(reference)), (reference.residual, residual_null(reference)))
    for channel, ceilings in channels:
        if channel is None:
            continue
        print(f"edges {channel.edges}")
        for one in channel.histograms:
            print(f"{one.name:32} {one.responses:4} answers {one.tokens:6} tokens {one.counts}")
        print("null  " + "  ".join(f"{ceiling:.5f}" for ceiling in ceilings))
    for cheat in reference.alternatives:
        print(f"{cheat.name:24} {cheat.tokens:6} tokens by {', '.join(cheat.channels)}")


class Progress:
    """A bar on stderr."""

    def __init__(self, total: int) -> None:
        self._total, self._done, self._started = total, 0, time.monotonic()

    def step(self, what: str, count: int) -> None:
        """Say that ``count`` more answers are done."""
        self._done += count
        share = self._done / self._total
        spent = time.monotonic() - self._started
        bar = "#" * round(30 * share)
        print(
            f"[{bar:30}] {share:4.0%} {spent:4.0f} s, {spent / share - spent:4.0f} s left  {what}",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
