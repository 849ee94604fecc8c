"""Which model a directory holds: a digest of every file in it, and one root.

Knows nothing of tensors: to this room weights are bytes. Whether the bytes are those of a model
that anybody declared is for a verifier to say.
"""

import hashlib
from pathlib import Path

import msgspec

from lydite.errors import ConfigurationError, FormatError, Reason, VerificationError

MANIFEST = "lydite-manifest.json"
_CHUNK_BYTES = 1 << 20


class File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of a model directory."""

    name: str
    sha256: str
    size: int
    """In bytes."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every file of a model directory, sorted by name, and one root over them."""

    files: tuple[File, ...]
    root: str
    """Lowercase hex; see ``root_of``."""


def measure(directory: Path) -> Manifest:
    """Digest every regular file directly in ``directory`` but the manifest itself.

    Raises:
        ConfigurationError: the directory is not there, or is empty.
    """
    if not directory.is_dir():
        raise ConfigurationError(f"no model directory at {directory}")
    paths = sorted(path for path in directory.iterdir() if path.is_file() and path.name != MANIFEST)
    if not paths:
        raise ConfigurationError(f"no files in the model directory {directory}")
    files = tuple(
        File(name=path.name, sha256=_digest(path).hex(), size=path.stat().st_size) for path in paths
    )
    return Manifest(files=files, root=root_of(files))


def check_root(directory: Path, expected: str) -> None:
    """Refuse a model directory that is not the one whose root is ``expected``, in hexadecimal.

    Whoever judges with other weights than the declared ones accuses the honest.

    Raises:
        ConfigurationError: it holds other weights, or cannot be read.
    """
    found = measure(directory).root
    if found != expected:
        raise ConfigurationError(
            f"{directory} has weights {found[:16]}, the reference is for {expected[:16]}"
        )


def root_of(files: tuple[File, ...]) -> str:
    """Return the root over ``files`` in the order given: what a declaration names a model by.

    SHA-256 over, for each file, its name in UTF-8, a zero byte and its raw digest.
    """
    named = [file.name.encode() + b"\0" + bytes.fromhex(file.sha256) for file in files]
    return hashlib.sha256(b"".join(named)).hexdigest()


def write_manifest(directory: Path) -> Manifest:
    """Measure ``directory`` and leave the manifest in it."""
    manifest = measure(directory)
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
    (directory / MANIFEST).write_bytes(text)
    return manifest


def check_manifest(directory: Path) -> Manifest:
    """Return the manifest of ``directory`` after measuring that its files are those it names.

    Raises:
        FormatError: the manifest cannot be parsed.
        VerificationError: a file differs, is missing, or is not in the manifest.

    **Does not show** that the files are what anybody loaded, or a model at all.
    """
    try:
        stated = msgspec.json.decode((directory / MANIFEST).read_bytes(), type=Manifest)
    except FileNotFoundError as error:
        raise ConfigurationError(f"no {MANIFEST} in {directory}") from error
    except msgspec.DecodeError as error:
        raise FormatError(f"model manifest: {error}") from error
    measured = measure(directory)
    if stated != measured:
        differing = sorted({f.name for f in {*stated.files} ^ {*measured.files}}) or ["root"]
        raise VerificationError(
            Reason.WRONG_PROVIDER, f"model files differ from their manifest: {differing}"
        )
    return stated


def _digest(path: Path) -> bytes:
    with path.open("rb") as stream:
        digest = hashlib.sha256()
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.digest()
