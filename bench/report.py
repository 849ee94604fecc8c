"""Prints the rows of a benchmark as a table and writes ``bench/results/NAME.json``.

Knows nothing of what was measured. A row is a mapping with the keys of ``row``; null where there
is no peer or no goal, and ``ratio`` is ours divided by the peer's.
"""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]

_RESULTS = Path(__file__).parent / "results"
_PACKAGES = (
    "lydite",
    "httptools",
    "uvloop",
    "msgspec",
    "pynacl",
    "py_ecc",
    "numpy",
    "torch",
    "transformers",
    "pymerkle",
    "rfc8785",
    "securesystemslib",
)


def row(
    metric: str,
    ours: float,
    unit: str,
    *,
    goal: float | None = None,
    must: float | None = None,
    at_most: bool = False,
    peer: float | None = None,
    peer_name: str | None = None,
) -> Row:
    """Return one row. Goal and must are least values, or with ``at_most`` greatest ones."""

    def reaches(bound: float | None) -> bool | None:
        return None if bound is None else (ours <= bound if at_most else ours >= bound)

    return {
        "metric": metric,
        "ours": ours,
        "peer": peer,
        "peer_name": peer_name,
        "ratio": None if peer is None else ours / peer,
        "unit": unit,
        "goal": goal,
        "holds": reaches(goal),
        "must": must,
        "accepted": reaches(must),
    }


def write(
    name: str,
    rows: Sequence[Row],
    *,
    keep: bool = True,
    versions: Mapping[str, str] | None = None,
) -> None:
    """Print ``rows`` and, to ``keep``, write them with machine and versions they rest on."""
    table = [("metric", "ours", "unit", "goal", "holds", "must", "peer", "ratio")]
    for each in rows:
        peer = "" if each["peer"] is None else f"{_number(each['peer'])} {each['peer_name']}"
        table.append(
            (
                each["metric"],
                _number(each["ours"]),
                each["unit"],
                _number(each["goal"]),
                {None: "", True: "yes", False: "NO"}[each["holds"]],
                _number(each.get("must")) + (" NO" if each.get("accepted") is False else ""),
                peer,
                "" if each["ratio"] is None else f"{each['ratio']:.2f}",
            )
        )
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))
    if not keep:
        return
    known = {**_versions(), **(versions or {})}
    document = {"machine": _machine(), "versions": known, "rows": [dict(r) for r in rows]}
    _RESULTS.mkdir(exist_ok=True)
    (_RESULTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _machine() -> dict[str, Any]:
    """Return what the figures rest on: processor, cores, load, memory, system."""
    models = [
        line.partition(":")[2].strip()
        for line in _text("/proc/cpuinfo").splitlines()
        if line.startswith("model name")
    ]
    memory_kib = [
        int(line.split()[1])
        for line in _text("/proc/meminfo").splitlines()
        if line.startswith("MemTotal")
    ]
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "memory_gib": round(memory_kib[0] / (1 << 20)) if memory_kib else None,
        "system": platform.system(),
    }


def _text(path: str) -> str:
    file = Path(path)
    return file.read_text(encoding="utf-8") if file.exists() else ""


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
