"""States projected as a key says: the one piece of arithmetic that maker and checker share.

Pure: equal keys and states give equal projections, up to the last digits of a 32-bit sum, which
are far below the noise between two machines. Knows nothing of residues.
"""

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

from lydite.errors import FormatError
from lydite.evidence.activations.spec import ProjectionKey

_POSITIONS = b"pos"
_SIGNS = 2 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float32) - 1
"""The signs that each byte stands for, most significant bit first; shape (256, 8)."""


def project(
    states: NDArray[np.float32], key: ProjectionKey, coordinates: int
) -> NDArray[np.float64]:
    """Return ``f``, shape (tokens, coordinates), of ``states``, shape (tokens, width D).

    ``f[t, i] = r[t, i] sum over d of s[d, i] h[t, d] / sqrt(D)``, where s and r are signs: bit 1 is
    +1 and bit 0 is -1, of ``SHAKE-128(key)`` and ``SHAKE-128(key || "pos")``, most significant
    bit of a byte first, row by row.

    Raises:
        FormatError: the states are not a matrix of finite numbers with a width.
    """
    if states.ndim != 2 or not states.shape[1]:
        raise FormatError(f"states of shape {states.shape}, not (tokens, width)")
    tokens, width = states.shape
    matrix = signs(key, width, coordinates)
    with np.errstate(over="ignore", invalid="ignore"):
        sums = np.asarray(states, dtype=np.float32) @ matrix
    if not np.isfinite(sums).all():  # which they are not where a state is not
        raise FormatError("states that are not finite")
    turned = signs(ProjectionKey(key + _POSITIONS), tokens, coordinates)
    scaled: NDArray[np.float64] = (sums * turned).astype(np.float64) * (1 / math.sqrt(width))
    return scaled


def signs(key: bytes, rows: int, columns: int) -> NDArray[np.float32]:
    """Return the signs that ``key`` expands to; ``columns`` is a multiple of 8."""
    stream = np.frombuffer(hashlib.shake_128(key).digest(rows * columns // 8), dtype=np.uint8)
    return _SIGNS.take(stream, axis=0).reshape(rows, columns)
