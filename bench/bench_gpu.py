"""``make bench-gpu``: digits, sketches and speed of a model of 7 to 8 billion parameters on a GPU.

Weights are random, logits scaled until they are as sure as those of trained models. Honest tokens
are decoded once; then the same tokens are read by every other kernel, batch and cheat. An auditor
reads them in one pass, in bf16 like the provider. Told from honest means: the mean distance of an
answer's residues lies above that of every honest answer of whichever kernel and batch.

Not shown: engines with kernels of their own, trained weights, other GPUs, verdicts by e-values.
``--rehearse`` runs a tiny shape on the processor, in seconds, and writes nothing: its figures
mean nothing. Without CUDA it says so and exits 4.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import NamedTuple

import bench_sketch
import gpu_model
import numpy as np
import report
import torch
from gpu_model import HONEST, LARGE, TINY, Model, Shape, Way
from torch.nn.attention import SDPBackend

from lydite.evidence.activations import attester, verifier
from lydite.evidence.activations import spec as specs
from lydite.evidence.activations.claims import Claims
from lydite.evidence.activations.reference import SKETCH, Reference
from lydite.evidence.activations.spec import Spec
from lydite.evidence.activations.verifier import Taps

NATS = 1.5
"""Mean entropy that logits are scaled to."""
STEPS = 4.0
"""The step of a sketch, in units of the honest spread."""
GOAL_TAP = 0.5
CHEATS = {
    "fp8 weights": Way(weights=gpu_model.fp8),
    "int8 weights": Way(weights=gpu_model.int8),
    "int4 weights": Way(weights=gpu_model.int4),
    "fp8 cache": Way(cache=gpu_model.fp8),
}


class Plan(NamedTuple):
    """How much is run, and where."""

    device: str
    shape: Shape
    answers: int
    prompt: int
    output: int
    turns: int
    """Turns that timed decoding with and without the tap takes."""
    kernels: Mapping[str, Way]


GPU = Plan(
    device="cuda",
    shape=LARGE,
    answers=64,
    prompt=128,
    output=128,
    turns=7,
    kernels={
        "flash": Way(backend=SDPBackend.FLASH_ATTENTION),
        "math": Way(backend=SDPBackend.MATH),
    },
)
REHEARSAL = Plan(
    device="cpu",
    shape=TINY,
    answers=4,
    prompt=8,
    output=8,
    turns=2,
    kernels={"math": Way(backend=SDPBackend.MATH)},
)


class Told(NamedTuple):
    """Honest tokens, and the states that they were decoded from."""

    ids: torch.Tensor
    """(answers, prompt and output)."""
    states: torch.Tensor
    """(answers, output, width)."""


def main() -> int:
    """Measure, print and write ``bench/results/gpu.json``; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rehearse", action="store_true", help="a tiny shape, on the processor")
    rehearsed = parser.parse_args().rehearse
    if not rehearsed and not torch.cuda.is_available():
        print("lydite: error: no CUDA device, so nothing was measured", file=sys.stderr)
        print("lydite: hint: --rehearse runs a tiny shape on the processor", file=sys.stderr)
        return 4
    plan = REHEARSAL if rehearsed else GPU
    model = Model(plan.shape, plan.device)
    prompts = drawn_prompts(plan)
    model.sharpness = sharpness(model, prompts)
    print(f"{model.parameters() / 1e9:.2f} billion parameters, {plan.device}", flush=True)
    told = decode(model, prompts, plan.output)
    rows = [*digit_rows(model, plan, told), *speed_rows(model, plan, told)]
    versions = {} if rehearsed else {"gpu": torch.cuda.get_device_name()}
    report.write("gpu", rows, keep=not rehearsed, versions=versions)
    return 0


def drawn_prompts(plan: Plan) -> torch.Tensor:
    """Return random prompts of one length."""
    dice = torch.Generator().manual_seed(11)
    size = (plan.answers, plan.prompt)
    return torch.randint(plan.shape.vocabulary, size, generator=dice).to(plan.device)


def sharpness(model: Model, prompts: torch.Tensor) -> float:
    """Return what logits have to be multiplied by to have a mean entropy of ``NATS``."""
    logits = model.logits(model.states(prompts[:4])[:, -16:])
    low, high = 1e-3, 1e3
    for _ in range(40):
        middle = (low * high) ** 0.5
        spread = torch.distributions.Categorical(logits=logits * middle).entropy().mean()
        low, high = (middle, high) if float(spread) > NATS else (low, middle)
    return (low * high) ** 0.5


