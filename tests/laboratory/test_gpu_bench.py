"""The benchmark for a GPU rehearses on a processor, and says so where there is nothing to run on.

What only a GPU shows, its kernels and its speed, is not tested here.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "bench" / "results" / "gpu.json"

pytest.importorskip("torch")


def bench(*options: str) -> "subprocess.CompletedProcess[str]":
    """Run the benchmark as ``make bench-gpu`` does, with no GPU in sight."""
    return subprocess.run(
        [sys.executable, "bench/bench_gpu.py", *options],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT / "src"),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def figures(table: str) -> dict[str, float]:
    """Return the figure of every row of a printed table."""
    columns = (line.rsplit("  ") for line in table.splitlines())
    parted = ([cell.strip() for cell in cells if cell.strip()] for cells in columns)
    return {
        cells[0]: float(cells[1].replace(",", ""))
        for cells in parted
        if len(cells) > 2 and cells[1][-1].isdigit()
    }


def test_without_a_gpu_it_says_so_and_measures_nothing() -> None:
    before = RESULTS.read_bytes() if RESULTS.exists() else None
    done = bench()
    assert done.returncode == 4
    assert done.stderr.startswith("lydite: error: no CUDA device")
    assert "lydite: hint: --rehearse" in done.stderr
    assert not done.stdout
    assert (RESULTS.read_bytes() if RESULTS.exists() else None) == before


def test_a_rehearsal_goes_through_every_row_and_writes_nothing() -> None:
    before = RESULTS.read_bytes() if RESULTS.exists() else None
    done = bench("--rehearse")
    assert done.returncode == 0, done.stderr
    assert (RESULTS.read_bytes() if RESULTS.exists() else None) == before
    found = figures(done.stdout)
    # Token by token with a cache is what one pass over all tokens computes, but for digits.
    for name in ("decoded, batch 4", "decoded, batch 1", "one pass, batch 1", "one pass, math"):
        assert found[f"spread of honest states, {name}"] < 0.05
        assert found[f"tokens drawn otherwise, {name}"] < 20
    for cheat in ("fp8 weights", "int8 weights", "int4 weights", "fp8 cache"):
        for size in (2, 4):
            assert f"answers beyond every honest one, {cheat}, {size} B/token" in found
    assert found["answers beyond every honest one, int4 weights, 4 B/token"] > 50
    for batch in (1, 4):
        assert found[f"audited / decoded, batch {batch}"] > 0
        assert f"tap in the decode loop, batch {batch}" in found
