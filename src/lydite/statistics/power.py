"""How many tokens a verdict needs: first crossings of recorded streams, and their quantiles.

Knows nothing of attacks: callers bring streams, resampled as they see fit.
"""

import math
from collections.abc import Iterable, Sequence

from lydite.errors import FormatError


def first_crossing(log_path: Iterable[float], log_level: float) -> int | None:
    """Return after how many tokens a running log e-value first reaches the level, if ever."""
    return next((i for i, value in enumerate(log_path, 1) if value >= log_level), None)


def tokens_for_power(crossings: Sequence[int | None], power: float = 0.9) -> int | None:
    """Return the tokens by which a share ``power`` of the streams crossed, or None.

    ``crossings`` holds one first crossing a stream; None stands for a stream that never crossed.
    An order statistic, so that nothing is assumed of the shape of the delays. Whoever stops
    earlier and sees no crossing has learnt little: `underpowered`, not `consistent`.
    """
    if not crossings or not 0.0 < power <= 1.0:
        raise FormatError("power needs some streams, and lies above 0 and at most 1")
    wanted = math.ceil(power * len(crossings))
    crossed = sorted(c for c in crossings if c is not None)
    return crossed[wanted - 1] if len(crossed) >= wanted else None
