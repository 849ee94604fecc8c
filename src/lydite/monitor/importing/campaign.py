"""What a campaign leaves in a folder, as a trace a block: labels, phases, tokens and origin.

Reads ``manifest.json`` and the tables beside it, each checked against its digest in the manifest. A
rehearsal comes in as synthetic; a channel that is refused in a block is left out of it and counted.
Knows nothing of how blocks are run.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lydite.errors import ConfigurationError, FormatError, Reason
from lydite.evidence.power.intake import Raw, take_in
from lydite.monitor.store.entry import Labelled, Mark, Origin
from lydite.monitor.store.samples import open_parquet

_LONGEST_MANIFEST = 16 << 20
_COLUMNS = {
    "power": {
        "instant_mw": ("power_instant_w", "mW"),
        "average_mw": ("power_average_w", "mW"),
        "energy_mj": ("energy_j", "mJ"),
        "pcie_tx": ("pcie_tx_b", "B"),
        "pcie_rx": ("pcie_rx_b", "B"),
    },
    "gpm": {
        "sm": ("sm_active", "%"),
        "occ": ("sm_occupancy", "%"),
        "int": ("integer_active", "%"),
        "tensor_any": ("tensor_active", "%"),
        "hmma": ("tensor_half_active", "%"),
        "imma": ("tensor_integer_active", "%"),
        "dram": ("dram_active", "%"),
        "fp64": ("fp64_active", "%"),
        "fp32": ("fp32_active", "%"),
        "fp16": ("fp16_active", "%"),
        "nvdec": ("nvdec_active", "%"),
        "nvjpg": ("nvjpg_active", "%"),
        "pcie_tx": ("pcie_tx_bps", "MiB/s"),
        "pcie_rx": ("pcie_rx_bps", "MiB/s"),
    },
    "slow": {
        "clock_sm_mhz": ("sm_clock_hz", "MHz"),
        "clock_mem_mhz": ("memory_clock_hz", "MHz"),
        "temp_gpu_c": ("gpu_temperature_c", "C"),
        "temp_mem_c": ("memory_temperature_c", "C"),
        "mem_used": ("memory_used_b", "B"),
        "util_gpu": ("gpu_busy", "%"),
        "util_mem": ("memory_busy", "%"),
        "throttle": ("throttle_reasons", "bits"),
        "pstate": ("performance_state", "1"),
    },
}
"""Channel and unit of each column, by table."""
_WRAPS_AT = {"pcie_tx_b": 2.0**32, "pcie_rx_b": 2.0**32}
_KEY = re.compile(r"[a-z][a-z0-9_]{0,39}\Z")


def traces(
    folder: Path, licence: str = "Apache-2.0", redistribute: bool = True
) -> Iterator[Labelled]:
    """Yield the blocks of a campaign's folder that were measured, in their order.

    Raises:
        ConfigurationError: there is no manifest.
        FormatError: a file is damaged or not the manifest's, or a block's samples are refused.
    """
    manifest = _manifest(folder)
    tables = {name: _table(folder, name, manifest) for name in (*_COLUMNS, "events")}
    origin = Origin(
        source=f"campaign, lease {manifest['lease']}, seed {manifest.get('seed')}",
        path=folder.name,
        command=str(manifest.get("command", "")),
        licence=licence,
        redistribute=redistribute and not manifest.get("dry_run"),
        synthetic=bool(manifest.get("dry_run")),
    )
    device = str((manifest.get("gpu") or {}).get("name") or "unknown")
    for block in manifest["blocks"]:
        if "t0_mono_ns" not in block:
            continue
        rows = {name: _rows(table, block["block"]) for name, table in tables.items()}
        raws = [raw for name in _COLUMNS for raw in _raws(name, rows[name])]
        if not raws:
            continue  # the sampler was off, as the block's labels say
        try:
            trace = take_in(device, raws, leave_out=True)
        except FormatError as error:
            raise FormatError(f"block {block['block']}: {error}", error.reason) from error
        labels = _labels(manifest, block, rows["events"])
        yield Labelled(trace=trace, labels=labels, origin=origin, marks=_marks(block))


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    try:
        with path.open("rb") as file:
            payload = file.read(_LONGEST_MANIFEST + 1)
    except OSError as error:
        raise ConfigurationError(f"{folder} holds no manifest.json of a campaign") from error
    if len(payload) > _LONGEST_MANIFEST:
        raise FormatError(f"{path.name}: over {_LONGEST_MANIFEST} bytes", Reason.TOO_LARGE)
    try:
        manifest = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path.name}: {error}", Reason.DAMAGED) from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("blocks"), list):
        raise FormatError(f"{path.name}: not that of a campaign")
    if not manifest.get("lease") or not isinstance(manifest.get("files"), dict):
        raise FormatError(f"{path.name}: the campaign did not end, or names no lease")
    return manifest


def _table(folder: Path, name: str, manifest: Mapping[str, Any]) -> "pa.Table":
    """Return one table, the file that the manifest names by digest."""
    path = folder / f"{name}.parquet"
    named = manifest["files"].get(path.name)
    if named is None or not path.exists():
        raise FormatError(f"{path.name}: missing", Reason.DAMAGED)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != named.get("sha256"):
        raise FormatError(f"{path.name}: not the file of the manifest", Reason.DAMAGED)
    with open_parquet(path, 100) as opened:
        try:
            return opened.read()
        except (pa.ArrowException, OSError) as error:
            raise FormatError(f"{path.name}: {error}", Reason.DAMAGED) from error


def _rows(table: "pa.Table", block: str) -> "pa.Table":
    """Return the rows of one block."""
    names = table.column("block").combine_chunks()
    if pa.types.is_dictionary(names.type):
        names = names.dictionary_decode()
    return table.filter(pa.array(np.array(names.to_pylist(), object) == block, pa.bool_()))


def _raws(name: str, rows: "pa.Table") -> Iterator[Raw]:
    """Yield the channels of one table that have a value in a block."""
    for column, (channel, unit) in _COLUMNS[name].items():
        if column not in rows.column_names:
            continue
        there = rows.column(column).is_valid().to_numpy()
        if not there.any():
            continue
        yield Raw(
            channel=channel,
            times=rows.column("t_mono_ns").to_numpy()[there].astype(np.int64),
            values=rows.column(column).drop_null().to_numpy().astype(np.float64),
            unit=unit,
            wraps_at=_WRAPS_AT.get(channel),
        )


def _labels(
    manifest: Mapping[str, Any], block: Mapping[str, Any], events: "pa.Table"
) -> dict[str, str]:
    """Return what is known of a block, in words; the lease is its session."""
    stated = {**block.get("labels", {}), "status": block.get("status"), "block": block["block"]}
    tokens = int(np.nansum(events.column("tokens").to_numpy(zero_copy_only=False).astype(float)))
    if tokens:
        stated["tokens"] = tokens
    words = {key: str(value)[:300] for key, value in stated.items()
             if _KEY.match(key) and value not in (None, "", {}, [])}  # fmt: skip
    return {**words, "session": str(manifest["lease"])}


def _marks(block: Mapping[str, Any]) -> tuple[Mark, ...]:
    """Return the start of a block, kept and not steady, and the rest."""
    begin, end = int(block["t0_mono_ns"]), int(block["t1_mono_ns"])
    steady = min(max(int(block.get("steady_from_mono_ns", begin)), begin), end)
    spans = ((begin, steady, "start"), (steady, end, "steady"))
    return tuple(
        Mark(start_ns=first, end_ns=last, name=name) for first, last, name in spans if last > first
    )
