"""Objects inside a TPM: the storage key above all, and a secret that opens under a policy alone."""

from typing import NamedTuple

from lydite.errors import DeviceError, Reason
from lydite.tpm import codec, sessions
from lydite.tpm.codec import Reader, sized, u16, u32
from lydite.tpm.commands import Handle, Primary, Tpm, permanent
from lydite.tpm.sessions import Password, Session

_FIXED_TPM, _FIXED_PARENT, _NO_LOCKOUT = 1 << 1, 1 << 4, 1 << 10
_STORAGE = 0x00030472
"""Fixed to this TPM, made by it, restricted to decryption: the TCG's template of a storage key."""


class Blob(NamedTuple):
    """A sealed object outside of the TPM: its public area, and the rest that the TPM encrypted."""

    public: bytes
    private: bytes


def storage_template() -> bytes:
    """Return the ``TPMT_PUBLIC`` of the P-256 storage key, the same key for as long as the seed."""
    symmetric = u16(codec.AES) + u16(128) + u16(codec.CFB)
    scheme = u16(codec.NULL) + u16(codec.NIST_P256) + u16(codec.NULL)
    blank = sized(bytes(32)) + sized(bytes(32))
    head = u16(codec.ECC) + u16(codec.SHA256) + u32(_STORAGE) + sized(b"")
    return head + symmetric + scheme + blank


def create_primary(tpm: Tpm, hierarchy: int = codec.OWNER) -> Primary:
    """Make the storage key; the caller flushes it."""
    nothing = sized(sized(b"") + sized(b""))
    parameters = nothing + sized(storage_template()) + sized(b"") + u32(0)
    answer = tpm.run(0x131, [permanent(hierarchy)], parameters, [Password()], returns_handle=True)
    number, public = answer.u32(), answer.sized()
    for _ in range(2):  # creation data, and its digest
        answer.sized()
    answer.take(6)
    answer.sized()  # the creation ticket
    return Primary(Handle(number, answer.sized(68)), _point(public))


def _point(public: bytes) -> sessions.Point:
    """Return the point at the end of the public area of a storage key."""
    reader = Reader(public)
    head = len(storage_template()) - 2 * 34
    if reader.take(head) != storage_template()[:head]:
        raise DeviceError("the TPM made another key than it was asked for", Reason.TPM_REFUSED)
    point = sessions.Point(*(int.from_bytes(reader.sized(32), "big") for _ in range(2)))
    reader.end()
    return point


def sealed_template(policy: bytes) -> bytes:
    """Return the ``TPMT_PUBLIC`` of data that opens under ``policy`` and in no other way."""
    attributes = u32(_FIXED_TPM | _FIXED_PARENT | _NO_LOCKOUT)
    head = u16(codec.KEYEDHASH) + u16(codec.SHA256) + attributes + sized(policy)
    return head + u16(codec.NULL) + sized(b"")


def create_sealed(tpm: Tpm, parent: Primary, secret: bytes, policy: bytes) -> Blob:
    """Seal ``secret``, which is encrypted on its way to the TPM, under a policy."""
    sensitive = sized(sized(b"") + sized(secret))
    parameters = sensitive + sized(sealed_template(policy)) + sized(b"") + u32(0)
    with tpm.hmac_session(b"", parent) as session:
        session.attributes |= sessions.DECRYPT
        answer = tpm.run(0x153, [parent.handle], parameters, [Password(), session])
    private = answer.sized()
    return Blob(answer.sized(), private)


def load(tpm: Tpm, parent: Primary, blob: Blob) -> Handle:
    """Load a sealed object; the caller flushes it.

    Raises:
        DeviceError: it is not this TPM's, or was altered.
    """
    parameters = sized(blob.private) + sized(blob.public)
    answer = tpm.run(0x157, [parent.handle], parameters, [Password()], returns_handle=True)
    return Handle(answer.u32(), answer.sized(68))


def unseal(tpm: Tpm, sealed: Handle, session: Session) -> bytes:
    """Return what was sealed, encrypted on its way if the session is salted.

    Raises:
        DeviceError: the session does not satisfy the policy.
    """
    session.attributes |= sessions.ENCRYPT
    return tpm.run(0x15E, [sealed], b"", [session]).sized(128)


def read_public(tpm: Tpm, handle: int) -> tuple[bytes, bytes]:
    """Return an object's public area and its name."""
    answer = tpm.run(0x173, [permanent(handle)])
    public = answer.sized()
    return public, answer.sized(68)
