"""The noise behind every draw, engine by engine: equal inputs give equal noise on any machine.

An adapter is what one engine adds to the logits before it takes the greatest: integers mixed from
the seed and a counter, one logarithm at the end. Any party that knows the seed can compute it
alone. Knows nothing of logits.

Tables of the formulas, which versions of which engine use them, and what made their golden
vectors: ``docs/engines.md``.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lydite.errors import Reason, UnavailableError
from lydite.evidence.tokens.noise import murmur, philox, twister

Row = NDArray[np.float64]

LARGEST = 1000.0
"""Noise is held within this either way, so that sums stay finite where an engine has infinities."""


class Adapter(NamedTuple):
    """How one engine draws its noise."""

    rows: Callable[[int, int, int], Iterator[Row]]
    """From the seed, the index of the last input token, and how many columns there are: standard
    Gumbel noise for every column, shape (columns,), one row for each output token in turn."""
    ranked: bool = False
    """Whether a column is a rank, the most probable token first, where top-k or top-p is on;
    elsewhere, and for all other engines, it is the token's id."""


ADAPTERS: Mapping[str, Adapter] = {
    "lydite/v1": Adapter(murmur.lydite),
    "sglang-murmur3": Adapter(murmur.sglang, ranked=True),
    "vllm-cpu": Adapter(twister.vllm_cpu),
    "vllm-mrv2-murmur3": Adapter(murmur.vllm_fp32),
    "vllm-mrv2-murmur3-fp64": Adapter(murmur.vllm_fp64),
    "vllm-mrv2-philox": Adapter(philox.vllm_fp32),
    "vllm-mrv2-philox-fp64": Adapter(philox.vllm_fp64),
    "vllm-v1-torch-cpu": Adapter(twister.vllm_v1),
}
"""Every noise that we can repeat, by the name that declarations and Reference Values give it."""


def adapter(name: str) -> Adapter:
    """Return the adapter called ``name``.

    Raises:
        UnavailableError: we cannot repeat that sampler's noise (``Reason.UNKNOWN_SAMPLER``).
    """
    known = ADAPTERS.get(name)
    if known is None:
        raise UnavailableError(
            f"sampler {name!r} is not one of {', '.join(ADAPTERS)}", Reason.UNKNOWN_SAMPLER
        )
    return known


def rows(name: str, seed: int, last: int, columns: int) -> Iterator[Row]:
    """Yield the noise of each output token in turn, every value finite; as ``Adapter.rows``.

    Raises:
        UnavailableError: we cannot repeat that sampler's noise (``Reason.UNKNOWN_SAMPLER``).
    """
    return (np.clip(row, -LARGEST, LARGEST) for row in adapter(name).rows(seed, last, columns))
