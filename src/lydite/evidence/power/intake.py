"""From raw samples to a trace: what is wrong with them is mended and counted, or refused by name.

Nothing is dropped in silence: every sample of the raw arrays is in the series or in a count of
``Trace.counted``, under ``channel/fault``. Knows no file format, no device and no clock; units and
ranges come from ``channels``, and a unit is converted only if it is stated.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lydite.errors import FormatError, Reason
from lydite.evidence.power.channels import CHANNELS, Channel, Nature
from lydite.evidence.power.trace import Series, Times, Trace, Values


class Fault(StrEnum):
    """What is wrong with a sample, and what becomes of it."""

    NO_TIME = "no-time"
    """Its time is not a number; left out."""
    NOT_FINITE = "not-finite"
    """Its value is not a finite number; left out."""
    OUT_OF_RANGE = "out-of-range"
    """Its value lies outside what its channel can be; left out."""
    DUPLICATE = "duplicate"
    """The same time and value again; left out."""
    CONFLICTING = "conflicting"
    """Another value at a time that has one; left out."""
    FELL = "counter-fell"
    """A counter below its value before, and too high to have started again; left out."""
    STUCK = "stuck"
    """A sensor that never moves through a long trace; the whole channel is left out."""
    REORDERED = "reordered"
    """It came after a later one; put in its place."""
    WRAPPED = "counter-wrapped"
    """A counter passed its stated end; the end is added."""
    RESET = "counter-reset"
    """A counter started again at nought; kept, and no difference is taken across it."""
    GAP = "gap"
    """Far more time than usual since the sample before; kept, and no window spans it."""


LEFT_OUT = frozenset(
    {
        Fault.NO_TIME,
        Fault.NOT_FINITE,
        Fault.OUT_OF_RANGE,
        Fault.DUPLICATE,
        Fault.CONFLICTING,
        Fault.FELL,
        Fault.STUCK,
    }
)
"""Faults whose samples are not in the series; those of the others are."""
_HARMLESS = frozenset({Fault.DUPLICATE, Fault.STUCK})
"""Left out without casting doubt on the samples that stay."""

TIME_UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
"""Nanoseconds in each."""

UNITS: dict[str, dict[str, float]] = {
    "W": {"W": 1, "mW": 1e-3, "uW": 1e-6, "kW": 1e3},
    "J": {"J": 1, "mJ": 1e-3, "uJ": 1e-6, "kJ": 1e3, "Wh": 3600, "kWh": 3.6e6},
    "1": {"1": 1, "%": 0.01},
    "B": {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30},
    "B/s": {"B/s": 1, "kB/s": 1e3, "MB/s": 1e6, "GB/s": 1e9, "KiB/s": 2**10, "MiB/s": 2**20},
    "Hz": {"Hz": 1, "kHz": 1e3, "MHz": 1e6, "GHz": 1e9},
    "C": {"C": 1},
    "bits": {"bits": 1},
}
"""Units that may be stated for a channel, by the channel's own, with the factor to it."""

_TYPICAL: dict[str, tuple[float, float]] = {
    "power_instant_w": (0.5, 3_000),
    "power_average_w": (0.5, 3_000),
    "power_wall_w": (5, 100_000),
    "memory_used_b": (1e6, 1e13),
    "sm_clock_hz": (1e6, 1e10),
    "memory_clock_hz": (1e6, 1e11),
}
"""A trace whose maximum is below the first or median above the second is in another unit."""

