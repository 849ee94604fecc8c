"""Whether reported log-probabilities lie on the lattice of bfloat16: a diagnostic, never evidence.

Logits that were rounded to bfloat16 differ from their log-probabilities by one number, lse: some
lse makes a bfloat16 of every logprob + lse. What that says of a data type is a hint, since a logit
may be rounded anywhere along the way.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

_FROM, _TO = 2.0, 40.0
"""Where lse is looked for, in nats: logits of language models are of this order."""
_LEAST_VALUES = 3
_LEAST_ROWS = 4
_CHANCE_MOST = 0.05
"""A row counts only if few shifts would fit it by chance."""


def judge(rows: Sequence[Sequence[float]], decimals: int) -> Literal["on", "off", "unclear"]:
    """Say whether the rows of one answer are on the lattice, each with an lse of its own.

    ``rows`` are the log-probabilities of one position each, in nats, rounded to ``decimals``. It is
    unclear where the rounding is coarser than the lattice, or where there are too few values.

    **Does not show** which data type was used: a bfloat16 model whose logits are computed in
    float32 is off the lattice, and a cheaper model's may be on it.
    """
    fits = [_fits(np.array(row), 0.5 * 10.0**-decimals) for row in rows]
    told = [fit for fit in fits if fit is not None]
    if len(told) < _LEAST_ROWS:
        return "unclear"
    return "on" if sum(told) > len(told) / 2 else "off"


def _fits(row: NDArray[np.float64], half: float) -> bool | None:
    """Say whether some lse puts the whole row on the lattice; None if any would by chance."""
    values = np.unique(row)
    if len(values) < _LEAST_VALUES:
        return None
    tolerance = max(half, 1e-5) * 2
    first = float(values[-1])
    # the likeliest token's logit is a bfloat16 itself, so that only these shifts can be right
    candidates = _lattice(_FROM + first, _TO + first) - first
    if not len(candidates):
        return None
    shifted = values[None, :] + candidates[:, None]
    apart = np.abs(shifted - _nearest(shifted))
    step = np.maximum(np.abs(shifted), 1e-3) * 2.0**-8
    chance = float(np.mean(np.prod(np.minimum(2 * tolerance / step, 1.0)[:, :-1], axis=1)))
    if chance * len(candidates) > _CHANCE_MOST:
        return None
    return bool((apart <= tolerance).all(axis=1).any())


def _lattice(low: float, high: float) -> NDArray[np.float64]:
    """Return every positive bfloat16 between ``low`` and ``high``."""
    first = int(np.array(max(low, 1e-3), np.float32).view(np.uint32)) >> 16
    last = int(np.array(max(high, 1e-3), np.float32).view(np.uint32)) >> 16
    words = np.arange(first, last + 1, dtype=np.uint32) << np.uint32(16)
    values: NDArray[np.float64] = words.view(np.float32).astype(np.float64)
    return values


def _nearest(values: NDArray[np.float64]) -> NDArray[np.float64]:
    words = values.astype(np.float32).view(np.uint32)
    rounded = (words + np.uint32(0x7FFF) + ((words >> np.uint32(16)) & np.uint32(1))) & np.uint32(
        0xFFFF0000
    )
    near: NDArray[np.float64] = rounded.view(np.float32).astype(np.float64)
    return near
