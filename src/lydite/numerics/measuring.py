"""Measures one stack: lets it answer the fixed prompts, and counts what the auditor makes of it.

The auditor's stack is always the same: fp32 arithmetic on the stored weights, one teacher-forced
pass a time. Signs nothing and judges nothing; the clock is an argument.
"""

import hashlib
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import transformers

from lydite.engines.protocol import Engine
from lydite.errors import FormatError, Reason, UnavailableError
from lydite.evidence.activations.reference import Reference as Sketches
from lydite.evidence.tokens.reference import MARGIN, RESIDUAL, SURPRISAL, Reference
from lydite.messages import grid as grids
from lydite.messages import passport as passports
from lydite.messages.calibration import Binned, Provenance
from lydite.messages.grid import LINEAR, LOG, Grid
from lydite.messages.passport import Channel, Passport, Predicate, Sketch, Streams
from lydite.messages.receipt import Timestamp
from lydite.messages.stack import Stack
from lydite.messages.statement import subject
from lydite.numerics import deriving, merging, sketch_merging
from lydite.numerics.asking import Answer, Ask, groups
from lydite.numerics.prompts import Prompts, Question, coldest
from lydite.numerics.scoring import Difference, Scored, score

STREAM_LEVEL_MILLI = 2301
"""An e-value of 200: what honest streams are watched for."""
SCRIPT = (
    *("asking.py", "deriving.py", "local.py", "measuring.py", "prompts.py", "scoring.py"),
    "sketches.py",
)
"""What a passport names as the script that made it."""
COMPARED = 16
"""Answers on which the logits of the two stacks are compared."""

Compare = Callable[[Sequence[Answer]], Difference]


class Subjects(NamedTuple):
    """What is measured: a model on a stack, by an auditor, with prompts; perhaps a known cheat."""

    model: str
    weights_root: str
    stack: Stack
    prompts: Prompts
    cheat: str | None = None
    sketch: Sketch | None = None
    """How sketches were made, if they were."""


class Measured(NamedTuple):
    """The scores of every answer, and how far the two stacks differ."""

    difference: Difference
    scored: tuple[Scored, ...]


def auditor_stack(sampler: str) -> Stack:
    """Return the stack that recomputes, on this machine."""
    return Stack(
        engine="lydite transformers",
        version=transformers.__version__,
        dtype="float32",
        cache_dtype="none",
        kernels="sdpa",
        architecture=platform.machine(),
        parallelism=threads(1),
        batch="batch 1",
        shape="prefill",
        decoding="teacher-forced",
        sampler=sampler,
    )


def threads(count: int) -> str:
    """Return in words how many threads share the work."""
    return "1 thread" if count == 1 else f"{count} threads"