_FASTEST = {"J": 20_000.0, "B": 1e13}
"""What a counter can gain a second, by unit: a fall to more than that is no new start."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What may be mended before a channel is refused instead."""

    mended_share: float = 0.1
    """Of samples left out for a fault that casts doubt on the others, and of those reordered."""
    reorder_ns: int = 1_000_000_000
    """A sample that comes later than this after its place means that the clock was set back."""
    jump_ns: int = 7 * 86_400 * 1_000_000_000
    """A longer step forward means that the clock was set."""
    gap_steps: float = 5.0
    """A step of more than so many usual ones is a gap."""
    stuck_samples: int = 100
    stuck_ns: int = 60_000_000_000
    """A sensor that has as many samples over as long a time, all equal, is stuck."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Raw:
    """Samples of one channel as they were read, in units that are stated."""

    channel: str
    times: NDArray[np.int64] | NDArray[np.float64]
    values: NDArray[np.int64] | NDArray[np.float64]
    unit: str
    time_unit: str = "ns"
    wraps_at: float | None = None
    """Where the counter starts again by design, in ``unit``."""


Counted = Counter[Fault]


def take_in(
    device: str, raws: Iterable[Raw], limits: Limits | None = None, *, leave_out: bool = False
) -> Trace:
    """Return the trace of ``raws``, with every fault counted under ``channel/fault``.

    With ``leave_out`` a channel that is refused is left out, and its samples are counted under
    ``channel/reason``.

    Raises:
        FormatError: a channel is unknown or given twice, or refused (``take_in_series``), or
            nothing is left; the reason says which.
    """
    series: dict[str, Series] = {}
    counted: dict[str, int] = {}
    seen: set[str] = set()
    for raw in raws:
        if raw.channel in seen:
            raise FormatError(f"{raw.channel}: given twice")
        seen.add(raw.channel)
        try:
            one, faults = take_in_series(raw, limits)
        except FormatError as error:
            if not leave_out:
                raise
            counted[f"{raw.channel}/{error.reason}"] = len(raw.times)
            continue
        counted |= {f"{raw.channel}/{fault}": number for fault, number in faults.items()}
        if one is not None:
            series[raw.channel] = one
    if not series:
        words = ", ".join(f"{number} {name}" for name, number in sorted(counted.items()))
        raise FormatError(f"no channel is left: {words or 'none given'}", Reason.TOO_FEW_SAMPLES)
    return Trace(device, series, counted)


def take_in_series(raw: Raw, limits: Limits | None = None) -> tuple[Series | None, Counted]:
    """Return the series of one channel and its faults; no series if the sensor is stuck.

    Raises:
        FormatError: the unit is not the one that is stated, the clock was set, too much would have
            to be mended, or no sample is left.
    """
    limits = limits or Limits()
    channel = CHANNELS.get(raw.channel)
    if channel is None:
        raise FormatError(f"{raw.channel}: no such channel")
    times, values, faults = _finite(raw, channel)
    _check_unit(channel, raw.unit, values)
    inside = (values >= channel.low) & (values <= channel.high)
    times, values = _keep(times, values, inside, faults, Fault.OUT_OF_RANGE)
    times, values = _in_order(channel, times, values, faults, limits)
    if channel.nature is Nature.COUNTER:
        times, values = _counted_on(raw, channel, times, values, faults)
    _check_doubt(channel, len(raw.times), len(times), faults, limits)
    _note_gaps(channel, times, faults, limits)
    if _is_stuck(channel, times, values, limits):
        faults[Fault.STUCK] += len(times)
        return None, +faults
    return Series(channel, times, values), +faults


def _finite(raw: Raw, channel: Channel) -> tuple[Times, Values, Counted]:
    """Return times in nanoseconds and values in the channel's unit, where both are numbers."""
    factor, tick = _factors(raw, channel)
    times, values = np.asarray(raw.times), np.asarray(raw.values)
    if times.ndim != 1 or times.shape != values.shape:
        raise FormatError(f"{raw.channel}: times of shape {times.shape}, values of {values.shape}")
    for array in (times, values):
        if array.dtype.kind not in "iuf":
            raise FormatError(f"{raw.channel}: {array.dtype} is not a number")
    faults: Counted = Counter()
    timed = np.isfinite(times)
    times, values = _keep(times, values, timed, faults, Fault.NO_TIME)
    numbers = values.astype(np.float64)
    times, numbers = _keep(times, numbers, np.isfinite(numbers), faults, Fault.NOT_FINITE)
    if len(times) and float(np.abs(times.astype(np.float64)).max()) * tick >= 2.0**63:
        raise FormatError(f"{raw.channel}: a time beyond the clock's range", Reason.WRONG_UNIT)
    if times.dtype.kind == "f":
        stamps = np.rint(times * tick).astype(np.int64)
    else:
        stamps = times.astype(np.int64) * tick
    return stamps, numbers * factor if factor != 1 else numbers, faults


def _factors(raw: Raw, channel: Channel) -> tuple[float, int]:
    """Return what values and times are multiplied with."""
    known = UNITS[channel.unit]
    if raw.unit not in known:
        raise FormatError(
            f"{raw.channel}: stated in {raw.unit!r}, known are {', '.join(known)}",
            Reason.WRONG_UNIT,
        )
    if raw.time_unit not in TIME_UNITS:
        raise FormatError(
            f"{raw.channel}: times in {raw.time_unit!r}, known are {', '.join(TIME_UNITS)}",
            Reason.WRONG_UNIT,
        )
    return known[raw.unit], TIME_UNITS[raw.time_unit]


