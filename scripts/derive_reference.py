"""From the kept scores of one model to its Reference Value: arithmetic only, no model is run.

``calibrate_tokens.py`` measures and keeps; this derives, so that anyone can do it again. Honest
scores alone make the null; those of cheats say how many tokens each needs to be found out.
"""

import hashlib
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from lydite.engines.weights import check_manifest
from lydite.errors import Reason
from lydite.evidence.tokens.reference import (
    CHANNELS,
    MARGIN,
    SURPRISAL,
    Reference,
    bin_of,
    digest,
)
from lydite.evidence.tokens.sampling import Sampling
from lydite.laboratory.crossings import crossings
from lydite.laboratory.streams import seed_of
from lydite.messages.calibration import Alternative, Binned, Cheat, Histogram, Provenance
from lydite.messages.finding import Finding, Measure
from lydite.messages.tier import Tier
from lydite.statistics.power import tokens_for_power

DATA = Path("data/reference/tokens")
MODELS = Path("models")
AUDITOR = "fp32 arithmetic on the stored weights, one teacher-forced pass, batch 1, cpu"
SCRIPTS = ("calibrate_tokens.py", "run_cells.py", "derive_reference.py")
TOKENS_AN_ANSWER = 128
ERROR_PPM = 1000
LEVEL_MILLI = 4000
STREAMS, LONGEST = 50, 8000
"""Resampled streams a cheat, and their length in tokens, for the power."""

WAYS = (CHANNELS, CHANNELS[:1], CHANNELS[1:])
"""Which channels tell a cheat: both, averaged, or one alone."""

Raw = dict[str, NDArray[Any]]
"""Arrays by name: ``honest/CELL/margins``, ``cheat/NAME/surprisals``, ``noise/CELL``, and so on."""


class Cell(NamedTuple):
    """One way to run the model honestly, one way to sample, and how many answers to take."""

    name: str
    dtype: Literal["bf16", "fp32"]
    batch: int
    threads: int
    sampling: Sampling
    answers: int


DRAWN = Sampling(temperature=1.0, max_tokens=TOKENS_AN_ANSWER)
COLD = Sampling(temperature=0.6, max_tokens=TOKENS_AN_ANSWER)
NUCLEUS = Sampling(temperature=0.6, top_p=0.8, max_tokens=TOKENS_AN_ANSWER)
TOP_K = Sampling(temperature=0.6, top_k=40, max_tokens=TOKENS_AN_ANSWER)
COLDEST, NARROWEST = NUCLEUS.temperature, NUCLEUS.top_p
"""The corner of the settings that the Reference Value covers."""
CELLS = (
    Cell("bf16/batch-16/drawn", "bf16", 16, 1, DRAWN, 288),
    Cell("bf16/batch-16/nucleus", "bf16", 16, 1, NUCLEUS, 128),
    Cell("bf16/batch-16/top-k", "bf16", 16, 1, TOP_K, 128),
    Cell("bf16/batch-8/2-threads/drawn", "bf16", 8, 2, DRAWN, 96),
    Cell("bf16/batch-1/drawn", "bf16", 1, 1, DRAWN, 64),
    Cell("fp32/batch-16/drawn", "fp32", 16, 1, DRAWN, 96),
    Cell("fp32/batch-1/drawn", "fp32", 1, 1, DRAWN, 64),
)


def derive(name: str, raw: Raw, kept: Path) -> Reference:
    """Return the Reference Value that follows from the raw scores; no model is run."""
    reference = honest_reference(name, raw, kept)
    found = tuple(alternatives(name, raw, reference))
    return msgspec.structs.replace(reference, alternatives=found)


