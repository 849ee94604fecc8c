"""Finds the entry of a receipt by its id, in memory that hardly grows. Reads no disk.

An id begins with the time at which its request came, so that few places need to be looked at.
"""

from array import array
from collections.abc import Iterator

TIME_DIGITS = 12
"""Hexadecimal digits of milliseconds since 1970 that an id begins with."""


NOISE_BYTES = 10
"""Random bytes that an id ends with."""


def new_id(now_ms: int, noise: bytes) -> str:
    """Return the id of a receipt, 32 hexadecimal digits that no other has."""
    return f"{now_ms:012x}{noise.hex()}"


class ReceiptIndex:
    """Where receipts are, by id: the newest by name, older ones by the time that an id begins with.

    Receipts are numbered as answers end and named as requests come, so a block of numbers covers a
    span of times; few blocks cover any one time.
    """

    BLOCK = 256
    RECENT = 1 << 12

    def __init__(self) -> None:
        self._recent: dict[str, int] = {}
        self._before: dict[str, int] = {}
        self._first = array("Q")
        self._earliest = array("Q")
        self._latest = array("Q")
        self._filled = self.BLOCK
        self._newest = 0

    def add(self, receipt_id: str, number: int) -> None:
        """Take note of the newest receipt."""
        time_ms = int(receipt_id[:TIME_DIGITS], 16)
        if self._filled == self.BLOCK:
            self._first.append(number)
            self._earliest.append(time_ms)
            self._latest.append(time_ms)
            self._filled = 0
        self._filled += 1
        self._newest = number
        if time_ms < self._earliest[-1]:
            self._earliest[-1] = time_ms
        elif time_ms > self._latest[-1]:
            self._latest[-1] = time_ms
        if len(self._recent) >= self.RECENT:  # as a whole: to drop the eldest alone costs a search
            self._before, self._recent = self._recent, {}
        self._recent[receipt_id] = number

    def candidates(self, receipt_id: str) -> Iterator[range]:
        """Yield ranges of 1-based numbers among which the receipt may be, the likeliest first."""
        known = self._recent.get(receipt_id) or self._before.get(receipt_id)
        if known is not None:
            yield range(known, known + 1)
            return
        time_ms = int(receipt_id[:TIME_DIGITS], 16)
        for block in range(len(self._first) - 1, -1, -1):
            if self._earliest[block] <= time_ms <= self._latest[block]:
                last = block + 1 == len(self._first)
                end = self._newest + 1 if last else self._first[block + 1]
                yield range(self._first[block], end)
