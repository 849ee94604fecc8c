"""Calibrate the tokens evidence of one model: honest implementations in, a Reference Value out.

Runs the declared model as honest providers do, in every implementation that is to be accepted,
and recomputes each answer as the auditor does: fp32 arithmetic on the stored weights, one
teacher-forced pass, batch 1. (Auditing in bf16 halves the mismatches of bf16 providers, but makes
as many for fp32 ones, larger ones, and hangs on the auditor's own processor; fp32 does not.)
Margins become histograms, the difference of the logits becomes the drift bound and the support's
slack. Nothing of this sees a cheat. Cheats are run afterwards, only to say how many tokens each
needs before it is found out.

    python scripts/calibrate_tokens.py lydite-base                measure, then derive (minutes)
    python scripts/calibrate_tokens.py lydite-base --derive       derive again from the kept data

writes ``data/reference/tokens/MODEL.npz``, the raw scores, and ``MODEL.json``, the reference.
"""

import argparse
import hashlib
import json
import math
import platform
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from lydite.engines.codec import DirectoryCodec
from lydite.engines.transformers_engine import Dtype, TransformersEngine, load_model
from lydite.engines.weights import check_manifest
from lydite.errors import Reason
from lydite.evidence.tokens.claims import Claims
from lydite.evidence.tokens.reference import (
    MARGIN,
    SCALE_MICRO,
    SURPRISAL,
    Alternative,
    Histogram,
    Provenance,
    Reference,
    bin_of,
    null,
    parse,
)
from lydite.evidence.tokens.sampling import Sampling
from lydite.evidence.tokens.verifier import CLIP_NATS, support
from lydite.laboratory.cheats import CHEATS, Workshop
from lydite.laboratory.streams import Question, ask, log_path, render, score, seed_of
from lydite.messages.canonical import encode
from lydite.messages.finding import Finding, Measure
from lydite.messages.tier import Tier
from lydite.statistics.power import first_crossing, tokens_for_power

DATA = Path("data/reference/tokens")
MODELS = Path("models")
SMALL = "lydite-small"
AUDITOR = "fp32 arithmetic on the stored weights, one teacher-forced pass, batch 1, cpu"
TOKENS_AN_ANSWER = 128
CHEAT_ANSWERS = 72
ERROR_PPM = 1000
QUANTILES = (0.85, 0.99)
"""Of the positive margins. Whatever lies below the first is one bin with the exact matches: an
honest fp32 provider has none and a bf16 one has some, so every finer bin there would add its whole
rate to the price of the composite null, ln(sum of ceilings) nats a token, and tell little."""
TAIL_MICRO = (100_000, 500_000)
"""Two further edges far beyond honest margins, where cheats live."""
NOISE_QUANTILE = 0.9999
LEVEL_MILLI = 4000
STREAMS, LONGEST = 100, 8000
"""Resampled streams a cheat, and their length in tokens, for the power."""


class Cell(NamedTuple):
    """One way to run the model honestly, one way to sample, and how many answers to take."""

    name: str
    dtype: Dtype
    batch: int
    threads: int
    sampling: Sampling
    answers: int


DRAWN = Sampling(temperature=1.0, max_tokens=TOKENS_AN_ANSWER)
NUCLEUS = Sampling(temperature=0.8, top_p=0.95, max_tokens=TOKENS_AN_ANSWER)
TOP_K = Sampling(temperature=0.6, top_k=40, max_tokens=TOKENS_AN_ANSWER)
GREEDY = Sampling(temperature=0.0, max_tokens=TOKENS_AN_ANSWER)
CELLS = (
    Cell("bf16/batch-16/drawn", "bf16", 16, 1, DRAWN, 288),
    Cell("bf16/batch-16/nucleus", "bf16", 16, 1, NUCLEUS, 128),
    Cell("bf16/batch-16/top-k", "bf16", 16, 1, TOP_K, 128),
    Cell("bf16/batch-16/greedy", "bf16", 16, 1, GREEDY, 192),
    Cell("bf16/batch-8/2-threads/drawn", "bf16", 8, 2, DRAWN, 96),
    Cell("bf16/batch-1/drawn", "bf16", 1, 1, DRAWN, 64),
    Cell("fp32/batch-16/drawn", "fp32", 16, 1, DRAWN, 96),
    Cell("fp32/batch-16/greedy", "fp32", 16, 1, GREEDY, 96),
    Cell("fp32/batch-1/drawn", "fp32", 1, 1, DRAWN, 64),
)
SAMPLINGS = (DRAWN, NUCLEUS, TOP_K)
"""Under which the drift is measured."""

Raw = dict[str, NDArray[Any]]


