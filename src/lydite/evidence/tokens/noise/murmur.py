"""Noise by murmur3 of (seed, position, column): ours, SGLang's, and vLLM's since 0.32.

No state and no order of draws: the noise of any token at any position can be had alone. The
position is the index of the last input token, so the first output token uses prompt length - 1.
The engines differ in how 32 bits become a uniform number, and in which end of it is favoured.
"""

from collections.abc import Iterator
from itertools import count

import numpy as np
from numpy.typing import NDArray

_BLOCK_1, _BLOCK_2 = 0xCC9E2D51, 0x1B873593
_ROUND_MULTIPLIER, _ROUND_ADDEND = 5, 0xE6546B64
_FINAL_1, _FINAL_2 = 0x85EBCA6B, 0xC2B2AE35
_LENGTH_BYTES = 16
_MASK = 0xFFFFFFFF
_HIGH_DOMAIN = 0x9E3779B9
"""What vLLM's hash of the upper half of 64 bits begins with."""
_HALF_STEP = np.float32(2.0**-24)
"""The least that vLLM takes for 1 - u in single precision."""

_Words = NDArray[np.uint32]
_Row = NDArray[np.float64]


def hashes(seed: int, position: int, columns: NDArray[np.int64], domain: int = 0) -> _Words:
    """Return the 32-bit hash of each of ``columns``, in their order.

    ``seed`` counts modulo 2^64, ``position`` modulo 2^32; ``domain`` is what the state begins as.
    """
    words = np.array([seed & _MASK, (seed >> 32) & _MASK, position & _MASK], dtype=np.uint32)
    state = domain
    for mixed in _mix(words).tolist():
        state ^= mixed
        rotated = (state << 13 | state >> 19) & _MASK
        state = (rotated * _ROUND_MULTIPLIER + _ROUND_ADDEND) & _MASK
    last = _rotate(_mix(columns.astype(np.uint32)) ^ np.uint32(state), 13)
    return _finish(last * np.uint32(_ROUND_MULTIPLIER) + np.uint32(_ROUND_ADDEND))


def gumbel_of(seed: int, position: int, tokens: NDArray[np.int64]) -> _Row:
    """Return our noise, ``lydite/v1``, for each of the token ids ``tokens``, in their order.

    u = (h + 1/2) / 2^32 in double precision, so that no token is infinitely favoured.
    """
    uniform = (hashes(seed, position, tokens).astype(np.float64) + 0.5) / 2.0**32
    return -np.log(-np.log(uniform))


def gumbel(seed: int, position: int, vocabulary: int) -> _Row:
    """Return our noise for every token id, shape (vocabulary,)."""
    return gumbel_of(seed, position, np.arange(vocabulary))


def lydite(seed: int, last: int, columns: int) -> Iterator[_Row]:
    """Yield our noise of each output token in turn."""
    return (gumbel(seed, position, columns) for position in count(last))


def sglang(seed: int, last: int, columns: int) -> Iterator[_Row]:
    """Yield SGLang's (``multinomial_with_seed``): u = h / (2^32 - 1), in double precision.

    ln u is held at or below -2^-32, as SGLang does since it found that h = 2^32 - 1 always won; an
    older one draws another token once in 2^32 columns.
    """
    every = np.arange(columns)
    for position in count(last):
        with np.errstate(divide="ignore"):
            log = np.log(hashes(seed, position, every).astype(np.float64) / _MASK)
        yield -np.log(-np.clip(log, np.finfo(np.float64).min, -(2.0**-32)))


def vllm_fp32(seed: int, last: int, columns: int) -> Iterator[_Row]:
    """Yield vLLM's (``gumbel_noised_argmax``): -ln -ln(1 - u), u = (h + 1/2) / 2^32 in single.

    vLLM takes both logarithms in single precision too; that differs by some millionths.
    """
    every = np.arange(columns)
    for position in count(last):
        found = hashes(seed, position, every)
        high = (found >> np.uint32(16)).astype(np.float32) * np.float32(2.0**-16)
        low = (found & np.uint32(0xFFFF)).astype(np.float32) + np.float32(0.5)
        uniform = high + low * np.float32(2.0**-32)
        rest = np.maximum(np.float32(1.0) - uniform, _HALF_STEP).astype(np.float64)
        small = np.log1p(-np.minimum(uniform, np.float32(0.25)).astype(np.float64))
        yield -np.log(-np.where(uniform < np.float32(0.25), small, np.log(rest)))


def vllm_fp64(seed: int, last: int, columns: int) -> Iterator[_Row]:
    """Yield vLLM's with ``use_fp64_gumbel``: -ln -ln u, u of 53 bits from two hashes."""
    every = np.arange(columns)
    for position in count(last):
        low = hashes(seed, position, every).astype(np.uint64)
        high = hashes(seed, position, every, _HIGH_DOMAIN).astype(np.uint64)
        bits = ((high << np.uint64(32)) | low) >> np.uint64(11)
        uniform = (bits.astype(np.float64) + 0.5) * 2.0**-53
        yield -np.log(-np.log(np.minimum(uniform, 1.0 - 2.0**-53)))


def _mix(words: _Words) -> _Words:
    return _rotate(words * np.uint32(_BLOCK_1), 15) * np.uint32(_BLOCK_2)


def _finish(state: _Words) -> _Words:
    state = state ^ np.uint32(_LENGTH_BYTES)
    state = (state ^ (state >> np.uint32(16))) * np.uint32(_FINAL_1)
    state = (state ^ (state >> np.uint32(13))) * np.uint32(_FINAL_2)
    return state ^ (state >> np.uint32(16))


def _rotate(words: _Words, bits: int) -> _Words:
    return (words << np.uint32(bits)) | (words >> np.uint32(32 - bits))
