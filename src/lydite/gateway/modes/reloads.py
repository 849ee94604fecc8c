"""No machine keeps its memory for long: the power goes after a time that nobody can foresee.

The time is drawn from the operating system's randomness between half of the bound and all of it,
so that nothing can be timed to end just before. Knows nothing of power.
"""

import asyncio
import secrets

from lydite.gateway.modes.keeper import Keeper
from lydite.gateway.modes.modes import Fail
from lydite.messages.mode import Cause

_GRAINS = 1 << 32


def draw_s(every_s: float) -> float:
    """Return a time in [every_s / 2, every_s], in seconds."""
    return every_s * (1 + secrets.randbelow(_GRAINS + 1) / _GRAINS) / 2


async def run(keeper: Keeper, every_s: float) -> None:
    """Cut the power at most ``every_s`` after each time that the keeper began to serve."""
    while True:
        await keeper.served.wait()
        attempt = keeper.state.attempt
        await asyncio.sleep(draw_s(every_s))
        keeper.tell(Fail(Cause.RELOAD_DUE, attempt))
