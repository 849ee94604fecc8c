"""Noise from a generator of torch on processors: vLLM's first model runner, and vLLM for CPUs.

Each request has a Mersenne Twister of its own, seeded with the lower 32 bits of its seed, and every
output token takes the next numbers from it: so noise has an order, and knows no position. Repeated
with numpy's twister; torch is not needed. Generators of torch on other devices are not this one.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_MASK = 0xFFFFFFFF
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)

_Words = NDArray[np.uint64]
_Row = NDArray[np.float64]


def vllm_v1(seed: int, _last: int, columns: int) -> Iterator[_Row]:
    """Yield the noise of vLLM's ``random_sample``: -ln E, E from torch's ``exponential_``.

    E = -ln(1 - u), u the lower 53 of 64 bits; vLLM rounds E to single precision. One E for every
    token id at each step. Where the prompt ends does not count.
    """
    source = _twister(seed)
    while True:
        uniform = (_longs(source, columns) & np.uint64(2**53 - 1)).astype(np.float64) * 2.0**-53
        with np.errstate(divide="ignore"):
            yield -np.log(-np.log1p(-uniform))


def vllm_cpu(seed: int, _last: int, columns: int) -> Iterator[_Row]:
    """Yield the noise of vLLM's ``fused_gumbel_argmax``, of the builds for processors since 0.32.

    Each step takes 31 bits from torch's ``randint`` as its seed; SplitMix64 of that and of the
    token id gives 53 bits, u = (bits + 1/2) / 2^53, and -ln -ln u. Where the prompt ends does not
    count.
    """
    source = _twister(seed)
    offsets = (np.arange(columns, dtype=np.uint64) + np.uint64(1)) * _GAMMA
    while True:
        key = _split(_longs(source, 1) & np.uint64(2**31 - 1))
        uniform = ((_split(key + offsets) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
        with np.errstate(divide="ignore"):
            yield -np.log(-np.log(uniform))


def _twister(seed: int) -> np.random.RandomState:
    return np.random.RandomState(seed & _MASK)


def _longs(source: np.random.RandomState, count: int) -> _Words:
    """Return the next ``count`` numbers of 64 bits, each from two words, the upper one first."""
    drawn = source.randint(0, 1 << 32, size=2 * count, dtype=np.uint32).astype(np.uint64)
    return (drawn[0::2] << np.uint64(32)) | drawn[1::2]


def _split(words: _Words) -> _Words:
    words = (words ^ (words >> np.uint64(30))) * _MIX_1
    words = (words ^ (words >> np.uint64(27))) * _MIX_2
    return words ^ (words >> np.uint64(31))