def run(
    auditor: Engine,
    ask: Ask,
    questions: Sequence[Question],
    batch: int,
    compare: Compare | Difference,
    named: tuple[str, str],
    tell: Callable[[int], None] = lambda _: None,
    sketched: Sketches | None = None,
) -> Measured:
    """Ask every question, ``batch`` at a time, and score the answers as an auditor does.

    ``compare`` measures the difference of the logits, or is the one to take for granted. ``named``
    are the weights' root and the sampler; ``tell`` hears how many answers are done. ``sketched``
    says how the answers' sketches are scored, None for not at all.

    Raises:
        UnavailableError, FormatError: the stack does not answer, or answers something else.
    """
    answers: list[Answer] = []
    for group in groups(questions, batch):
        answers += ask(group)
        tell(len(answers))
    spread = answers[:: max(1, len(answers) // COMPARED)]
    difference = compare if isinstance(compare, Difference) else compare(spread)
    reference = blank(*named, difference.noise_micro)
    scored = tuple(score(auditor, answer, reference, sketched) for answer in answers)
    return Measured(difference, scored)


def predicate(
    subjects: Subjects, measured: Measured, valid: tuple[Timestamp, Timestamp]
) -> Predicate:
    """Return what a passport says of a stack, valid from and until the times given.

    Raises:
        UnavailableError: too few answers for honest streams (``Reason.POOL_TOO_SMALL``).
    """
    scored = measured.scored
    tokens = sum(one.tokens for one in scored)
    cold, narrow = coldest()
    channels = tuple(_channels(scored))
    return Predicate(
        model=subjects.model,
        weights_root=subjects.weights_root,
        stack=subjects.stack,
        auditor=auditor_stack(subjects.stack.sampler),
        cheat=subjects.cheat,
        prompts=subjects.prompts.sha256,
        script=script_digest(),
        versions=versions(),
        temperature_min_milli=cold,
        top_p_min_ppm=narrow,
        noise_micro=measured.difference.noise_micro,
        drift_micro=measured.difference.drift_micro,
        flips_ppm=round(1_000_000 * sum(one.flips for one in scored) / max(1, tokens)),
        channels=channels,
        streams=_streams(channels, measured.difference.noise_micro, honest=subjects.cheat is None),
        issued=valid[0],
        expires=valid[1],
        sketch=subjects.sketch,
    )


def passport(said: Predicate) -> Passport:
    """Return the statement about a model's weights that holds a predicate."""
    about = subject(said.model, bytes.fromhex(said.weights_root))
    version = passports.V1 if said.sketch is None else passports.V2
    return Passport(subject=about, predicate_type=version, predicate=said)


def blank(weights_root: str, sampler: str, noise_micro: int) -> Reference:
    """Return a reference that tells the verifier what it needs before anything is calibrated."""
    cold, narrow = coldest()
    return Reference(
        name="blank",
        weights_root=weights_root,
        sampler=sampler,
        auditor="fp32 arithmetic on the stored weights, one teacher-forced pass, batch 1",
        margin=Binned(edges=(), histograms=()),
        residual=None,
        error_ppm=merging.ERROR_PPM,
        drift_micro=0,
        noise_micro=noise_micro,
        temperature_min_milli=cold,
        top_p_min_ppm=narrow,
        alternatives=(),
        provenance=Provenance(script="0" * 64, data="0" * 64, prompts="0" * 64, versions=()),
    )


def cells(grid: Grid, values: Sequence[int]) -> tuple[int, ...]:
    """Return the cells that recorded scores fall into, in their order."""
    found = np.searchsorted(np.asarray(grids.edges(grid)), np.asarray(values), side="right")
    if grid == LOG:
        found = np.where(np.asarray(values) == grids.OUTSIDE, grids.cells(grid) - 1, found)
    return tuple(int(cell) for cell in found)


def versions() -> tuple[str, ...]:
    """Return the software that the scores hang on."""
    return (
        f"python {platform.python_version()}",
        f"numpy {np.__version__}",
        f"torch {torch.__version__}",
        f"transformers {transformers.__version__}",
    )


def script_digest() -> str:
    """Return SHA-256 over ``SCRIPT``, the files of this room that measure, in that order."""
    files = [Path(__file__).with_name(name) for name in SCRIPT]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def _channels(scored: Sequence[Scored]) -> list[Channel]:
    rows = (
        (f"tokens/{MARGIN}", LOG, [one.margins for one in scored]),
        (f"tokens/{SURPRISAL}", LINEAR, [one.surprisals for one in scored]),
        (f"tokens/{RESIDUAL}", LOG, [one.residuals for one in scored]),
        (passports.SKETCH, LOG, [one.sketch for one in scored]),
        (passports.INNER, LOG, [one.inner for one in scored]),
    )
    return [
        Channel(
            name=name,
            grid=grid,
            rows=tuple(passports.row(cells(grid, row)) for row in every),
        )
        for name, grid, every in rows
        if every and all(every)
    ]


def _streams(channels: Sequence[Channel], noise_micro: int, *, honest: bool) -> Streams:
    """Return how many honest streams of this stack the null of the others accuses."""
    empty = Streams(run=0, tokens=0, false_alarms=0, log10_level_milli=STREAM_LEVEL_MILLI)
    if not honest:
        return empty
    found = []
    for channel in channels:
        if channel.name == f"tokens/{MARGIN}":
            edges = merging.margin_edges(noise_micro)
        elif channel.name == f"tokens/{RESIDUAL}":
            edges = deriving.quantile_edges(channel.rows, channel.grid, merging.QUANTILES)
        elif channel.name in (passports.SKETCH, passports.INNER):
            edges = deriving.quantile_edges(channel.rows, channel.grid, sketch_merging.QUANTILES)
        else:
            continue
        table = deriving.tables(channel.rows, channel.grid, edges)
        try:
            found.append(deriving.streams(table, merging.ERROR_PPM, STREAM_LEVEL_MILLI))
        except FormatError as error:
            raise UnavailableError(str(error), Reason.POOL_TOO_SMALL) from error
    if not found:
        return empty
    return Streams(
        run=sum(one.run for one in found),
        tokens=found[0].tokens,
        false_alarms=sum(one.false_alarms for one in found),
        log10_level_milli=STREAM_LEVEL_MILLI,
    )