def honest_reference(name: str, raw: Raw, kept: Path) -> Reference:
    """Return what follows from the honest scores alone: everything but the power."""
    groups: dict[str, list[Finding]] = {}
    for cell in CELLS:
        groups.setdefault(f"{cell.dtype}/drawn", []).extend(answers_of(raw, f"honest/{cell.name}"))
    noise = noise_of(raw)
    margin = Binned(edges=edges_of(noise), histograms=())
    edged = msgspec.structs.replace(blank_reference(name, noise), margin=margin)
    histograms = tuple(histogram(group, answers, edged) for group, answers in groups.items())
    cheats = tuple(
        Cheat(name=cheat, counts=histogram(cheat, answers_of(raw, f"cheat/{cheat}"), edged).counts)
        for cheat in names(raw, "cheat")
    )
    return msgspec.structs.replace(
        edged,
        margin=msgspec.structs.replace(margin, histograms=histograms, cheats=cheats),
        drift_micro=drift_bound(raw),
        provenance=Provenance(
            script=hashlib.sha256(b"".join(map(Path.read_bytes, scripts()))).hexdigest(),
            data=sha256(kept),
            prompts=sha256(DATA / "prompts.json"),
            versions=tuple(map(str, raw["versions"])),
        ),
    )


def edges_of(noise_micro: int) -> tuple[int, ...]:
    """Return where the bins begin: at the largest margin that the logit noise can make of a tie.

    Honest margins are smaller, and how often they occur hangs on the prompt: a client may pick
    prompts on which honest implementations differ twenty times as often as on these.
    """
    return (2 * noise_micro,)


def histogram(label: str, answers: Sequence[Finding], edged: Reference) -> Histogram:
    """Return how the margins of some answers fall into the bins of ``edged``."""
    size = len(edged.margin.edges) + 2
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

    The largest drift of any token, in the worst implementation and way to sample. The drifts of
    ordinary text have both signs and a mean that is far smaller, but a client may ask for one
    token after the same prompt as often as it likes.
    """
    return max(int(np.abs(table).max()) for key, table in raw.items() if key.startswith("drift/"))


def alternatives(name: str, raw: Raw, reference: Reference) -> Iterator[Alternative]:
    """Yield for every cheat and way to tell it how many tokens do, if 8000 do nine times in ten."""
    for cheat in names(raw, "cheat"):
        answers = scored_against(reference, answers_of(raw, f"cheat/{cheat}"))
        dice = random.Random(seed_of("power", name, cheat))
        streams = [resampled(answers, dice) for _ in range(STREAMS)]
        found = [crossings(reference, stream, WAYS, LEVEL_MILLI / 1000) for stream in streams]
        for channels, column in zip(WAYS, zip(*found, strict=True), strict=True):
            tokens = tokens_for_power(column)
            if tokens is not None:
                yield Alternative(
                    name=cheat, channels=channels, log10_level_milli=LEVEL_MILLI, tokens=tokens
                )


def scored_against(reference: Reference, answers: Sequence[Finding]) -> list[Finding]:
    """Return the answers as if they had been scored against ``reference``: scores are the same."""
    name = digest(reference)
    return [msgspec.structs.replace(answer, reference=name) for answer in answers]


def resampled(answers: Sequence[Finding], dice: random.Random) -> list[Finding]:
    """Return a stream of answers drawn with replacement, about ``LONGEST`` tokens long."""
    mean = sum(len(answer.values(MARGIN)) for answer in answers) / len(answers)
    return dice.choices(answers, k=math.ceil(LONGEST / mean))


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


def blank_reference(name: str, noise_micro: int) -> Reference:
    """Return a reference that tells the verifier what it needs before anything is calibrated."""
    return Reference(
        name=name,
        weights_root=check_manifest(MODELS / name).root,
        sampler="lydite/v1",
        auditor=AUDITOR,
        margin=Binned(edges=(), histograms=()),
        residual=None,
        error_ppm=ERROR_PPM,
        drift_micro=0,
        noise_micro=noise_micro,
        temperature_min_milli=round(1000 * COLDEST),
        top_p_min_ppm=round(1_000_000 * NARROWEST),
        alternatives=(),
        provenance=Provenance(script="0" * 64, data="0" * 64, prompts="0" * 64, versions=()),
    )


def sha256(path: Path) -> str:
    """Return the digest of a file in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def scripts() -> list[Path]:
    """Return the files that a Reference Value names as the script that made it."""
    return [Path(__file__).with_name(name) for name in SCRIPTS]


def names(raw: Raw, kind: str) -> list[str]:
    """Return whose scores of one kind were kept, ``honest`` or ``cheat``, in order."""
    return [
        key.removeprefix(f"{kind}/").removesuffix("/lengths")
        for key in raw
        if key.startswith(f"{kind}/") and key.endswith("/lengths")
    ]
