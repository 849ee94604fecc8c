"""What a meter read, in whole microjoules: stretch after stretch of one GPU, gaps by name.

Integers, so that sums of parts are the sum of the whole. Knows nothing of work.
"""

from typing import NamedTuple


class Reading(NamedTuple):
    """One stretch of one GPU's time."""

    gpu: str
    start_us: int
    end_us: int
    microjoules: int | None
    """None: nothing was measured, or the counter started again."""
