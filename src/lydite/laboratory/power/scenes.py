"""What the demonstration of power plays: recorded sessions, and made-up ones that say so.

A scene is a run of telemetry, with the work that was declared for it where there is some. Recorded
ones come from a folder of measured traces, or from the excerpts in the repository. Knows nothing of
how scenes are played or judged.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lydite.errors import UnavailableError
from lydite.evidence.power import declared, models
from lydite.evidence.power.channels import CHANNELS
from lydite.evidence.power.claims import Claims, Request
from lydite.evidence.power.declared import Deployment, Load
from lydite.evidence.power.gpus import GPUS
from lydite.evidence.power.reference import Physics
from lydite.evidence.power.shape import Numerics, Shape
from lydite.evidence.power.trace import Series, Trace
from lydite.laboratory.power import serving, traces

SECONDS = 70
EXCERPTS = Path("data/power/dev")
MINER_W = 350.0
_HZ = 10
_SECOND = 1_000_000_000
_H200 = GPUS["NVIDIA H200"]
_HALF = Numerics(weight_milli_bits=16_000)
_ANSWER = 256
_ZERO_US = 10**12


class Scene(NamedTuple):
    """One session."""

    name: str
    origin: str
    """``measured`` and by whom, or ``synthetic``."""
    tdp_w: int
    traces: tuple[Trace, ...]
    claims: Claims | None
    """The work that was declared, if any was."""
    odd: bool
    """Whether it should raise the rate of audits."""


def measured(place: Path) -> Iterator[Scene]:
    """Yield scenes from a folder of measured traces; one that it lacks is left out."""
    for name, wanted, tdp_w in _WANTED:
        found = next(_matching(place, wanted), None)
        if found is not None:
            yield Scene(name, f"measured, {found[0]}", tdp_w, (found[1],), None, odd=False)
    for step in serving.steps(place):
        if step.name.startswith("exp7_B_H200x2"):
            yield from _served(place, step)


def excerpts(folder: Path) -> Iterator[Scene]:
    """Yield scenes from the excerpts in the repository; none where they are not."""
    from lydite.monitor.store import samples

    for path in sorted(folder.glob("*.parquet")):
        origin = "measured, AMD MI300X, Apache-2.0"
        yield Scene(path.stem, origin, 750, (samples.read(path),), None, odd=False)


def made_up() -> Iterator[Scene]:
    """Yield scenes that no sensor saw, from published means and from the physics of the check."""
    generator = np.random.default_rng(20)
    busy = {"sm_active": 0.88, "tensor_active": 0.58, "dram_active": 0.37}
    yield _alone("training", _trace(generator, 689.0, 40.0, busy), odd=False)
    filled = {"sm_active": 0.95, "tensor_active": 0.62, "dram_active": 0.30}
    yield _alone("masked training", _trace(generator, 650.0, 5.0, filled), odd=False)
    hashing = {"sm_active": 1.0, "tensor_active": 0.0, "integer_active": 0.8}
    yield _alone("miner", _trace(generator, MINER_W, 4.0, hashing),
                 odd=True)  # fmt: skip
    large, small = models.find("llama-3.1-70b"), models.find("llama-3.1-8b")
    yield declared_run(generator, "70B declared, 70B served", large, large)
    yield declared_run(generator, "70B declared, 8B served", large, small)
    miner = "70B served, a miner between requests"
    yield declared_run(generator, miner, large, large, rest_s=30.0)


_WANTED: Sequence[tuple[str, Mapping[str, str], int]] = (
    ("inference", {"trace_id": "eve-exp3_llama8b_thermal_H100_11867856-g0"}, 700),
    ("speculative inference", {"trace_id": "ath-i4-g0"}, 700),
    ("training", {"trace_id": "ath-t2-g0"}, 700),
    ("training, accumulated", {"trace_id": "ath-t3-g0"}, 700),
    ("masked training", {"workload": "training_masked_burn"}, 250),
    ("idle, model loaded", {"trace_id": "ath-b1-g0"}, 700),
)


def _matching(place: Path, wanted: Mapping[str, str]) -> Iterator[tuple[str, Trace]]:
    from lydite.monitor.importing import development

    def chosen(row: Mapping[str, Any]) -> bool:
        return all(row[name] == value for name, value in wanted.items())

    for found in development.traces(place, chosen):
        start = (found.trace.start_ns + found.trace.end_ns) // 2
        end = min(start + SECONDS * _SECOND, found.trace.end_ns)
        yield found.origin.source, found.trace.between(start, end)


def _served(place: Path, step: serving.Step) -> Iterator[Scene]:
    """Yield a measured run on two GPUs as declared, or two of 8B declared as one of 70B."""
    cheats = step.instances == 2
    large = models.find("llama-3.1-70b")
    said = step._replace(instances=1)
    run = serving.declare(said, 60, large, _HALF)
    for sampled in serving.windows(place, step, 60):
        name = f"70B declared, {'8B' if cheats else '70B'} served"
        origin = "measured, eve123xy/power-traces-browser"
        yield Scene(name, origin, 700, tuple(sampled), run, odd=cheats)
        return


def _alone(name: str, trace: Trace, *, odd: bool) -> Scene:
    return Scene(name, "synthetic", _H200.tdp_w, (trace,), None, odd=odd)


def declared_run(
    generator: np.random.Generator,
    name: str,
    said: Shape,
    served: Shape,
    *,
    rest_s: float = 0.0,
    pace: float = 1.0,
) -> Scene:
    """Return a run on two GPUs whose telemetry follows the physics of what was served.

    Its answers take ``pace`` times as long as predicted.
    """
    load = Load(8, 384, 256, _ANSWER)
    needed = declared.needs(Deployment(served, _HALF, _H200, 2, Physics()), load)
    idle = {"sm_active": 0.0, "tensor_active": 0.0, "integer_active": 0.0}
    mining = {"sm_active": 1.0, "tensor_active": 0.0, "integer_active": 0.8}
    busy = {"sm_active": 0.24, "tensor_active": 0.04, "integer_active": 0.1}
    seen = tuple(
        _trace(
            generator,
            needed.power_w,
            8.0,
            busy,
            rest=(rest_s, MINER_W, mining) if rest_s else (0.0, 119.0, idle),
        )
        for _ in range(2)
    )
    claims = _work(name, said, needed.time_s * pace, SECONDS - rest_s)
    return Scene(name, "synthetic", _H200.tdp_w, seen, claims, odd=said != served or rest_s > 0)


def _trace(
    generator: np.random.Generator,
    watts: float,
    spread: float,
    channels: Mapping[str, float],
    rest: tuple[float, float, Mapping[str, float]] = (0.0, 0.0, {}),
) -> Trace:
    """Return telemetry at 10 Hz about these means; its last seconds are ``rest``."""
    rest_s, rest_w, rest_means = rest
    t_ns = np.arange(SECONDS * _HZ + 1, dtype=np.int64) * (_SECOND // _HZ)
    busy = t_ns <= (SECONDS - rest_s) * _SECOND
    power = np.where(busy, watts, rest_w) + generator.normal(0.0, spread, len(t_ns))
    rows = {"power_average_w": power}
    rows["energy_j"] = np.concatenate([[0.0], np.cumsum(power[:-1] / _HZ)])
    for name, mean in channels.items():
        level = np.where(busy, mean, rest_means.get(name, 0.0))
        rows[name] = np.clip(level + generator.normal(0.0, 0.004, len(t_ns)), 0.0, 1.0)
    return Trace(
        _H200.name,
        {name: Series(CHANNELS[name], t_ns.copy(), row) for name, row in rows.items()},
    )


def _work(session: str, shape: Shape, pace_s: float, seconds: float) -> Claims:
    """Return eight answers at once, one after another, for so many seconds."""
    answer_us = round(pace_s * (_ANSWER - 1) * 1e6)
    end_us = _ZERO_US + round(seconds * 1e6)
    requests = [
        Request(
            receipt=hashlib.sha256(f"{session} {lane} {at}".encode()).hexdigest(),
            tenant=("ada", "ben")[lane % 2],
            received_us=at,
            first_us=at,
            completed_us=at + answer_us,
            prompt_tokens=256,
            output_tokens=_ANSWER,
        )
        for lane in range(8)
        for at in range(_ZERO_US, end_us - answer_us + 1, answer_us)
    ]
    return Claims(
        provider="demo",
        session=session,
        gpu=_H200.name,
        gpus=2,
        model="llama-3.1-70b",
        shape=shape,
        numerics=_HALF,
        zero_us=_ZERO_US,
        start_us=_ZERO_US,
        end_us=_ZERO_US + SECONDS * 1_000_000,
        requests=tuple(requests),
    )


def gather(place: Path | None, folder: Path, say: Callable[[str], None]) -> list[Scene]:
    """Return every scene that can be had, and say which cannot, and why.

    ``place`` is a folder of measured traces; without one it is looked for (``traces.folder``).
    """
    found: list[Scene] = []
    try:
        found += measured(place or traces.folder())
    except UnavailableError as error:
        say(f"skipped: third-party sessions: {error}")
    kept = list(excerpts(folder))
    if not kept:
        say(f"skipped: excerpts: {folder} holds none")
    say("skipped: a measured miner: nobody has published one, so this one is made up")
    return [*found, *kept, *made_up()]
