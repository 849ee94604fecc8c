"""Noise by murmur3 of (seed, position, column): ours, SGLang's, and vLLM's since 0.32.

No state and no order of draws: the noise of any token at any position can be had alone. The
position is the index of the last input token, so the first output token uses prompt length - 1.
The engines differ in how 32 bits become a uniform number, and in which end of it is favoured.
"""

from collections.abc import Iterator
from functools import lru_cache
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

_AHEAD = 1 << 14
"""Numbers that are made at a time: fewer cost more each, and more do not fit the caches."""

_Words = NDArray[np.uint32]
_Row = NDArray[np.float64]


def hashes(seed: int, position: int, columns: NDArray[np.int64], domain: int = 0) -> _Words:
    """Return the 32-bit hash of each of ``columns``, in their order.

    ``seed`` counts modulo 2^64, ``position`` modulo 2^32; ``domain`` is what the state begins as.
    """
    state = np.array([_state(seed, position, domain)], dtype=np.uint32)
    return _stirred(_mix(columns.astype(np.uint32)), state)


def gumbel_of(seed: int, position: int, tokens: NDArray[np.int64]) -> _Row:
    """Return our noise, ``lydite/v1``, for each of the token ids ``tokens``, in their order.

    u = (h + 1/2) / 2^32 in double precision, so that no token is infinitely favoured.
    """
    return _gumbel(hashes(seed, position, tokens))


def gumbel(seed: int, position: int, vocabulary: int) -> _Row:
    """Return our noise for every token id, shape (vocabulary,)."""
    state = np.array([_state(seed, position)], dtype=np.uint32)
    return _gumbel(_stirred(_every(vocabulary), state))


def lydite(seed: int, last: int, columns: int) -> Iterator[_Row]:
    """Yield our noise of each output token in turn."""
    rows = max(1, _AHEAD // columns)
    for first in count(last, rows):
        states = [[_state(seed, position)] for position in range(first, first + rows)]
        yield from _gumbel(_stirred(_every(columns), np.array(states, dtype=np.uint32)))


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


@lru_cache(maxsize=8)
def _every(columns: int) -> _Words:
    """Return what the mixing makes of each of ``columns`` ids, which no seed changes."""
    mixed = _mix(np.arange(columns, dtype=np.uint32))
    mixed.flags.writeable = False
    return mixed


def _state(seed: int, position: int, domain: int = 0) -> int:
    """Return what the hash is before a column is mixed into it."""
    words = np.array([seed & _MASK, (seed >> 32) & _MASK, position & _MASK], dtype=np.uint32)
    state = domain
    for word in _mix(words).tolist():
        state ^= word
        rotated = (state << 13 | state >> 19) & _MASK
        state = (rotated * _ROUND_MULTIPLIER + _ROUND_ADDEND) & _MASK
    return state


def _stirred(mixed: _Words, states: _Words) -> _Words:
    """Return the hashes of mixed columns; steps in place, since a vocabulary is long."""
    last = _rotate(mixed ^ states, 13)
    last *= np.uint32(_ROUND_MULTIPLIER)
    last += np.uint32(_ROUND_ADDEND)
    last ^= np.uint32(_LENGTH_BYTES)
    for bits, factor in ((16, _FINAL_1), (13, _FINAL_2)):
        last ^= last >> np.uint32(bits)
        last *= np.uint32(factor)
    last ^= last >> np.uint32(16)
    return last


def _gumbel(found: _Words) -> _Row:
    """Return ``-ln -ln((h + 1/2) / 2^32)``."""
    row = found.astype(np.float64)
    row += 0.5
    row *= 2.0**-32
    for _ in range(2):
        np.log(row, out=row)
        np.negative(row, out=row)
    return row


def _rotate(words: _Words, bits: int) -> _Words:
    turned = words << np.uint32(bits)
    turned |= words >> np.uint32(32 - bits)
    return turned
