"""Record the noise and the draws of engines that are not ours, by the engines' own code.

    TRITON_INTERPRET=1 .tools/vllm/bin/python -m tests.outside.record_noise

runs in vLLM's environment, without a server, and writes tests/vectors/noise.json. Triton kernels
run in Triton's interpreter, so no GPU is needed: integers and formulas are the engine's, single
precision is numpy's. Where the engine itself is not at hand its formula is written out below, on
the library functions that it calls: SGLang's, and vLLM's of before 0.32.
"""

import importlib.util
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import triton
import triton.language as tl

ROOT = Path(__file__).parents[2]
OUT = ROOT / "tests" / "vectors" / "noise.json"
SEEDS = (0, 7, 2**40 + 5, 6822318947648335885, 2**63 - 1)
LAST = 5
STEPS = 6
COLUMNS = 12
DRAWS: tuple[dict[str, Any], ...] = (
    {},
    {"temperature": 0.7},
    {"temperature": 1.3, "top_k": 5},
    {"top_p": 0.8},
    {"temperature": 0.8, "top_k": 6, "top_p": 0.9},
)
Row = list[float]


def vllm_gumbel() -> Any:
    """vLLM's module of Triton kernels, without vLLM: it would hide Triton where no GPU is."""
    found = importlib.util.find_spec("vllm")
    assert found is not None
    assert found.submodule_search_locations
    names = types.ModuleType("vllm.triton_utils")
    names.tl, names.triton = tl, triton  # type: ignore[attr-defined]
    sys.modules["vllm.triton_utils"] = names
    path = Path(found.submodule_search_locations[0]) / "v1/worker/gpu/sample/gumbel.py"
    spec = importlib.util.spec_from_file_location("recorded_gumbel", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    del sys.modules["vllm.triton_utils"]
    return module


GUMBEL = vllm_gumbel()
murmur3_hash32, murmur3_uniform32 = GUMBEL.murmur3_hash32, GUMBEL.murmur3_uniform32
murmur3_uniform64, log1p_neg_stable = GUMBEL.murmur3_uniform64, GUMBEL._log1p_neg_stable


@triton.jit
def hash_kernel(out, seed_ptr, pos_ptr, size: tl.constexpr):
    column = tl.arange(0, size)
    hashed = murmur3_hash32(tl.load(seed_ptr), tl.load(pos_ptr), column)
    tl.store(out + column, hashed.to(tl.int64))


@triton.jit
def murmur_kernel(out, seed_ptr, pos_ptr, size: tl.constexpr):
    column = tl.arange(0, size)
    uniform = murmur3_uniform32(tl.load(seed_ptr), tl.load(pos_ptr), column)
    tl.store(out + column, -tl.log(-log1p_neg_stable(uniform)))


@triton.jit
def murmur64_kernel(out, seed_ptr, pos_ptr, size: tl.constexpr):
    column = tl.arange(0, size)
    uniform = murmur3_uniform64(tl.load(seed_ptr), tl.load(pos_ptr), column)
    tl.store(out + column, -tl.log(-tl.log(uniform)))


@triton.jit
def philox_kernel(out, seed_ptr, pos_ptr, size: tl.constexpr):
    column = tl.arange(0, size)
    uniform = tl.rand(tl.randint(tl.load(seed_ptr), tl.load(pos_ptr)), column)
    tl.store(out + column, tl.maximum(uniform, 4.6566127342e-10))


@triton.jit
def philox64_kernel(low, high, seed_ptr, pos_ptr, size: tl.constexpr):
    column = tl.arange(0, size)
    first, second, _, _ = tl.randint4x(tl.randint(tl.load(seed_ptr), tl.load(pos_ptr)), column)
    tl.store(low + column, first.to(tl.uint32, bitcast=True).to(tl.int64))
    tl.store(high + column, second.to(tl.uint32, bitcast=True).to(tl.int64))


def run(kernel: Any, outs: int, dtype: torch.dtype, seed: int, position: int) -> list[Any]:
    made = [torch.zeros(16, dtype=dtype) for _ in range(outs)]
    kernel[(1,)](*made, torch.tensor([seed]), torch.tensor([position]), size=16)
    return made


def murmur(seed: int, position: int) -> torch.Tensor:
    return run(murmur_kernel, 1, torch.float32, seed, position)[0]


def murmur64(seed: int, position: int) -> torch.Tensor:
    return run(murmur64_kernel, 1, torch.float64, seed, position)[0]


def philox(seed: int, position: int) -> torch.Tensor:
    uniform = run(philox_kernel, 1, torch.float32, seed, position)[0]
    return -torch.log(-torch.log1p(-uniform))


def philox64(seed: int, position: int) -> torch.Tensor:
    low, high = run(philox64_kernel, 2, torch.int64, seed, position)
    whole = [(int(h) << 32 | int(one)) * 2.0**-64 for one, h in zip(low, high, strict=True)]
    return -torch.log(-torch.log(torch.tensor(whole, dtype=torch.float64)))


def sglang(seed: int, position: int) -> torch.Tensor:
    hashed = run(hash_kernel, 1, torch.int64, seed, position)[0]
    x = (hashed & 0xFFFFFFFF).to(torch.float64) / torch.iinfo(torch.uint32).max
    x.log_().clamp_(min=torch.finfo(x.dtype).min).neg_()
    return x.log_().neg_()


COUNTED: dict[str, Callable[[int, int], torch.Tensor]] = {
    "sglang-murmur3": sglang,
    "vllm-mrv2-murmur3": murmur,
    "vllm-mrv2-murmur3-fp64": murmur64,
    "vllm-mrv2-philox": philox,
    "vllm-mrv2-philox-fp64": philox64,
}


def exponential(seed: int) -> list[Row]:
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.empty(COLUMNS).exponential_(generator=generator) for _ in range(STEPS)]
    return [(-torch.log(row)).tolist() for row in rows]


