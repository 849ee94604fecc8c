"""AES-256-GCM for messages that each have a key of their own, by libsodium, which signs as well.

PyNaCl's own functions copy what they are given and take four times as long, ``cryptography`` half
as long again and 8 MB of a worker's memory: it is asked only where the processor has no AES. Knows
nothing of records.
"""

from nacl import bindings  # noqa: F401 - what initialises libsodium
from nacl._sodium import ffi, lib  # type: ignore[import-not-found] # compiled, without stubs

from lydite.errors import Reason, StorageError

KEY_BYTES = 32
TAG_BYTES = 16
_NONCE = bytes(12)
_HAS_AES = bool(lib.crypto_aead_aes256gcm_is_available())


def encipher(key: bytes, message: bytes, associated: bytes) -> bytes | bytearray:
    """Return ``message`` enciphered, and its tag. ``key``: 32 bytes that encipher nothing else.

    Raises:
        ValueError: the key has another length.
    """
    _check(key)
    if not _HAS_AES:
        return _slow_encipher(key, message, associated)
    made = bytearray(len(message) + TAG_BYTES)
    lib.crypto_aead_aes256gcm_encrypt(
        ffi.from_buffer(made),
        ffi.NULL,
        message,
        len(message),
        associated,
        len(associated),
        ffi.NULL,
        _NONCE,
        key,
    )
    return made


def decipher(key: bytes, enciphered: bytes, associated: bytes) -> bytes:
    """Return the message.

    Raises:
        StorageError: it is not what was enciphered (``DAMAGED``).
        ValueError: the key has another length.
    """
    _check(key)
    if not _HAS_AES:
        return _slow_decipher(key, enciphered, associated)
    made = bytearray(max(len(enciphered) - TAG_BYTES, 0))
    refused = lib.crypto_aead_aes256gcm_decrypt(
        ffi.from_buffer(made),
        ffi.NULL,
        ffi.NULL,
        enciphered,
        len(enciphered),
        associated,
        len(associated),
        _NONCE,
        key,
    )
    if refused:
        raise _damaged()
    return bytes(made)


def _slow_encipher(key: bytes, message: bytes, associated: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key).encrypt(_NONCE, message, associated)


def _slow_decipher(key: bytes, enciphered: bytes, associated: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        return AESGCM(key).decrypt(_NONCE, enciphered, associated)
    except InvalidTag as error:
        raise _damaged() from error


def _check(key: bytes) -> None:
    """C would read what lies behind a shorter one."""
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key has {KEY_BYTES} bytes, not {len(key)}")


def _damaged() -> StorageError:
    return StorageError("enciphered under another key, or altered since", Reason.DAMAGED)
