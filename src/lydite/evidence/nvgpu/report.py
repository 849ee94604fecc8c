"""The attestation report of an NVIDIA device: SPDM measurements, and what it says of itself.

DMTF DSP0274, GET_MEASUREMENTS with all blocks; numbers are little endian, those of the signature
big endian. Strict: one form, nothing left over. Knows no key or policy.
"""

from collections.abc import Mapping
from typing import NamedTuple

from lydite.errors import Reason, Refusal
from lydite.evidence.nvgpu.reference import SWITCHES
from lydite.messages.cursor import Cursor

REQUEST, RESPONSE = b"\x11\xe0\x01\xff", b"\x11\x60"
DIGEST, NONCE, SIGNATURE = 48, 32, 96
MOST_BYTES = 1 << 14
_HEAD, _BLOCK = 7, 7 + DIGEST
BLOCKS, SWITCH_BLOCKS = 64, 31
DRIVER, VBIOS, NVDEC0, CHIP, PROJECT, SKU, FWID, PCIE = 3, 6, 11, 15, 17, 18, 20, 21
OFF = b"\x55"
"""What the first video decoder's status is where it is off."""


class Report(NamedTuple):
    """What a device signed."""

    nonce: bytes
    measurements: tuple[bytes, ...]
    """The first is SPDM's number one."""
    said: Mapping[int, bytes]
    """What it says of itself, by type."""
    signed: bytes
    r: int
    s: int


def parse(content: bytes) -> Report:
    """Parse request, answer and signature.

    Raises:
        Refusal: another form (``nv.form``), measurements that are not in order (``nv.index``), or a
            broken part behind them (``nv.opaque``).
    """
    if len(content) > MOST_BYTES:
        raise Refusal(Reason.NV_FORM, "report", f"at most {MOST_BYTES} bytes", str(len(content)))
    cursor = Cursor(content, "report", Reason.NV_FORM, little=True)
    _expect(cursor, REQUEST, "request")
    nonce = cursor.take(NONCE)
    cursor.u8()  # the slot of the certificates
    _expect(cursor, RESPONSE, "answer")
    cursor.take(2)
    count = cursor.u8()
    measurements = _blocks(cursor.take(cursor.number(3)), count)
    cursor.take(NONCE)  # the device's own
    said = _opaque(cursor.take(cursor.u16()))
    signed = content[: cursor.at]
    r, s = cursor.take(SIGNATURE // 2), cursor.take(SIGNATURE // 2)
    cursor.end(Reason.NV_FORM)
    return Report(
        nonce, measurements, said, signed, int.from_bytes(r, "big"), int.from_bytes(s, "big")
    )


def _expect(cursor: Cursor, wanted: bytes, what: str) -> None:
    got = cursor.take(len(wanted))
    if got != wanted:
        raise Refusal(Reason.NV_FORM, f"report, {what}", wanted.hex(), got.hex())


def _blocks(content: bytes, count: int) -> tuple[bytes, ...]:
    cursor = Cursor(content, "measurements", Reason.NV_INDEX, little=True)
    if count not in (BLOCKS, SWITCH_BLOCKS):
        expected = f"{BLOCKS}, or {SWITCH_BLOCKS} of a switch"
        raise Refusal(Reason.NV_INDEX, "measurements", expected, str(count))
    if _is_regular(content, count):
        return tuple(content[at + _HEAD : at + _BLOCK] for at in range(0, len(content), _BLOCK))
    found = []
    for number in range(1, count + 1):
        index, form, size = cursor.u8(), cursor.u8(), cursor.u16()
        if index != number:
            raise Refusal(Reason.NV_INDEX, "measurements", str(number), str(index))
        kind, length = cursor.u8(), cursor.u16()
        if (form, size, length) != (1, DIGEST + 3, DIGEST):
            expected, got = f"a digest of {DIGEST} bytes", f"form {form}, kind {kind}, {length}"
            raise Refusal(Reason.NV_FORM, f"measurement {number}", expected, got)
        found.append(cursor.take(DIGEST))
    cursor.end(Reason.NV_INDEX)
    return tuple(found)


def _is_regular(content: bytes, count: int) -> bool:
    """Say at once whether all is as the loop would find it, block by block."""
    size, inner = bytes((DIGEST + 3,)), bytes((DIGEST,))
    heads = (bytes(range(1, count + 1)), b"\1", size, b"\0", None, inner, b"\0")
    return len(content) == count * _BLOCK and all(
        wanted is None or content[at::_BLOCK] == (wanted if at == 0 else wanted * count)
        for at, wanted in enumerate(heads)
    )


def _opaque(content: bytes) -> dict[int, bytes]:
    cursor = Cursor(content, "opaque data", Reason.NV_OPAQUE, little=True)
    found: dict[int, bytes] = {}
    while cursor.left:
        kind = cursor.u16()
        if kind in found:
            raise Refusal(Reason.NV_OPAQUE, "opaque data", "each type once", f"{kind} twice")
        found[kind] = cursor.take(cursor.u16())
    return found


def text(report: Report, kind: int) -> str:
    """Return a text that a device says, whose fill of zeros is cut off.

    Raises:
        Refusal: it does not say it, or nothing that is written so (``nv.opaque``).
    """
    found = report.said.get(kind, b"").rstrip(b"\0")
    if not (found and found.isascii() and found.replace(b".", b"").isalnum()):
        got = found.hex()[:100] or "nothing"
        raise Refusal(Reason.NV_OPAQUE, f"opaque data, type {kind}", "letters and digits", got)
    return found.decode("ascii")


def manifest_id(report: Report, arch: str) -> str:
    """Return how NVIDIA names the manifest of a device's firmware.

    Raises:
        Refusal: the device does not say what it is (``nv.opaque``).
    """
    if arch in SWITCHES:
        family, version = "NV_SWITCH_BIOS", text(report, VBIOS)
    else:
        family, version = "NV_GPU_VBIOS", _version(report.said.get(VBIOS, b""))
    model = [text(report, kind) for kind in (PROJECT, SKU, CHIP)]
    return "_".join((family, *model, version)).upper()


def _version(found: bytes) -> str:
    """Return a GPU's firmware version: a number, and one byte behind it, in hexadecimal."""
    if len(found) != 8 or any(found[5:]):
        raise Refusal(Reason.NV_OPAQUE, "opaque data, VBIOS", "5 bytes of 8", found.hex() or "none")
    return f"{int.from_bytes(found[:4], 'little'):08X}{found[4]:02X}"


def driver_id(report: Report, arch: str) -> str:
    """Return how NVIDIA names the manifest of a device's driver.

    Raises:
        Refusal: the device does not say which it is (``nv.opaque``).
    """
    return f"NV_GPU_DRIVER_{arch}_{text(report, DRIVER)}"