def main() -> None:
    """Measure and derive as the command line asks."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", help="a directory under models/")
    parser.add_argument("--derive", action="store_true", help="only derive from the kept data")
    parser.add_argument("--share", type=float, default=1.0, help="of the answers, to try it out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    kept = DATA / f"{arguments.model}.npz"
    if not arguments.derive:
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
    raw: Raw = {}
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


def run_cell(
    name: str, cell: Cell, ids: Sequence[tuple[int, ...]], decoded: list[torch.Tensor]
) -> list[Claims]:
    """Answer the cell's share of prompts; a batch of one also leaves the logits it drew from."""
    torch.set_num_threads(cell.threads)
    model = load_model(MODELS / name, cell.dtype)
    if cell.batch == 1:
        model.register_forward_hook(
            lambda _module, _inputs, output: decoded.append(output.logits[0, -1].float().clone())
        )
    engine = TransformersEngine(model, DirectoryCodec(MODELS / name), cell.batch)
    torch.set_num_threads(1)
    try:
        return ask(engine, questions(cell.name, cell.sampling, ids, cell.answers))
    finally:
        engine.close()


def questions(
    label: str, sampling: Sampling, ids: Sequence[tuple[int, ...]], count: int
) -> list[Question]:
    """Return ``count`` questions: the prompts in turn, each with a seed of its own."""
    start = seed_of(label) % len(ids)
    return [
        Question(ids[(start + i) % len(ids)], sampling, seed_of(label, i)) for i in range(count)
    ]


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
    """Return E_theirs f - E_ours f over the clip, f being the auditor's clipped surprisal."""
    slack = noise / sampling.temperature
    kept = support(ours / sampling.temperature, sampling, slack)
    shifted = ours / sampling.temperature
    shifted = shifted - shifted.max()
    log_p = shifted - np.log(np.exp(shifted[kept.exact]).sum())
    f = np.where(kept.possible, np.minimum(-log_p, CLIP_NATS), CLIP_NATS)
    other = support(theirs / sampling.temperature, sampling, slack).exact
    moved = chances(theirs / sampling.temperature, other) - chances(
        ours / sampling.temperature, kept.exact
    )
    return float(np.dot(moved, f)) / CLIP_NATS


