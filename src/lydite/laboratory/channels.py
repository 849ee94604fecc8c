"""What is scored of a captured answer: our channels, and those of others on the same tensors.

Each channel turns a capture into integers, one a token or a block; ``laboratory.nulls`` says what
is honest and what a stream of them is worth. Knows nothing of attacks.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lydite.evidence.activations import attester, verifier
from lydite.evidence.activations import reference as sketches
from lydite.evidence.activations import spec as specs
from lydite.evidence.activations.claims import Claims
from lydite.evidence.activations.reference import SKETCH
from lydite.evidence.activations.spec import Spec
from lydite.evidence.activations.verifier import Taps
from lydite.evidence.tokens.reference import MARGIN, RESIDUAL, SURPRISAL
from lydite.laboratory import toploc
from lydite.laboratory.captures import Capture
from lydite.messages.calibration import Binned, Provenance

MICRO = 1_000_000
SIGMAS_A_STEP = 2.25
"""Half a turn of the residues is then 4.5 times the noise; a coarser step rounds cheats away."""
PROJECTED, PROJECTION_SEED = 8, 2511
"""Coordinates, and the seed of the fixed Gaussian matrix, of the peer's projections."""


class Channel(NamedTuple):
    """One kind of evidence."""

    name: str
    bytes_a_token: float
    """What the provider has to send besides the answer."""
    every: int
    """Tokens a score."""
    score: Callable[[Capture], Sequence[int]]
    ours: bool = True


TOKEN_CHANNELS = (
    Channel("tokens/margin", 0, 1, lambda one: one.tokens.values(MARGIN)),
    Channel("tokens/surprisal", 0, 1, lambda one: one.tokens.values(SURPRISAL)),
    Channel("tokens/residual", 2, 1, lambda one: one.tokens.values(RESIDUAL)),
)
PEERS = (
    Channel("projections", 2 * PROJECTED, 1, lambda one: projections(one), ours=False),
    Channel(
        "toploc/calibrated",
        toploc.BLOCK_BYTES / toploc.BLOCK_TOKENS,
        toploc.BLOCK_TOKENS,
        lambda one: mantissas(one),
        ours=False,
    ),
)


def projections(one: Capture) -> list[int]:
    """Return how far eight projections in bfloat16 lie apart, in millionths (Activation-DiFR).

    The peer of 16 bytes a token: a fixed Gaussian matrix with columns of length one, the Euclidean
    distance (arXiv 2511.20621).
    """
    told = _as_bfloat16(one.theirs @ _matrix(one.theirs.shape[1]))
    true = one.ours @ _matrix(one.ours.shape[1])
    apart = np.linalg.norm(told.astype(np.float64) - true, axis=1)
    return [int(each) for each in np.rint(MICRO * apart)]


def mantissas(one: Capture) -> list[int]:
    """Return TOPLOC's mean mantissa error of each block, in thousandths; mismatches lie beyond.

    A block with too many other exponents counts as the largest error there can be.
    """
    found = []
    for block in toploc.blocks(one.theirs, one.ours):
        far = block.exponents > toploc.MOST_EXPONENTS or math.isinf(block.mean)
        found.append(128_000 if far else round(1000 * block.mean))
    return found


def sketch_channel(spec: Spec, weights_root: str, width: int) -> Channel:
    """Return the channel of sketches by ``spec``: made by the attester, scored by the verifier."""
    reference = _blank(spec, weights_root, width)

    def score(one: Capture) -> Sequence[int]:
        claim = Claims(
            receipt_id=one.receipt_id,
            prompt_ids=one.claims.prompt_ids,
            output_ids=one.claims.output_ids,
            sketch=_made(one, spec, weights_root),
        )
        return verifier.verify(claim, Taps(one.ours), reference).values(SKETCH)

    size = spec.token_bytes
    return Channel(f"activations/sketch-{size}", size, 1, score)


def spec_for(captures: Sequence[Sequence[Capture]], coordinates: int) -> Spec:
    """Return a spec whose step is ``SIGMAS_A_STEP`` times the noise of the worst implementation.

    ``captures`` are honest answers, those of each implementation apart.
    """
    worst = max(
        float(np.concatenate([np.square(o.theirs - o.ours).mean(axis=1) for o in each]).mean())
        for each in captures
    )
    size = SIGMAS_A_STEP * math.sqrt(worst)
    step = f"{size:.{1 - math.floor(math.log10(size))}f}".rstrip("0")
    return Spec(coordinates=coordinates, delta=step)  # type: ignore[arg-type]


def _made(one: Capture, spec: Spec, weights_root: str) -> bytes:
    key = specs.key(
        spec,
        receipt_id=one.receipt_id,
        weights_root=weights_root,
        prompt_ids=one.claims.prompt_ids,
        output_ids=one.claims.output_ids,
    )
    return attester.sketch(one.theirs, key, spec)


def _blank(spec: Spec, weights_root: str, width: int) -> sketches.Reference:
    """Return a reference by which the verifier can score, before anything is calibrated."""
    return sketches.Reference(
        name="laboratory",
        weights_root=weights_root,
        width=width,
        spec=spec,
        auditor="laboratory",
        sketch=Binned(edges=(), histograms=()),
        inner=None,
        error_ppm=1000,
        sigma_micro=0,
        noise_micro=0,
        alternatives=(),
        provenance=Provenance(script="0" * 64, data="0" * 64, prompts="0" * 64, versions=()),
    )


def _matrix(width: int) -> NDArray[np.float32]:
    matrix = np.random.default_rng(PROJECTION_SEED).normal(size=(width, PROJECTED))
    columns: NDArray[np.float32] = (matrix / np.linalg.norm(matrix, axis=0)).astype(np.float32)
    return columns


def _as_bfloat16(numbers: NDArray[np.float32]) -> NDArray[np.float32]:
    rounded: NDArray[np.float32] = (toploc.bfloat16(numbers).astype(np.uint32) << 16).view(
        np.float32
    )
    return rounded
