"""C2SP tlog-tiles v0.1.0: which tiles a tree has, how they are named, what an entry bundle holds.

Knows nothing of disks, networks or signatures.
"""

import re
from collections.abc import Iterator, Sequence

import msgspec

from lydite.errors import FormatError, Reason
from lydite.tlog.hashing import HASH_BYTES

WIDTH = 256
"""Hashes in a full tile, entries in a full bundle."""
MAX_ENTRY_BYTES = 0xFFFF
"""Longest entry: its length is written in two bytes."""

_MAX_LEVEL = 63
_MAX_PATH = 64
_LENGTH_BYTES = 2
_PATH = re.compile(
    r"tile/(?P<level>entries|0|[1-9][0-9]?)/(?P<index>(?:x[0-9]{3}/)*[0-9]{3})"
    r"(?:\.p/(?P<width>[1-9][0-9]{0,2}))?",
    re.ASCII,
)


class Tile(msgspec.Struct, frozen=True):
    """A tile by name. ``level`` is None for a bundle of entries; a partial one has less width."""

    level: int | None
    index: int
    width: int = WIDTH

    @property
    def full(self) -> bool:
        """Return whether the tile will never grow."""
        return self.width == WIDTH

    @property
    def path(self) -> str:
        """Return where the tile is served, without a leading slash."""
        level = "entries" if self.level is None else str(self.level)
        suffix = "" if self.full else f".p/{self.width}"
        return f"tile/{level}/{_digits(self.index)}{suffix}"


def parse_path(path: str) -> Tile:
    """Parse the path of a tile, accepting only the spelling that we would write.

    Raises:
        FormatError: it names no tile, or not as we would.
    """
    match = _PATH.fullmatch(path)
    if match is None or len(path) > _MAX_PATH:
        raise FormatError("tile path: expected tile/<level>/<index>[.p/<width>]")
    level, index, width = match.group("level", "index", "width")
    tile = Tile(
        level=None if level == "entries" else int(level),
        index=int(index.replace("x", "").replace("/", "")),
        width=WIDTH if width is None else int(width),
    )
    if tile.path != path or tile.width > WIDTH or (tile.level or 0) > _MAX_LEVEL:
        raise FormatError("tile path: not in canonical form", Reason.NOT_CANONICAL)
    return tile


def between(old_size: int, size: int) -> Iterator[Tile]:
    """Yield the tiles of the tree of ``size`` that the tree of ``old_size`` has not.

    With ``old_size`` 0 these are all of its tiles. Bundles come first, then each level upward;
    at most the last tile of a level is partial.
    """
    yield from _level_between(None, old_size, size)
    level = 0
    while size:
        yield from _level_between(level, old_size, size)
        level, old_size, size = level + 1, old_size // WIDTH, size // WIDTH


def partial(size: int) -> Iterator[Tile]:
    """Yield the partial tiles of the tree of ``size``: the last one of a level, where it is."""
    if size % WIDTH:
        yield Tile(level=None, index=size // WIDTH, width=size % WIDTH)
    level = 0
    while size:
        if size % WIDTH:
            yield Tile(level=level, index=size // WIDTH, width=size % WIDTH)
        level, size = level + 1, size // WIDTH


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Return the bundle of ``entries``: each one behind its length, two bytes, big-endian.

    Raises:
        FormatError: an entry is too long.
    """
    try:
        return b"".join([len(entry).to_bytes(_LENGTH_BYTES, "big") + entry for entry in entries])
    except OverflowError as error:
        raise FormatError(f"entry: more than {MAX_ENTRY_BYTES} bytes", Reason.TOO_LARGE) from error


def decode_bundle(bundle: bytes, width: int) -> list[bytes]:
    """Return the ``width`` entries of ``bundle``.

    Raises:
        FormatError: it holds fewer, more, or half of one.
    """
    entries, at = [], 0
    for _ in range(width):
        start = at + _LENGTH_BYTES
        at = start + int.from_bytes(bundle[at:start], "big")
        entries.append(bundle[start:at])
        if at > len(bundle):
            raise FormatError("entry bundle: it ends within an entry")
    if at != len(bundle):
        raise FormatError(f"entry bundle: more than {width} entries")
    return entries


def decode_hashes(tile: bytes, width: int) -> list[bytes]:
    """Return the ``width`` hashes of a hash tile.

    Raises:
        FormatError: it has another length.
    """
    if len(tile) != width * HASH_BYTES:
        raise FormatError(f"hash tile: expected {width * HASH_BYTES} bytes, got {len(tile)}")
    return [tile[at : at + HASH_BYTES] for at in range(0, len(tile), HASH_BYTES)]


def _level_between(level: int | None, old_size: int, size: int) -> Iterator[Tile]:
    if size == old_size:
        return
    for index in range(old_size // WIDTH, size // WIDTH):
        yield Tile(level=level, index=index)
    if size % WIDTH:
        yield Tile(level=level, index=size // WIDTH, width=size % WIDTH)


def _digits(index: int) -> str:
    head, last = divmod(index, 1000)
    groups = [f"{last:03}"]
    while head:
        head, group = divmod(head, 1000)
        groups.append(f"x{group:03}")
    return "/".join(reversed(groups))
