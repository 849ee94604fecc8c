"""Runs of a measured vLLM server (third-party traces, read in place), as declared work and traces.

Token times come from the runs' own statistics, so within a run tokens are evenly spaced here; power
is as it was sampled. Nothing of these traces is copied, and nothing that ships is fitted on them.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from lydite.evidence.power import gpus, models
from lydite.evidence.power.channels import CHANNELS
from lydite.evidence.power.claims import Claims, Request
from lydite.evidence.power.shape import Numerics, Shape
from lydite.evidence.power.trace import Series, Trace

SECOND = 1_000_000_000
ANSWER_TOKENS = 256
_SETTLE_S = 5
_ZERO_US = 10**12
_SHAPES = {
    "Qwen2.5-0.5B": "qwen2.5-0.5b",
    "Qwen2.5-7B": "qwen2.5-7b",
    "Qwen2.5-72B": "qwen2.5-72b",
    "R1-Distill-Qwen-7B": "qwen2.5-7b",
    "R1-Distill-Llama-8B": "llama-3.1-8b",
    "Llama-3.2-3B": "llama-3.2-3b",
    "Llama-3.1-8B": "llama-3.1-8b",
    "Llama-3.1-70B": "llama-3.1-70b",
    "Mixtral-8x7B": "mixtral-8x7b",
}
_BITS = {"none": 16_000, "fp8": 8_000, "gptq-int4": 4_250}


class Step(NamedTuple):
    """One measured configuration of the server."""

    name: str
    session: str
    experiment: str
    gpu: str
    gpus: int
    instances: int
    """Copies of the model that ran at once, each on its own GPUs."""
    model: str
    bits: int
    concurrency: int
    prompt_tokens: int
    time_s: float
    joules: float | None
    """For each token, by the source."""
    watts: float
    trace_ids: tuple[str, ...]
    """Empty where several steps share a trace."""

    @property
    def numerics(self) -> Numerics:
        """Return what its weights take."""
        return Numerics(weight_milli_bits=self.bits)

    @property
    def shape(self) -> Shape:
        """Return what its model is made of."""
        return models.find(self.model)


def steps(place: Path) -> list[Step]:
    """Return the configurations whose time for each token was measured."""
    rows = pq.read_table(place / "llm_runs.parquet").to_pylist()
    return [_step(row) for row in rows if row["tpot_p50_ms"]]


def _step(row: dict[str, Any]) -> Step:
    alone = "x1_" in row["step"]  # two GPUs recorded, one at work
    several = "dual" in row["step"]
    return Step(
        name=row["step"],
        session=row["session"],
        experiment=row["experiment"],
        gpu=row["gpu"],
        gpus=1 if alone else row["n_gpus"],
        instances=2 if several else 1,
        model=next(
            name for part, name in _SHAPES.items() if part in row["model"].replace("Meta-", "")
        ),
        bits=_BITS[row["quant"]],
        concurrency=int(row["concurrency"]),
        prompt_tokens=int(row["context_len"]),
        time_s=row["tpot_p50_ms"] / 1000,
        joules=row["energy_per_token_mj"] / 1000 or None,
        watts=row["power_mean_w"],
        trace_ids=() if row["steps_on_trace"] > 1 else tuple(row["trace_ids"].split(",")),
    )


def windows(place: Path, step: Step, seconds: int) -> Iterator[list[Trace]]:
    """Yield the GPUs' telemetry in each whole window of ``seconds`` while the step ran."""
    used = step.trace_ids[: step.gpus]
    if not used:
        return
    names = pq.read_table(place / "nvml_llm.parquet", filters=[("trace_id", "in", used)])
    columns = {name: np.array(names[name].to_pylist()) for name in ("trace_id", "phase")}
    t_s, watts = names["t_s"].to_numpy(), names["power_w"].to_numpy()
    at = [
        np.flatnonzero((columns["trace_id"] == each) & (columns["phase"] == "inference"))
        for each in used
    ]
    if not all(map(len, at)):
        return
    start = max(t_s[rows[0]] for rows in at) + _SETTLE_S
    end = min(t_s[rows[-1]] for rows in at) - 1
    while start + seconds <= end:
        yield [_trace(step.gpu, t_s[rows], watts[rows], start, start + seconds) for rows in at]
        start += seconds


def _trace(gpu: str, t_s: Any, watts: Any, start: float, end: float) -> Trace:
    kept = (t_s >= start - 2) & (t_s <= end + 2)
    t_ns = np.rint(t_s[kept] * SECOND).astype(np.int64) - round(start * SECOND)
    fresh = np.concatenate([[True], np.diff(t_ns) > 0])
    series = Series(CHANNELS["power_average_w"], t_ns[fresh], watts[kept][fresh].astype(np.float64))
    return Trace(f"NVIDIA {gpu}", {"power_average_w": series})


def declare(
    step: Step,
    seconds: int,
    shape: Shape | None = None,
    numerics: Numerics | None = None,
    session: str = "",
    slower: float = 1.0,
) -> Claims:
    """Return the run of ``seconds`` from time nought, declared as another model where one is given.

    ``slower`` stretches the time of every token.
    """
    lanes = max(round(step.concurrency / step.instances), 1)
    answer_us = round(step.time_s * slower * 1e6 * (ANSWER_TOKENS - 1))
    end_us = _ZERO_US + round(seconds * 1e6)
    return Claims(
        provider="third party",
        session=session or step.session,
        gpu=gpus.find(f"NVIDIA {step.gpu}").name,
        gpus=step.gpus // step.instances,
        model=step.model,
        shape=shape or step.shape,
        numerics=numerics or step.numerics,
        zero_us=_ZERO_US,
        start_us=_ZERO_US,
        end_us=end_us,
        requests=tuple(
            _request(step, f"{lane} {at}", at, answer_us)
            for lane in range(lanes)
            for at in range(_ZERO_US - lane * answer_us // lanes, end_us, answer_us)
        ),
    )


def _request(step: Step, name: str, at: int, answer_us: int) -> Request:
    return Request(
        receipt=hashlib.sha256(f"{step.name} {name}".encode()).hexdigest(),
        tenant="all",
        received_us=at,
        first_us=at,
        completed_us=at + answer_us,
        prompt_tokens=step.prompt_tokens,
        output_tokens=ANSWER_TOKENS,
    )
