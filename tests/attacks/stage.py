"""A declared model, providers that serve or cheat, and an auditor with the committed reference.

Live answers where a few tokens are enough; else the scores that calibration kept of real cheats.
"""

import functools
import json
import math
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch

from lydite.appraisal.decision import decide
from lydite.appraisal.policy import DEFAULT
from lydite.engines.protocol import Engine
from lydite.engines.transformers_engine import TransformersEngine
from lydite.errors import Reason
from lydite.evidence.tokens.claims import Claims
from lydite.evidence.tokens.reference import CHANNELS, Reference, channel_log10_e, digest, parse
from lydite.evidence.tokens.sampling import Sampling
from lydite.laboratory.cheats import CHEATS, Workshop
from lydite.laboratory.streams import Question, ask, render, score, seed_of
from lydite.messages.audit import Verdict
from lydite.messages.finding import Finding, Measure
from lydite.messages.tier import Tier
from lydite.statistics.merging import log_average

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "models"
DATA = ROOT / "data" / "reference" / "tokens"
ACCUSED, SUSPECTED = 4.0, 1.301
"""Levels of log10 E in the default policy."""
DRAWN = Sampling(max_tokens=64)


@functools.cache
def reference() -> Reference:
    return parse((DATA / "lydite-base.json").read_bytes())


@functools.cache
def auditor() -> TransformersEngine:
    torch.set_num_threads(1)
    return TransformersEngine.load(MODELS / "lydite-base", "fp32", 1)


@functools.cache
def provider(name: str) -> Engine:
    torch.set_num_threads(1)
    workshop = Workshop(model=MODELS / "lydite-base", small_model=MODELS / "lydite-small")
    return CHEATS[name](workshop)


def answers(name: str, count: int, sampling: Sampling = DRAWN, first: int = 0) -> list[Claims]:
    """What a provider says to ``count`` of the stored prompts."""
    stored = json.loads((DATA / "prompts.json").read_text("utf-8"))
    questions = [
        Question(render(auditor().codec, stored[i]), sampling, seed_of("attack", name, i))
        for i in range(first, first + count)
    ]
    return ask(provider(name), questions)


def audit(claims: Sequence[Claims]) -> list[Finding]:
    return score(auditor(), claims, reference())


def judged(findings: Sequence[Finding]) -> Verdict:
    """The verdict of the default policy on these answers, each drawn."""
    return decide(DEFAULT, (reference(),), [[finding] for finding in findings])


def log10_e(findings: Sequence[Finding]) -> float:
    """The merged e-value, both channels with equal weight, as the default policy merges them."""
    levels = dict(channel_log10_e(reference(), findings))
    logs = [levels[channel] * math.log(10) for channel in CHANNELS]
    return log_average(logs, [0.5] * len(logs)) / math.log(10)


def recorded(name: str) -> list[Finding]:
    """The scores that calibration kept: ``cheat/NAME``, or ``honest/CELL``."""
    with np.load(DATA / "lydite-base.npz") as kept:
        lengths = kept[f"{name}/lengths"]
        margins, surprisals = kept[f"{name}/margins"], kept[f"{name}/surprisals"]
    ends = np.cumsum(lengths)[:-1]
    columns = {"margin": np.split(margins, ends)}
    if len(surprisals):
        columns["surprisal"] = np.split(surprisals, ends)
    return [
        Finding(
            kind="tokens",
            tier=Tier.NONE,
            reason=Reason.RECORDED,
            reference=digest(reference()),
            measures=tuple(
                Measure(name=column, unit="micro", values=tuple(map(int, rows[i])))
                for column, rows in columns.items()
            ),
        )
        for i in range(len(lengths))
    ]


def reseeded(claims: Sequence[Claims]) -> list[Claims]:
    """The same answers, held against the seeds that they should have been drawn with."""
    return [msgspec.structs.replace(one, seed=one.seed ^ 1) for one in claims]
