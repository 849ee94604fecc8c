"""Private keys: the only module that holds one. Imported only where something is signed."""

import os
from pathlib import Path

from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

from lydite.errors import ConfigurationError
from lydite.signing.dsse import KeyId, PublicKey, key_id, pae, seal


class Signer:
    """An Ed25519 key that signs. Its seed never leaves it and never shows in ``repr``."""

    __slots__ = ("_secret", "_seed", "keyid", "public")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != 32:
            raise ConfigurationError(f"an Ed25519 seed has 32 bytes, not {len(seed)}")
        public, self._secret = crypto_sign_seed_keypair(seed)
        self._seed = seed
        self.public = PublicKey(public)
        self.keyid: KeyId = key_id(self.public)

    def __repr__(self) -> str:
        return f"Signer({self.keyid})"

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature over ``message``."""
        return crypto_sign(message, self._secret)[:64]

    def seed(self) -> bytes:
        """Return the 32-byte seed, for the log's note signer and the VRF, which derive from it."""
        return self._seed


def sign_envelope(payload: bytes, *signers: Signer) -> bytes:
    """Return the canonical DSSE envelope of ``payload``, signed by each signer in turn."""
    message = pae(payload)
    return seal(payload, [(signer.keyid, signer.sign(message)) for signer in signers])


def create(path: Path) -> Signer:
    """Write a new key to ``path`` with mode 0600, refusing to replace one.

    Raises:
        ConfigurationError: the file exists or cannot be written.
    """
    seed = os.urandom(32)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(seed.hex() + "\n")
    except OSError as error:
        raise ConfigurationError(f"cannot create key {path}: {error.strerror}") from error
    return Signer(seed)


def load(path: Path) -> Signer:
    """Read a key file written by ``create``.

    Raises:
        ConfigurationError: missing, readable by others, or not 32 bytes in hexadecimal.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigurationError(f"key {path} is readable by others; run chmod 600 on it")
        return Signer(bytes.fromhex(path.read_text().strip()))
    except OSError as error:
        raise ConfigurationError(f"cannot read key {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError(f"key {path} is not 32 bytes in hexadecimal") from error
