"""The counter-based noise behind every draw: equal inputs give equal noise on any machine.

Integers in, integers mixed, one logarithm at the end: no generator, no state, no order of draws.
Any party that knows the seed can compute the noise of any token at any position alone. Knows
nothing of logits.

Adapter ``lydite/v1``: the murmur3 mix that SGLang applies to (seed, position, column), with the
column always the token id and u = (h + 1/2) / 2^32 in double precision, so that no token is
infinitely favoured.
"""

import numpy as np
from numpy.typing import NDArray

ADAPTER = "lydite/v1"
"""What a declaration calls this noise."""

_BLOCK_1, _BLOCK_2 = 0xCC9E2D51, 0x1B873593
_ROUND_MULTIPLIER, _ROUND_ADDEND = 5, 0xE6546B64
_FINAL_1, _FINAL_2 = 0x85EBCA6B, 0xC2B2AE35
_LENGTH_BYTES = 16
_MASK = 0xFFFFFFFF

_Words = NDArray[np.uint32]


def hashes(seed: int, position: int, tokens: NDArray[np.int64]) -> _Words:
    """Return the 32-bit hash of each of the token ids ``tokens``, in their order.

    ``seed`` counts modulo 2^64 and ``position`` modulo 2^32; ``position`` is the index of the last
    input token, so the first output token uses prompt length - 1.
    """
    words = np.array([seed & _MASK, (seed >> 32) & _MASK, position & _MASK], dtype=np.uint32)
    state = 0
    for mixed in _mix(words).tolist():
        state ^= mixed
        rotated = state << 13 | state >> 19
        state = (rotated * _ROUND_MULTIPLIER + _ROUND_ADDEND) & _MASK
    last = _rotate(_mix(tokens.astype(np.uint32)) ^ np.uint32(state), 13)
    return _finish(last * np.uint32(_ROUND_MULTIPLIER) + np.uint32(_ROUND_ADDEND))


def gumbel_of(seed: int, position: int, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return standard Gumbel noise for each of the token ids ``tokens``, in their order."""
    uniform = (hashes(seed, position, tokens).astype(np.float64) + 0.5) / 2.0**32
    return -np.log(-np.log(uniform))


def gumbel(seed: int, position: int, vocabulary: int) -> NDArray[np.float64]:
    """Return standard Gumbel noise for every token id, shape (vocabulary,)."""
    return gumbel_of(seed, position, np.arange(vocabulary))


def _mix(words: _Words) -> _Words:
    return _rotate(words * np.uint32(_BLOCK_1), 15) * np.uint32(_BLOCK_2)


def _finish(state: _Words) -> _Words:
    state = state ^ np.uint32(_LENGTH_BYTES)
    state = (state ^ (state >> np.uint32(16))) * np.uint32(_FINAL_1)
    state = (state ^ (state >> np.uint32(13))) * np.uint32(_FINAL_2)
    return state ^ (state >> np.uint32(16))


def _rotate(words: _Words, bits: int) -> _Words:
    return (words << np.uint32(bits)) | (words >> np.uint32(32 - bits))
