"""Collections of traces as one table of labels and shards of samples, all Parquet, read in place.

``traces.parquet`` has a row a trace (labels, licence, source) and names the shard of its samples,
in which ``trace_id``, ``t_s`` and columns in stated units follow. Knows nothing of who uses them.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lydite.errors import ConfigurationError, FormatError, Reason
from lydite.evidence.power.intake import Raw, take_in
from lydite.evidence.power.trace import Trace
from lydite.monitor.store.entry import Labelled, Mark, Origin
from lydite.monitor.store.samples import open_parquet

Row = Mapping[str, Any]

_COLUMNS = {
    "util_gpu": ("gpu_busy", "%"),
    "util_mem": ("memory_busy", "%"),
    "mem_used_mib": ("memory_used_b", "MiB"),
    "sm_clk_mhz": ("sm_clock_hz", "MHz"),
    "mem_clk_mhz": ("memory_clock_hz", "MHz"),
    "temp_c": ("gpu_temperature_c", "C"),
    "sm_active": ("sm_active", "1"),
    "tensor_active": ("tensor_active", "1"),
    "dram_active": ("dram_active", "1"),
    "pcie_tx_bps": ("pcie_tx_bps", "B/s"),
    "pcie_rx_bps": ("pcie_rx_bps", "B/s"),
    "nvlink_tx_bps": ("nvlink_tx_bps", "B/s"),
    "nvlink_rx_bps": ("nvlink_rx_bps", "B/s"),
}
_LABELS = (
    "trace_id", "session", "workload", "model", "family", "params_b", "quant", "dtype", "tp",
    "batch", "n_gpus", "gpu_index", "modality", "split",
)  # fmt: skip
_INSTANT = ("A100", "V100", "P100", "TITAN X", "MI300X")
"""Devices whose default power call does not average over a second (arXiv 2312.02741)."""


def traces(directory: Path, wanted: Callable[[Row], bool] = lambda _: True) -> Iterator[Labelled]:
    """Yield the traces of a collection whose row of labels is ``wanted``.

    Raises:
        ConfigurationError: there is no such collection.
        FormatError: a file is damaged, or a trace is refused (``intake``).
    """
    path = directory / "traces.parquet"
    if not path.exists():
        raise ConfigurationError(
            f"{directory} holds no traces.parquet; single files of samples: --format segments FILE"
        )
    with open_parquet(path, 200, 1_000_000) as opened:
        rows = [row for row in _read(opened, path).to_pylist() if wanted(row)]
    for shard in sorted({str(row["shard"]) for row in rows}):
        mine = {row["trace_id"]: row for row in rows if row["shard"] == shard}
        yield from _shard(directory / f"{shard.removesuffix('.parquet')}.parquet", mine)


def _shard(path: Path, rows: Mapping[str, Row]) -> Iterator[Labelled]:
    """Yield the traces of one file of samples."""
    with open_parquet(path, 200) as opened:
        names = opened.schema_arrow.names
    words = [name for name in ("trace_id", "phase") if name in names]
    try:
        opened = pq.ParquetFile(path, read_dictionary=words)
        table = _read(opened, path).combine_chunks()
    finally:
        opened.close()
    ids = table.column("trace_id").combine_chunks()
    codes = ids.indices.to_numpy()
    known = ids.dictionary.to_pylist()
    bounds = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
    seen = set()
    for first, last in pairwise(bounds):
        name = known[codes[first]]
        if name in seen:
            raise FormatError(f"{path.name}: {name} comes twice")
        seen.add(name)
        if name in rows:
            yield _labelled(rows[name], table.slice(first, last - first))
    absent = set(rows) - seen
    if absent:
        raise FormatError(f"{path.name}: no samples of {min(absent)}", Reason.TOO_FEW_SAMPLES)


def _read(opened: "pq.ParquetFile", path: Path) -> "pa.Table":
    try:
        return opened.read()
    except (pa.ArrowException, OSError) as error:
        raise FormatError(f"{path.name}: {error}", Reason.DAMAGED) from error


def _labelled(row: Row, table: "pa.Table") -> Labelled:
    """Return one trace with its labels."""
    times = table.column("t_s").to_numpy().astype(np.float64)
    columns = {"power_w": (power_channel(row), "W"), **_COLUMNS}
    raws, blanks = [], {}
    for name, (channel, unit) in columns.items():
        if name not in table.column_names or name not in str(row["channels"]).split(","):
            continue
        values = table.column(name).to_numpy().astype(np.float64)
        there = ~np.isnan(values)
        if not there.all():
            blanks[f"{channel}/blank"] = int(np.count_nonzero(~there))
        if there.any():
            raws.append(Raw(channel=channel, times=times[there], values=values[there],
                            unit=unit, time_unit="s"))  # fmt: skip
    try:
        taken = take_in(str(row["gpu"]), raws)
    except FormatError as error:
        raise FormatError(f"{row['trace_id']}: {error}", error.reason) from error
    origin = Origin(
        source=f"{row['source']} @ {row['commit'][:12]}",
        path=str(row["path"]),
        licence=str(row["licence"]),
        redistribute=bool(row["redistribute"]),
    )
    trace = Trace(taken.device, taken.series, {**taken.counted, **blanks})
    return Labelled(trace=trace, labels=_labels(row), origin=origin, marks=_marks(table, times))


def power_channel(row: Row) -> str:
    """Return which channel the power of a trace is, by what measured it and on what."""
    modality, gpu = str(row["modality"]), str(row["gpu"])
    if "AC" in modality:
        return "power_wall_w"
    if "hall" in modality or any(gpu.startswith(name) for name in _INSTANT):
        return "power_instant_w"
    return "power_average_w"


def _labels(row: Row) -> dict[str, str]:
    """Return the labels that are stated."""
    found = {}
    for name in _LABELS:
        value = row[name]
        if value is None or value == "" or (isinstance(value, float) and isnan(value)):
            continue
        found[name] = f"{value:g}" if isinstance(value, float) else str(value)
    return found


def _marks(table: "pa.Table", times: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[Mark, ...]:
    """Return the phases of a trace, each from its first sample to the next phase's."""
    if "phase" not in table.column_names:
        return ()
    phases = table.column("phase").to_pylist()
    starts = [i for i in range(len(phases)) if i == 0 or phases[i] != phases[i - 1]]
    ticks = np.rint(times * 1e9).astype(np.int64)
    return tuple(
        Mark(start_ns=int(ticks[first]), end_ns=int(ticks[min(last, len(ticks) - 1)]),
             name=phases[first])
        for first, last in pairwise([*starts, len(phases)])
        if phases[first]
    )  # fmt: skip
