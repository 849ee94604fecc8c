"""One answer on its way in: what may be let go, and whether its receipt is about these bytes.

A stream passes as it comes, event by event, but for its end: from the event that holds the receipt,
or is the last of its kind of stream, everything is kept back until all of it was checked, so that
no reader takes a stream for complete before it is. Pure: bytes in, bytes out.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from lydite.appraisal.promises import verify_promise
from lydite.errors import FormatError, Reason, UnavailableError, VerificationError
from lydite.messages import compact as compacts
from lydite.messages import endings, placement
from lydite.messages.commitment import Salt, commit_request, response_hasher
from lydite.messages.compact import Compact
from lydite.signing.dsse import PublicKey

HELD_BYTES = 8 * 1024 * 1024
"""Longest event, or end of a stream, that is kept back."""
_ERROR = 400
_EVENT_END = re.compile(rb"\n\r?\n")
_RECEIPT = re.compile(rb"(?:\A(?:\xef\xbb\xbf)?|[\r\n])" + re.escape(placement.MARK))


class Pins(NamedTuple):
    """Which gateways' signatures are accepted, and whether each answer has to carry one."""

    keys: Sequence[PublicKey]
    signed: bool = True


class Asked(NamedTuple):
    """A request as it went out: its target (path and query) and the exact bytes of its body."""

    target: bytes
    body: bytes


class Named(NamedTuple):
    """What the head of an answer says: of its receipt, in hexadecimal, and its HTTP status."""

    receipt_id: str
    salt: str
    status: int


def named(receipt_id: str | None, salt: str | None, status: int) -> Named:
    """Return what the head of an answer says of its receipt.

    Raises:
        VerificationError: it says nothing: this is no answer of a gateway that gives receipts. Or
            it leads elsewhere, where nothing would be checked; no gateway does that.
    """
    if 300 <= status < _ERROR:
        raise VerificationError(
            Reason.ODD_ANSWER, f"HTTP {status}: a redirect is no answer of a model, nor followed"
        )
    if receipt_id is None or salt is None:
        raise VerificationError(
            Reason.NO_RECEIPT, "the answer names no receipt, so it is not let through"
        )
    return Named(receipt_id, salt, status)


def check_whole(asked: Asked, pins: Pins, head: Named, header: str | None, body: bytes) -> Compact:
    """Check an answer that came in one piece, and return its receipt.

    Raises:
        FormatError: the receipt is not in its one spelling.
        VerificationError: it is missing, not signed by a pinned key, about other bytes or another
            status, or says of what is no error that it is not complete.

    **Does not show** that the statement is in the log, nor who made the answer.
    """
    if header is None:
        raise VerificationError(Reason.NO_RECEIPT, f"no receipt came with answer {head.receipt_id}")
    receipt = placement.from_header(header.encode())
    _check_promise(receipt, pins, head)
    compacts.check(receipt, asked.target, asked.body, body)
    if head.status < _ERROR and receipt.outcome != "complete":
        raise VerificationError(
            Reason.BROKEN_OFF, f"receipt {receipt.id} says that the answer is {receipt.outcome}"
        )
    return receipt


def broken_off(receipt: Compact) -> UnavailableError | None:
    """Return the error in which a checked stream has to end, if its receipt says that it broke."""
    if receipt.outcome == "complete":
        return None
    return UnavailableError(f"stream {receipt.id} broke off: {receipt.outcome}", Reason.BROKEN_OFF)


def _check_promise(receipt: Compact, pins: Pins, head: Named) -> None:
    if (receipt.id, receipt.salt) != (head.receipt_id, head.salt):
        raise VerificationError(
            Reason.BAD_COMMITMENT, f"answer {head.receipt_id} came with receipt {receipt.id}"
        )
    if receipt.status != head.status:
        raise VerificationError(
            Reason.BAD_COMMITMENT,
            f"answer {head.receipt_id} came as HTTP {head.status}, its receipt: {receipt.status}",
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
        self._by = endings.of_path(asked.target.partition(b"?")[0])
        self._pending = bytearray()
        self._ending = False

    def feed(self, data: bytes) -> bytes:
        """Take bytes, and return the whole events that may go on to the reader now.

        Raises:
            FormatError: an event, or the end of the stream, is longer than is kept back.
        """
        start = max(0, len(self._pending) - 2)  # of a blank line, two bytes may have come before
        self._pending += data
        whole = 0
        if not self._ending:
            for found in _EVENT_END.finditer(self._pending, start):
                if self._may_end(bytes(self._pending[whole : found.end()])):
                    self._ending = True
                    break
                whole = found.end()
        ready = bytes(self._pending[:whole])
        del self._pending[:whole]
        if len(self._pending) > HELD_BYTES:
            raise FormatError("an event, or the end of the stream, is too long", Reason.TOO_LARGE)
        self._hasher.update(ready)
        return ready

    def _may_end(self, event: bytes) -> bool:
        """Say whether an event holds a receipt, ends the stream, or looks as if it did."""
        if _RECEIPT.search(event) is not None:
            return True
        if self._by.mark not in event:
            return False
        try:
            return self._by.is_last(event)
        except FormatError:
            return True

    def _ends(self, rest: bytes) -> bool:
        """Say whether bytes hold the event that ends the stream.

        Raises:
            FormatError: an event before it looks as if it did.
        """
        start = 0
        for found in _EVENT_END.finditer(rest):
            if self._by.is_last(rest[start : found.end()]):
                return True
            start = found.end()
        return False

    def finish(self) -> tuple[bytes, Compact]:
        """Check the whole, and return the end that was kept back, and the receipt.

        Raises:
            FormatError: there is not exactly one receipt, in its one spelling.
            VerificationError: it is missing, not signed by a pinned key, about other bytes or
                another status, or the stream ends otherwise than it says.

        **Does not show** that the statement is in the log, nor who made the answer.
        """
        if placement.MARK not in self._pending:
            raise VerificationError(
                Reason.NO_RECEIPT, f"stream {self._head.receipt_id} ended without its receipt"
            )
        held = bytes(self._pending)
        receipt, rest = placement.from_stream(held)
        _check_promise(receipt, self._pins, self._head)
        self._hasher.update(rest)
        asked = commit_request(self._salt, self._asked.target, self._asked.body).hex()
        if (asked, self._hasher.hexdigest()) != (receipt.request, receipt.response):
            raise VerificationError(
                Reason.BAD_COMMITMENT, f"receipt {receipt.id} commits to other bytes than these"
            )
        self._check_ending(receipt, rest)
        return held, receipt

    def _check_ending(self, receipt: Compact, rest: bytes) -> None:
        """Hold the end of the stream to its receipt: a complete one has its last event."""
        complete = receipt.outcome == "complete"
        if self._ends(rest if complete else rest + b"\n\n") is not complete:
            raise VerificationError(
                Reason.BROKEN_OFF,
                f"receipt {receipt.id} says {receipt.outcome}; the stream ends otherwise",
            )
