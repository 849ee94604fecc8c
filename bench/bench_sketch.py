"""``make bench-sketch``: sketches of activations made, checked and forged, beside TOPLOC's proofs.

One thread, the same 128 states of 4096 bf16 numbers for both. Times are the best of many rounds
that take turns, and hold everything from the tensor to the bytes and back to the scores:
conversion, key, projection. TOPLOC is built from source, or its rows stay empty:

    pip install --no-build-isolation --no-deps --no-binary toploc -t .tools/toploc toploc==0.1.6
"""

import argparse
import importlib
import math
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import report
import torch

from lydite.evidence.activations import attester, verifier
from lydite.evidence.activations import spec as specs
from lydite.evidence.activations.claims import Claims
from lydite.evidence.activations.reference import SKETCH, Reference
from lydite.evidence.activations.spec import Spec
from lydite.evidence.activations.verifier import Taps
from lydite.messages.calibration import Binned, Histogram, Provenance

TOKENS, WIDTH = 128, 4096
BLOCK, TOP = 32, 128
ROOT = "00" * 32
IDS = tuple(range(TOKENS))
TOOLS = Path(__file__).parents[1] / ".tools" / "toploc"
GOAL_MS, GOAL_BYTES = 0.35, 512
RUNS = 10
"""At each turn: the first ones find the caches, and the heap, as the other left them."""
SIGMA = 0.008
LINE = 0.6
"""Mean square of a residue's distance, in steps, between honest answers' 0.146 and 4/3."""
Work = Callable[[], object]


