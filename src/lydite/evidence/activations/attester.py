"""What an honest provider runs once an answer's tokens are there: the states, reduced to residues.

Only the maker of sketches imports this; whoever checks them has an account of its own. Holds no
state, and makes no placeholder: what cannot be sketched raises.
"""

import numpy as np
from numpy.typing import NDArray

from lydite.errors import FormatError
from lydite.evidence.activations import projection
from lydite.evidence.activations.spec import (
    RESIDUES,
    ProjectionKey,
    Spec,
    inner_depth,
    inner_key,
)


def sketch(
    states: NDArray[np.float32],
    key: ProjectionKey,
    spec: Spec,
    inner: NDArray[np.float32] | None = None,
) -> bytes:
    """Return the sketch of ``states``, shape (tokens, width): ``spec.token_bytes`` for each.

    ``inner``, shape (3, tokens, width), are the states at a quarter, a half and three quarters of
    the layers; used where ``spec`` has a second tap, whose residues follow those of the first.

    Raises:
        FormatError: states that are not finite, or not of the shape that the spec asks for.
    """
    first = _residues(states, key, spec.coordinates, float(spec.delta))
    if not spec.inner_deltas:
        return first
    if inner is None or inner.shape != (len(spec.inner_deltas), *states.shape):
        raise FormatError("sketch: a second tap needs the states at three depths")
    depth = inner_depth(key)
    delta = float(spec.inner_deltas[depth])
    return first + _residues(inner[depth], inner_key(key), spec.coordinates, delta)


def _residues(
    states: NDArray[np.float32], key: ProjectionKey, coordinates: int, delta: float
) -> bytes:
    """Return ``round_half_even(f / delta) mod 4``, four a byte, the first in the lowest bits."""
    steps = np.rint(projection.project(states, key, coordinates) / delta)
    four = (steps - RESIDUES * np.floor(steps / RESIDUES)).astype(np.uint8).reshape(-1, 4)
    packed: NDArray[np.uint8] = four[:, 0] | four[:, 1] << 2 | four[:, 2] << 4 | four[:, 3] << 6
    return packed.tobytes()
