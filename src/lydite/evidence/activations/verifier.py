"""Scores a sketch against the declared model's own states, one teacher-forced pass later.

Pure arithmetic on states that the auditor computed. Has its own account of residues and shares
only the projection with whoever makes sketches. Judges nothing: the scores are recorded, and the
appraisal reads them against the Reference Value.
"""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from lydite.errors import FormatError, Reason
from lydite.evidence.activations import projection
from lydite.evidence.activations import reference as expected
from lydite.evidence.activations import spec as specs
from lydite.evidence.activations.claims import Claims
from lydite.evidence.activations.reference import INNER, KIND, SCALE_MICRO, SKETCH, Reference
from lydite.evidence.activations.spec import RESIDUES, ProjectionKey, Spec
from lydite.messages.finding import Finding, Measure
from lydite.messages.tier import Tier

UNIT = "micro-state"

_States = NDArray[np.float32]
_UNPACKED = ((np.arange(256)[:, None] >> np.arange(0, 8, 2)) & 3).astype(np.float64)
"""The residues that each byte packs, the first in its lowest bits; shape (256, 4)."""


class Taps(NamedTuple):
    """What the auditor recomputed for the tokens of one answer."""

    states: _States
    """Input of the output layer, after the last norm; shape (tokens, width)."""
    inner: _States | None = None
    """States at a quarter, a half and three quarters of the layers; shape (3, tokens, width)."""


def verify(claims: Claims, taps: Taps, reference: Reference) -> Finding:
    """Score every token of ``claims`` against the states that the auditor recomputed.

    1. The states fit the tokens and the reference; the sketch is exactly as long as theirs.
    2. The key follows from receipt, declared weights, spec and tokens, as the maker's did.
    3. Score: ``delta sqrt(sum over i of d_i^2)``, where ``d_i`` is by how many steps, up to whole
       turns of 4, residue i lies off the auditor's own projection: ``((q_i - f_i / delta + 2) mod
       4) - 2``.

    The scores are integers in millionths. The tier is always ``NONE``: one answer proves nothing.
    An answer without tokens has measures without values.

    Raises:
        FormatError: step 1 fails, or the states are not finite.

    **Does not show** who chose the tokens: whoever ran the declared model over tokens that another
    one chose has an honest sketch; the channels of ``tokens`` see that. Nothing of how tokens were
    sampled, of positions that were not recomputed, of who ran the model and where, nor of changes
    that move the last states less than the accepted implementations do. A sketch of the last
    states alone does not show that they came from the declared layers, only that the numbers
    agree; weights changed so as to leave them alone go unseen.
    """
    # 1.
    spec, states = reference.spec, taps.states
    if states.shape != (len(claims.output_ids), reference.width):
        raise FormatError(f"states of shape {states.shape} for {len(claims.output_ids)} tokens")
    size = specs.size_bytes(spec, len(claims.output_ids))
    if len(claims.sketch) != size:
        raise FormatError(f"a sketch of {len(claims.sketch)} bytes, not {size}", Reason.SKETCH_SIZE)
    # 2.
    key = specs.key(
        spec,
        receipt_id=claims.receipt_id,
        weights_root=reference.weights_root,
        prompt_ids=claims.prompt_ids,
        output_ids=claims.output_ids,
    )
    # 3.
    return Finding(
        kind=KIND,
        tier=Tier.NONE,
        reason=Reason.RECORDED,
        reference=expected.digest(reference),
        measures=tuple(_measures(claims.sketch, taps, key, spec)),
    )


def settled(states: _States, others: _States, reference: Reference) -> NDArray[np.bool_]:
    """Return for every output token whether two honest machines agree on what it is drawn from.

    ``states`` and ``others`` have shape (tokens, width), both of the declared model after the same
    tokens: in the auditor's arithmetic, and in that of the declared data type. They agree where
    the root mean square of their difference, which is that of its projections, is at most the
    reference's noise. That depends on nothing that a sketch says, so leaving out the others biases
    nothing; it keeps a client from picking prompts that honest machines read unlike one another.

    Raises:
        FormatError: the two do not have the same shape.
    """
    if states.shape != others.shape:
        raise FormatError(f"states of shapes {states.shape} and {others.shape}")
    difference = others.astype(np.float64) - states
    spread = np.sqrt(np.mean(difference * difference, axis=1))
    agree: NDArray[np.bool_] = SCALE_MICRO * spread <= reference.noise_micro
    return agree


def keep(finding: Finding, kept: NDArray[np.bool_]) -> Finding:
    """Return ``finding`` with the scores of the tokens in ``kept`` alone."""
    measures = tuple(
        msgspec.structs.replace(
            measure, values=tuple(v for v, k in zip(measure.values, kept, strict=True) if k)
        )
        for measure in finding.measures
    )
    return msgspec.structs.replace(finding, measures=measures)


def _measures(sketch: bytes, taps: Taps, key: ProjectionKey, spec: Spec) -> Iterator[Measure]:
    part = len(sketch) // spec.taps
    scores = _scores(sketch[:part], taps.states, key, spec.coordinates, spec.delta)
    yield Measure(name=SKETCH, unit=UNIT, values=scores)
    if spec.inner_deltas:
        depth = specs.inner_depth(key)
        states, drawn, delta = _inner(taps, depth), specs.inner_key(key), spec.inner_deltas[depth]
        scores = _scores(sketch[part:], states, drawn, spec.coordinates, delta)
        yield Measure(name=INNER, unit=UNIT, values=scores)


def _scores(
    sketch: bytes, states: _States, key: ProjectionKey, coordinates: int, delta: str
) -> tuple[int, ...]:
    """Return the score of each token, in millionths."""
    step = float(delta)
    packed = np.frombuffer(sketch, dtype=np.uint8)
    residues = _UNPACKED.take(packed, axis=0).reshape(len(states), coordinates)
    off = residues - projection.project(states, key, coordinates) / step
    off -= RESIDUES * np.rint(off / RESIDUES)
    spread = np.sqrt(np.einsum("ti,ti->t", off, off)) * (step * SCALE_MICRO)
    return tuple(np.rint(spread).astype(np.int64).tolist())


def _inner(taps: Taps, depth: int) -> _States:
    inner = taps.inner
    if inner is None or inner.ndim != 3 or inner.shape[1:] != taps.states.shape:
        raise FormatError("states at the inner depths, of the shape of the last ones, are needed")
    if len(inner) != specs.INNER_DEPTHS:
        raise FormatError(f"states at {len(inner)} inner depths, not {specs.INNER_DEPTHS}")
    chosen: _States = inner[depth]
    return chosen
