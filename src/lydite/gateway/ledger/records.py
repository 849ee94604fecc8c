"""One record of the vault: what is enciphered, under which key, and how it lies on disk.

A record is a head that everybody may read, a slot of 32 random bytes, and the pair, enciphered. The
pair's key comes from the generation's key and the slot: without the slot nobody has it, so whoever
overwrites the slot has destroyed the pair. Does no I/O and knows nothing of files.

    head   body length 4, entry 8, time in ms 8, receipt id 16, tag 32, CRC-32 of these 4
    slot   32 random bytes; all zero once the pair is destroyed
    body   AES-256-GCM of the pair, 16 bytes longer than it; the head is its associated data

The key is BLAKE2b of slot and entry, keyed; each enciphers one message, so the nonce is constant.
"""

import hashlib
import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from lydite.errors import FormatError, Reason, StorageError
from lydite.gateway.ledger import aead
from lydite.messages import opening
from lydite.messages.commitment import Salt
from lydite.messages.opening import Opening

SLOT_BYTES = 32
DESTROYED = bytes(SLOT_BYTES)

_FIELDS = struct.Struct(">IQQ16s32s")
_CRC_BYTES = 4
HEAD_BYTES = _FIELDS.size + _CRC_BYTES
_PAIR = struct.Struct(">32sHHQ")
_MAX_BODY_BYTES = 1 << 28
_MAX_PATH_BYTES = 0xFFFF


class Exchange(NamedTuple):
    """Input and output of one request, as they were, and the tag that pairs them.

    ``number`` is the entry of the receipt, ``tag`` the SHA-256 of its statement, which names the
    commitments to both.
    """

    number: int
    receipt_id: str
    tag: bytes
    time_ms: int
    salt: bytes
    path: bytes
    request: bytes
    response: Sequence[bytes]
    status: int


class Head(NamedTuple):
    """What a record says without any key."""

    body_bytes: int
    number: int
    time_ms: int
    receipt_id: str
    tag: bytes

    @property
    def record_bytes(self) -> int:
        """Length of the whole record."""
        return HEAD_BYTES + SLOT_BYTES + self.body_bytes


class Cipher:
    """Enciphers pairs under the key of one generation."""

    def __init__(self, key: bytes) -> None:
        self._keyed = hashlib.blake2b(key=key, digest_size=32, person=b"lydite/pair/v1")

    def __repr__(self) -> str:
        return "Cipher()"

    def seal(self, exchange: Exchange, slot: bytes) -> bytes:
        """Return the record of one exchange.

        Raises:
            FormatError: it is more than a record may hold.
        """
        number, receipt_id, tag, time_ms, salt, path, request, response, status = exchange
        if len(path) > _MAX_PATH_BYTES:
            raise FormatError(f"a path of {len(path)} bytes", Reason.TOO_LARGE)
        pair = b"".join(
            (_PAIR.pack(salt, status, len(path), len(request)), path, request, *response)
        )
        body_bytes = len(pair) + aead.TAG_BYTES
        if body_bytes > _MAX_BODY_BYTES:
            raise FormatError(f"a pair of {len(pair)} bytes", Reason.TOO_LARGE)
        fields = _FIELDS.pack(body_bytes, number, time_ms, bytes.fromhex(receipt_id), tag)
        head = fields + zlib.crc32(fields).to_bytes(_CRC_BYTES)
        return b"".join((head, slot, aead.encipher(self._key(slot, number), pair, head)))

    def open(self, record: bytes) -> Exchange:
        """Return the exchange of a record whose slot is there.

        Raises:
            StorageError: the record is not what was written.
        """
        head = parse_head(record)
        slot = record[HEAD_BYTES : HEAD_BYTES + SLOT_BYTES]
        if head is None or len(record) != head.record_bytes or slot == DESTROYED:
            raise StorageError("a record of the vault is damaged", Reason.DAMAGED)
        body, key = record[HEAD_BYTES + SLOT_BYTES :], self._key(slot, head.number)
        try:
            pair = aead.decipher(key, body, record[:HEAD_BYTES])
        except StorageError as error:
            raise StorageError(
                f"the pair of entry {head.number} is damaged", Reason.DAMAGED
            ) from error
        salt, status, path_bytes, request_bytes = _PAIR.unpack_from(pair)
        path_end = _PAIR.size + path_bytes
        request_end = path_end + request_bytes
        return Exchange(
            number=head.number,
            receipt_id=head.receipt_id,
            tag=head.tag,
            time_ms=head.time_ms,
            salt=salt,
            path=pair[_PAIR.size : path_end],
            request=pair[path_end:request_end],
            response=(pair[request_end:],),
            status=status,
        )

    def _key(self, slot: bytes, number: int) -> bytes:
        keyed = self._keyed.copy()
        keyed.update(slot + number.to_bytes(8))
        return keyed.digest()


def parse_head(data: bytes) -> Head | None:
    """Return the head that ``data`` begins with, ``None`` where there is none."""
    fields = data[: _FIELDS.size]
    if len(data) < HEAD_BYTES or zlib.crc32(fields) != int.from_bytes(
        data[_FIELDS.size : HEAD_BYTES]
    ):
        return None
    body_bytes, number, time_ms, receipt_id, tag = _FIELDS.unpack(fields)
    if not _PAIR.size + aead.TAG_BYTES <= body_bytes <= _MAX_BODY_BYTES:
        return None
    return Head(body_bytes, number, time_ms, receipt_id.hex(), tag)


def is_destroyed(record: bytes) -> bool:
    """Say whether the slot of a record was overwritten."""
    return record[HEAD_BYTES : HEAD_BYTES + SLOT_BYTES] == DESTROYED


def opening_of(exchange: Exchange) -> Opening:
    """Return what the receipt's commitments cover, as it travels to auditor and client."""
    return opening.make(
        exchange.receipt_id,
        Salt(exchange.salt),
        exchange.path,
        exchange.request,
        b"".join(exchange.response),
        exchange.status,
    )
