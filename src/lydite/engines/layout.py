"""How the bytes of a model directory lie one behind another, cut into pieces with a digest each.

Safetensors files are cut between tensors: small ones share a piece, large ones are cut again. The
digest of a piece is BLAKE3. A layout is an *aid*: it tells a receiver how long the model is and
lets it notice a wrong byte within a piece. Whether the bytes are the model's is what the digests
of whole files say (``weights``); a wrong layout can refuse the right bytes and let no others pass.
"""

import mmap
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import Annotated

import msgspec

from lydite.engines.weights import files_of
from lydite.errors import ConfigurationError, FormatError
from lydite.messages.canonical import UNREADABLE, Hex32, Message, decode, encode

LEAST_BYTES = 1 << 20
MOST_BYTES = 8 << 20
_HEADER_BYTES = 100 * 1024 * 1024
"""What the safetensors library accepts at most."""
_LIMIT_BYTES = 256 * 1024 * 1024

Size = Annotated[int, msgspec.Meta(ge=0, le=2**50)]


class Piece(Message, frozen=True, kw_only=True):
    """The next ``size`` bytes of a file, and their BLAKE3 digest."""

    size: Annotated[int, msgspec.Meta(ge=1, le=MOST_BYTES)]
    blake3: Hex32


class Laid(Message, frozen=True, kw_only=True):
    """One file, and its bytes in pieces."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    pieces: tuple[Piece, ...]

    @property
    def size(self) -> int:
        """Length in bytes."""
        return sum(piece.size for piece in self.pieces)


class Layout(Message, frozen=True, kw_only=True):
    """The files of a model, in the order of their names: the order of an upload."""

    files: Annotated[tuple[Laid, ...], msgspec.Meta(min_length=1, max_length=100_000)]

    @property
    def size(self) -> int:
        """Length of the whole upload in bytes."""
        return sum(file.size for file in self.files)


def parse(payload: bytes) -> Layout:
    """Parse a layout, at most 256 MiB, in its one spelling.

    Raises:
        FormatError: it is not one, or its files are not in order.
    """
    layout = decode(payload, Layout, limit=_LIMIT_BYTES)
    names = [file.name for file in layout.files]
    if names != sorted(set(names)):
        raise FormatError("layout: files are not in the order of their names")
    return layout


def lay_out(directory: Path) -> Layout:
    """Cut every file of a model directory and digest the pieces, over all cores.

    Raises:
        ConfigurationError: there is no model, or BLAKE3 is not installed.
    """
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="layout") as threads:
        files = [_lay(path, threads) for path in files_of(directory)]
    return Layout(files=tuple(files))


def write(layout: Layout) -> bytes:
    """Return the one spelling of a layout."""
    return encode(layout)


def cuts(head: bytes, size: int) -> Iterator[int]:
    """Yield the sizes of the pieces of a file of ``size`` bytes that begins with ``head``."""
    start = 0
    for end in [*_tensor_ends(head, size), size]:
        while end - start > MOST_BYTES:
            yield MOST_BYTES
            start += MOST_BYTES
        if end - start >= LEAST_BYTES or (end == size and end > start):
            yield end - start
            start = end


def _lay(path: Path, threads: ThreadPoolExecutor) -> Laid:
    try:
        from blake3 import blake3
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "a layout needs lydite[upload]; in a clone: pip install '.[upload]'"
        ) from error
    size = path.stat().st_size
    if not size:
        return Laid(name=path.name, pieces=())
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped,
        memoryview(mapped) as view,
    ):
        sizes = list(cuts(_head(path), size))
        starts = [0, *accumulate(sizes[:-1])]

        def digest(start: int, length: int) -> str:
            with view[start : start + length] as part:
                return blake3(part).hexdigest()

        digests = list(threads.map(digest, starts, sizes))
    pieces = [Piece(size=a, blake3=b) for a, b in zip(sizes, digests, strict=True)]
    return Laid(name=path.name, pieces=tuple(pieces))


def _head(path: Path) -> bytes:
    """Return length and header of a safetensors file, nothing of others."""
    if path.suffix != ".safetensors":
        return b""
    with path.open("rb") as file:
        length = file.read(8)
        size = int.from_bytes(length, "little")
        return length + file.read(size) if size <= _HEADER_BYTES else b""


class _Tensor(msgspec.Struct):
    data_offsets: tuple[int, int]


def _tensor_ends(head: bytes, size: int) -> list[int]:
    """Return where header and tensors end, in order; nothing if ``head`` is no such header."""
    try:
        entries = msgspec.json.decode(head[8:], type=dict[str, msgspec.Raw])
        entries.pop("__metadata__", None)
        spans = [msgspec.json.decode(raw, type=_Tensor).data_offsets for raw in entries.values()]
    except UNREADABLE:
        return []
    ends = sorted({len(head), *(len(head) + end for _, end in spans)})
    return [end for end in ends if 0 < end <= size]
