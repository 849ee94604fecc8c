"""The token cadence that a fast meter shows of models of one size, and how steady it is.

Traces of a Hall probe that others published, read in place where they are. Their rate is assumed
(2.2 kHz; the source does not state it), so cadences compare with one another and with no clock.
"""

from pathlib import Path

import numpy as np
from power_absent import AbsentError
from report import Row, row

from lydite.evidence.power.features.table import Table
from lydite.evidence.power.windows import Plan, cut
from lydite.monitor.importing.development import traces

TRACES = Path(__file__).parents[2] / "shared" / "power"
CHANNEL = "power_instant_w"
PLAN = Plan(length_s=4.0, hop_s=4.0, rate_hz=1000.0)


def rows() -> list[Row]:
    """Return a row a model: its cadence in the middle half of its windows."""
    if not (TRACES / "hall_4090.parquet").exists():
        raise AbsentError("the traces of the Hall probe are not on this machine")
    table = Table(PLAN, (CHANNEL,))
    place = table.names.index(f"{CHANNEL}.cadence")
    found = []
    for one in traces(TRACES, lambda each: each["shard"] == "hall_4090"):
        windows = cut(one.trace.series[CHANNEL], PLAN).values
        cadences = table.compute({CHANNEL: windows})[:, place]
        low, middle, high = np.quantile(cadences, (0.25, 0.5, 0.75))
        model = one.labels["model"]
        count = f"{len(windows)} windows of {PLAN.length_s:g} s"
        found.append(row(f"cadence of {model}, median of {count}", float(middle), "Hz"))
        found.append(row("... middle half of them, width", float((high - low) / middle), "1"))
    return found
