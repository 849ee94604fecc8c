"""From the kept scores of one model to its Reference Value: arithmetic only, no model is run.

``calibrate_tokens.py`` measures and keeps; this derives, so that anyone can do it again. Honest
scores alone make the null; those of cheats say how many tokens each needs to be found out.
"""

import hashlib
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from lydite.engines.weights import check_manifest
from lydite.errors import Reason
from lydite.evidence.tokens.reference import (
    CHANNELS,
    KIND,
    MARGIN,
    RESIDUAL,
    SURPRISAL,
    Reference,
    count,
    digest,
)
from lydite.evidence.tokens.sampling import Sampling
from lydite.evidence.tokens.verifier import MARGIN_UNIT, RESIDUAL_UNIT, SURPRISAL_UNIT
from lydite.laboratory.crossings import crossings
from lydite.laboratory.streams import seed_of
from lydite.messages.calibration import Alternative, Binned, Cheat, Histogram, Provenance
from lydite.messages.finding import Finding, Measure
from lydite.messages.tier import Tier
from lydite.statistics import bins
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

WAYS = (CHANNELS, CHANNELS[:1], CHANNELS[1:], (f"{KIND}/{RESIDUAL}",))
"""Which channels tell a cheat: the two that need nothing of an answer, averaged, or one alone."""
QUANTILES = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
"""Of all honest residuals: where their bins begin."""
HARDEST = 0.1
"""A client may ask what honest machines differ on the most, over and over: the share of the answers
with the largest mean residual that the null has to cover by itself."""

UNITS = {MARGIN: MARGIN_UNIT, SURPRISAL: SURPRISAL_UNIT, RESIDUAL: RESIDUAL_UNIT}
"""What is kept of every token."""

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
    cheats = {cheat: answers_of(raw, f"cheat/{cheat}") for cheat in names(raw, "cheat")}
    margin = Binned(edges=edges_of(noise), histograms=())
    blank = msgspec.structs.replace(blank_reference(name, noise), margin=margin)

    def margins(answer: Finding) -> Sequence[int]:
        return count(blank, answer.values(MARGIN))

    return msgspec.structs.replace(
        blank,
        margin=binned(margin.edges, groups, cheats, margins),
        residual=residual_channel(groups, cheats),
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


def residual_channel(
    groups: Mapping[str, Sequence[Finding]], cheats: Mapping[str, Sequence[Finding]]
) -> Binned | None:
    """Return the channel of residuals, from the answers whose log-probabilities were kept.

    The bins begin at quantiles of all honest residuals.
    """
    honest = scored_only(groups)
    if not honest:
        return None
    pooled = [v for answers in honest.values() for one in answers for v in one.values(RESIDUAL)]
    edges = tuple(sorted({max(1, math.ceil(q)) for q in np.quantile(pooled, QUANTILES)}))

    def residuals(answer: Finding) -> Sequence[int]:
        return bins.count(edges, answer.values(RESIDUAL))

    return binned(edges, honest | hardest(honest), scored_only(cheats), residuals)


def scored_only(groups: Mapping[str, Sequence[Finding]]) -> dict[str, list[Finding]]:
    """Return the answers that have residuals, and no group without any."""
    kept = {name: [one for one in each if one.values(RESIDUAL)] for name, each in groups.items()}
    return {name: answers for name, answers in kept.items() if answers}


def hardest(groups: Mapping[str, Sequence[Finding]]) -> dict[str, list[Finding]]:
    """Return of each implementation the answers on which it differs the most from the auditor."""

    def mean(answer: Finding) -> float:
        return float(np.mean(answer.values(RESIDUAL)))

    return {
        f"{group}/hardest": sorted(answers, key=mean)[-math.ceil(HARDEST * len(answers)) :]
        for group, answers in groups.items()
    }


def binned(
    edges: tuple[int, ...],
    groups: Mapping[str, Sequence[Finding]],
    cheats: Mapping[str, Sequence[Finding]],
    count_of: Callable[[Finding], Sequence[int]],
) -> Binned:
    """Return how honest answers, and those of cheats, fall into the bins of one channel."""
    counted = {name: histogram(name, map(count_of, answers)) for name, answers in cheats.items()}
    return Binned(
        edges=edges,
        histograms=tuple(histogram(name, map(count_of, each)) for name, each in groups.items()),
        cheats=tuple(Cheat(name=name, counts=one.counts) for name, one in counted.items()),
    )


def histogram(label: str, counts: Iterable[Sequence[int]]) -> Histogram:
    """Return the histogram of answers of which each has so many tokens in each bin."""
    table = np.array(list(counts), dtype=np.int64)
    lengths = table.sum(axis=1)
    return Histogram(
        name=label,
        responses=len(table),
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
    """Return what ``rows`` was made from, as findings, with the measures that were taken."""
    ends = np.cumsum(raw[f"{key}/lengths"])[:-1]
    kept = {name: raw.get(f"{key}/{name}s", np.zeros(0)) for name in UNITS}
    columns = {name: np.split(values, ends) for name, values in kept.items() if len(values)}
    return [
        Finding(
            kind=KIND,
            tier=Tier.NONE,
            reason=Reason.RECORDED,
            measures=tuple(
                Measure(name=name, unit=UNITS[name], values=tuple(map(int, values)))
                for name, values in zip(columns, row, strict=True)
            ),
        )
        for row in zip(*columns.values(), strict=True)
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
