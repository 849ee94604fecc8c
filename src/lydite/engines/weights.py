"""Which model a directory holds: a digest of every file in it, and one root.

Knows nothing of tensors: to this room weights are bytes. Whether the bytes are those of a model
that anybody declared is for a verifier to say. Two algorithms make two roots of the same bytes:
SHA-256, which every install has, and BLAKE3, which is faster; decision 0014 compares them.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, get_args

import msgspec

from lydite.errors import ConfigurationError, FormatError, Reason, VerificationError
from lydite.messages.canonical import UNREADABLE

MANIFEST = "lydite-manifest.json"
Algorithm = Literal["sha256", "blake3"]
ALGORITHMS: tuple[Algorithm, ...] = get_args(Algorithm)
_CHUNK_BYTES = 1 << 20
_INDEX = ".index.json"
"""How the files end that say in which file each tensor lies."""
_TOKENIZER = "tokenizer_config.json"
_BLAKE3_ROOT = b"lydite/weights-root/blake3/v1\0"


class File(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """One file of a model directory: its digest by exactly one algorithm, in hexadecimal."""

    name: str
    sha256: str | None = None
    blake3: str | None = None
    size: int
    """In bytes."""

    @property
    def algorithm(self) -> Algorithm:
        """Which algorithm made the digest."""
        return "blake3" if self.sha256 is None else "sha256"

    @property
    def digest(self) -> bytes:
        """The digest, 32 bytes.

        Raises:
            FormatError: there is none, or one of each kind.
        """
        if (self.sha256 is None) == (self.blake3 is None):
            raise FormatError(f"{self.name}: exactly one digest is needed")
        return bytes.fromhex(self.sha256 or self.blake3 or "")


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every file of a model directory, sorted by name, and one root over them."""

    files: tuple[File, ...]
    root: str
    """Lowercase hex; see ``root_of``."""


class _Index(msgspec.Struct):
    weight_map: dict[str, str]


class _Tokenizer(msgspec.Struct):
    fast_tokenizer_files: tuple[str, ...] = ()


def measure(directory: Path, algorithm: Algorithm = "sha256") -> Manifest:
    """Digest every file of ``directory`` but the manifest itself.

    Raises:
        ConfigurationError: as ``files_of``, or ``algorithm`` is missing.
    """
    paths = files_of(directory)
    digests = _blake3_of(paths) if algorithm == "blake3" else _sha256_of(paths)
    files = tuple(
        File(name=path.name, size=path.stat().st_size, **{algorithm: digest.hex()})
        for path, digest in zip(paths, digests, strict=True)
    )
    return Manifest(files=files, root=root_of(files))


def files_of(directory: Path) -> list[Path]:
    """Return the files that make the model in ``directory``, sorted by name.

    They are all that a loader may find, so whoever loads asks here first: loaders look into
    subfolders, too, and follow the names in an index to wherever these lead.

    Raises:
        ConfigurationError: the directory is not there, is empty, holds a folder, a link or a
            device, or a file in it tells loaders to read what is not in it.
    """
    if not directory.is_dir():
        raise ConfigurationError(f"no model directory at {directory}")
    found = sorted(directory.iterdir())
    paths = [path for path in found if path.name != MANIFEST]
    if not paths:
        raise ConfigurationError(f"no files in the model directory {directory}")
    for path in found:
        if path.is_symlink() or not path.is_file():
            raise ConfigurationError(
                f"{path} is no plain file: no root would bind it; copy the model's files, without"
                " folders and links, into a directory of their own"
            )
        if not path.name.isprintable():  # nor UTF-8, where Python kept bytes as surrogates
            raise ConfigurationError(f"{path}: a name of a file that not everybody can read")
    _check_named(paths)
    return paths


def _check_named(paths: Sequence[Path]) -> None:
    """Refuse a model whose files name others, for a loader to read, that are not among them."""
    names = {path.name for path in paths}
    for path in paths:
        other = next((name for name in _named_by(path) if name not in names), None)
        if other is not None:
            raise ConfigurationError(
                f"{path} names {other!r}, which is not in its directory: no root would bind it"
            )


def _named_by(path: Path) -> Iterable[str]:
    """Return the files that one file tells loaders to read, if it is of a kind that does."""
    try:
        if path.name.endswith(_INDEX):
            return msgspec.json.decode(path.read_bytes(), type=_Index).weight_map.values()
        if path.name == _TOKENIZER:
            return msgspec.json.decode(path.read_bytes(), type=_Tokenizer).fast_tokenizer_files
    except UNREADABLE as error:
        raise ConfigurationError(f"{path}: {error}") from error
    return ()


def check_root(directory: Path, expected: str) -> None:
    """Refuse a model directory that is not the one whose root is ``expected``, in hexadecimal.

    Whoever judges with other weights than the declared ones accuses the honest.

    Raises:
        ConfigurationError: it holds other weights, or cannot be read.
    """
    found = measure(directory).root
    if found != expected and expected != _root_by_blake3(directory):
        raise ConfigurationError(
            f"{directory} has weights {found[:16]}, the reference is for {expected[:16]}"
        )


def root_of(files: Sequence[File]) -> str:
    """Return the root over ``files`` in the order given: what a declaration names a model by.

    SHA-256 over, for each file, its name in UTF-8, a zero byte and its raw digest; where the
    digests are BLAKE3's, behind a prefix that says so.

    Raises:
        FormatError: a file has no digest or two, or not all are by one algorithm.
    """
    named = [file.name.encode() + b"\0" + file.digest for file in files]
    algorithms = {file.algorithm for file in files}
    if len(algorithms) > 1:
        raise FormatError("the digests of one model are by one algorithm")
    prefix = _BLAKE3_ROOT if algorithms == {"blake3"} else b""
    return hashlib.sha256(prefix + b"".join(named)).hexdigest()


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
    except UNREADABLE as error:
        raise FormatError(f"model manifest: {error}") from error
    measured = measure(directory, stated.files[0].algorithm if stated.files else "sha256")
    if stated != measured:
        differing = sorted({f.name for f in {*stated.files} ^ {*measured.files}}) or ["root"]
        raise VerificationError(
            Reason.WRONG_PROVIDER, f"model files differ from their manifest: {differing}"
        )
    return stated


def _sha256_of(paths: Sequence[Path]) -> list[bytes]:
    """Digest files side by side: one digest of one file cannot be divided."""
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="weights") as threads:
        return list(threads.map(_sha256, paths))


def _sha256(path: Path) -> bytes:
    digest = hashlib.sha256()
    buffer = bytearray(_CHUNK_BYTES)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as stream:
        while length := stream.readinto(buffer):
            digest.update(view[:length])
    return digest.digest()


def _blake3_of(paths: Sequence[Path]) -> list[bytes]:
    """Digest files one by one, each over all cores."""
    try:
        from blake3 import blake3
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "BLAKE3 digests need lydite[upload]; in a clone: pip install '.[upload]'"
        ) from error
    return [blake3(max_threads=blake3.AUTO).update_mmap(path).digest() for path in paths]


def _root_by_blake3(directory: Path) -> str | None:
    try:
        return measure(directory, "blake3").root
    except ConfigurationError:
        return None
