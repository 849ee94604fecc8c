"""Rows of ``make bench-log`` for verifiable sampling: VRF, draw and beacon, on one core.

No maintained Python package computes this VRF or this draw, so those rows have no peer; the beacon
is checked by py_ecc, which is the only pure-Python one.
"""

import json
from pathlib import Path
from typing import Any

from stopwatch import rate

from lydite.sampling import beacon, draw, vrf

Row = dict[str, Any]

_SEED = bytes(range(32))
_ROUNDS = Path(__file__).parents[1] / "tests" / "vectors" / "drand.json"


def rows() -> list[Row]:
    """Measure everything once; takes about ten seconds."""
    key = vrf.public_key(_SEED)
    inputs = [number.to_bytes(8) for number in range(2_000)]
    made = {alpha: vrf.prove(_SEED, alpha) for alpha in inputs}
    entries = 1_000_000
    return [
        _row("VRF proofs", rate(lambda: [vrf.prove(_SEED, a) for a in inputs], 2_000), 1_000),
        _row(
            "VRF verifications",
            rate(lambda: [vrf.verify(key, a, made[a].pi) for a in inputs], 2_000),
        ),
        _row(
            "selections, receipts drawn over",
            rate(lambda: draw.draw(made[inputs[0]].beta, 1, entries, 10_000), entries),
            500_000,
        ),
        *(_drand(chain) for chain in (beacon.LEAGUE_OF_ENTROPY, beacon.QUICKNET)),
    ]


def _drand(chain: beacon.Chain) -> Row:
    """Check a recorded round of ``chain``, the tables of the curve being built already."""
    recorded = json.loads(_ROUNDS.read_text(encoding="utf-8"))["chains"]
    record = next(r for r in recorded if r["name"] == chain.name)["rounds"][-1]
    previous = record.get("previous_signature")
    published = beacon.Round(
        number=record["round"],
        signature=bytes.fromhex(record["signature"]),
        previous_signature=bytes.fromhex(previous) if previous else None,
        randomness=bytes.fromhex(record["randomness"]),
    )
    beacon.verify(chain, published)
    per_second = rate(lambda: beacon.verify(chain, published), 1)
    return _row(f"{chain.name} round, check", 1_000 / per_second, unit="ms")


def _row(metric: str, ours: float, goal: float | None = None, unit: str = "1/s") -> Row:
    return {
        "metric": metric,
        "ours": ours,
        "peer": None,
        "peer_name": None,
        "ratio": None,
        "unit": unit,
        "goal": goal,
        "holds": None if goal is None else ours >= goal,
    }