def noise(model: Model, answers: int, position: int) -> torch.Tensor:
    """Return Gumbel noise for one position of every answer, the same whenever it is asked for."""
    dice = torch.Generator(model.device).manual_seed(1000 + position)
    size = (answers, model.shape.vocabulary)
    uniform = torch.rand(size, generator=dice, device=model.device).clamp(1e-9, 1 - 1e-7)
    return -torch.log(-torch.log(uniform))


def decode(model: Model, prompts: torch.Tensor, output: int, *, tap: bool = True) -> Told:
    """Draw ``output`` tokens behind every prompt, token by token, all answers at once.

    ``tap``: keep the states, in room that is there beforehand, as a provider with sketches does.
    """
    answers, start = prompts.shape
    cache = model.cache(answers, start + output)
    ids = torch.empty((answers, start + output), dtype=torch.long, device=model.device)
    ids[:, :start] = prompts
    room = (answers, output if tap else 0, model.shape.width)
    kept = torch.empty(room, dtype=torch.bfloat16, device=model.device)
    state = model.states(prompts, cache)[:, -1:]
    for step in range(output):
        if tap:
            kept[:, step] = state[:, 0]
        noisy = model.logits(state[:, 0]) + noise(model, answers, start + step)
        ids[:, start + step] = noisy.argmax(-1)
        if step + 1 < output:
            at = start + step
            state = model.states(ids[:, at : at + 1], cache, at)
    return Told(ids, kept)


def stepped(model: Model, told: Told, some: int) -> torch.Tensor:
    """Return the states of the first ``some`` answers, decoded one by one over the same tokens."""
    output = told.states.shape[1]
    start = told.ids.shape[1] - output
    found = []
    for answer in told.ids[:some]:
        cache = model.cache(1, len(answer))
        every = [model.states(answer[None, :start], cache)[:, -1:]]
        for at in range(start, len(answer) - 1):
            every.append(model.states(answer[None, at : at + 1], cache, at))
        found.append(torch.cat(every, 1))
    return torch.cat(found)


def recomputed(model: Model, told: Told, way: Way, at_once: int) -> torch.Tensor:
    """Return the states behind every output token, in one pass over ``at_once`` answers each."""
    output = told.states.shape[1]
    some = [
        model.states(told.ids[part, :-1], way=way)[:, -output:]
        for part in gpu_model.blocks(len(told.ids), at_once)
    ]
    return torch.cat(some)


