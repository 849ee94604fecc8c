"""A head that came before, letter for letter but for its content-length: what it means is known.

What a strict parser makes of a head is a function of its bytes alone. So a connection that sends
the same head again, as clients and engines do, need not have it parsed again: it is compared, and
the digits of its one length are read. Whatever differs in a single byte goes to the parser. Pure;
knows nothing of what a head says.
"""

import re
from typing import Generic, TypeVar

Head = TypeVar("Head")

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})\r\n", re.IGNORECASE)
_HEAD_END = b"\r\n\r\n"
_DIGITS = 9
_HEAD_BYTES = 4096


class Known(Generic[Head]):
    """The bytes around the length's digits, and what was made of them."""

    __slots__ = ("_after", "_before", "_from", "head")

    def __init__(self, before: bytes, after: bytes, head: Head) -> None:
        self._before = before
        self._after = after
        self._from = len(before)
        self.head = head

    def match(self, data: bytes) -> tuple[int, int] | None:
        """Return where the body begins in ``data`` and its length, None if the head is another."""
        if not data.startswith(self._before):
            return None
        end = data.find(b"\r", self._from, self._from + _DIGITS + 1)
        if end < 0 or not data.startswith(self._after, end):
            return None
        digits = data[self._from : end]
        if not digits.isdigit():
            return None
        return end + len(self._after), int(digits)


def learn(data: bytes, head: Head, length: int) -> Known[Head] | None:
    """Return how to know again the head at the start of ``data``.

    The caller has had it parsed: it is one whole head, without transfer coding, and its body has
    ``length`` bytes. None if it is long, or does not spell the length in the usual way.
    """
    end = data.find(_HEAD_END, 0, _HEAD_BYTES) + len(_HEAD_END)
    found = _LENGTH.search(data, 0, end)
    if end < len(_HEAD_END) or found is None or int(found[1]) != length:
        return None
    return Known(data[: found.start(1)], data[found.end(1) : end], head)
