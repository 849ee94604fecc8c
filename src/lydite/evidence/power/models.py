"""Shapes of models that are published, as in their configurations. Knows nothing of weights."""

from lydite.errors import ConfigurationError
from lydite.evidence.power.shape import Shape


def _shape(row: str) -> tuple[str, Shape]:
    name, *numbers, marks = row.split()
    layers, width, heads, kv, head, ffn, vocabulary, experts, active = map(int, numbers)
    return name, Shape(
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=kv,
        head_width=head,
        ffn_width=ffn,
        vocabulary=vocabulary,
        experts=experts,
        active_experts=active,
        gated="plain" not in marks,
        tied="tied" in marks,
    )


_ROWS = """
gpt2-xl                48 1600 25 25  64  6400  50257 1 1 plain,tied
gpt-neox-20b           44 6144 64 64  96 24576  50432 1 1 plain
llama-2-7b             32 4096 32 32 128 11008  32000 1 1 -
llama-2-13b            40 5120 40 40 128 13824  32000 1 1 -
llama-2-70b            80 8192 64  8 128 28672  32000 1 1 -
llama-3.2-1b           16 2048 32  8  64  8192 128256 1 1 tied
llama-3.2-3b           28 3072 24  8 128  8192 128256 1 1 tied
llama-3.1-8b           32 4096 32  8 128 14336 128256 1 1 -
llama-3.1-70b          80 8192 64  8 128 28672 128256 1 1 -
mistral-7b-v0.3        32 4096 32  8 128 14336  32768 1 1 -
mixtral-8x7b           32 4096 32  8 128 14336  32000 8 2 -
qwen2.5-0.5b           24  896 14  2  64  4864 151936 1 1 tied
qwen2.5-7b             28 3584 28  4 128 18944 152064 1 1 -
qwen2.5-72b            80 8192 64  8 128 29568 152064 1 1 -
"""
"""Layers, width, heads, heads of keys and values, width of a head, of the feed-forward network,
vocabulary, experts, active ones; then ``tied`` embeddings and ``plain``, not gated, networks."""

MODELS = dict(map(_shape, _ROWS.strip().splitlines()))
"""By name."""


def find(name: str) -> Shape:
    """Return the shape of the model called ``name``.

    Raises:
        ConfigurationError: it is not among those that are known here.
    """
    if name not in MODELS:
        raise ConfigurationError(f"no model is called {name}; there are {', '.join(MODELS)}")
    return MODELS[name]
