"""TOPLOC's comparison of activations, in numpy, for states that are at hand on both sides.

A peer to measure beside: blocks of 32 tokens, the 128 largest activations of each in bfloat16,
exponents and mantissas compared where the *auditor's* largest are (arXiv 2501.16007). Its proof is
a polynomial through the provider's largest; elsewhere that gives noise, counted here as a mismatch.
What travels is 258 bytes a block. Makes and parses no proof.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BLOCK_TOKENS, LARGEST = 32, 128
BLOCK_BYTES = 2 + 2 * LARGEST
MOST_EXPONENTS, MOST_MEAN, MOST_MEDIAN = 38, 10.0, 8.0
"""Its published thresholds."""


class Block(NamedTuple):
    """How a block of one side differs from that of the other."""

    exponents: int
    """Of the largest activations, how many differ in sign-free exponent."""
    mean: float
    """Of the differences of the mantissas where exponents agree; infinite if none does."""
    median: float

    def rejected(self) -> bool:
        """Say whether it lies beyond a published threshold."""
        far = self.exponents > MOST_EXPONENTS
        return far or self.mean > MOST_MEAN or self.median > MOST_MEDIAN


def blocks(theirs: NDArray[np.float32], ours: NDArray[np.float32]) -> list[Block]:
    """Compare the whole blocks of two answers' states, each of shape (tokens, width)."""
    starts = range(0, len(ours) - BLOCK_TOKENS + 1, BLOCK_TOKENS)
    return [compare(theirs[at : at + BLOCK_TOKENS], ours[at : at + BLOCK_TOKENS]) for at in starts]


def compare(theirs: NDArray[np.float32], ours: NDArray[np.float32]) -> Block:
    """Compare one block of states of each side."""
    told, true = bfloat16(theirs).ravel(), bfloat16(ours).ravel()
    places = _largest(true)
    committed = np.isin(places, _largest(told))
    known = places[committed]
    exponents, mantissas = _parts(told[known])
    true_exponents, true_mantissas = _parts(true[known])
    alike = exponents == true_exponents
    apart = np.abs(mantissas - true_mantissas)[alike]
    mismatches = len(places) - int(alike.sum())
    if not len(apart):
        return Block(mismatches, math.inf, math.inf)
    return Block(mismatches, float(apart.mean()), float(np.median(apart)))


def bfloat16(states: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the bits of ``states`` rounded to bfloat16, ties to even."""
    bits = np.ascontiguousarray(states, dtype=np.float32).view(np.uint32)
    rounded: NDArray[np.uint16] = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return rounded


def _largest(bits: NDArray[np.uint16]) -> NDArray[np.intp]:
    return np.argsort(-(bits & 0x7FFF).astype(np.int32), kind="stable")[:LARGEST]


def _parts(bits: NDArray[np.uint16]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    return ((bits >> 7) & 0xFF).astype(np.int32), (bits & 0x7F).astype(np.int32)
