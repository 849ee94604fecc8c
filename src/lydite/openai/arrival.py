"""One answer on its way in: what may be let go, and whether its receipt is about these bytes.

A stream passes as it comes, but for its end: from the line that holds the receipt, or says
``[DONE]``, everything is kept back until all of it was checked, so that no reader takes a stream
for complete before it is. Pure: bytes in, bytes out.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from lydite.appraisal.promises import verify_promise
from lydite.errors import FormatError, Reason, VerificationError
from lydite.messages import compact as compacts
from lydite.messages import placement
from lydite.messages.commitment import Salt, commit_request, response_hasher
from lydite.messages.compact import Compact
from lydite.signing.dsse import PublicKey

HELD_BYTES = 8 * 1024 * 1024
"""Longest end of a stream that is kept back."""
_BOM = b"\xef\xbb\xbf"
_ENDS = (placement.MARK, b"data:[DONE]", b"data: [DONE]")
_ANY = b"(" + b"|".join(re.escape(each) for each in _ENDS) + b")"
_END = re.compile(rb"[\r\n]" + _ANY)
_AT_START = re.compile(rb"(?:\A(?:" + _BOM + rb")?|[\r\n])" + _ANY)


class Pins(NamedTuple):
    """Which gateways' signatures are accepted, and whether each answer has to carry one."""

    keys: Sequence[PublicKey]
    signed: bool = True


class Asked(NamedTuple):
    """A request as it went out: its target (path and query) and the exact bytes of its body."""

    target: bytes
    body: bytes


class Named(NamedTuple):
    """What the head of an answer says of its receipt, in hexadecimal."""

    receipt_id: str
    salt: str


def named(receipt_id: str | None, salt: str | None) -> Named:
    """Return what the head of an answer says of its receipt.

    Raises:
        VerificationError: it says nothing: this is no answer of a gateway that gives receipts.
    """
    if receipt_id is None or salt is None:
        raise VerificationError(
            Reason.NO_RECEIPT, "the answer names no receipt, so it is not let through"
        )
    return Named(receipt_id, salt)


def check_whole(asked: Asked, pins: Pins, head: Named, header: str | None, body: bytes) -> Compact:
    """Check an answer that came in one piece, and return its receipt.

    Raises:
        FormatError: the receipt is not in its one spelling.
        VerificationError: it is missing, not signed by a pinned key, or about other bytes.

    **Does not show** that the statement is in the log, nor who made the answer.
    """
    if header is None:
        raise VerificationError(Reason.NO_RECEIPT, f"no receipt came with answer {head.receipt_id}")
    receipt = placement.from_header(header.encode("latin-1"))
    _check_promise(receipt, pins, head)
    compacts.check(receipt, asked.target, asked.body, body)
    return receipt


def _check_promise(receipt: Compact, pins: Pins, head: Named) -> None:
    if (receipt.id, receipt.salt) != head:
        raise VerificationError(
            Reason.BAD_COMMITMENT, f"answer {head.receipt_id} came with receipt {receipt.id}"
        )
    if pins.signed or receipt.signature is not None:
        verify_promise(receipt, pins.keys)


class Stream:
    """A streamed answer as it arrives."""

    def __init__(self, asked: Asked, pins: Pins, head: Named) -> None:
        """Begin.

        Raises:
            FormatError: the salt in the head is no salt.
        """
        try:
            self._salt = Salt(bytes.fromhex(head.salt))
        except ValueError as error:
            raise FormatError(f"salt header: {error}") from error
        self._asked = asked
        self._pins = pins
        self._head = head
        self._hasher = response_hasher(self._salt)
        self._last = b""
        self._pending = b""
        self._ending = False

    def feed(self, data: bytes) -> bytes:
        """Take bytes, and return those that may go on to the reader now.

        Raises:
            FormatError: the end of the stream is longer than is kept back.
        """
        self._pending += data
        if self._ending:
            if len(self._pending) > HELD_BYTES:
                raise FormatError("the end of the stream is too long", Reason.TOO_LARGE)
            return b""
        seen = self._last + self._pending
        found = (_END if self._last else _AT_START).search(seen)
        if found is not None:
            self._ending = True
            return self._let_go(found.start(1) - len(self._last))
        return self._let_go(self._certain(seen) - len(self._last))

    def _certain(self, seen: bytes) -> int:
        """Return how many of the bytes seen belong to no end: all, less the start of one."""
        line = 1 + max(seen.rfind(b"\n"), seen.rfind(b"\r"))
        begins = line > 0 or not self._last
        last = seen[line:]
        if line == 0 and _BOM.startswith(last[:3]):
            last = last[3:]
        return line if begins and any(end.startswith(last) for end in _ENDS) else len(seen)

    def _let_go(self, count: int) -> bytes:
        ready, self._pending = self._pending[:count], self._pending[count:]
        self._hasher.update(ready)
        self._last = ready[-1:] or self._last
        return ready

    def finish(self) -> tuple[bytes, Compact]:
        """Check the whole, and return the end that was kept back, and the receipt.

        Raises:
            FormatError: there is not exactly one receipt, in its one spelling.
            VerificationError: it is missing, not signed by a pinned key, or about other bytes.

        **Does not show** that the statement is in the log, nor who made the answer.
        """
        if placement.MARK not in self._pending:
            raise VerificationError(
                Reason.NO_RECEIPT, f"stream {self._head.receipt_id} ended without its receipt"
            )
        receipt, rest = placement.from_stream(self._pending)
        _check_promise(receipt, self._pins, self._head)
        self._hasher.update(rest)
        asked = commit_request(self._salt, self._asked.target, self._asked.body).hex()
        if (asked, self._hasher.hexdigest()) != (receipt.request, receipt.response):
            raise VerificationError(
                Reason.BAD_COMMITMENT, f"receipt {receipt.id} commits to other bytes than these"
            )
        return self._pending, receipt
