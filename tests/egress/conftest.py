"""A Reference Value and rows of a made-up sampler, for the meter's arithmetic alone."""

import numpy as np
import pytest
from numpy.typing import NDArray

from lydite.evidence.egress.frame import Frame
from lydite.evidence.egress.reference import Part, Provenance, Reference
from lydite.evidence.egress.verifier import Choice

SIZE = 32
NO_FRAME = Frame((), (), (), 0, 0)


@pytest.fixture(scope="session")
def reference() -> Reference:
    return Reference(
        name="made up",
        weights_root="0" * 64,
        meter="numpy",
        kernel=(
            Part(scale_micro=5_000, weight_ppm=900_000),
            Part(scale_micro=20_000, weight_ppm=100_000),
        ),
        tight=(Part(scale_micro=250, weight_ppm=1_000_000),),
        shapes=(),
        noise_micro=50_000,
        honest=(),
        provenance=Provenance(script="0" * 64, data="0" * 64, prompts="0" * 64, versions=("1",)),
    )


def choice(rng: np.random.Generator, size: int = SIZE, kept: int | None = None) -> Choice:
    """What a sampler has before it at one token, at temperature 1."""
    scaled = rng.normal(size=size) * 2
    uniform = rng.random(size)
    noisy: NDArray[np.float64] = scaled - np.log(-np.log(uniform))
    possible = np.ones(size, dtype=bool)
    if kept is not None:
        possible[np.argsort(-scaled)[kept:]] = False
    return Choice(scaled, noisy, possible, possible.copy(), possible)


def best(row: Choice) -> int:
    """The token that an honest machine without noise of its own draws."""
    return int(np.where(row.possible, row.noisy, -np.inf).argmax())
