"""Bits of a secret, taken a few at a time or as a binary fraction, and put together again.

The fraction is what arithmetic coding needs: each token narrows an interval down, and what all
numbers of it share has been said. Exact, in integers; knows nothing of models.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PRECISION = 24
"""Bits to which a distribution is rounded."""
_AHEAD = 1 << 14
"""Bits of the secret that one answer may look ahead: no answer says more."""


def intervals(scores: NDArray[np.float64]) -> tuple[NDArray[np.int64], list[int]]:
    """Return tokens and the bounds of their shares of ``2 ** PRECISION``, none of them empty.

    ``scores`` are log-odds, minus infinity for what may not come.
    """
    tokens = np.flatnonzero(scores > -np.inf)
    shares = np.exp(scores[tokens] - scores[tokens].max())
    room = (1 << PRECISION) - len(tokens)
    whole = 1 + np.floor(room * shares / shares.sum()).astype(np.int64)
    whole[int(whole.argmax())] += (1 << PRECISION) - int(whole.sum())
    return tokens, [0, *np.cumsum(whole).tolist()]


class _Interval:
    """The numbers that a message can still be: ``low`` to ``low + size`` over ``2 ** depth``."""

    def __init__(self) -> None:
        self.low, self.size, self.depth = 0, 1, 0

    def narrow(self, start: int, end: int) -> None:
        self.low = (self.low << PRECISION) + self.size * start
        self.size *= end - start
        self.depth += PRECISION

    def said(self) -> tuple[int, int]:
        """Return how many leading bits all numbers share, and those bits."""
        last = self.low + self.size - 1
        shared = self.depth - (self.low ^ last).bit_length()
        return shared, self.low >> (self.depth - shared)


class Reader:
    """A secret, read from its first bit."""

    def __init__(self, secret: bytes) -> None:
        self._value, self._size = int.from_bytes(secret), 8 * len(secret)
        self.taken = 0
        """How many bits have been said."""
        self._interval: _Interval | None = None

    def restart(self) -> None:
        """Begin an answer."""
        self._interval = None

    def take(self, bits: int) -> int:
        """Return the next bits as a number."""
        value = self._peek(bits)
        self.taken += bits
        return value

    def find(self, bounds: Sequence[int]) -> int:
        """Return which of the shares between ``bounds`` the rest of the secret falls into."""
        if self._interval is None:
            self._interval = _Interval()
        here = self._interval
        depth = here.depth + PRECISION
        point = self._peek(_AHEAD) >> (_AHEAD - depth - PRECISION)  # finer than any share
        scaled = (point - (here.low << (2 * PRECISION))) // (here.size << PRECISION)
        place = int(np.searchsorted(bounds, scaled, side="right")) - 1
        here.narrow(bounds[place], bounds[place + 1])
        return place

    def settle(self) -> None:
        """End an answer: count what its interval has said."""
        if self._interval is not None:
            self.taken += self._interval.said()[0]

    def _peek(self, bits: int) -> int:
        shift = self._size - self.taken - bits
        value = self._value >> shift if shift >= 0 else self._value << -shift
        return value & ((1 << bits) - 1)


class Writer:
    """What a receiver has put together."""

    def __init__(self) -> None:
        self.value, self.bits = 0, 0
        self._interval: _Interval | None = None

    def restart(self) -> None:
        """Begin an answer."""
        self._interval = None

    def put(self, value: int, bits: int) -> None:
        """Add ``bits`` bits."""
        self.value, self.bits = self.value << bits | value, self.bits + bits

    def narrow(self, start: int, end: int) -> None:
        """Take note of the share that a token stands for."""
        if self._interval is None:
            self._interval = _Interval()
        self._interval.narrow(start, end)

    def settle(self) -> None:
        """End an answer."""
        if self._interval is not None:
            shared, value = self._interval.said()
            self.put(value, shared)
