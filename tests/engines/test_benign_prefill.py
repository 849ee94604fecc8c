"""Chunked prefill and a cached prefix compute the same model: within the noise of calibration."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import DynamicCache

from lydite.engines.transformers_engine import TransformersEngine, load_model
from lydite.evidence.tokens.reference import parse
from tests.engines.answering import SMALL

REFERENCE = Path("data/reference/tokens/lydite-small.json")
TEXT = "def read(self, size=-1):\n    if self.closed:\n        raise ValueError(name)\n" * 6


@torch.inference_mode()
def in_chunks(model: Any, ids: list[int], sizes: list[int]) -> np.ndarray:
    """Logits at every place, prefilled piece by piece: what is there already stays in the cache."""
    cache, found, at = DynamicCache(), [], 0
    for size in [*sizes, len(ids) - sum(sizes)]:
        chunk = torch.tensor([ids[at : at + size]])
        places = torch.arange(at, at + size)[None]
        output = model(input_ids=chunk, position_ids=places, past_key_values=cache)
        found.append(output.logits[0].float())
        at += size
    return torch.cat(found).numpy().astype(np.float64)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("sizes", [[64], [16, 16, 16, 48], [1, 2, 3, 5, 8, 13, 21]])
def test_a_prompt_in_chunks_moves_logits_by_less_than_honest_machines_differ(
    dtype: Any, sizes: list[int]
) -> None:
    engine = TransformersEngine.load(SMALL, "fp32", 1)
    ids = engine.codec.encode(TEXT)[:160]
    ours = engine.recompute(ids[:1], ids[1:]).logits.astype(np.float64)
    engine.close()
    gaps = in_chunks(load_model(SMALL, dtype), ids[:-1], sizes) - ours
    gaps -= gaps.mean(axis=1, keepdims=True)
    noise = parse(REFERENCE.read_bytes()).noise_micro / 1e6
    assert np.quantile(np.abs(gaps), 0.9999) <= noise
