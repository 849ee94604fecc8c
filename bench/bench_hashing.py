"""``make bench-hashing``: one file hashed by us, by ``b3sum`` and ``sha256sum``; uploads.

The file lies in memory where there is room, so that no disk is measured. Each figure is the best of
several interleaved rounds: on a shared machine the others' load only ever makes a round slower.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import report
import upload_rows

from lydite.engines.layout import lay_out
from lydite.engines.weights import measure

_BLOCK = 1 << 20
_TENSORS = 24


def main() -> None:
    """Measure, print and write ``bench/results/hashing.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=400, help="size of the file")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of which the best counts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=_memory()) as place:
        directory = Path(place) / "model"
        size = _make(directory, options.megabytes * 1_000_000)
        rows = _rows(directory, size, options.rounds)
        report.write("hashing", [*rows, *upload_rows.rows(directory, Path(place), 3)])


def _memory() -> str | None:
    """Return a directory in memory, if there is one."""
    place = Path("/dev/shm")
    return str(place) if place.is_dir() and os.access(place, os.W_OK) else None


def _make(directory: Path, size: int) -> int:
    """Write one safetensors file of random bytes and return its length."""
    directory.mkdir()
    each = size // _TENSORS
    tensors = {
        f"layer.{number}": {
            "dtype": "U8",
            "shape": [each],
            "data_offsets": [number * each, (number + 1) * each],
        }
        for number in range(_TENSORS)
    }
    head = json.dumps(tensors).encode()
    path = directory / "model.safetensors"
    with path.open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        left = each * _TENSORS
        while left:
            left -= file.write(os.urandom(min(_BLOCK, left)))
    return path.stat().st_size


def _rows(directory: Path, size: int, rounds: int) -> list[report.Row]:
    path = str(directory / "model.safetensors")
    works: dict[str, Callable[[], object]] = {
        "BLAKE3 root (measure)": lambda: measure(directory, "blake3"),
        "BLAKE3, tensor by tensor (lay_out)": lambda: lay_out(directory),
        "SHA-256 root (measure)": lambda: measure(directory),
    }
    peers = {tool: _tool(tool, path) for tool in ("b3sum", "sha256sum") if shutil.which(tool)}
    walls, work_ns = _best({**works, **peers}, size, rounds)
    rows = []
    for name in works:
        peer = "sha256sum" if name.startswith("SHA") else "b3sum"
        against = walls.get(peer)
        goal = None if against is None or peer != "b3sum" else 0.8 * against
        rows.append(report.row(name, walls[name], "MB/s", goal=goal, peer=against, peer_name=peer))
    for name in works:
        peer = "sha256sum" if name.startswith("SHA") else "b3sum"
        rows.append(
            report.row(
                f"{name}, processor time",
                work_ns[name],
                "ns/kB",
                at_most=True,
                peer=work_ns.get(peer),
                peer_name=peer,
            )
        )
    return rows


def _tool(tool: str, path: str) -> Callable[[], object]:
    return lambda: subprocess.run([tool, path], check=True, capture_output=True)


def _best(
    works: dict[str, Callable[[], object]], size: int, rounds: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Return MB/s by the clock and ns/kB of processor time, each the best of interleaved rounds."""
    rates = dict.fromkeys(works, 0.0)
    costs = dict.fromkeys(works, float("inf"))
    for _ in range(rounds):
        for name, work in works.items():
            started, busy = time.perf_counter(), _busy_s()
            work()
            rates[name] = max(rates[name], size / (time.perf_counter() - started) / 1e6)
            costs[name] = min(costs[name], (_busy_s() - busy) * 1e12 / size)
    return rates, costs


def _busy_s() -> float:
    """Return the processor time of this process and of the tools that it ran, in seconds."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


if __name__ == "__main__":
    main()
