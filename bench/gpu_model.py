"""A decoder of the common shape with random weights, in plain torch, for timing and digits.

Norms, rotary positions, grouped attention and gated layers, as in open models of 7 to 8 billion
parameters; no file is read. What a cheat does to weights or cache happens where they are used, so
that one copy of the weights serves all. Knows nothing of sketches or scores.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

Change = Callable[[torch.Tensor], torch.Tensor]
FP8_MOST = 448.0
GROUP = 128
"""Weights that share a scale in int4."""


class Shape(NamedTuple):
    """How large the model is."""

    layers: int
    width: int
    heads: int
    shared: int
    """Heads of keys and values."""
    inner: int
    vocabulary: int


LARGE = Shape(layers=32, width=4096, heads=32, shared=8, inner=14336, vocabulary=32000)
TINY = Shape(layers=2, width=128, heads=4, shared=2, inner=256, vocabulary=256)


class Way(NamedTuple):
    """How a pass is computed; the defaults are the honest ones."""

    backend: SDPBackend | None = None
    """The kernel of attention; none leaves the choice to torch."""
    weights: Change | None = None
    cache: Change | None = None


HONEST = Way()


def fp8(tensor: torch.Tensor) -> torch.Tensor:
    """Round each row to eight bits with an exponent (e4m3)."""
    scale = tensor.float().abs().amax(-1, keepdim=True).clamp(min=1e-12) / FP8_MOST
    rounded = (tensor.float() / scale).to(torch.float8_e4m3fn).float()
    return (rounded * scale).to(tensor.dtype)


def int8(tensor: torch.Tensor) -> torch.Tensor:
    """Round each row to eight bits."""
    return _integers(tensor, 127)


def int4(tensor: torch.Tensor) -> torch.Tensor:
    """Round each group of a row to four bits."""
    return _integers(tensor.reshape(-1, min(GROUP, tensor.shape[-1])), 7).reshape(tensor.shape)


def _integers(tensor: torch.Tensor, most: int) -> torch.Tensor:
    scale = tensor.float().abs().amax(-1, keepdim=True).clamp(min=1e-12) / most
    return ((tensor.float() / scale).round() * scale).to(tensor.dtype)


class Model:
    """Random weights in bf16, and passes over them."""

    def __init__(self, shape: Shape, device: str) -> None:
        self.shape, self.device = shape, device
        self.sharpness = 1.0
        """What logits are multiplied by, so that they are as sure as those of trained models."""
        self._generator = torch.Generator(device).manual_seed(7)
        size = shape.width // shape.heads
        narrow, tame = shape.shared * size, (2 * shape.layers) ** -0.5
        self.embedding = self._drawn(shape.vocabulary, shape.width, shape.width**0.5)
        self.head = self._drawn(shape.vocabulary, shape.width)
        self.layers = [
            {
                "queries": self._drawn(shape.width, shape.width),
                "keys": self._drawn(narrow, shape.width),
                "values": self._drawn(narrow, shape.width),
                "out": self._drawn(shape.width, shape.width, tame),
                "gate": self._drawn(shape.inner, shape.width),
                "up": self._drawn(shape.inner, shape.width),
                "down": self._drawn(shape.width, shape.inner, tame),
            }
            for _ in range(shape.layers)
        ]

    def cache(self, answers: int, positions: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return room for keys and values of every layer."""
        size = self.shape.width // self.shape.heads
        room = (answers, self.shape.shared, positions, size)
        empty = {"device": self.device, "dtype": torch.bfloat16}
        return [(torch.zeros(room, **empty), torch.zeros(room, **empty)) for _ in self.layers]

    @torch.inference_mode()
    def states(
        self,
        ids: torch.Tensor,
        cache: list[tuple[torch.Tensor, torch.Tensor]] | None = None,
        start: int = 0,
        way: Way = HONEST,
    ) -> torch.Tensor:
        """Return the final states of ``ids``, (answers, tokens), which stand from ``start`` on.

        One token, or all from the beginning: what lies between needs a mask that nobody asks for.
        """
        stream = self.embedding[ids]
        turn = self._turn(start, ids.shape[1])
        chosen = nullcontext() if way.backend is None else sdpa_kernel(way.backend)
        with chosen:
            for number, layer in enumerate(self.layers):
                room = None if cache is None else cache[number]
                stream = stream + self._attend(layer, _norm(stream), turn, room, start, way)
                stream = stream + self._gated(layer, _norm(stream), way)
        return _norm(stream)

    @torch.inference_mode()
    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Return the logits behind ``states``, in float32."""
        return functional.linear(states, self.head).float() * self.sharpness

    def parameters(self) -> int:
        """Return how many there are."""
        every = [self.embedding, self.head, *(w for layer in self.layers for w in layer.values())]
        return sum(each.numel() for each in every)

    def _attend(
        self,
        layer: dict[str, torch.Tensor],
        stream: torch.Tensor,
        turn: tuple[torch.Tensor, torch.Tensor],
        room: tuple[torch.Tensor, torch.Tensor] | None,
        start: int,
        way: Way,
    ) -> torch.Tensor:
        answers, tokens, _ = stream.shape
        size = self.shape.width // self.shape.heads

        def split(name: str) -> torch.Tensor:
            made = _linear(stream, layer[name], way)
            return made.view(answers, tokens, -1, size).transpose(1, 2)

        queries, keys, values = _turned(split("queries"), turn), split("keys"), split("values")
        keys = _turned(keys, turn)
        if way.cache is not None:
            keys, values = way.cache(keys), way.cache(values)
        if room is not None:
            end = start + tokens
            room[0][:, :, start:end], room[1][:, :, start:end] = keys, values
            keys, values = room[0][:, :, :end], room[1][:, :, :end]
        each = self.shape.heads // self.shape.shared
        found = functional.scaled_dot_product_attention(
            queries,
            keys.repeat_interleave(each, 1),
            values.repeat_interleave(each, 1),
            is_causal=tokens > 1,
        )
        return _linear(found.transpose(1, 2).reshape(answers, tokens, -1), layer["out"], way)

    def _gated(
        self, layer: dict[str, torch.Tensor], stream: torch.Tensor, way: Way
    ) -> torch.Tensor:
        gate = functional.silu(_linear(stream, layer["gate"], way))
        return _linear(gate * _linear(stream, layer["up"], way), layer["down"], way)

    def _turn(self, start: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return cosine and sine of every position's angles."""
        half = self.shape.width // self.shape.heads // 2
        speeds = 10_000.0 ** (-torch.arange(half, device=self.device) / half)
        angles = torch.arange(start, start + tokens, device=self.device)[:, None] * speeds
        return angles.cos().bfloat16(), angles.sin().bfloat16()

    def _drawn(self, rows: int, columns: int, factor: float = 1.0) -> torch.Tensor:
        drawn = torch.empty(rows, columns, device=self.device, dtype=torch.bfloat16)
        return drawn.normal_(0.0, factor * columns**-0.5, generator=self._generator)


def blocks(total: int, size: int) -> Iterator[slice]:
    """Yield slices of at most ``size`` that cover ``total``."""
    return (slice(at, min(at + size, total)) for at in range(0, total, size))


def _norm(stream: torch.Tensor) -> torch.Tensor:
    return functional.rms_norm(stream, stream.shape[-1:], eps=1e-5)


def _linear(stream: torch.Tensor, weight: torch.Tensor, way: Way) -> torch.Tensor:
    return functional.linear(stream, weight if way.weights is None else way.weights(weight))


def _turned(heads: torch.Tensor, turn: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Return queries or keys with their positions turned in."""
    cosine, sine = turn
    first, second = heads.chunk(2, -1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), -1)