def noise() -> list[dict[str, Any]]:
    cases = []
    for seed in SEEDS:
        made = {
            name: [of(seed, LAST + step)[:COLUMNS].tolist() for step in range(STEPS)]
            for name, of in COUNTED.items()
        }
        for name, rows in {**made, "vllm-v1-torch-cpu": exponential(seed)}.items():
            cases.append({"sampler": name, "seed": str(seed), "last": LAST, "rows": rows})
    return cases


def filtered(logits: torch.Tensor, asked: dict[str, Any]) -> torch.Tensor:
    """What vLLM hands to its samplers: divided by the temperature, then masked."""
    from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_top_p_pytorch

    k, p = asked.get("top_k"), asked.get("top_p")
    return apply_top_k_top_p_pytorch(
        logits / asked.get("temperature", 1.0),
        None if k is None else torch.tensor([k]),
        None if p is None else torch.tensor([p]),
        allow_cpu_sync=True,
    )


def sampled(name: str, seed: int, masked: list[torch.Tensor]) -> list[int]:
    """The tokens that vLLM's own samplers draw from masked logits, one step after another."""
    from vllm.platforms import current_platform
    from vllm.v1.sample.ops.topk_topp_sampler import TopKTopPSampler, random_sample

    current_platform.import_kernels()
    generators = {0: torch.Generator().manual_seed(seed)}
    if name == "vllm-cpu":
        sampler = TopKTopPSampler()
        return [int(sampler.forward_cpu(row, generators, None, None)[0]) for row in masked]
    if name == "vllm-v1-torch-cpu":
        return [int(random_sample(row.softmax(-1), generators)) for row in masked]
    zero = torch.zeros(1, dtype=torch.int64)
    return [
        int(
            GUMBEL.gumbel_sample(
                row, zero, torch.ones(1), torch.tensor([seed]), zero + LAST + step, True, False,
                use_fp64=name.endswith("fp64"),
            )
        )
        for step, row in enumerate(masked)
    ]  # fmt: skip


def draws() -> list[dict[str, Any]]:
    cases = []
    dice = torch.Generator().manual_seed(20)
    names = ("vllm-cpu", "vllm-v1-torch-cpu", "vllm-mrv2-murmur3", "vllm-mrv2-murmur3-fp64")
    for name in names:
        for index, asked in enumerate(DRAWS):
            seed = SEEDS[index]
            rows = [(2 * torch.randn(1, 40, generator=dice)).round(decimals=3) for _ in range(12)]
            tokens = sampled(name, seed, [filtered(row.clone(), asked) for row in rows])
            cases.append(
                {
                    "sampler": name,
                    "seed": str(seed),
                    "last": LAST,
                    "sampling": asked,
                    "logits": [[round(v, 3) for v in row[0].tolist()] for row in rows],
                    "tokens": tokens,
                }
            )
    return cases


def main() -> None:
    record = {
        "about": "noise of engines, first output token first, and what vLLM draws",
        "made_with": [f"torch {torch.__version__}", f"triton {triton.__version__}", "vllm 0.32.0"],
        "noise": noise(),
        "draws": draws(),
    }
    text = json.dumps(record)
    OUT.write_text(text.replace('{"sampler"', '\n{"sampler"') + "\n", "utf-8")


if __name__ == "__main__":
    main()
