"""Measured traces of others as labelled windows: read in place, never copied.

Reads a folder of Parquet files with the schema of its README: ``traces`` names labels, licence and
the shard of each trace. Refuses to mix what may be redistributed with what may not, unless asked
to evaluate only. Knows nothing of models or splits.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from lydite.errors import Reason, UnavailableError
from lydite.evidence.power.classify import IDLE, INFERENCE, TRAINING, columns
from lydite.evidence.power.features.table import Table
from lydite.evidence.power.intake import Raw, take_in_series
from lydite.evidence.power.trace import Series, Values
from lydite.evidence.power.windows import Plan, cut

FOLDER = "LYDITE_POWER_TRACES"
"""Environment variable with the folder of traces; without it, ``../shared/power``."""
CHANNEL = "power_instant_w"
IDLE_BELOW = 135 / 700
"""A window whose 95th percentile is below this share of the stated power is labelled idle."""
STATED_W = {
    "H100": 700, "H100-SXM-80GB": 700, "H200": 700, "L40S": 350, "A100": 400, "A100-40GB": 400,
    "A100-SXM4-40GB": 400, "V100": 300, "TITAN X": 250, "MI300X": 750,
}  # fmt: skip
H100 = ("H100", "H100-SXM-80GB")
PLAN = Plan(gap_s=3.0)
"""Ten seconds, every five, at 10 Hz."""
WORK = {
    "training": TRAINING,
    "training_masked_burn": TRAINING,
    "llm_inference": INFERENCE,
    "idle": IDLE,
    "idle_loaded": IDLE,
}

Row = Mapping[str, Any]
Samples = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Windows:
    """Labelled windows: one place of every array a window."""

    watts: Values
    rows: Values
    """``classify.columns``."""
    label: NDArray[np.str_]
    session: NDArray[np.str_]
    source: NDArray[np.str_]
    trace: NDArray[np.str_]
    gpu: NDArray[np.str_]
    model: NDArray[np.str_]
    family: NDArray[np.str_]
    quant: NDArray[np.str_]
    billions: Values
    tdp_w: Values
    start_s: Values

    def __len__(self) -> int:
        return len(self.label)

    def where(self, kept: NDArray[Any]) -> "Windows":
        """Return the windows that are ``kept``: a mask, or places."""
        return Windows(**{one.name: getattr(self, one.name)[kept] for one in fields(self)})


def folder() -> Path:
    """Return the folder of traces.

    Raises:
        UnavailableError: there is none; whoever asks skips by this name.
    """
    stated = os.environ.get(FOLDER)
    beside = Path.cwd().resolve().parent / "shared" / "power"
    found = Path(stated) if stated else beside
    if not (found / "traces.parquet").is_file():
        raise UnavailableError(
            f"no measured traces: set {FOLDER} to a folder with traces.parquet", Reason.UNAVAILABLE
        )
    return found


def catalogue(where: Path) -> list[dict[str, Any]]:
    """Return one row of labels a trace."""
    rows: list[dict[str, Any]] = parquet.read_table(where / "traces.parquet").to_pylist()
    return rows


def samples(where: Path, shard: str, wanted: Sequence[str]) -> Iterator[tuple[str, Samples]]:
    """Yield each trace of a shard with the columns of ``wanted`` that it has."""
    file = where / f"{shard}.parquet"
    present = [name for name in wanted if name in parquet.read_schema(file).names]
    table = parquet.read_table(file, columns=["trace_id", *present])
    coded = table["trace_id"].combine_chunks().dictionary_encode()
    codes = coded.indices.to_numpy()
    names = coded.dictionary.to_pylist()
    edges = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
    held = {name: table[name].to_numpy() for name in present}
    for first, last in pairwise(edges):
        yield names[codes[first]], {name: array[first:last] for name, array in held.items()}


def series(found: Samples, channel: str = "power_w") -> Series | None:
    """Return the samples of power as a series, mended as intake mends them."""
    watts = found[channel].astype(float)
    raw = Raw(channel=CHANNEL, times=found["t_s"], values=watts, unit="W", time_unit="s")
    return take_in_series(raw)[0]


@dataclass(frozen=True, kw_only=True)
class Request:
    """Which windows are asked for."""

    plan: Plan = PLAN
    gpus: Sequence[str] = H100
    shards: Sequence[str] = ("nvml_llm", "nvml_train", "dcgm_h100")
    slowest_s: float = 1.1
    """Traces whose median step is longer are left out."""
    most: int = 25
    """Windows of one session and class, drawn evenly by ``seed``."""
    seed: int = 0
    only: Callable[[Row], bool] = lambda _row: True
    redistributable: bool = False
    """Only traces that may back something shipped."""


def load(where: Path, asked: Request) -> Windows:
    """Return the windows that are asked for.

    Raises:
        UnavailableError: there are none.
    """
    table = Table(asked.plan, (CHANNEL,))
    wanted = {row["trace_id"]: row for row in catalogue(where) if _wanted(row, asked)}
    grouped: dict[tuple[str, str], list[tuple[Row, int, Values]]] = defaultdict(list)
    for shard in sorted({row["shard"] for row in wanted.values()}):
        for name, found in samples(where, shard, ("t_s", "power_w")):
            if name in wanted:
                _sort_in(grouped, wanted[name], series(found), asked.plan)
    if not grouped:
        raise UnavailableError("no window of what is asked for", Reason.TOO_FEW_SAMPLES)
    picked = _drawn(grouped, asked)
    return _windows(picked, table)


def _wanted(row: Row, asked: Request) -> bool:
    return (
        row["shard"] in asked.shards
        and row["gpu"] in asked.gpus
        and row["workload"] in WORK
        and row["dt_median_s"] <= asked.slowest_s
        and (row["redistribute"] or not asked.redistributable)
        and asked.only(row)
    )


def _sort_in(
    grouped: dict[tuple[str, str], list[tuple[Row, int, Values]]],
    row: Row,
    found: Series | None,
    plan: Plan,
) -> None:
    """Add the windows of one trace under their session and class."""
    if found is None:
        return
    made = cut(found, plan)
    first = int(found.t_ns[0])
    for start, watts in zip(made.start_ns.tolist(), made.values, strict=True):
        label = label_of(watts, row["workload"], STATED_W[row["gpu"]])
        grouped[row["session"], label].append((row, start - first, watts))


def label_of(watts: Values, workload: str, tdp_w: float) -> str:
    """Return the class of a window: its trace's, or idle if power says so."""
    quiet = float(np.quantile(watts, 0.95)) < IDLE_BELOW * tdp_w
    return IDLE if quiet else WORK[workload]


