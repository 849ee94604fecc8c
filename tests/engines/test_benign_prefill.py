"""Chunked prefill and a cached prefix compute the same model, as near to the auditor as any."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import DynamicCache

from lydite.engines.transformers_engine import TransformersEngine, load_model
from tests.engines.answering import SMALL

ROUNDING = 1e-4
"""Logits by which float32 may differ from itself; 8e-6 was seen."""
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
def test_a_prompt_in_chunks_is_no_farther_from_the_auditor_than_one_in_one_piece(
    dtype: Any, sizes: list[int]
) -> None:
    engine = TransformersEngine.load(SMALL, "fp32", 1)
    ids = engine.codec.encode(TEXT)[:160]
    ours = engine.recompute(ids[:1], ids[1:]).logits.astype(np.float64)
    engine.close()
    model = load_model(SMALL, dtype)
    whole, chunked = (farthest(in_chunks(model, ids[:-1], way) - ours) for way in ([], sizes))
    assert chunked <= 1.1 * whole + ROUNDING


def farthest(gaps: np.ndarray) -> float:
    """The quantile of the differences that calibration calls noise, in logits."""
    return float(np.quantile(np.abs(gaps - gaps.mean(axis=1, keepdims=True)), 0.9999))
