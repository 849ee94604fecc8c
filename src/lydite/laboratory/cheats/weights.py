"""Providers whose weights are not the declared ones: rounded, cut, or trained on.

Each changes a copy of the declared model in memory. Knows nothing of requests.
"""

import inspect
import json.decoder
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn.functional import cross_entropy, linear

from lydite.engines.codec import DirectoryCodec
from lydite.engines.protocol import Engine
from lydite.engines.transformers_engine import TransformersEngine, load_model
from lydite.laboratory.cheats.fronts import Workshop

INT4_GROUP = 32
FP8_MOST = 448.0
"""The largest number that e4m3 has."""
TUNING_STEPS, TUNING_RATE, TUNING_TOKENS = 3, 5e-5, 256
ADAPTER_RANK, ADAPTER_STEPS, ADAPTER_RATE, ADAPTER_SEED = 4, 8, 1e-3, 7
ADAPTED = ("q_proj", "v_proj")
"""The layers that a low-rank adapter usually changes."""


def altered(workshop: Workshop, change: Callable[[Any], object]) -> TransformersEngine:
    """Return the declared engine after ``change`` did something to its model."""
    model = load_model(workshop.model, workshop.dtype)
    change(model)
    return TransformersEngine(model, DirectoryCodec(workshop.model), workshop.max_batch)


def quantise(model: Any, levels: int, group: int | None) -> Any:
    """Round every linear layer's weights to -levels..levels steps, and return ``model``.

    Symmetric, to the nearest step, one scale for each ``group`` of inputs (None: each row).
    """
    for module in _linears(model):
        rows = module.weight.data
        width = rows.shape[1]
        size = group if group and width % group == 0 else width
        blocks = rows.float().reshape(rows.shape[0], -1, size)
        step = blocks.abs().amax(-1, keepdim=True).clamp_min(1e-12) / levels
        module.weight.data = ((blocks / step).round() * step).reshape(rows.shape).to(rows.dtype)
    return model


def to_fp8(model: Any) -> Any:
    """Round every linear layer's weights to e4m3, one scale for each row, and return ``model``."""
    for module in _linears(model):
        rows = module.weight.data
        scale = rows.float().abs().amax(-1, keepdim=True).clamp_min(1e-12) / FP8_MOST
        rounded = (rows.float() / scale).to(torch.float8_e4m3fn).float() * scale
        module.weight.data = rounded.to(rows.dtype)
    return model


def int4(workshop: Workshop) -> Engine:
    """Return the declared model in 4 bits."""
    return altered(workshop, lambda model: quantise(model, 7, INT4_GROUP))


def int8(workshop: Workshop) -> Engine:
    """Return the declared model in 8 bits."""
    return altered(workshop, lambda model: quantise(model, 127, None))


def fp8(workshop: Workshop) -> Engine:
    """Return the declared model in fp8."""
    return altered(workshop, to_fp8)


def early_exit(workshop: Workshop) -> Engine:
    """Return the declared model without its last layer."""
    return altered(workshop, shorten)


def shorten(model: Any) -> None:
    """Leave the last layer out; the norm and the output layer stay."""
    body = model.base_model
    body.layers = body.layers[:-1]
    model.config.num_hidden_layers = len(body.layers)


def fine_tune(workshop: Workshop) -> Engine:
    """Return the declared model after a few steps of Adam on local text, in fp32."""
    return _trained(workshop, _tune)


def adapter(workshop: Workshop) -> Engine:
    """Return the declared model with a low-rank adapter, trained on local text and merged."""
    return _trained(workshop, _adapt)


def _linears(model: Any) -> Iterator[torch.nn.Linear]:
    return (module for module in model.modules() if isinstance(module, torch.nn.Linear))


def _trained(workshop: Workshop, train: Callable[[Any, torch.Tensor], None]) -> Engine:
    codec = DirectoryCodec(workshop.model)
    text = codec.encode(inspect.getsource(json.decoder))
    rows = len(text) // TUNING_TOKENS
    ids = torch.tensor(text[: rows * TUNING_TOKENS]).reshape(rows, TUNING_TOKENS)
    model = load_model(workshop.model, "fp32")
    with torch.inference_mode(mode=False), torch.enable_grad():
        train(model, ids)
    model.requires_grad_(False)
    if workshop.dtype == "bf16":
        model.to(torch.bfloat16)
    return TransformersEngine(model, codec, workshop.max_batch)


def _tune(model: Any, ids: torch.Tensor) -> None:
    model.requires_grad_(True)
    _descend(model, ids, list(model.parameters()), TUNING_RATE, TUNING_STEPS)


def _adapt(model: Any, ids: torch.Tensor) -> None:
    """Train ``B`` of ``W + B A``, A random and fixed, then put the sum in place of W."""
    dice = torch.Generator().manual_seed(ADAPTER_SEED)
    parts = []
    for name, module in model.named_modules():
        if name.rpartition(".")[2] in ADAPTED:
            wide, narrow = module.weight.shape
            down = torch.randn(ADAPTER_RANK, narrow, generator=dice) / narrow**0.5
            up = torch.zeros(wide, ADAPTER_RANK, requires_grad=True)
            hook = module.register_forward_hook(_added(up, down))
            parts.append((module, up, down, hook))
    _descend(model, ids, [up for _, up, _, _ in parts], ADAPTER_RATE, ADAPTER_STEPS)
    for module, up, down, hook in parts:
        hook.remove()
        module.weight.data += (up @ down).detach()


def _added(up: torch.Tensor, down: torch.Tensor) -> Callable[..., torch.Tensor]:
    def add(_module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        return output + linear(linear(inputs[0], down), up)

    return add


def _descend(
    model: Any, ids: torch.Tensor, trained: list[torch.Tensor], rate: float, steps: int
) -> None:
    optimizer = torch.optim.Adam(trained, lr=rate)
    for number in range(steps):
        batch = ids[[(2 * number) % len(ids), (2 * number + 1) % len(ids)]]
        logits = model(input_ids=batch, use_cache=False).logits
        loss = cross_entropy(logits[:, :-1].flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
