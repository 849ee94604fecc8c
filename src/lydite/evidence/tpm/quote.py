"""The attestation structure that a TPM signs (``TPMS_ATTEST``), and the signature beside it.

TPM 2.0 Library, Part 2, 10.12 and 11.3. Strict: one form each, nothing behind it. Knows no key.
"""

import functools
from typing import NamedTuple

from lydite.errors import Reason, Refusal
from lydite.messages.cursor import Cursor
from lydite.tpm import codec

MAGIC, QUOTE = 0xFF544347, 0x8018
RSASSA, RSAPSS, ECDSA = 0x0014, 0x0016, 0x0018
ALGORITHMS = {
    codec.SHA1: ("sha1", 20),
    codec.SHA256: ("sha256", 32),
    codec.SHA384: ("sha384", 48),
    codec.SHA512: ("sha512", 64),
    0x0012: ("sm3", 32),
}
"""Name and length of the digests that a bank may be of; SM3 is none that we compute."""
NUMBERS = {name: number for number, (name, _) in ALGORITHMS.items()}
SIZES = dict(ALGORITHMS.values())
_MOST_BANKS = 16
_MOST_BYTES = 1024


class Bank(NamedTuple):
    """Registers of one digest, in ascending order."""

    name: str
    registers: tuple[int, ...]


class Quote(NamedTuple):
    """What a TPM signed."""

    signer: bytes
    """The qualified name of the key."""
    nonce: bytes
    clock_ms: int
    resets: int
    restarts: int
    safe: bool
    firmware: int
    banks: tuple[Bank, ...]
    digest: bytes
    """Over the values of all registers in the order of ``banks``."""


class Signature(NamedTuple):
    """A signature by a TPM: for RSA ``first`` alone."""

    scheme: int
    hash_name: str
    first: bytes
    second: bytes


def parse(content: bytes) -> Quote:
    """Parse an attestation structure that has to be a quote.

    Raises:
        Refusal: one of the family ``attest``.
    """
    if len(content) > _MOST_BYTES:
        size = str(len(content))
        raise Refusal(Reason.ATTEST_OVERSIZE, "quote", f"at most {_MOST_BYTES} bytes", size)
    cursor = Cursor(content, "quote", Reason.ATTEST_TRUNCATED)
    magic = cursor.u32()
    if magic != MAGIC:
        raise Refusal(Reason.ATTEST_MAGIC, "quote", f"{MAGIC:08x}", f"{magic:08x}")
    kind = cursor.u16()
    if kind != QUOTE:
        raise Refusal(Reason.ATTEST_TYPE, "quote", f"{QUOTE:04x}", f"{kind:04x}")
    signer = cursor.sized(68, Reason.ATTEST_OVERSIZE)
    nonce = cursor.sized(66, Reason.ATTEST_OVERSIZE)
    clock_ms, resets, restarts = cursor.u64(), cursor.u32(), cursor.u32()
    safe = cursor.u8()
    if safe > 1:
        raise Refusal(Reason.ATTEST_SAFE_BYTE, "quote, clock", "0 or 1", str(safe))
    firmware = cursor.u64()
    banks = _banks(cursor)
    digest = cursor.sized(64, Reason.ATTEST_OVERSIZE)
    cursor.end(Reason.ATTEST_TRAILING)
    return Quote(signer, nonce, clock_ms, resets, restarts, safe == 1, firmware, banks, digest)


def _banks(cursor: Cursor) -> tuple[Bank, ...]:
    count = cursor.u32()
    if count > _MOST_BANKS:
        raise Refusal(
            Reason.ATTEST_BANKS, "quote, selection", f"at most {_MOST_BANKS} banks", str(count)
        )
    banks = tuple(_bank(cursor) for _ in range(count))
    if len({bank.name for bank in banks}) != count:
        names = ", ".join(bank.name for bank in banks)
        raise Refusal(Reason.ATTEST_DUP_BANK, "quote, selection", "each bank once", names)
    if not any(bank.registers for bank in banks):
        raise Refusal(Reason.ATTEST_EMPTY_SELECTION, "quote, selection", "registers", "none")
    return banks


def _bank(cursor: Cursor) -> Bank:
    number, size = cursor.u16(), cursor.u8()
    if number not in ALGORITHMS:
        raise Refusal(Reason.ATTEST_BANK_ALG, "quote, selection", got=f"{number:04x}")
    if not 3 <= size <= 4:
        raise Refusal(Reason.ATTEST_SELECT_SIZE, "quote, selection", "3 or 4 bytes", str(size))
    return Bank(ALGORITHMS[number][0], _registers(cursor.take(size)))


@functools.lru_cache(maxsize=1024)
def _registers(bitmap: bytes) -> tuple[int, ...]:
    bits = int.from_bytes(bitmap, "little")
    return tuple(index for index in range(8 * len(bitmap)) if bits >> index & 1)


def parse_signature(content: bytes) -> Signature:
    """Parse a ``TPMT_SIGNATURE``.

    Raises:
        Refusal: a scheme or digest that is not accepted (``key.scheme``, ``key.sha1``), or bytes
            that are not one signature.
    """
    cursor = Cursor(content, "signature", Reason.ATTEST_TRUNCATED)
    scheme, number = cursor.u16(), cursor.u16()
    if scheme not in (RSASSA, RSAPSS, ECDSA):
        raise Refusal(Reason.KEY_SCHEME, "signature", "RSASSA, RSAPSS or ECDSA", f"{scheme:04x}")
    if number == codec.SHA1:
        raise Refusal(Reason.KEY_SHA1, "signature", "SHA-256 or longer", "SHA-1")
    if number not in (codec.SHA256, codec.SHA384, codec.SHA512):
        raise Refusal(Reason.KEY_SCHEME, "signature", "SHA-256, -384 or -512", f"{number:04x}")
    most = 66 if scheme == ECDSA else 1024
    first = cursor.sized(most, Reason.KEY_SIG_RANGE)
    second = cursor.sized(most, Reason.KEY_SIG_RANGE) if scheme == ECDSA else b""
    cursor.end(Reason.ATTEST_TRAILING)
    return Signature(scheme, ALGORITHMS[number][0], first, second)