def _drawn(
    grouped: Mapping[tuple[str, str], list[tuple[Row, int, Values]]], asked: Request
) -> list[tuple[str, Row, int, Values]]:
    """Return at most so many windows of each session and class."""
    random = np.random.default_rng(asked.seed)
    picked = []
    for (_, label), several in sorted(grouped.items(), key=lambda item: item[0]):
        places = np.sort(random.permutation(len(several))[: asked.most])
        picked += [(label, *several[place]) for place in places]
    return picked


def _windows(picked: Sequence[tuple[str, Row, int, Values]], table: Table) -> Windows:
    watts = np.array([one[3] for one in picked])
    tdp_w = np.array([float(STATED_W[one[1]["gpu"]]) for one in picked])
    rows = np.zeros((len(picked), 0))
    for stated in np.unique(tdp_w):
        these = tdp_w == stated
        found = columns(table, float(stated), watts[these])
        if not rows.shape[1]:
            rows = np.zeros((len(picked), found.shape[1]))
        rows[these] = found

    def named(key: str) -> NDArray[np.str_]:
        return np.array([one[1][key] or "" for one in picked])

    numbers = [one[1]["params_b"] for one in picked]
    return Windows(
        watts=watts,
        rows=rows,
        label=np.array([one[0] for one in picked]),
        session=named("session"),
        source=named("source"),
        trace=named("trace_id"),
        gpu=named("gpu"),
        model=named("model"),
        family=named("family"),
        quant=named("quant"),
        billions=np.array([np.nan if one is None else float(one) for one in numbers]),
        tdp_w=tdp_w,
        start_s=np.array([one[2] / 1e9 for one in picked]),
    )
