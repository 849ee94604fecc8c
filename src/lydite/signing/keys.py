"""Private keys: the only module that holds one. Imported only where something is signed.

A key lies in a file of mode 0600, in the open or encrypted under a *wrapping* key that somebody
else holds. Which of the two is expected is said by the caller, never guessed from the file.
"""

import os
from pathlib import Path

from nacl.bindings import crypto_sign, crypto_sign_seed_keypair
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from lydite.errors import ConfigurationError, Reason, SealError
from lydite.signing.dsse import KeyId, PublicKey, key_id, pae, seal

_SEALED = "lydite/sealed-key/v1 "


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
        _write(path, seed.hex() + "\n")
    except FileExistsError as error:
        raise ConfigurationError(
            f"key {path} exists, and is not replaced; name a new file"
        ) from error
    except OSError as error:
        raise ConfigurationError(f"cannot create key {path}: {error.strerror}") from error
    return Signer(seed)


def load(path: Path, wrapping: bytes | None = None) -> Signer:
    """Read a key file: one in the open, or with 32 bytes of ``wrapping`` an encrypted one.

    Raises:
        ConfigurationError: missing, readable by others, or not 32 bytes in hexadecimal.
        SealError: in the open where it has to be encrypted, or the other way round
            (``NOT_SEALED``); altered, or encrypted under another key (``STATE_CHANGED``).
    """
    text = _read(path)
    if text.startswith(_SEALED) != (wrapping is not None):
        how = "in the open, and nothing falls back to that" if wrapping else "sealed to a device"
        raise SealError(Reason.NOT_SEALED, f"key {path} is {how}")
    try:
        content = bytes.fromhex(text.removeprefix(_SEALED))
    except ValueError as error:
        raise ConfigurationError(f"key {path} is not 32 bytes in hexadecimal") from error
    return Signer(content if wrapping is None else _unwrap(path, content, wrapping))


def is_wrapped(path: Path) -> bool:
    """Return whether a key file is encrypted.

    Raises:
        ConfigurationError: missing, or readable by others.
    """
    return _read(path).startswith(_SEALED)


def wrap(path: Path, wrapping: bytes) -> None:
    """Encrypt a key file that lies in the open, in one step, and overwrite what it held.

    A disk that writes elsewhere than it is told, as flash does, may keep the old bytes.

    Raises:
        ConfigurationError: it cannot be read or written.
    """
    signer = load(path)
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.unlink(missing_ok=True)
        _write(temporary, _SEALED + SecretBox(wrapping).encrypt(signer.seed()).hex() + "\n")
        with path.open("r+b") as plain:
            temporary.replace(path)
            _sync(path.parent)
            plain.write(bytes(os.fstat(plain.fileno()).st_size))
            plain.flush()
            os.fsync(plain.fileno())
    except OSError as error:
        raise ConfigurationError(f"cannot seal key {path}: {error.strerror}") from error


def _unwrap(path: Path, content: bytes, wrapping: bytes) -> bytes:
    try:
        return SecretBox(wrapping).decrypt(content)
    except (CryptoError, ValueError) as error:
        raise SealError(
            Reason.STATE_CHANGED, f"key {path} was altered, or is sealed to another device"
        ) from error


def _read(path: Path) -> str:
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigurationError(f"key {path} is readable by others; run chmod 600 on it")
        return path.read_text().strip()
    except FileNotFoundError as error:
        place = "" if path.is_absolute() else f" in {Path.cwd()}"
        raise ConfigurationError(f"there is no key {path}{place}") from error
    except OSError as error:
        raise ConfigurationError(f"cannot read key {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"key {path} is not 32 bytes in hexadecimal") from error


def _write(path: Path, text: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
