"""What a gateway notes of an answer as it leaves: whose it was, when, and its head's novelties.

Only the maker of the notes imports this. Holds a bounded memory of head fields; keeps no account.
"""

import base64
import hashlib
import hmac
import math
from collections import OrderedDict
from collections.abc import Iterable

from lydite.evidence.egress.claims import Outflow

ANONYMOUS = "anonymous"
USUAL = (
    b":status: HTTP/1.1 200 OK",
    b"content-type: application/json",
    b"content-type: text/event-stream",
    b"content-type: text/event-stream; charset=utf-8",
    b"server: uvicorn",
    b"order: :status date server content-type",
    b"order: :status server content-type date",
    b"order: :status content-type",
)
"""Lines of heads that are known from the start."""
_MICRO = 1_000_000
_LINES = 4096
_NEAR = 32
"""So many of the latest lines are as good as expected: which one, status and body say."""
_DATE_MICRO = 1_000_000
_EXPECTED = frozenset((b"content-length", b"transfer-encoding", b"connection"))


def session_of(authorization: bytes, salt: bytes) -> str:
    """Return the pseudonym of a session: 32 hexadecimal digits, or ``anonymous``.

    ``authorization`` is the value of the request's field of that name, ``salt`` this gateway's.
    """
    if not authorization:
        return ANONYMOUS
    return hmac.new(salt, authorization, hashlib.sha256).hexdigest()[:32]


def outflow(
    entry: int, receipt_id: str, session: str, times_s: tuple[int, int], opening: bytes
) -> Outflow:
    """Return the note on one answer; ``opening`` is in its canonical spelling."""
    return Outflow(
        entry=entry,
        receipt_id=receipt_id,
        session=session,
        received_s=times_s[0],
        completed_s=times_s[1],
        opening=base64.b64encode(opening).decode(),
    )


class Heads:
    """What the fields of answers' heads can carry: a field is free once it is nothing new."""

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, None] = OrderedDict.fromkeys(USUAL)

    def micro_bits(self, fields: Iterable[tuple[bytes, bytes]]) -> int:
        """Return what the fields of one head can carry, in micro-bits, and remember them."""
        own = [(name, value) for name, value in fields if name not in _EXPECTED]
        micro = self._line(b"order: " + b" ".join(name for name, _ in own))
        for name, value in own:
            micro += _DATE_MICRO if name == b"date" else self._line(name + b": " + value)
        return micro

    def _line(self, line: bytes) -> int:
        """Return what one line can carry: its bytes if it is new, else which of the latest."""
        if line in self._seen:
            rank = next(i for i, known in enumerate(reversed(self._seen)) if known == line)
            self._seen.move_to_end(line)
            return math.ceil(_MICRO * math.log2(rank // _NEAR + 1))
        self._seen[line] = None
        if len(self._seen) > _LINES:
            self._seen.popitem(last=False)
        return 8 * _MICRO * len(line)