def main() -> None:
    """Measure, print and write ``bench/results/sketch.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=400, help="turns of which the best counts")
    parser.add_argument("--forgeries", type=int, default=10_000, help="forged answers to try")
    options = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(4)
    states = torch.randn(TOKENS, WIDTH, generator=generator).bfloat16()
    toploc = peer()
    works, sizes = ours(states)
    works |= theirs(toploc, states, sizes) if toploc else {}
    best_ms = timed(works, options.rounds)
    rows = [*size_rows(sizes), *time_rows(best_ms), *forged_rows(options.forgeries, toploc)]
    versions = {"toploc": toploc_version()} if toploc else {}
    report.write("sketch", rows, versions=versions)


def peer() -> ModuleType | None:
    """Return TOPLOC, None where it is not installed."""
    sys.path.append(str(TOOLS))
    try:
        return importlib.import_module("toploc")
    except ImportError as error:
        print(f"TOPLOC is not there, so it is left out: {error}", file=sys.stderr)
        return None


def toploc_version() -> str:
    """Return the version in ``.tools``."""
    (found,) = TOOLS.glob("toploc-*.dist-info")
    return found.name.removeprefix("toploc-").removesuffix(".dist-info")


def spec_of(coordinates: int) -> Spec:
    """Return the spec of 2 or 4 bytes a token, its step four times the benign noise."""
    return Spec(coordinates=coordinates, delta="0.032")  # type: ignore[arg-type]


def made(states: torch.Tensor, spec: Spec, receipt_id: str = "bench") -> bytes:
    """Return a sketch as a provider makes it."""
    key = specs.key(spec, receipt_id=receipt_id, weights_root=ROOT, prompt_ids=IDS, output_ids=IDS)
    return attester.sketch(states.float().numpy(), key, spec)


def reference_of(spec: Spec, width: int = WIDTH) -> Reference:
    """Return a Reference Value that scores can be taken against, its histogram a stand-in."""
    one = Histogram(
        name="none",
        responses=2,
        tokens=2,
        tokens_squared=2,
        counts=(2, 0),
        counts_squared=(2, 0),
        crosses=(2, 0),
    )
    return Reference(
        name="bench",
        weights_root=ROOT,
        width=width,
        spec=spec,
        auditor="bench",
        sketch=Binned(edges=(1,), histograms=(one,)),
        inner=None,
        error_ppm=1000,
        sigma_micro=round(SIGMA * 1e6),
        noise_micro=round(SIGMA * 4e6),
        alternatives=(),
        provenance=Provenance(script=ROOT, data=ROOT, prompts=ROOT, versions=()),
    )


def checked(
    sketch: bytes, states: torch.Tensor, reference: Reference, receipt_id: str = "bench"
) -> tuple[int, ...]:
    """Return the scores as an auditor takes them."""
    claim = Claims(receipt_id=receipt_id, prompt_ids=IDS, output_ids=IDS, sketch=sketch)
    return verifier.verify(claim, Taps(states.float().numpy()), reference).values(SKETCH)


def ours(states: torch.Tensor) -> tuple[dict[str, Work], dict[str, int]]:
    """Return what is timed, and how long the sketches are."""
    works: dict[str, Work] = {}
    sizes = {}
    for coordinates in (8, 16):
        spec = spec_of(coordinates)
        sketch, reference = made(states, spec), reference_of(spec)
        name = f"{coordinates // 4} B/token"
        sizes[name] = len(sketch)
        works[f"build, {name}"] = lambda spec=spec: made(states, spec)  # type: ignore[misc]
        works[f"verify, {name}"] = lambda s=sketch, r=reference: checked(s, states, r)  # type: ignore[misc]
    return works, sizes


def theirs(toploc: Any, states: torch.Tensor, sizes: dict[str, int]) -> dict[str, Work]:
    """Return the same of TOPLOC, by the quickest ways of its interface."""
    blocks = list(states.split(BLOCK))
    proofs = toploc.build_proofs_bytes(blocks, 1, TOP, skip_prefill=True)
    sizes["TOPLOC"] = sum(map(len, proofs))
    return {
        "build, TOPLOC": lambda: toploc.build_proofs_bytes(blocks, 1, TOP, skip_prefill=True),
        "verify, TOPLOC": lambda: toploc.verify_proofs_bytes(
            states, proofs, BLOCK, TOP, skip_prefill=True
        ),
    }


def timed(works: Mapping[str, Work], rounds: int) -> dict[str, float]:
    """Return the best time of each, in milliseconds; they take turns."""
    best = dict.fromkeys(works, math.inf)
    for _ in range(rounds):
        for name, work in works.items():
            for _ in range(RUNS):
                started = perf_counter()
                work()
                best[name] = min(best[name], 1000 * (perf_counter() - started))
    return best


def size_rows(sizes: Mapping[str, int]) -> list[report.Row]:
    """Return the rows on bytes."""
    named = [name for name in sizes if name != "TOPLOC"]
    return [
        report.row(
            f"sketch of {TOKENS} x {WIDTH}, {name}",
            sizes[name],
            "bytes",
            goal=GOAL_BYTES,
            at_most=True,
            peer=sizes.get("TOPLOC"),
            peer_name="TOPLOC",
        )
        for name in named
    ]


def time_rows(best_ms: Mapping[str, float]) -> list[report.Row]:
    """Return the rows on time."""
    return [
        report.row(
            name,
            best_ms[name],
            "ms",
            goal=GOAL_MS,
            at_most=True,
            peer=best_ms.get(f"{name.partition(',')[0]}, TOPLOC"),
            peer_name="TOPLOC",
        )
        for name in best_ms
        if "TOPLOC" not in name
    ]


def forgeries(states: torch.Tensor, number: int, spec: Spec) -> bytes:
    """Return what a provider may send that has not run the model for this request."""
    rng = np.random.default_rng(number)
    size = specs.size_bytes(spec, TOKENS)
    name = f"forged-{number}"
    same = states[:1].expand(TOKENS, -1)
    kinds: tuple[Callable[[], bytes], ...] = (
        lambda: bytes([number % 256]) * size,
        lambda: rng.bytes(size),
        lambda: bytes(size),
        lambda: made(states, spec, name)[: spec.token_bytes] * TOKENS,
        lambda: made(states[torch.from_numpy(rng.permutation(TOKENS))], spec, name),
        lambda: made(states, spec, f"other-{number}"),
        lambda: made(same, spec, name),
        lambda: made(-states, spec, name),
    )
    return kinds[number // 256 % len(kinds) if number % 3 == 0 else number % len(kinds)]()


def forged_rows(count: int, toploc: Any) -> list[report.Row]:
    """Return how many forged answers pass, of ours and of a constant polynomial of TOPLOC's."""
    rows = []
    passed_peer = constant_polynomials(toploc, 500) if toploc else None
    for coordinates in (8, 16):
        spec = spec_of(coordinates)
        reference = reference_of(spec, 256)
        line = 1e6 * 0.032 * math.sqrt(LINE * coordinates)
        passed = 0
        for number in range(count):
            states = torch.randn(TOKENS, 256, generator=torch.Generator().manual_seed(number))
            sketch = forgeries(states, number, spec)
            passed += (
                math.sqrt(
                    np.mean(np.square(checked(sketch, states, reference, f"forged-{number}")))
                )
                < line
            )
        rows.append(
            report.row(
                f"forged sketches that pass, {coordinates // 4} B/token",
                100 * passed / count,
                f"% of {count:,}",
                goal=0,
                at_most=True,
                peer=passed_peer,
                peer_name="TOPLOC, constant polynomials",
            )
        )
    return rows


def constant_polynomials(toploc: Any, count: int) -> float:
    """Return how many percent of blocks accept a proof that names one number for every place."""
    poly = importlib.import_module("toploc.poly")
    passed = 0
    for number in range(count):
        states = torch.randn(BLOCK, WIDTH, generator=torch.Generator().manual_seed(number))
        block = states.bfloat16()
        usual = block.flatten().abs().topk(TOP).values.median()
        bits = int(usual.view(torch.int16).item()) & 0xFFFF
        proof = poly.ProofPoly([bits] + [0] * (TOP - 1), 65497)
        (result,) = toploc.verify_proofs([block], [proof], decode_batching_size=BLOCK, topk=TOP)
        passed += (
            result.exp_mismatches <= 38
            and result.mant_err_mean <= 10
            and result.mant_err_median <= 8
        )
    return 100 * passed / count


if __name__ == "__main__":
    main()
