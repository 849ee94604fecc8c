"""Providers with the declared weights and other arithmetic: a smaller cache, or a bug.

Knows nothing of requests.
"""

from typing import Any

import torch

from lydite.engines.protocol import Engine
from lydite.laboratory.cheats.fronts import Workshop
from lydite.laboratory.cheats.weights import altered

ROPE_BASE = 20_000.0
SHARDS = 8


def fp8_cache(workshop: Workshop) -> Engine:
    """Return the declared model with keys and values kept in e4m3."""
    return altered(workshop, round_cache)


def other_base(workshop: Workshop) -> Engine:
    """Return the declared model with another base of its rotary positions."""
    return altered(workshop, rebase)


def off_by_one(workshop: Workshop) -> Engine:
    """Return the declared model that skips a position between prompt and answer."""
    return altered(workshop, skip_a_position)


def lost_shard(workshop: Workshop) -> Engine:
    """Return the declared model that loses a part of one layer's sum."""
    return altered(workshop, lose_a_shard)


class _RoundedCache:
    """A cache to one attention layer: what goes in is rounded first."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, *rest: Any, **options: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep rounded keys and values, and return all that is kept."""
        kept: tuple[torch.Tensor, torch.Tensor] = self._inner.update(
            _rounded(keys), _rounded(values), *rest, **options
        )
        return kept


def _rounded(numbers: torch.Tensor) -> torch.Tensor:
    return numbers.to(torch.float8_e4m3fn).to(numbers.dtype)


def round_cache(model: Any) -> None:
    """Round what goes into the key-value cache to e4m3, at a scale of one."""

    def narrow(_module: Any, given: tuple[Any, ...], options: dict[str, Any]) -> Any:
        cache = options.get("past_key_values")
        if cache is None:
            return None
        return given, {**options, "past_key_values": _RoundedCache(cache)}

    for layer in model.base_model.layers:
        layer.self_attn.register_forward_pre_hook(narrow, with_kwargs=True)


def rebase(model: Any) -> None:
    """Rotate positions with the base ``ROPE_BASE``."""
    rotary = model.base_model.rotary_emb
    steps = len(rotary.inv_freq)
    rotary.inv_freq = ROPE_BASE ** -(torch.arange(steps, dtype=torch.float32) / steps)


def skip_a_position(model: Any) -> None:
    """Place every token that is decoded alone one position further than it belongs."""

    def shift(_module: Any, given: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if options["input_ids"].shape[1] > 1 or options.get("position_ids") is None:
            return None
        return given, {**options, "position_ids": options["position_ids"] + 1}

    model.register_forward_pre_hook(shift, with_kwargs=True)


def lose_a_shard(model: Any) -> None:
    """Leave the last of ``SHARDS`` shards out of what the middle layer adds up."""
    layers = model.base_model.layers
    summing = layers[len(layers) // 2].mlp.down_proj
    kept = summing.in_features - summing.in_features // SHARDS

    def cut(_module: Any, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        arrived = inputs[0].clone()
        arrived[..., kept:] = 0
        return arrived

    summing.register_forward_pre_hook(cut)
