"""Noise by Philox4x32-10 of (seed, position, token): vLLM's second model runner before 0.32.

Two steps, as Triton's library has them: ``randint(seed, position)`` makes a seed of 32 bits for the
position, and with that ``rand`` or ``randint4x`` a number for each token id. The position is the
index of the last input token. Philox: Salmon et al., Parallel Random Numbers, SC 2011.
"""

from collections.abc import Iterator
from itertools import count

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 10
_KEY_STEPS = 0x9E3779B9, 0xBB67AE85
_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_MASK = 0xFFFFFFFF
_STEP = np.float32(4.6566127342e-10)
"""Triton's 2^-31, a little less; also the least uniform number that vLLM takes."""
_TINY = np.finfo(np.float64).tiny

_Words = NDArray[np.uint32]
_Row = NDArray[np.float64]


def words(seed: int, counters: NDArray[np.int64]) -> tuple[_Words, _Words]:
    """Return the first two words of Philox4x32-10 at each of ``counters``, under the key ``seed``.

    Both count modulo 2^64, least word first; the upper half of the counter is zero.
    """
    keys = seed & _MASK, (seed >> 32) & _MASK
    full = counters.astype(np.uint64)
    mask, half = np.uint64(_MASK), np.uint64(32)
    first, second = full & mask, full >> half
    third = fourth = np.zeros_like(full)
    for step in range(_ROUNDS):
        key_1, key_2 = ((k + step * s) & _MASK for k, s in zip(keys, _KEY_STEPS, strict=True))
        product_1 = first * np.uint64(_MULTIPLIERS[0])
        product_2 = third * np.uint64(_MULTIPLIERS[1])
        first = (product_2 >> half) ^ second ^ np.uint64(key_1)
        third = (product_1 >> half) ^ fourth ^ np.uint64(key_2)
        second, fourth = product_2 & mask, product_1 & mask
    return first.astype(np.uint32), second.astype(np.uint32)


def vllm_fp32(seed: int, last: int, columns: int) -> Iterator[_Row]:
    """Yield vLLM's (``gumbel_noised_argmax``): -ln -ln(1 - u), u of 31 bits in single precision.

    vLLM takes both logarithms in single precision too; that differs by some millionths. A token
    whose u rounds to 1 can never win: its noise is minus infinity.
    """
    every = np.arange(columns)
    for position in count(last):
        signed = words(_seed_at(seed, position), every)[0].view(np.int32)
        folded = np.where(signed < 0, -signed - 1, signed).astype(np.float32)
        uniform = np.maximum(folded * _STEP, _STEP)
        with np.errstate(divide="ignore"):
            yield -np.log(-np.log1p(-uniform.astype(np.float64)))


def vllm_fp64(seed: int, last: int, columns: int) -> Iterator[_Row]:
    """Yield vLLM's with ``use_fp64_gumbel``: -ln -ln u, u of 64 bits in double precision.

    A token whose u rounds to 1 always wins: its noise is infinite.
    """
    every = np.arange(columns)
    for position in count(last):
        low, high = (word.astype(np.uint64) for word in words(_seed_at(seed, position), every))
        uniform = ((high << np.uint64(32)) | low).astype(np.float64) * 2.0**-64
        with np.errstate(divide="ignore"):
            yield -np.log(-np.log(np.maximum(uniform, _TINY)))


def _seed_at(seed: int, position: int) -> int:
    return int(words(seed, np.array([position]))[0][0])
