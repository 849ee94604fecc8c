"""Passports made of invented scores, for tests of what is done with them."""

import random
from collections.abc import Sequence

from lydite.messages import grid as grids
from lydite.messages import passport as passports
from lydite.messages.grid import LINEAR, LOG
from lydite.messages.passport import Channel, Passport, Predicate, Streams
from lydite.messages.stack import Stack
from lydite.messages.statement import subject
from lydite.numerics.measuring import cells

ROOT = "ab" * 32
ISSUED, EXPIRES = "2026-01-01T00:00:00.000Z", "2027-01-01T00:00:00.000Z"
NOW_MS = 1_780_000_000_000
"""Between the two."""


def stack(**fields: str) -> Stack:
    words = {
        "engine": "transformers",
        "version": "5",
        "dtype": "bf16",
        "cache_dtype": "bf16",
        "kernels": "sdpa",
        "architecture": "x86_64",
        "parallelism": "1 thread",
        "batch": "batch 16",
        "shape": "decode",
        "decoding": "sequential",
        "sampler": "lydite/v1",
    }
    return Stack(**(words | fields))


def scores(
    seed: int, scale: float, answers: int = 220, tokens: int = passports.TOKENS
) -> tuple[list[list[int]], list[list[int]]]:
    """Margins and residuals of answers whose logits differ by about ``scale`` micro-units."""
    dice = random.Random(seed)
    margins = [
        [0 if dice.random() > 0.004 else int(dice.uniform(0, 1.5 * scale)) for _ in range(tokens)]
        for _ in range(answers)
    ]
    residuals = [[int(abs(dice.gauss(0, scale))) for _ in range(tokens)] for _ in range(answers)]
    return margins, residuals


def channel(name: str, every: Sequence[Sequence[int]]) -> Channel:
    grid = LINEAR if name.endswith("surprisal") else LOG
    return Channel(
        name=name, grid=grid, rows=tuple(passports.row(cells(grid, row)) for row in every)
    )


def passport(
    seed: int = 1, scale: float = 10_000.0, answers: int = 220, **fields: object
) -> Passport:
    margins, residuals = scores(seed, scale, answers)
    said = {
        "model": "invented",
        "weights_root": ROOT,
        "stack": stack(),
        "auditor": stack(dtype="fp32", batch="batch 1", shape="prefill"),
        "cheat": None,
        "prompts": "cd" * 32,
        "script": "ef" * 32,
        "versions": ("python 3",),
        "temperature_min_milli": 600,
        "top_p_min_ppm": 800_000,
        "noise_micro": int(3 * scale),
        "drift_micro": 10_000,
        "flips_ppm": 100,
        "channels": (channel("tokens/margin", margins), channel("tokens/residual", residuals)),
        "streams": Streams(run=20, tokens=1408, false_alarms=0, log10_level_milli=2301),
        "issued": ISSUED,
        "expires": EXPIRES,
    }
    predicate = Predicate(**(said | fields))  # type: ignore[arg-type]
    return Passport(
        subject=subject("invented", bytes.fromhex(predicate.weights_root)), predicate=predicate
    )


def edges_of(name: str) -> tuple[int, ...]:
    return grids.edges(LINEAR if name == "linear" else LOG)
