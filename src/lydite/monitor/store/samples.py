"""A trace's samples as a Parquet file: a row a sample, a row group a channel, bit for bit.

The columns are those of a monitor's segments, so that a stored trace replays. A file is looked at
by its footer before anything is read: one that is cut short, too large or of other columns is
refused in little memory. Knows nothing of labels.
"""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lydite.errors import FormatError, Reason
from lydite.evidence.power.channels import CHANNELS
from lydite.evidence.power.trace import Series, Trace

MOST_SAMPLES = 1 << 26
LONGEST_FOOTER = 16 << 20
_MAGIC = b"PAR1"
_NAMES = ["device", "channel", "t_ns", "value"]
_SCHEMA = pa.schema(
    [
        ("device", pa.dictionary(pa.int32(), pa.string())),
        ("channel", pa.dictionary(pa.int32(), pa.string())),
        ("t_ns", pa.int64()),
        ("value", pa.float64()),
    ]
)


def encode(trace: Trace) -> bytes:
    """Return the Parquet file of ``trace``, channels in the order of their names."""
    target = io.BytesIO()
    with pq.ParquetWriter(
        target,
        _SCHEMA,
        compression="zstd",
        compression_level=6,
        use_dictionary=["device", "channel"],
        column_encoding={"t_ns": "DELTA_BINARY_PACKED", "value": "BYTE_STREAM_SPLIT"},
    ) as writer:
        for name in sorted(trace.series):
            writer.write_table(_table(trace.device, trace.series[name]), 1 << 30)
    return target.getvalue()


def _table(device: str, series: Series) -> "pa.Table":
    count = len(series.t_ns)
    code = pa.array(np.zeros(count, np.int32))
    return pa.table(
        [
            pa.DictionaryArray.from_arrays(code, pa.array([device])),
            pa.DictionaryArray.from_arrays(code, pa.array([series.channel.name])),
            pa.array(series.t_ns),
            pa.array(series.values),
        ],
        schema=_SCHEMA,
    )


def open_parquet(
    path: Path, most_columns: int = 1000, most_rows: int = MOST_SAMPLES
) -> "pq.ParquetFile":
    """Open a Parquet file whose footer is sound and no larger than it may be.

    Raises:
        FormatError: it is cut short, no Parquet, or too large (``too-large``).
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(max(0, size - 8))
            tail = file.read(8)
    except OSError as error:
        raise FormatError(f"{path.name}: {error.strerror}", Reason.UNAVAILABLE) from error
    if size < 12 or tail[4:] != _MAGIC:
        raise FormatError(f"{path.name}: cut short, or no Parquet file", Reason.DAMAGED)
    if int.from_bytes(tail[:4], "little") > LONGEST_FOOTER:
        raise FormatError(f"{path.name}: a footer of over {LONGEST_FOOTER} bytes", Reason.TOO_LARGE)
    try:
        opened = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise FormatError(f"{path.name}: {error}", Reason.DAMAGED) from error
    columns, rows = opened.metadata.num_columns, opened.metadata.num_rows
    if columns > most_columns or rows > most_rows:
        opened.close()
        raise FormatError(
            f"{path.name}: {columns} columns of {rows} rows, at most {most_columns} of {most_rows}",
            Reason.TOO_LARGE,
        )
    return opened


def read(path: Path, channels: frozenset[str] | None = None) -> Trace:
    """Return the trace of a file of columns, or some of its channels.

    Raises:
        FormatError: it is cut short, too large, of other columns, or not the samples of one device.
    """
    with open_parquet(path, len(_NAMES)) as opened:
        if opened.schema_arrow.names != _NAMES:
            raise FormatError(f"{path.name}: columns {', '.join(opened.schema_arrow.names)}")
        series: dict[str, Series] = {}
        device = ""
        for group in range(opened.metadata.num_row_groups):
            try:
                table = opened.read_row_group(group)
            except (pa.ArrowException, OSError) as error:
                raise FormatError(f"{path.name}: {error}", Reason.DAMAGED) from error
            device, one = _series(table, path.name)
            if one.channel.name in series:
                raise FormatError(f"{path.name}: {one.channel.name} comes twice")
            if channels is None or one.channel.name in channels:
                series[one.channel.name] = one
    return Trace(device, series)


def _series(table: "pa.Table", where: str) -> tuple[str, Series]:
    """Return the series of a row group."""
    if any(column.null_count for column in table.columns):
        raise FormatError(f"{where}: a value is missing")
    words = [set(table.column(name).unique().to_pylist()) for name in _NAMES[:2]]
    if any(len(found) != 1 for found in words):
        raise FormatError(f"{where}: a row group of several channels or devices")
    device, channel = (found.pop() for found in words)
    if channel not in CHANNELS:
        raise FormatError(f"{where}: no channel is called {channel!r}")
    times = np.array(table.column("t_ns").to_numpy(), np.int64)
    values = np.array(table.column("value").to_numpy(), np.float64)
    return device, Series(CHANNELS[channel], times, values)
