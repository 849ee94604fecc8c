"""How TPM 2.0 writes things down: big-endian numbers, sized buffers, response codes by name.

Part 2 of the TPM 2.0 Library Specification. Knows no command.
"""

import struct

from lydite.errors import DeviceError, Reason

SHA1, SHA256, SHA384, SHA512 = 0x0004, 0x000B, 0x000C, 0x000D
AES, KEYEDHASH, NULL, ECC, CFB = 0x0006, 0x0008, 0x0010, 0x0023, 0x0043
NIST_P256 = 0x0003

OWNER, NULL_HIERARCHY, PASSWORD, ENDORSEMENT, PLATFORM = (
    0x40000001,
    0x40000007,
    0x40000009,
    0x4000000B,
    0x4000000C,
)
NO_SESSIONS, SESSIONS = 0x8001, 0x8002

_FORMAT_ZERO = {
    0x000: "success",
    0x100: "initialize",
    0x101: "failure",
    0x11A: "hierarchy",
    0x120: "disabled",
    0x121: "exclusive",
    0x124: "auth-type",
    0x125: "auth-missing",
    0x126: "policy",
    0x127: "pcr",
    0x128: "pcr-changed",
    0x12D: "upgrade",
    0x12E: "too-many-contexts",
    0x12F: "auth-unavailable",
    0x130: "reboot",
    0x131: "unbalanced",
    0x142: "command-size",
    0x143: "command-code",
    0x144: "auth-size",
    0x145: "auth-context",
    0x146: "nv-range",
    0x147: "nv-size",
    0x148: "nv-locked",
    0x149: "nv-authorization",
    0x14A: "nv-uninitialized",
    0x14B: "nv-space",
    0x14C: "nv-defined",
    0x153: "context-blob",
    0x901: "context-gap",
    0x902: "object-memory",
    0x903: "session-memory",
    0x904: "memory",
    0x905: "session-handles",
    0x906: "object-handles",
    0x907: "locality",
    0x908: "yielded",
    0x909: "canceled",
    0x90A: "testing",
    0x920: "nv-rate",
    0x921: "lockout",
    0x922: "retry",
    0x923: "nv-unavailable",
}
_FORMAT_ONE = {
    0x81: "asymmetric",
    0x82: "attributes",
    0x83: "hash",
    0x84: "value",
    0x85: "hierarchy",
    0x87: "key-size",
    0x88: "mask-generation",
    0x89: "mode",
    0x8A: "type",
    0x8B: "handle",
    0x8C: "kdf",
    0x8D: "range",
    0x8E: "auth-fail",
    0x8F: "nonce",
    0x90: "physical-presence",
    0x92: "scheme",
    0x95: "size",
    0x96: "symmetric",
    0x97: "tag",
    0x98: "selector",
    0x9A: "insufficient",
    0x9B: "signature",
    0x9C: "key",
    0x9D: "policy-fail",
    0x9F: "integrity",
    0xA0: "ticket",
    0xA1: "reserved-bits",
    0xA2: "bad-auth",
    0xA3: "expired",
    0xA4: "policy-command-code",
    0xA5: "binding",
    0xA6: "curve",
    0xA7: "ecc-point",
}


def name(code: int) -> str:
    """Return the word for a response code, without the operand that it complains about."""
    if code & 0x80:
        return _FORMAT_ONE.get(code & 0xBF, f"0x{code:x}")
    return _FORMAT_ZERO.get(code, f"0x{code:x}")


def u8(value: int) -> bytes:
    """Return one byte."""
    return struct.pack(">B", value)


def u16(value: int) -> bytes:
    """Return two bytes, the most significant first."""
    return struct.pack(">H", value)


def u32(value: int) -> bytes:
    """Return four bytes, the most significant first."""
    return struct.pack(">I", value)


def sized(content: bytes) -> bytes:
    """Return a ``TPM2B``: a 16-bit length and ``content``."""
    return struct.pack(">H", len(content)) + content


class Reader:
    """Reads what a TPM wrote, once, from front to back."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._place = 0

    def take(self, count: int) -> bytes:
        """Return the next ``count`` bytes.

        Raises:
            DeviceError: so many are not there.
        """
        end = self._place + count
        if end > len(self._content):
            raise DeviceError("the TPM's answer ends early", Reason.MALFORMED)
        taken = self._content[self._place : end]
        self._place = end
        return taken

    def u8(self) -> int:
        """Return the next byte."""
        return self.take(1)[0]

    def u16(self) -> int:
        """Return the next two bytes as a number."""
        return int.from_bytes(self.take(2), "big")

    def u32(self) -> int:
        """Return the next four bytes as a number."""
        return int.from_bytes(self.take(4), "big")

    def sized(self, most: int = 4096) -> bytes:
        """Return the content of the next ``TPM2B``, of at most ``most`` bytes."""
        length = self.u16()
        if length > most:
            raise DeviceError(f"a TPM buffer of {length} bytes", Reason.MALFORMED)
        return self.take(length)

    def rest(self) -> bytes:
        """Return all that is left."""
        return self.take(len(self._content) - self._place)

    def end(self) -> None:
        """Refuse what is left.

        Raises:
            DeviceError: there is something.
        """
        if self._place != len(self._content):
            raise DeviceError("the TPM's answer goes on after its end", Reason.MALFORMED)


def pcr_selection(pcrs: tuple[int, ...], bank: int = SHA256) -> bytes:
    """Return a ``TPML_PCR_SELECTION`` of one bank, with the bit of each register set."""
    bits = bytearray(3)
    for pcr in pcrs:
        bits[pcr // 8] |= 1 << pcr % 8
    return u32(1) + u16(bank) + u8(3) + bytes(bits)
