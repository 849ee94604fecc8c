"""Honest providers that compute alike and not equally: none of them may ever be accused.

The declared model and sampler, in every way that an honest stack runs them: other data types,
batches, threads, kernels, and orders of adding up. What calibrations must cover. Knows nothing of
cheats.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import linear

from lydite.engines.protocol import Engine
from lydite.engines.transformers_engine import Dtype, TransformersEngine
from lydite.laboratory.cheats.fronts import Workshop
from lydite.laboratory.cheats.weights import altered

CHUNK_TOKENS = 16
_SUMMING = ("o_proj", "down_proj")


def chunk_prefill(model: Any) -> None:
    """Read prompts ``CHUNK_TOKENS`` tokens at a time."""
    forward = model.forward

    def chunked(**options: Any) -> Any:
        ids, cache = options["input_ids"], options.get("past_key_values")
        width = ids.shape[1]
        if cache is None or width <= CHUNK_TOKENS:
            return forward(**options)
        before = options["attention_mask"].shape[1] - width
        for start in range(0, width, CHUNK_TOKENS):
            here = slice(start, min(start + CHUNK_TOKENS, width))
            output = forward(
                input_ids=ids[:, here],
                attention_mask=options["attention_mask"][:, : before + here.stop],
                position_ids=options["position_ids"][:, here],
                past_key_values=cache,
                logits_to_keep=1,
            )
        return output

    model.forward = chunked


def split_sums(model: Any) -> None:
    """Add up what two machines would each have half of: each half rounded, then their sum."""
    for name, module in model.named_modules():
        if name.rpartition(".")[2] in _SUMMING:
            module.forward = _halves(module)


def _halves(module: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    half = module.in_features // 2

    def add(given: torch.Tensor) -> torch.Tensor:
        left = linear(given[..., :half], module.weight[:, :half])
        return left + linear(given[..., half:], module.weight[:, half:])

    return add


def _kernel(backend: SDPBackend) -> Callable[[Any], None]:
    def use(model: Any) -> None:
        forward = model.forward

        def under(**options: Any) -> Any:
            with sdpa_kernel(backend):
                return forward(**options)

        model.forward = under

    return use


def _run(dtype: Dtype, batch: int, threads: int = 1) -> Callable[[Workshop], TransformersEngine]:
    def make(workshop: Workshop) -> TransformersEngine:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)  # which the thread that decodes keeps
        try:
            return TransformersEngine.load(workshop.model, dtype, batch)
        finally:
            torch.set_num_threads(before)

    return make


def _altered(change: Callable[[Any], None]) -> Callable[[Workshop], Engine]:
    return lambda workshop: altered(workshop, change)


HONEST: Mapping[str, Callable[[Workshop], Engine]] = {
    "bf16/batch-16": _run("bf16", 16),
    "bf16/batch-64": _run("bf16", 64),
    "bf16/batch-1": _run("bf16", 1),
    "bf16/2-threads": _run("bf16", 16, 2),
    "fp32/batch-16": _run("fp32", 16),
    "fp32/batch-64": _run("fp32", 64),
    "fp32/batch-1": _run("fp32", 1),
    "bf16/sdpa-math": _altered(_kernel(SDPBackend.MATH)),
    "bf16/sdpa-flash": _altered(_kernel(SDPBackend.FLASH_ATTENTION)),
    "bf16/chunked-prefill": _altered(chunk_prefill),
    "bf16/split-sums": _altered(split_sums),
}
"""Every honest way to run the declared model that the laboratory knows, by name."""
