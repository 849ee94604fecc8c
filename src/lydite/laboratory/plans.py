"""How much of the verdict table is measured: a small matrix to watch, a large one to publish."""

from pathlib import Path
from typing import Annotated

import msgspec

from lydite.laboratory.cheats import CHEATS, HONEST_NAME
from lydite.laboratory.honest import HONEST

MIXED = "mixed-"
"""How cheats begin that send a share of the requests elsewhere: bets on shares are for them."""

Some = Annotated[int, msgspec.Meta(ge=1)]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is run, and how much of it."""

    models: Path = Path("models")
    """Where model directories are."""
    data: Path = Path("data/reference/tokens")
    """Where the prompts and the Reference Values of tokens are."""
    model: str = "lydite-base"
    """The declared one."""
    cheap: str = "lydite-small"
    """What cheats serve instead."""
    attacks: tuple[str, ...]
    calibrated: tuple[tuple[str, tuple[str, ...]], ...]
    """Groups of honest variants that make the null together, each the variants of one data type."""
    honest: tuple[str, ...]
    """Honest variants whose streams must not be accused."""
    tokens: Some
    """In an answer, at most."""
    calibration_answers: Some
    """Of each calibrated variant."""
    honest_streams: Some
    """Of each honest variant, no answer in two of them."""
    stream_answers: Some
    """In an honest stream."""
    attack_answers: Some
    measured: tuple[str, ...]
    """Cheats that are bet on, by answers to prompts that their attack is not asked."""
    measured_answers: Some
    """Of each, at most."""
    resamples: Some
    """Streams of an attack, drawn with replacement from its answers."""
    longest: Some
    """Tokens after which nobody waits for a verdict."""
    parts: bool
    """Whether cheating on a share of the requests is measured against what is possible."""


SMALL = Plan(
    attacks=(
        "smaller-model",
        "int4-weights",
        "int8-weights",
        "fp8-cache",
        "truncated-context",
        "other-temperature",
        "other-seed",
        "prefilled",
    ),
    calibrated=(("bf16", ("bf16/batch-64", "bf16/sdpa-math")), ("fp32", ("fp32/batch-16",))),
    honest=("bf16/batch-16", "fp32/batch-16", "bf16/chunked-prefill"),
    tokens=64,
    calibration_answers=32,
    honest_streams=6,
    stream_answers=4,
    attack_answers=24,
    measured=(
        "smaller-model",
        "int4-weights",
        "int8-weights",
        "fp8-cache",
        "truncated-context",
        "other-temperature",
        "other-seed",
    ),
    measured_answers=12,
    resamples=20,
    longest=1500,
    parts=False,
)
FULL = Plan(
    attacks=tuple(name for name in CHEATS if name != HONEST_NAME),
    calibrated=(
        ("bf16", ("bf16/batch-64", "bf16/batch-16", "bf16/sdpa-math", "bf16/split-sums")),
        ("fp32", ("fp32/batch-16", "fp32/batch-64")),
    ),
    honest=tuple(HONEST),
    tokens=64,
    calibration_answers=120,
    honest_streams=20,
    stream_answers=6,
    attack_answers=64,
    measured=tuple(name for name in CHEATS if name != HONEST_NAME and not name.startswith(MIXED)),
    measured_answers=32,
    resamples=40,
    longest=6000,
    parts=True,
)
"""Every attack, every honest variant with twenty streams; about an hour of one core."""
