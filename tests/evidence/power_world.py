"""A site whose telemetry follows the physics, with the work of honest and of dishonest runs."""

import hashlib
from collections.abc import Mapping

import numpy as np

from lydite.evidence.power import declared
from lydite.evidence.power.channels import CHANNELS
from lydite.evidence.power.claims import Claims, Request
from lydite.evidence.power.declared import Deployment, Load, Needs
from lydite.evidence.power.gpus import GPUS
from lydite.evidence.power.reference import Physics
from lydite.evidence.power.shape import Numerics, Shape
from lydite.evidence.power.trace import Series, Trace

LLAMA_8B = Shape(
    layers=32, width=4096, heads=32, kv_heads=8, head_width=128, ffn_width=14336, vocabulary=128256
)
LLAMA_70B = Shape(
    layers=80, width=8192, heads=64, kv_heads=8, head_width=128, ffn_width=28672, vocabulary=128256
)
MIXTRAL = Shape(
    layers=32,
    width=4096,
    heads=32,
    kv_heads=8,
    head_width=128,
    ffn_width=14336,
    vocabulary=32000,
    experts=8,
    active_experts=2,
)
HALF = Numerics(weight_milli_bits=16_000)
EIGHTH = Numerics(weight_milli_bits=8_000)
H200 = GPUS["NVIDIA H200"]
START_US = 1_700_000_000_000_000
ZERO_US = 1_600_000_000_000_000
SECOND = 1_000_000_000


def physical(shape: Shape, load: Load, gpus: int = 2, numerics: Numerics = HALF) -> Needs:
    return declared.needs(Deployment(shape, numerics, H200, gpus, Physics()), load)


def load_of(sequences: float, prompt: int = 256, output: int = 256) -> Load:
    return Load(sequences, prompt + output / 2, prompt, output)


def claims(
    shape: Shape,
    step_s: float,
    *,
    sequences: int = 8,
    seconds: float = 70.0,
    gpus: int = 2,
    numerics: Numerics = HALF,
    speculative: bool = False,
    session: str = "job 1",
    output: int = 256,
    rest_s: float = 0.0,
) -> Claims:
    """Answers of ``output`` tokens at ``step_s`` each, ``sequences`` at once, then a rest."""
    answer_us = round(step_s * (output - 1) * 1e6)
    rows = []
    for lane in range(sequences):
        at = START_US + 1000 * lane
        while at + answer_us <= START_US + (seconds - rest_s) * 1e6:
            name = hashlib.sha256(f"{session} {lane} {at}".encode()).hexdigest()
            rows.append(
                Request(
                    receipt=name,
                    tenant=f"tenant {lane % 2}",
                    received_us=at,
                    first_us=at + 500,
                    completed_us=at + answer_us,
                    prompt_tokens=256,
                    output_tokens=output,
                )
            )
            at += answer_us
    return Claims(
        provider="provider",
        session=session,
        gpu=H200.name,
        gpus=gpus,
        model="model",
        shape=shape,
        numerics=numerics,
        speculative=speculative,
        zero_us=ZERO_US,
        start_us=START_US,
        end_us=START_US + round(seconds * 1e6),
        requests=tuple(rows),
    )


def trace(
    watts: float,
    *,
    seconds: float = 70.0,
    device: str = H200.name,
    rest_w: float = 119.0,
    rest_s: float = 0.0,
    counter: bool = True,
    also: Mapping[str, float] | None = None,
    resting: Mapping[str, float] | None = None,
) -> Trace:
    """Telemetry at 10 Hz: ``watts`` of work, then ``rest_w`` of rest."""
    t_ns = (START_US - ZERO_US) * 1000 + np.arange(0, round(seconds * 10) + 1) * (SECOND // 10)
    busy = t_ns < t_ns[0] + round((seconds - rest_s) * SECOND)
    power = np.where(busy, watts, rest_w)
    rows = {"power_average_w": power}
    if counter:
        rows["energy_j"] = 1e6 + np.concatenate([[0.0], np.cumsum(power[:-1] * 0.1)])
    for name, value in (also or {}).items():
        rows[name] = np.where(busy, value, (resting or {}).get(name, 0.0))
    series = {name: Series(CHANNELS[name], t_ns.copy(), row) for name, row in rows.items()}
    return Trace(device, series)


def run(shape: Shape, served: Shape, **also: object) -> tuple[Claims, list[Trace]]:
    """A run declared as ``shape`` in which ``served`` did the work, on two GPUs."""
    needed = physical(served, load_of(8))
    made = claims(shape, needed.time_s, **also)  # type: ignore[arg-type]
    return made, [trace(needed.power_w), trace(needed.power_w)]
