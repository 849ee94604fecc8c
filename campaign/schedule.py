"""Which blocks a command runs and in which order, and what the self-check has to find.

Knows no clock and no sensor; blocks come from `workloads`.
"""

import fnmatch
import json
import random
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Block:
    """What `workloads` hands over; kept here for the two blocks of the self-check."""

    name: str
    seconds: float
    labels: dict
    make: object


class Idle:
    """Nothing, a tenth of a second at a time."""

    def step(self, emit):
        """Do a piece of work and wait for it."""
        time.sleep(0.1)

    def close(self):
        """Let go of what the block held."""


class Gemm(Idle):
    """A burst of bf16 matrix products, or of small ones where there is no GPU."""

    def __init__(self, n=8192):
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.torch, self.device, n = torch, device, n if device == "cuda" else 256
        self.a = torch.randn(n, n, device=device, dtype=torch.bfloat16)

    def step(self, emit):
        """Do a piece of work and wait for it."""
        for _ in range(10):
            self.a @ self.a
        if self.device == "cuda":
            self.torch.cuda.synchronize()
        emit("gemm")


def ordered(blocks, calibration, seed):
    """Calibration first and in its own order; the rest shuffled by the seed."""
    names = {c if isinstance(c, str) else c.name for c in calibration}
    known = {b.name for b in blocks}
    first = [c for c in calibration if not isinstance(c, str) and c.name not in known]
    first += [b for b in blocks if b.name in names or (b.labels or {}).get("calibration")]
    rest = [b for b in blocks if not any(b is f for f in first)]
    random.Random(seed).shuffle(rest)
    # A block that must see no CUDA context can only come before all that make one.
    return sorted(
        first + rest,
        key=lambda b: str((b.labels or {}).get("context", "")).lower() not in ("none", "false"),
    )


def planned(arguments):
    """Return the blocks of a command, in order."""
    if arguments.check:
        idle = [Block(f"check_idle_{i}", 4.0, {"workload": "idle"}, Idle) for i in (1, 2)]
        return [idle[0], Block("check_gemm", 5.0, {"workload": "gemm"}, Gemm), idle[1]]
    import workloads

    parts = arguments.part.split(",")
    blocks = [
        b
        for p in parts
        for b in workloads.plan(arguments.lease[:1], p, arguments.seed, arguments.dry_run)
    ]
    calibration = (
        getattr(workloads, "CALIBRATION", ()) if any(p.endswith("0") for p in parts) else ()
    )
    calibration = calibration() if callable(calibration) else calibration
    blocks = ordered(
        list(blocks), list(calibration), f"{arguments.lease}/{arguments.part}/{arguments.seed}"
    )
    if arguments.only:
        blocks = [
            b for b in blocks if any(fnmatch.fnmatch(b.name, g) for g in arguments.only.split(","))
        ]
    if arguments.resume:
        done = {
            b["block"]
            for b in json.loads(Path(arguments.resume).read_text())["blocks"]
            if b.get("status") == "ok"
        }
        blocks = [b for b in blocks if b.name not in done]
    return blocks


def check_verdict(blocks):
    """Say whether a GEMM burst moves power, and energy agrees with it."""
    burst, idle = blocks.get("check_gemm", {}), blocks.get("check_idle_1", {})
    rise = burst.get("instant_w", 0) - idle.get("instant_w", 0)
    ratio = burst.get("energy_over_power") or 0
    return {
        "rise_w": round(rise, 1),
        "energy_over_power": ratio,
        "instant_period_ms": burst.get("instant_period_ms"),
        "power_moves": rise > 100,
        "energy_usable": 0.9 <= ratio <= 1.1,
    }
