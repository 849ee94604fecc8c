"""Readings as bytes: a Parquet file with a row a sample, device by device, channel by channel.

Times are whole nanoseconds and values 64-bit floats, so that what is read back is what was written,
bit for bit. Refuses a file that is cut short or of another shape. Knows nothing of seals.
"""

import io
from array import array
from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lydite.errors import FormatError, Reason
from lydite.evidence.power.channels import CHANNELS
from lydite.evidence.power.trace import Series, Times, Trace, Values
from lydite.monitor.readings import Reading

Key = tuple[str, str]
"""Device and channel."""
Content = Mapping[Key, tuple[Times, Values]]

_SCHEMA = pa.schema(
    [
        ("device", pa.dictionary(pa.int32(), pa.string())),
        ("channel", pa.dictionary(pa.int32(), pa.string())),
        ("t_ns", pa.int64()),
        ("value", pa.float64()),
    ]
)
MOST_SAMPLES = 1 << 26
"""More are no segment and no recording of ours."""
_PACKED = {"t_ns": "DELTA_BINARY_PACKED", "value": "BYTE_STREAM_SPLIT"}


class Builder:
    """Gathers readings, in order within each channel."""

    def __init__(self) -> None:
        self._lanes: dict[Key, tuple[array[int], array[float]]] = {}
        self.samples = 0

    def add(self, device: str, reading: Reading) -> None:
        """Add one reading."""
        key = device, reading.channel
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = array("q"), array("d")
        lane[0].append(reading.t_ns)
        lane[1].append(reading.value)
        self.samples += 1

    def content(self) -> dict[Key, tuple[Times, Values]]:
        """Return what was gathered."""
        return {
            key: (np.array(times, np.int64), np.array(values, np.float64))
            for key, (times, values) in sorted(self._lanes.items())
        }


def encode(content: Content) -> bytes:
    """Return the Parquet file of ``content``."""
    keys = sorted(content)
    counts = [len(content[key][0]) for key in keys]
    times = [content[key][0] for key in keys] or [np.zeros(0, np.int64)]
    values = [content[key][1] for key in keys] or [np.zeros(0)]
    table = pa.table(
        [
            _named([key[0] for key in keys], counts),
            _named([key[1] for key in keys], counts),
            pa.array(np.concatenate(times), pa.int64()),
            pa.array(np.concatenate(values), pa.float64()),
        ],
        schema=_SCHEMA,
    )
    target = io.BytesIO()
    pq.write_table(
        table,
        target,
        compression="zstd",
        use_dictionary=["device", "channel"],
        column_encoding=_PACKED,
    )
    return target.getvalue()


def decode(data: bytes) -> dict[Key, tuple[Times, Values]]:
    """Read a file of columns.

    Raises:
        FormatError: it is cut short, no Parquet, of other columns, or holds a missing value.
    """
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        _check_shape(file)
        table = file.read()
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise FormatError(f"columns: {error}") from error
    if any(column.null_count for column in table.columns):
        raise FormatError("columns: a value is missing")
    return dict(_lanes(table))


def traces(content: Content) -> dict[str, Trace]:
    """Return a trace for each device; ``NAME/0`` is one of the kind ``NAME``.

    Raises:
        FormatError: a channel nobody knows, times that do not ascend, a value out of range.
    """
    series: dict[str, dict[str, Series]] = {}
    for (device, name), (t_ns, values) in content.items():
        if name not in CHANNELS:
            raise FormatError(f"columns: no channel is called {name!r}")
        series.setdefault(device, {})[name] = Series(CHANNELS[name], t_ns, values)
    return {
        device: Trace(device.rpartition("/")[0] or device, found)
        for device, found in series.items()
    }


def between(content: Content, start_ns: int, end_ns: int) -> dict[Key, tuple[Times, Values]]:
    """Return the samples with ``start_ns <= t < end_ns``."""
    found = {}
    for key, (t_ns, values) in content.items():
        first, last = np.searchsorted(t_ns, (start_ns, end_ns))
        if first < last:
            found[key] = (t_ns[first:last], values[first:last])
    return found


def readings(content: Content) -> Iterator[tuple[str, Reading]]:
    """Yield every sample with its device, in the order of time, then of channels."""
    keys = sorted(content)
    if not keys:
        return
    owners = np.repeat(np.arange(len(keys)), [len(content[key][0]) for key in keys])
    times = np.concatenate([content[key][0] for key in keys])
    values = np.concatenate([content[key][1] for key in keys])
    for place in np.argsort(times, kind="stable"):
        device, channel = keys[owners[place]]
        yield device, Reading(channel, int(times[place]), float(values[place]))


def _check_shape(file: "pq.ParquetFile") -> None:
    """Refuse a file by what its footer says, before its samples take memory."""
    if not file.schema_arrow.equals(_SCHEMA, check_metadata=False):
        names = file.schema_arrow.names
        raise FormatError(f"columns: {len(names)} of other names or types: {names[:8]}")
    if file.metadata.num_rows > MOST_SAMPLES:
        raise FormatError(f"columns: {file.metadata.num_rows} samples", Reason.TOO_LARGE)


def _named(names: list[str], counts: list[int]) -> "pa.DictionaryArray":
    distinct = sorted(set(names))
    codes = np.repeat([distinct.index(name) for name in names], counts).astype(np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(distinct, pa.string()))


def _lanes(table: "pa.Table") -> Iterator[tuple[Key, tuple[Times, Values]]]:
    """Split a table where device or channel changes; a lane that comes twice is refused."""
    devices, channels = (_codes(table, name) for name in ("device", "channel"))
    times = table.column("t_ns").to_numpy().astype(np.int64)
    values = table.column("value").to_numpy().astype(np.float64)
    moved = (np.diff(devices[1]) != 0) | (np.diff(channels[1]) != 0)
    bounds = [0, *(np.flatnonzero(moved) + 1).tolist(), len(times)]
    seen = set()
    for first, last in pairwise(bounds):
        if first == last:
            continue
        key = devices[0][devices[1][first]], channels[0][channels[1][first]]
        if key in seen:
            raise FormatError(f"columns: {key[1]} of {key[0]} comes twice")
        seen.add(key)
        yield key, (times[first:last], values[first:last])


def _codes(
    table: "pa.Table", name: str
) -> tuple[list[str], "np.ndarray[tuple[int], np.dtype[np.int32]]"]:
    column = table.column(name).combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # an empty table has no chunk to combine
        return [], np.zeros(0, np.int32)
    return column.dictionary.to_pylist(), column.indices.to_numpy()
