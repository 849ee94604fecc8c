"""From rows of text to raw samples of each device: which column is which channel, in which unit.

A blank cell is no sample and is counted; a cell that is neither blank nor a number ends the import.
Knows no format by name.
"""

import re
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from lydite.errors import FormatError, Reason
from lydite.evidence.power.intake import TIME_UNITS, Raw, take_in
from lydite.evidence.power.trace import Trace
from lydite.monitor.importing import lines

BLANK = frozenset({"", "n/a", "[n/a]", "[not supported]", "[unknown error]", "none", "null", "-"})
"""What stands for no value, in small letters."""
MOST_DEVICES = 4096
_NUMBER = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?inf|nan)\s*(\S*)\Z", re.I)
_STAMPS = ("%Y/%m/%d %H:%M:%S.%f", "%Y/%m/%d %H:%M:%S", "%Y-%m-%d %H:%M:%S.%f")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What the columns of a table are."""

    time: str
    time_unit: str
    """Of a time that is a number; one that is a date needs none."""
    columns: Mapping[str, tuple[str, str]]
    """Channel and unit of each column that is read."""
    devices: tuple[str, ...] = ()
    """Columns that together name the device, the first its kind."""


@dataclass
class _Lane:
    """Samples of one channel of one device."""

    times: "array[int]" = field(default_factory=lambda: array("q"))
    values: "array[float]" = field(default_factory=lambda: array("d"))


def gather(path: Path, layout: Layout) -> dict[tuple[str, ...], Trace]:
    """Return a trace for each device of a table.

    Raises:
        ConfigurationError: the file cannot be read.
        FormatError: it is not such a table, or its samples are refused (``intake``).
    """
    header, rows = lines.table(path)
    needed = [layout.time, *layout.devices, *layout.columns]
    absent = [name for name in needed if name not in header]
    if absent:
        raise FormatError(f"{path.name}: no column {', '.join(absent)}")
    at = {name: header.index(name) for name in needed}
    lanes: dict[tuple[str, ...], dict[str, _Lane]] = {}
    blanks: Counter[tuple[tuple[str, ...], str]] = Counter()
    for number, cells in rows:
        device = tuple(cells[at[name]].strip() for name in layout.devices)
        own = lanes.setdefault(device, {name: _Lane() for name in layout.columns})
        if len(lanes) > MOST_DEVICES:
            raise FormatError(f"{path.name}: over {MOST_DEVICES} devices", Reason.TOO_LARGE)
        where = f"{path.name}, line {number}"
        t_ns = stamp(cells[at[layout.time]].strip(), layout.time_unit, where)
        for name, (channel, unit) in layout.columns.items():
            value = _value(cells[at[name]].strip(), unit, f"{where}, {name}")
            if value is None:
                blanks[device, channel] += 1
                continue
            own[name].times.append(t_ns)
            own[name].values.append(value)
    if not lanes:
        raise FormatError(f"{path.name}: no rows", Reason.TOO_FEW_SAMPLES)
    return {device: _trace(device, own, layout, blanks) for device, own in lanes.items()}


def _trace(
    device: tuple[str, ...],
    lanes: Mapping[str, _Lane],
    layout: Layout,
    blanks: Mapping[tuple[tuple[str, ...], str], int],
) -> Trace:
    """Take in what one device gave; a column that is blank throughout is counted and left out."""
    raws = [
        Raw(
            channel=layout.columns[name][0],
            unit=layout.columns[name][1],
            times=np.array(lane.times, np.int64),
            values=np.array(lane.values, np.float64),
        )
        for name, lane in lanes.items()
        if len(lane.times)
    ]
    trace = take_in(device[0] if device else "unknown", raws)
    blank = {f"{channel}/blank": count for (own, channel), count in blanks.items() if own == device}
    return Trace(trace.device, trace.series, {**trace.counted, **blank})


def stamp(text: str, unit: str, where: str) -> int:
    """Return a time in nanoseconds: a date of UTC, or a number in ``unit``.

    Raises:
        FormatError: it is neither.
    """
    found = _NUMBER.match(text)
    if found and not found[2]:
        return _ticks(text, unit, where)
    for pattern in _STAMPS:
        try:
            moment = datetime.strptime(text, pattern)
        except ValueError:
            continue
        return _nanoseconds(moment.replace(tzinfo=UTC))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise FormatError(f"{where}: {text[:40]!r} is no time") from error
    return _nanoseconds(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def _ticks(text: str, unit: str, where: str) -> int:
    """Return a number of ``unit`` in nanoseconds; whole numbers exactly."""
    if unit not in TIME_UNITS:
        raise FormatError(f"{where}: times in {unit!r}, known are {', '.join(TIME_UNITS)}")
    scale = TIME_UNITS[unit]
    number = int(text) * scale if re.match(r"[-+]?\d{1,19}\Z", text) else float(text) * scale
    if not abs(number) < 2**63:
        raise FormatError(f"{where}: {text[:40]!r} is no time")
    return round(number)


def _nanoseconds(moment: datetime) -> int:
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000


def _value(text: str, unit: str, where: str) -> float | None:
    """Return the number of a cell, ``None`` if it is blank.

    Raises:
        FormatError: it is no number, or has another unit than its column (``wrong-unit``).
    """
    if text.lower() in BLANK:
        return None
    found = _NUMBER.match(text)
    if not found:
        raise FormatError(f"{where}: {text[:40]!r} is no number")
    if found[2] and found[2] != unit:
        raise FormatError(f"{where}: {text[:40]!r} in a column of {unit}", Reason.WRONG_UNIT)
    return float(found[1])
