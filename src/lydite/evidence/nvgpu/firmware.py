"""Which firmware a device's certificate was issued to, by TCG's DICE extensions.

Hopper has the older one, whose digest stands last; later devices have ``DiceTcbInfo``, of whose
digests the first counts. Knows nothing of reports.
"""

from cryptography import x509

from lydite.certificates import raw_extension
from lydite.errors import Reason, Refusal
from lydite.messages.cursor import Cursor

DICE = x509.ObjectIdentifier("2.23.133.5.4.1")
TCB_INFO = x509.ObjectIdentifier("2.23.133.5.4.1.1")
SIZE = 48
_SEQUENCE, _DIGESTS, _OID, _OCTETS = 0x30, 0xA6, 0x06, 0x04


def digest(leaf: x509.Certificate) -> bytes | None:
    """Return the digest of the firmware; None where the certificate names none.

    Raises:
        Refusal: the extension is not in its form (``nv.fwid``).
    """
    newer = raw_extension(leaf, TCB_INFO)
    if newer is not None:
        return _first_digest(newer)
    older = raw_extension(leaf, DICE)
    if older is None:
        return None
    if len(older) < SIZE + 2 or older[-SIZE - 2 : -SIZE] != bytes((_OCTETS, SIZE)):
        raise Refusal(
            Reason.NV_FWID, "certificate 0", f"a digest of {SIZE} bytes", older.hex()[:99]
        )
    return older[-SIZE:]


def _first_digest(content: bytes) -> bytes:
    """Return ``fwids[0].digest`` of a ``DiceTcbInfo``."""
    whole = Cursor(content, "certificate 0, TCB info", Reason.NV_FWID)
    kind, inner = _element(whole)
    whole.end(Reason.NV_FWID)
    fields = Cursor(inner, "certificate 0, TCB info", Reason.NV_FWID)
    while kind == _SEQUENCE and fields.left:
        tag, found = _element(fields)
        if tag == _DIGESTS:
            return _digest_of(found)
    raise Refusal(Reason.NV_FWID, "certificate 0, TCB info", "a list of digests", "none")


def _digest_of(content: bytes) -> bytes:
    first, found = _element(Cursor(content, "certificate 0, digests", Reason.NV_FWID))
    pair = Cursor(found, "certificate 0, digest", Reason.NV_FWID)
    (algorithm, _), (octets, digest_found) = _element(pair), _element(pair)
    pair.end(Reason.NV_FWID)
    if (first, algorithm, octets, len(digest_found)) != (_SEQUENCE, _OID, _OCTETS, SIZE):
        expected = f"a digest of {SIZE} bytes"
        raise Refusal(Reason.NV_FWID, "certificate 0, digest", expected, found.hex()[:99])
    return digest_found


def _element(cursor: Cursor) -> tuple[int, bytes]:
    """Return tag and content of the next DER element, of at most 64 KiB."""
    tag, length = cursor.u8(), cursor.u8()
    if length > 0x82:
        raise Refusal(Reason.NV_FWID, "certificate 0", "a length of at most two bytes", hex(length))
    if length & 0x80:
        length = cursor.number(length & 0x7F)
    return tag, cursor.take(length)
