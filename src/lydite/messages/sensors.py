"""What the sensors of a device are worth, as a monitor found when it started.

For each channel its update period and averaging window, and whether it may be used. Numbers are
integers: microseconds, and millionths of a ratio. Knows nothing of how they were found.
"""

from typing import Annotated, Literal

import msgspec

from lydite.errors import Reason
from lydite.messages.canonical import Count, Message, Word, decode
from lydite.messages.receipt import Timestamp

Text = Annotated[str, msgspec.Meta(max_length=500)]
Stimulus = Literal["burst", "none"]
"""Whether work was run to see power move; without it no averaging window is known."""


class Sensor(Message, frozen=True, kw_only=True):
    """One channel: ``period_us`` between updates, averaged over ``window_us``; null: not seen."""

    channel: Word
    samples: Count
    period_us: Count | None
    window_us: Count | None
    usable: bool
    reason: Reason | None
    """Why it is not usable."""
    detail: Text


class Agreement(Message, frozen=True, kw_only=True):
    """The energy of ``channel`` over that of ``other`` in the same time, in millionths."""

    channel: Word
    other: Word
    ratio_ppm: Count
    holds: bool


class Report(Message, frozen=True, kw_only=True):
    """What one self-check found of one device."""

    device: Word
    source: Word
    stimulus: Stimulus
    sensors: tuple[Sensor, ...]
    agreements: tuple[Agreement, ...]
    span_us: Count
    issued: Timestamp


class Reports(Message, frozen=True, kw_only=True):
    """The reports of all devices of one monitor; a segment names their digest."""

    version: Literal["lydite/sensors/v1"] = "lydite/sensors/v1"
    reports: tuple[Report, ...]


def parse(payload: bytes) -> Reports:
    """Parse reports, at most 1 MiB, in their one spelling."""
    return decode(payload, Reports, limit=1 << 20)