def _keep(
    times: NDArray[Any],
    values: NDArray[Any],
    kept: NDArray[np.bool_],
    faults: Counted,
    fault: Fault,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Leave out what is not ``kept``, and count it."""
    out = len(kept) - int(np.count_nonzero(kept))
    if not out:
        return times, values
    faults[fault] += out
    return times[kept], values[kept]


def _in_order(
    channel: Channel, times: Times, values: Values, faults: Counted, limits: Limits
) -> tuple[Times, Values]:
    """Return the samples by strictly ascending time, the first of those at one time."""
    if len(times) > 1:
        behind = np.maximum.accumulate(times) - times
        if int(behind.max()) > limits.reorder_ns:
            raise FormatError(
                f"{channel.name}: the clock went back by {behind.max() / 1e9:g} s",
                Reason.CLOCK_JUMP,
            )
        faults[Fault.REORDERED] += int(np.count_nonzero(behind))
        order = np.argsort(times, kind="stable")
        times, values = times[order], values[order]
        again = np.diff(times, prepend=times[0] - 1) == 0
        if again.any():
            firsts = values[np.maximum.accumulate(np.where(again, 0, np.arange(len(times))))]
            faults[Fault.DUPLICATE] += int(np.count_nonzero(again & (firsts == values)))
            faults[Fault.CONFLICTING] += int(np.count_nonzero(again & (firsts != values)))
            times, values = times[~again], values[~again]
    return np.ascontiguousarray(times), np.ascontiguousarray(values)


def _counted_on(
    raw: Raw, channel: Channel, times: Times, values: Values, faults: Counted
) -> tuple[Times, Values]:
    """Return a counter that only falls where it started again."""
    if not np.any(np.diff(values) < 0):
        return times, values
    if raw.wraps_at is not None:
        end = raw.wraps_at * UNITS[channel.unit][raw.unit]
        wrapped = np.diff(values) < -end / 2
        faults[Fault.WRAPPED] += int(np.count_nonzero(wrapped))
        values = values + end * np.concatenate([[0], np.cumsum(wrapped)])
    fastest = _FASTEST[channel.unit] / 1e9
    kept = np.ones(len(values), bool)
    last = 0
    for place in range(1, len(values)):
        if values[place] < values[last]:
            if values[place] > fastest * (times[place] - times[last]):
                kept[place] = False
                continue
            faults[Fault.RESET] += 1
        last = place
    return _keep(times, values, kept, faults, Fault.FELL)


def _check_unit(channel: Channel, stated: str, values: Values) -> None:
    """Refuse values that fit another unit and not the stated one.

    Raises:
        FormatError: with the units that would fit, if there are any.
    """
    if not len(values) or _fits(channel, values):
        return
    own = UNITS[channel.unit]
    raw = values / own[stated]
    others = [unit for unit, factor in own.items() if _fits(channel, raw * factor)]
    meant = f"; they would fit in {' or '.join(others)}" if others else ""
    raise FormatError(
        f"{channel.name}: values of {raw.min():g} to {raw.max():g} are not in {stated}{meant}",
        Reason.WRONG_UNIT,
    )


def _fits(channel: Channel, values: Values) -> bool:
    """Return whether ``values`` may be in the channel's unit: most in range, and as it is wont."""
    inside = values[(values >= channel.low) & (values <= channel.high)]
    if len(inside) * 2 < len(values):
        return False
    least, most = _TYPICAL.get(channel.name, (0.0, np.inf))
    top = float(inside.max())
    return (top <= 0 or top >= least) and float(np.median(inside)) <= most


def _check_doubt(channel: Channel, given: int, left: int, faults: Counted, limits: Limits) -> None:
    """Refuse a channel of which nothing is left, or too little to trust the rest."""
    if not left:
        words = ", ".join(f"{number} {fault}" for fault, number in faults.items() if number)
        raise FormatError(
            f"{channel.name}: no sample is left: {words or 'none given'}", Reason.TOO_FEW_SAMPLES
        )
    doubtful = faults[Fault.REORDERED]
    doubtful += sum(faults[fault] for fault in LEFT_OUT - _HARMLESS)
    if doubtful > limits.mended_share * given:
        words = ", ".join(f"{number} {fault}" for fault, number in faults.items() if number)
        raise FormatError(
            f"{channel.name}: too much to mend in {given} samples: {words}", Reason.TOO_FAULTY
        )


def _note_gaps(channel: Channel, times: Times, faults: Counted, limits: Limits) -> None:
    """Count gaps.

    Raises:
        FormatError: a step is so long that the clock was set, or the usual one is none of a sensor.
    """
    if len(times) < 3:
        return
    steps = np.diff(times)
    if int(steps.max()) > limits.jump_ns:
        raise FormatError(
            f"{channel.name}: the clock went ahead by {steps.max() / 1e9:g} s", Reason.CLOCK_JUMP
        )
    usual = float(np.median(steps))
    if not 1e3 <= usual <= 3.6e12:
        raise FormatError(
            f"{channel.name}: {usual / 1e9:g} s between samples: times in another unit",
            Reason.WRONG_UNIT,
        )
    faults[Fault.GAP] += int(np.count_nonzero(steps > limits.gap_steps * usual))


def _is_stuck(channel: Channel, times: Times, values: Values, limits: Limits) -> bool:
    """Return whether a sensor of power or energy never moves; others may well stand still."""
    if channel.unit not in ("W", "J") or len(times) < limits.stuck_samples:
        return False
    return int(times[-1] - times[0]) >= limits.stuck_ns and float(np.ptp(values)) == 0