def digit_rows(model: Model, plan: Plan, told: Told) -> list[report.Row]:
    """Return how honest states differ, and which cheats their sketches show."""
    audited = recomputed(model, told, HONEST, 8)
    few = max(2, plan.answers // 8)
    honest = {
        f"decoded, batch {plan.answers}": told.states,
        "decoded, batch 1": stepped(model, told, few),
        "one pass, batch 1": recomputed(model, told, HONEST, 1),
        **{f"one pass, {name}": recomputed(model, told, w, 8) for name, w in plan.kernels.items()},
    }
    rows = []
    spreads = {name: spread(states, audited) for name, states in honest.items()}
    for name, value in spreads.items():
        rows.append(report.row(f"spread of honest states, {name}", value, "of their size"))
        others = otherwise(model, told, honest[name])
        rows.append(report.row(f"tokens drawn otherwise, {name}", others, "%"))
    delta = f"{max(STEPS * max(spreads.values()), 1e-6):.8f}".rstrip("0")
    for coordinates in (8, 16):
        spec = Spec(coordinates=coordinates, delta=delta)  # type: ignore[arg-type]
        rows += found_rows(model, told, audited, honest, spec)
    return rows


def found_rows(
    model: Model,
    told: Told,
    audited: torch.Tensor,
    honest: Mapping[str, torch.Tensor],
    spec: Spec,
) -> list[report.Row]:
    """Return for every cheat how many answers lie above all honest ones, by one kind of sketch."""
    reference = bench_sketch.reference_of(spec, model.shape.width)

    def means(states: torch.Tensor) -> list[float]:
        return [mean_score(told, states, audited, at, reference) for at in range(len(states))]

    by_name = {name: means(states) for name, states in honest.items()}
    line = max(value for values in by_name.values() for value in values)
    usual = statistics.fmean(by_name[next(iter(by_name))])
    rows = []
    for cheat, way in CHEATS.items():
        values = means(recomputed(model, told, way, 8))
        share = 100 * sum(value > line for value in values) / len(values)
        name = f"answers beyond every honest one, {cheat}, {spec.token_bytes} B/token"
        one = report.row(name, share, "%")
        rows.append({**one, "times_honest_score": round(statistics.fmean(values) / usual, 3)})
    return rows


def mean_score(
    told: Told, states: torch.Tensor, audited: torch.Tensor, at: int, reference: Reference
) -> float:
    """Return the mean score of one answer, its sketch made and checked as in earnest."""
    output = told.states.shape[1]
    ids = told.ids[at].tolist()
    names = {"receipt_id": f"answer-{at}", "prompt_ids": tuple(ids[:-output])}
    outputs = tuple(ids[-output:])
    key = specs.key(
        reference.spec, weights_root=reference.weights_root, output_ids=outputs, **names
    )
    sketch = attester.sketch(on_host(states[at]), key, reference.spec)
    claims = Claims(output_ids=outputs, sketch=sketch, **names)
    scores = verifier.verify(claims, Taps(on_host(audited[at])), reference).values(SKETCH)
    return statistics.fmean(scores)


def on_host(states: torch.Tensor) -> np.ndarray:
    """Return states as numpy has them."""
    found: np.ndarray = states.float().cpu().numpy()
    return found


def spread(states: torch.Tensor, audited: torch.Tensor) -> float:
    """Return the root mean square of what states differ by; their own is one."""
    return float((states.float() - audited[: len(states)].float()).square().mean().sqrt())


def otherwise(model: Model, told: Told, states: torch.Tensor) -> float:
    """Return which share of the tokens other states would have drawn, in percent."""
    output = told.states.shape[1]
    start = told.ids.shape[1] - output
    wrong = 0
    for step in range(output):
        noisy = (
            model.logits(states[:, step]) + noise(model, len(told.ids), start + step)[: len(states)]
        )
        wrong += int((noisy.argmax(-1) != told.ids[: len(states), start + step]).sum())
    return 100 * wrong / (output * len(states))


def speed_rows(model: Model, plan: Plan, told: Told) -> list[report.Row]:
    """Return what the tap costs, and how fast answers are audited beside being decoded."""
    rows = []
    output = told.states.shape[1]
    prompts = told.ids[:, :-output]
    passes = plan.answers * output / best(plan, lambda: scored_pass(model, told))
    rows.append(report.row("audited, one bf16 pass with logits", passes, "tokens/s"))
    for batch in (1, plan.answers):
        some = prompts[:batch]
        plain, tapped = turns(plan, model, some, output)
        speed = batch * output / min(plain)
        rows.append(report.row(f"decoded, batch {batch}", speed, "tokens/s"))
        ratio = passes / speed
        rows.append(report.row(f"audited / decoded, batch {batch}", ratio, "times"))
        pairs = zip(plain, tapped, strict=True)
        more = [100 * (slow / fast - 1) for fast, slow in pairs]
        metric = f"tap in the decode loop, batch {batch}"
        one = report.row(metric, statistics.median(more), "%", goal=GOAL_TAP, at_most=True)
        rows.append({**one, "least": round(min(more), 3), "most": round(max(more), 3)})
    return rows


def turns(
    plan: Plan, model: Model, prompts: torch.Tensor, output: int
) -> tuple[list[float], list[float]]:
    """Return the seconds of decoding without and with the tap, turn by turn, after a first one."""
    found: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(plan.turns + 1):
        for tap in (False, True) if turn % 2 else (True, False):
            took = seconds(plan, lambda tap=tap: decode(model, prompts, output, tap=tap))
            if turn:
                found[tap].append(took)
    return found[False], found[True]


def scored_pass(model: Model, told: Told) -> None:
    """Recompute all answers, logits included."""
    output = told.states.shape[1]
    for part in gpu_model.blocks(len(told.ids), 8):
        model.logits(model.states(told.ids[part, :-1])[:, -output:])


def best(plan: Plan, work: Callable[[], object]) -> float:
    """Return the least seconds of some turns."""
    return min(seconds(plan, work) for _ in range(plan.turns))


def seconds(plan: Plan, work: Callable[[], object]) -> float:
    """Return how long ``work`` takes until the device has done it."""
    settle(plan)
    started = perf_counter()
    work()
    settle(plan)
    return perf_counter() - started


def settle(plan: Plan) -> None:
    """Wait for the device."""
    if plan.device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    sys.exit(main())
