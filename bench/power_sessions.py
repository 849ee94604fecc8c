"""Measured sessions for the tables on recognition: loaded once, in place, or absent by name."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from power_absent import AbsentError

from lydite.errors import UnavailableError
from lydite.evidence.power.windows import Plan
from lydite.laboratory.power import traces
from lydite.laboratory.power.traces import H100, Request, Windows

OURS = Path(__file__).parent.parent / "data" / "power"
LEASES = 3
"""Fewer sessions of our own say nothing about sessions."""


def folder() -> Path:
    """Return the folder of traces.

    Raises:
        AbsentError: there is none.
    """
    try:
        return traces.folder()
    except UnavailableError as error:
        raise AbsentError(str(error)) from error


@lru_cache(maxsize=8)
def windows(
    gpus: Sequence[str] = H100,
    slowest_s: float = 1.1,
    length_s: float = 10.0,
    rate_hz: float = 10.0,
    most: int = 25,
) -> Windows:
    """Return labelled windows of power."""
    plan = Plan(length_s=length_s, hop_s=length_s / 2, rate_hz=rate_hz, gap_s=3.0)
    asked = Request(plan=plan, gpus=gpus, slowest_s=slowest_s, most=most)
    return traces.load(folder(), asked)


def leases() -> int:
    """Return how many measured sessions of our own there are."""
    if not OURS.is_dir():
        return 0
    return sum(1 for one in OURS.iterdir() if (one / "manifest.json").is_file())