def chances(scaled: NDArray[np.float64], kept: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the softmax of ``scaled`` over the ``kept`` tokens, zero elsewhere."""
    weights = np.where(kept, np.exp(scaled - scaled.max()), 0.0)
    return weights / weights.sum()


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
    without = {"honest"} | ({"smaller-model", "mixed-20"} if name == SMALL else set())
    return [cheat for cheat in CHEATS if cheat not in without]


def blank_reference(name: str, noise_micro: int) -> Reference:
    """Return a reference that tells the verifier what it needs before anything is calibrated."""
    return Reference(
        name=name,
        weights_root=check_manifest(MODELS / name).root,
        sampler="lydite/v1",
        auditor=AUDITOR,
        edges=(),
        histograms=(),
        error_ppm=ERROR_PPM,
        drift_micro=0,
        noise_micro=noise_micro,
        alternatives=(),
        provenance=Provenance(script="0" * 64, data="0" * 64, prompts="0" * 64, versions=()),
    )


def rows(key: str, findings: Sequence[Finding]) -> Raw:
    """Return the scores of some answers as three arrays: lengths, margins, surprisals."""
    margins = [finding.values(MARGIN) for finding in findings]
    surprisals = [finding.values(SURPRISAL) for finding in findings]
    return {
        f"{key}/lengths": np.array([len(row) for row in margins], dtype=np.int32),
        f"{key}/margins": np.array([v for row in margins for v in row], dtype=np.int32),
        f"{key}/surprisals": np.array([v for row in surprisals for v in row], dtype=np.int32),
    }


def answers_of(raw: Raw, key: str) -> list[Finding]:
    """Return what ``rows`` was made from, as findings."""
    ends = np.cumsum(raw[f"{key}/lengths"])[:-1]
    margins = np.split(raw[f"{key}/margins"], ends)
    drawn = len(raw[f"{key}/surprisals"]) > 0
    surprisals = np.split(raw[f"{key}/surprisals"], ends) if drawn else [[]] * len(margins)
    return [
        Finding(
            kind="tokens",
            tier=Tier.NONE,
            reason=Reason.RECORDED,
            measures=(
                Measure(name=MARGIN, unit="micro-logit", values=tuple(map(int, m))),
                Measure(name=SURPRISAL, unit="micro-nat/6", values=tuple(map(int, x))),
            ),
        )
        for m, x in zip(margins, surprisals, strict=True)
    ]


def noise_of(raw: Raw) -> int:
    """Return the largest logit noise of any implementation, in micro-logits."""
    return max(int(row[0]) for key, row in raw.items() if key.startswith("noise/"))


def derive(name: str, raw: Raw, kept: Path) -> Reference:
    """Return the Reference Value that follows from the raw scores; no model is run."""
    reference = honest_reference(name, raw, kept)
    found = tuple(alternatives(name, raw, reference))
    return msgspec.structs.replace(reference, alternatives=found)


def honest_reference(name: str, raw: Raw, kept: Path) -> Reference:
    """Return what follows from the honest scores alone: everything but the power."""
    groups: dict[str, list[Finding]] = {}
    for cell in CELLS:
        group = f"{cell.dtype}/{'drawn' if cell.sampling.temperature else 'greedy'}"
        groups.setdefault(group, []).extend(answers_of(raw, f"honest/{cell.name}"))
    margins = np.concatenate([raw[f"honest/{cell.name}/margins"] for cell in CELLS])
    edged = msgspec.structs.replace(blank_reference(name, noise_of(raw)), edges=edges_of(margins))
    histograms = tuple(histogram(group, answers, edged) for group, answers in groups.items())
    return msgspec.structs.replace(
        edged,
        histograms=histograms,
        drift_micro=drift_bound(raw),
        provenance=Provenance(
            script=sha256(Path(__file__)),
            data=sha256(kept),
            prompts=sha256(DATA / "prompts.json"),
            versions=(
                f"python {platform.python_version()}",
                f"torch {torch.__version__}",
                f"transformers {transformers.__version__}",
            ),
        ),
    )


def edges_of(margins: NDArray[np.int32]) -> tuple[int, ...]:
    """Return where the bins begin: at high quantiles of the positive margins, and beyond."""
    positives = margins[margins > 0]
    quantiles = [int(q) for q in np.quantile(positives, QUANTILES)] if len(positives) else []
    return tuple(sorted({*(q for q in quantiles if 0 < q < TAIL_MICRO[0]), *TAIL_MICRO}))


def histogram(label: str, answers: Sequence[Finding], edged: Reference) -> Histogram:
    """Return how the margins of some answers fall into the bins of ``edged``."""
    size = len(edged.edges) + 2
    table = np.zeros((len(answers), size), dtype=np.int64)
    for row, answer in zip(table, answers, strict=True):
        for margin in answer.values(MARGIN):
            row[bin_of(edged, margin)] += 1
    lengths = table.sum(axis=1)
    return Histogram(
        name=label,
        responses=len(answers),
        tokens=int(lengths.sum()),
        tokens_squared=int((lengths**2).sum()),
        counts=tuple(map(int, table.sum(axis=0))),
        counts_squared=tuple(map(int, (table**2).sum(axis=0))),
        crosses=tuple(map(int, (table * lengths[:, None]).sum(axis=0))),
    )


def drift_bound(raw: Raw) -> int:
    """Return a bound on the mean of an honest surprisal, in millionths.

    The mean over tokens of the *absolute* drift, the worst implementation and way to sample, and
    three standard errors: the drifts of one text have both signs, so their sum stays far below.
    """
    worst = 0.0
    for key, table in raw.items():
        if key.startswith("drift/"):
            sizes = np.abs(table.astype(np.float64))
            means = sizes.mean(axis=1) + 3 * sizes.std(axis=1) / math.sqrt(sizes.shape[1])
            worst = max(worst, float(means.max()))
    return math.ceil(worst)


def alternatives(name: str, raw: Raw, reference: Reference) -> Iterator[Alternative]:
    """Yield for every cheat how many tokens find it out, if 8000 do in nine streams of ten."""
    level = LEVEL_MILLI / 1000 * math.log(10)
    for cheat in cheats_of(name):
        if f"cheat/{cheat}/lengths" not in raw:
            continue
        answers = answers_of(raw, f"cheat/{cheat}")
        dice = random.Random(seed_of("power", name, cheat))
        crossings = [
            first_crossing(log_path(reference, resampled(answers, dice)), level)
            for _ in range(STREAMS)
        ]
        tokens = tokens_for_power(crossings)
        if tokens is not None:
            yield Alternative(name=cheat, log10_level_milli=LEVEL_MILLI, tokens=tokens)


def resampled(answers: Sequence[Finding], dice: random.Random) -> list[Finding]:
    """Return a stream of answers drawn with replacement, about ``LONGEST`` tokens long."""
    mean = sum(len(answer.values(MARGIN)) for answer in answers) / len(answers)
    return dice.choices(answers, k=math.ceil(LONGEST / mean))


def sha256(path: Path) -> str:
    """Return the digest of a file in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def summarise(reference: Reference, path: Path) -> None:
    """Print what was learnt."""
    print(f"{path}: {path.stat().st_size} bytes")
    print(f"noise {reference.noise_micro / 1e6:.4f} logits, drift {reference.drift_micro} ppm")
    print(f"edges {reference.edges}")
    for one in reference.histograms:
        print(f"{one.name:32} {one.responses:4} answers {one.tokens:6} tokens {one.counts}")
    print("null  " + "  ".join(f"{ceiling:.5f}" for ceiling in null(reference)))
    for cheat in reference.alternatives:
        print(f"{cheat.name:32} {cheat.tokens:6} tokens to 10^{cheat.log10_level_milli / 1000:g}")


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
