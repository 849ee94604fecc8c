"""One answer on its way out, metered: charged before its bytes leave, noted when it is over.

Stands between an exchange and its client, and between the exchange and the recorder, and looks
like both. Judges nothing.
"""

import zlib
from typing import Protocol

from lydite.errors import LyditeError, StorageError, UnavailableError
from lydite.evidence.egress.frame import BYTE_MICRO
from lydite.gateway.ledger.receipts import Draft
from lydite.gateway.ledger.recorder import Done
from lydite.gateway.ledger.scribe import Entered
from lydite.gateway.plane.exchange import Records, Reply
from lydite.gateway.wire import OURS

BLOCK_BYTES = 2 * 1024
"""A stream is charged for so many bytes ahead, as they are; for those before them, compressed."""
_PACKED_BYTES = 256 * 1024
"""Larger answers are charged eight bits a byte, not compressed, unless they are streams."""


class Meter(Protocol):
    """Who keeps the accounts."""

    failing: bool
    """Whether nothing can be charged at present."""

    def began(self, receipt_id: str, session: str, micro: int) -> None:
        """Charge an answer that begins to leave."""

    def grew(self, receipt_id: str, micro: int) -> None:
        """Charge ``micro`` in all for an answer that grows."""

    def left(self, passage: "Passage", draft: Draft, entry: int) -> None:
        """Charge an answer that is recorded as ``entry``, 0 if it could not be."""

    def head_micro(self, lines: list[tuple[bytes, bytes]]) -> int:
        """Return what the fields of a head can carry."""

    def gone(self, passage: "Passage") -> None:
        """Take note that nothing more leaves."""


class Passage:
    """One answer; a Reply to its exchange, and the Records that the exchange knows."""

    def __init__(
        self, meter: Meter, records: Records, client: Reply, session: str, receipt_id: str
    ) -> None:
        self.session = session
        self.receipt_id = receipt_id
        self.began = False
        self.head_micro = 0
        self._meter = meter
        self._records = records
        self._client = client
        self._packer = zlib.compressobj(1)
        self._fresh: list[bytes] = []
        self._packed = 0
        self._ahead = 0
        self._headed = False
        self._closed = False
        self._broken = False

    # A Reply.

    def write(self, data: bytes) -> None:
        """Send bytes on, once they are charged; what cannot be charged does not leave."""
        if self._broken:
            return
        if not self._headed:
            self._headed = True
            lines, streamed = _head(data, self.receipt_id.encode())
            self.head_micro = self._meter.head_micro(lines)
            self._closed = self._closed or not streamed  # such an answer is charged as a whole
        try:
            self._pay(data)
        except (StorageError, UnavailableError):
            self._broken = True
            self._client.finished(keep=False)
            return
        self._client.write(data)

    def finished(self, *, keep: bool) -> None:
        """Pass it on."""
        self._meter.gone(self)
        if not self._broken:
            self._client.finished(keep=keep)

    # The Records.

    @property
    def failing(self) -> bool:
        """Whether nothing can be recorded, or nothing can be charged."""
        return self._records.failing or self._meter.failing

    def clock_ms(self) -> int:
        """Return the time of day in milliseconds since 1970."""
        return self._records.clock_ms()

    def submit(self, work: Draft, done: Done) -> None:
        """Record ``work`` and charge it; then ``done`` is told, and the last bytes may leave."""

        def recorded(result: Entered | LyditeError) -> None:
            entry = result.number if isinstance(result, Entered) else 0
            try:
                self._meter.left(self, work, entry)
            except (StorageError, UnavailableError) as error:
                result = error
            self._closed = True
            done(result)

        self._records.submit(work, recorded)

    def size_micro(self, draft: Draft) -> int:
        """Return what an answer is charged by its size, in micro-bits."""
        if draft.streamed:
            self._fresh.append(draft.response[-1] if draft.response else b"")  # it has not left
            return BYTE_MICRO * self._pack()
        body = b"".join(draft.response)
        return BYTE_MICRO * (len(body) if len(body) > _PACKED_BYTES else packed(body))

    def _pay(self, data: bytes) -> None:
        """Charge what has left, and what leaves until the next charge, before ``data`` leaves."""
        if self._closed:
            return
        self._fresh.append(data)
        self._ahead -= len(data)
        if self._ahead >= 0:
            return
        self._ahead = BLOCK_BYTES
        micro = BYTE_MICRO * (self._pack() + BLOCK_BYTES)
        if not self.began:
            self._meter.began(self.receipt_id, self.session, 0)
            self.began = True
        self._meter.grew(self.receipt_id, micro)

    def _pack(self) -> int:
        """Return the bytes of all so far, compressed; any prefix of them is a code as well."""
        self._packed += len(self._packer.compress(b"".join(self._fresh)))
        self._packed += len(self._packer.flush(zlib.Z_SYNC_FLUSH))
        self._fresh.clear()
        return self._packed


def packed(body: bytes) -> int:
    """Return the size of a body after quick compression, in bytes."""
    return len(zlib.compress(body[:_PACKED_BYTES], 1))


def _head(data: bytes, receipt_id: bytes) -> tuple[list[tuple[bytes, bytes]], bool]:
    """Return the lines of a head that are an engine's, and whether its length is not known yet.

    The receipt's id, which the engine was given, says nothing in it.
    """
    first, *rest = data.partition(b"\r\n\r\n")[0].split(b"\r\n")
    lines = [(b":status", first)]
    streamed = True
    for line in rest:
        name, _, value = line.partition(b":")
        name = name.lower()
        streamed = streamed and name != b"content-length"
        if not name.startswith(OURS):
            lines.append((name, value.strip().replace(receipt_id, b"*")))
    return lines, streamed
