"""Sessions: what authorises a command, proves an answer, and hides a secret on the way.

An HMAC or policy session may be *salted*: its key is agreed upon with a key inside the TPM, so that
whoever listens on the bus learns neither key nor parameters. TPM 2.0 Library, Part 1, 17 to 21.
``cryptography`` is loaded by the first session: 8 MB that a gateway without a TPM does not need.
"""

import hashlib
import hmac
import os
from typing import TYPE_CHECKING, NamedTuple

from lydite.errors import DeviceError, Reason
from lydite.tpm.codec import Reader, sized, u8, u32

if TYPE_CHECKING:
    from cryptography.hazmat.decrepit.ciphers.modes import CFB
    from cryptography.hazmat.primitives.ciphers import Cipher

CONTINUE, DECRYPT, ENCRYPT = 0x01, 0x20, 0x40
"""Keep the session; the first parameter of the command, of the answer, is encrypted."""


class Point(NamedTuple):
    """A point on P-256: the public half of a key inside a TPM."""

    x: int
    y: int


class Password:
    """Authorises with a value in the clear, which here is always the empty one."""

    __slots__ = ()


class Session:
    """One session, its key and its rolling nonces. ``value`` authorises what it is used on."""

    def __init__(self, handle: int, nonces: tuple[bytes, bytes], key: bytes) -> None:
        self.handle = handle
        self.value = b""
        self.attributes = CONTINUE
        self.policy = False
        self._caller, self._tpm = nonces
        self._key = key

    def authorise(self, digest: bytes) -> bytes:
        """Return the ``TPMS_AUTH_COMMAND`` for a command with this parameter digest."""
        mac = self._mac(digest, self._caller, self._tpm)
        return u32(self.handle) + sized(self._caller) + u8(self.attributes) + sized(mac)

    def roll(self) -> None:
        """Choose the nonce for the next command."""
        self._caller = os.urandom(32)

    def accept(self, digest: bytes, reader: Reader) -> None:
        """Check the ``TPMS_AUTH_RESPONSE`` over an answer with this parameter digest.

        Raises:
            DeviceError: whoever answered does not know the session's key.
        """
        self._tpm, attributes, mac = reader.sized(64), reader.u8(), reader.sized(64)
        expected = self._mac(digest, self._tpm, self._caller, attributes)
        if not hmac.compare_digest(mac, expected):
            raise DeviceError("the TPM's answer is not authentic", Reason.BAD_SIGNATURE)

    def encrypt(self, content: bytes) -> bytes:
        """Return a command's first parameter as it travels."""
        step = self._cipher(self._caller, self._tpm).encryptor()
        return step.update(content) + step.finalize()

    def decrypt(self, content: bytes) -> bytes:
        """Return an answer's first parameter as it was meant."""
        step = self._cipher(self._tpm, self._caller).decryptor()
        return step.update(content) + step.finalize()

    def _mac(self, digest: bytes, newer: bytes, older: bytes, attributes: int = -1) -> bytes:
        key = self._key if self.policy else self._key + self.value
        if self.policy and not key:
            return b""
        flags = u8(self.attributes if attributes < 0 else attributes)
        return hmac.digest(key, digest + newer + older + flags, "sha256")

    def _cipher(self, newer: bytes, older: bytes) -> "Cipher[CFB]":
        from cryptography.hazmat.decrepit.ciphers.modes import CFB
        from cryptography.hazmat.primitives.ciphers import Cipher
        from cryptography.hazmat.primitives.ciphers.algorithms import AES

        material = kdfa(self._key + self.value, b"CFB", newer, older, 256)
        return Cipher(AES(material[:16]), CFB(material[16:]))


Authorisation = Password | Session


def salt_for(key: Point) -> tuple[bytes, bytes]:
    """Return a fresh salt of 32 bytes, and what tells it to the TPM that holds ``key`` alone."""
    from cryptography.hazmat.primitives.asymmetric import ec

    ours = ec.generate_private_key(ec.SECP256R1())
    theirs = ec.EllipticCurvePublicNumbers(key.x, key.y, ec.SECP256R1()).public_key()
    shared = ours.exchange(ec.ECDH(), theirs)
    mine = ours.public_key().public_numbers()
    x, y = mine.x.to_bytes(32, "big"), mine.y.to_bytes(32, "big")
    salt = kdfe(shared, b"SECRET", x, key.x.to_bytes(32, "big"))
    return salt, sized(x) + sized(y)


def kdfa(key: bytes, label: bytes, u: bytes, v: bytes, bits: int) -> bytes:
    """Return ``bits`` of key by counter-mode HMAC-SHA256 (Part 1, 11.4.10.2)."""
    made, counter = b"", 0
    while len(made) * 8 < bits:
        counter += 1
        message = u32(counter) + label + b"\0" + u + v + u32(bits)
        made += hmac.digest(key, message, "sha256")
    return made[: bits // 8]


def kdfe(shared: bytes, label: bytes, u: bytes, v: bytes) -> bytes:
    """Return 256 bits of key from a Diffie-Hellman secret (Part 1, 11.4.10.3)."""
    return hashlib.sha256(u32(1) + shared + label + b"\0" + u + v).digest()
