"""What declared work needs: time, joules, watts, bytes, predicted by roofline physics.

A decode step reads the active weights and the cache once and multiplies them with each sequence's
token; whichever takes longer, memory or matrix units, sets the pace. Knows nothing of measurement.

**Does not show** which model ran: another one of the same bytes and operations needs the same.
"""

import math
from typing import NamedTuple

from lydite.evidence.power import shape as shapes
from lydite.evidence.power.gpus import Gpu
from lydite.evidence.power.reference import MICRO, Fitted, Physics, Quantity
from lydite.evidence.power.shape import Numerics, Shape

GIGA = 1e9
_EIGHT_BITS = 8500
"""Up to so many thousandths of a bit, two numbers fit where the data sheet has one of 16 bits."""


class Deployment(NamedTuple):
    """Which model runs on what."""

    shape: Shape
    numerics: Numerics
    gpu: Gpu
    gpus: int
    physics: Physics


class Load(NamedTuple):
    """The work of a stretch of time, each figure a mean."""

    sequences: float
    """Answers that are being made at once."""
    context: float
    """Tokens that a new one attends to."""
    prompt_tokens: float
    """Of one request."""
    output_tokens: float
    """Of one request."""


class Needs(NamedTuple):
    """What the work needs; energy and power of decoding and the prefill that goes with it."""

    time_s: float
    """Between two tokens of one answer."""
    energy_j: float
    """For each token of output, all GPUs together."""
    power_w: float
    """Of one GPU while requests are open."""
    traffic: float
    """Share of the stated bandwidth of memory."""
    gap_w: float
    """Of one GPU between requests."""
    least_time_s: float
    """No step is faster, unless it yields several tokens: the weights have to be read."""
    least_memory_b: float
    """Of one GPU: the weights have to be somewhere."""


def needs(deployment: Deployment, load: Load) -> Needs:
    """Return what ``load`` needs where ``deployment`` is what runs.

    1. A step reads weights and cache (``shape.read_bytes``), at the share of the bandwidth that
       work attains, and multiplies, at the share of the stated operations that it attains.
    2. Every other request's prefill delays a token: ``sequences / output_tokens`` of one, each.
    3. Joules: what a loaded GPU takes at rest, for that time, plus what memory takes for every
       byte and matrix units for every operation, to the stated power at most.
    """
    shape, numerics, gpu, gpus, physics = deployment
    bandwidth = gpus * gpu.memory_gb_s * GIGA
    eight = numerics.weight_milli_bits <= _EIGHT_BITS
    rate = gpus * (gpu.tflops_8 if eight else gpu.tflops_16) * 1e12
    # 1.
    read = shapes.read_bytes(shape, numerics, load.sequences)
    read += load.sequences * load.context * shapes.cache_bytes(shape, numerics)
    flops = load.sequences * _token_flops(shape, load.context)
    memory_s, matrix_s = read / bandwidth, flops / rate
    attained = memory_s * MICRO / physics.bandwidth_micro, matrix_s * MICRO / physics.compute_micro
    step_s = max(attained) + (physics.step_us + shape.layers * physics.layer_us) / MICRO
    # 2.
    prefill_flops = load.prompt_tokens * _token_flops(shape, load.prompt_tokens / 2)
    prefill_s = prefill_flops / rate
    delayed = load.sequences / load.output_tokens
    time_s = step_s + delayed * prefill_s * MICRO / physics.compute_micro
    # 3.
    loaded_w, memory_w, matrix_w = _watts(gpu, physics)
    busy_s = memory_s, matrix_s + delayed * prefill_s
    joules = (
        loaded_w * time_s + (memory_w - loaded_w) * busy_s[0] + (matrix_w - loaded_w) * busy_s[1]
    )
    joules = min(joules, gpu.tdp_w * time_s)
    return Needs(
        time_s=time_s,
        energy_j=gpus * joules / load.sequences,
        power_w=joules / time_s,
        traffic=memory_s / time_s,
        gap_w=loaded_w,
        least_time_s=shapes.least_bytes(shape, numerics) / bandwidth,
        least_memory_b=shapes.weight_bytes(shape, numerics) / gpus,
    )


def expected_log(fitted: Fitted, deployment: Deployment, load: Load) -> float:
    """Return the logarithm of measured over predicted that honest runs have on average."""
    terms = regressors(deployment, load)
    pairs = zip(fitted.terms_micro, terms, strict=False)
    return math.fsum(term * value for term, value in pairs) / MICRO


def regressors(deployment: Deployment, load: Load) -> tuple[float, float, float, float]:
    """Return what a site's calibration is linear in; see ``reference.Fitted``."""
    read = shapes.read_bytes(deployment.shape, deployment.numerics, load.sequences)
    return 1.0, math.log(load.sequences), math.log(read / GIGA), math.log(max(load.context, 1.0))


def named(wanted: Needs) -> dict[Quantity, float]:
    """Return what is compared with measurements, by name."""
    return {
        "time": wanted.time_s,
        "energy": wanted.energy_j,
        "power": wanted.power_w,
        "traffic": wanted.traffic,
        "gap": wanted.gap_w,
    }


def _token_flops(shape: Shape, context: float) -> float:
    return 2.0 * shapes.active_parameters(shape) + shapes.attention_flops(shape, context)


def _watts(gpu: Gpu, physics: Physics) -> tuple[float, float, float]:
    """Return the watts of one GPU: loaded and at rest, memory saturated, matrix units saturated."""
    shares = physics.loaded_power_micro, physics.memory_power_micro, physics.matrix_power_micro
    loaded, memory, matrix = (gpu.tdp_w * share / MICRO for share in shares)
    return loaded, memory, matrix
