"""What a model is made of, and what follows from that by counting: parameters, bytes, operations.

The arithmetic of decoder-only transformers, dense or with experts. Knows nothing of GPUs.
"""

import math
from typing import Annotated

import msgspec

from lydite.messages.canonical import Message

Size = Annotated[int, msgspec.Meta(ge=1, le=1 << 24)]
Bits = Annotated[int, msgspec.Meta(ge=1000, le=64_000)]
"""Thousandths of a bit, scales and zero points included: 4250 for four bits in groups of 64."""


class Shape(Message, frozen=True, kw_only=True):
    """Sizes of a decoder-only transformer, as in its configuration."""

    layers: Size
    width: Size
    heads: Size
    kv_heads: Size
    head_width: Size
    ffn_width: Size
    """Of one expert, where there are several."""
    vocabulary: Size
    experts: Size = 1
    active_experts: Size = 1
    gated: bool = True
    """Three matrices a feed-forward network, not two."""
    tied: bool = False
    """Input and output embeddings are one matrix."""


class Numerics(Message, frozen=True, kw_only=True):
    """How many bits the numbers of a model take."""

    weight_milli_bits: Bits
    cache_milli_bits: Bits = 16_000
    embedding_milli_bits: Bits = 16_000
    """Embeddings seldom are quantised."""


def attention_parameters(shape: Shape) -> int:
    """Return the weights of attention, all layers."""
    query = 2 * shape.width * shape.heads * shape.head_width
    key_value = 2 * shape.width * shape.kv_heads * shape.head_width
    return shape.layers * (query + key_value)


def expert_parameters(shape: Shape) -> int:
    """Return the weights of one expert, or of the one feed-forward network, all layers."""
    return shape.layers * (3 if shape.gated else 2) * shape.width * shape.ffn_width


def embedding_parameters(shape: Shape) -> int:
    """Return the weights of one embedding matrix."""
    return shape.vocabulary * shape.width


def parameters(shape: Shape) -> int:
    """Return all weights, norms and biases (a thousandth or less) left out."""
    embeddings = embedding_parameters(shape) * (1 if shape.tied else 2)
    return attention_parameters(shape) + shape.experts * expert_parameters(shape) + embeddings


def active_parameters(shape: Shape) -> int:
    """Return the weights that one token is multiplied with; the input embedding is looked up."""
    experts = shape.active_experts * expert_parameters(shape)
    return attention_parameters(shape) + experts + embedding_parameters(shape)


def weight_bytes(shape: Shape, numerics: Numerics) -> float:
    """Return what all weights take in memory."""
    inner = attention_parameters(shape) + shape.experts * expert_parameters(shape)
    outer = parameters(shape) - inner
    bits = inner * numerics.weight_milli_bits + outer * numerics.embedding_milli_bits
    return bits / 8000


def read_bytes(shape: Shape, numerics: Numerics, sequences: float) -> float:
    """Return the bytes of weights that one decode step of ``sequences`` tokens has to read.

    Each of the experts is read once if any token is routed to it: of E experts, k to a token drawn
    evenly, ``E (1 - (1 - k/E)^n)`` on average; routers that prefer some read fewer.
    """
    missed = math.pow(1.0 - shape.active_experts / shape.experts, sequences)
    inner = attention_parameters(shape) + shape.experts * (1.0 - missed) * expert_parameters(shape)
    bits = (
        inner * numerics.weight_milli_bits
        + embedding_parameters(shape) * numerics.embedding_milli_bits
    )
    return bits / 8000


def least_bytes(shape: Shape, numerics: Numerics) -> float:
    """Return the bytes of weights that no decode step can do without: those of one token."""
    return read_bytes(shape, numerics, 1.0)


def cache_bytes(shape: Shape, numerics: Numerics) -> float:
    """Return what one token of context takes in the cache, and reads at each later step."""
    numbers = 2 * shape.layers * shape.kv_heads * shape.head_width
    return numbers * numerics.cache_milli_bits / 8000


def attention_flops(shape: Shape, context: float) -> float:
    """Return the operations by which one new token attends to ``context`` earlier ones."""
    return 4.0 * shape.layers * shape.heads * shape.head_width * context
