"""A Merkle tree in memory (RFC 6962, 2.1), one bytearray a level: 64 bytes a leaf.

Level ``k`` holds the hashes of all complete subtrees of ``2**k`` leaves, in order, so any root
or proof at any size up to the present one is a handful of slices. One thread may extend the tree
while others read it at sizes that they have seen. Knows nothing of disks, entries or signatures.

A tree that grows for ever may forget what lies below the roots of its older tiles of 256 leaves
(``trim``), if it is told how to get the leaf hashes of a tile back; the rest is hashed again.
"""

import struct
from collections.abc import Callable, Iterable
from functools import lru_cache
from hashlib import sha256

from lydite.errors import FormatError
from lydite.tlog.hashing import EMPTY_ROOT, HASH_BYTES

_read = struct.Struct(f"{HASH_BYTES}s").unpack_from  # a slice without a copy of a copy


TILE_LEVELS = 8
_TILE = 1 << TILE_LEVELS
_TILES_KEPT = 64


class Tree:
    """An append-only Merkle tree over leaf hashes.

    ``fetch`` returns the 256 leaf hashes, concatenated, of a full tile by its index; only a tree
    that is trimmed needs it.
    """

    def __init__(self, fetch: Callable[[int], bytes] | None = None) -> None:
        self._levels = [bytearray()]
        self._size = 0
        self._trimmed = 0
        self._held = self._levels, self._trimmed
        """The two as one, for readers in other threads."""
        self._tile = lru_cache(_TILES_KEPT)(lambda index: _grow(fetch(index) if fetch else b""))

    @property
    def size(self) -> int:
        """Return the number of leaves."""
        return self._size

    def append(self, entry: bytes) -> None:
        """Append one entry."""
        self._append(sha256(b"\0" + entry).digest())

    def extend(self, entries: Iterable[bytes]) -> None:
        """Append ``entries`` in order."""
        self.extend_hashes(b"".join([sha256(b"\0" + entry).digest() for entry in entries]))

    def extend_hashes(self, leaves: bytes) -> None:
        """Append leaf hashes, concatenated (32 bytes each).

        Raises:
            FormatError: the length is not a multiple of 32.
        """
        if len(leaves) % HASH_BYTES:
            raise FormatError("merkle: leaf hashes must have 32 bytes each")
        if len(leaves) == HASH_BYTES:
            self._append(leaves)
            return
        self._levels[0] += leaves
        self._complete()
        grown = self._trimmed + len(self._levels[0]) // HASH_BYTES
        self._size = grown  # last, for readers in other threads

    def trim(self, size: int) -> None:
        """Forget what lies below the roots of the full tiles among the first ``size`` leaves.

        Belongs to the thread that extends; those who read see all of it or nothing.
        """
        kept = max(self._trimmed, size - size % _TILE)
        levels = list(self._levels)
        for level in range(min(TILE_LEVELS, len(levels))):
            levels[level] = levels[level][(kept - self._trimmed >> level) * HASH_BYTES :]
        self._levels, self._trimmed = levels, kept
        self._held = levels, kept

    def root(self, size: int | None = None) -> bytes:
        """Return the root at ``size`` leaves (all of them if None).

        Raises:
            FormatError: the tree never had that size.
        """
        size = self._size if size is None else size
        self._check(0 <= size <= self._size, f"no tree of {size} leaves")
        return self._fold(0, size) if size else EMPTY_ROOT

    def hashes(self, level: int, start: int, stop: int) -> bytes:
        """Return the concatenated hashes ``start`` to ``stop`` of complete subtrees at ``level``.

        Raises:
            FormatError: not all of them are complete.
        """
        self._check(0 <= start <= stop <= self._size >> level, f"no such hashes at level {level}")
        levels, trimmed = self._held
        base = trimmed >> level if level < TILE_LEVELS else 0
        if start < base:
            return b"".join([self._node(level, index) for index in range(start, stop)])
        return bytes(levels[level][(start - base) * HASH_BYTES : (stop - base) * HASH_BYTES])

    def inclusion_proof(self, index: int, size: int) -> list[bytes]:
        """Return the path of leaf ``index`` in the tree of ``size`` leaves, leaf to root.

        Raises:
            FormatError: the tree never had that size, or the index is not in it.
        """
        self._check(0 <= index < size <= self._size, f"no leaf {index} in a tree of {size}")
        # Where the leaf's path meets that of the last leaf; below, every sibling is complete.
        meet = (index ^ (size - 1)).bit_length() - 1
        path = []
        for level in range(meet):
            path.append(self._node(level, index >> level ^ 1))
        if meet >= 0:
            path.append(self._fold((index >> meet | 1) << meet, size))
        # Above, the path runs along the right edge: only left siblings, all complete.
        for level in range(meet + 1, size.bit_length()):
            if index >> level & 1:
                path.append(self._node(level, index >> level ^ 1))
        return path

    def consistency_proof(self, old_size: int, size: int) -> list[bytes]:
        """Return the proof that the tree of ``size`` begins with that of ``old_size`` leaves.

        It is empty from size 0 and between equal sizes.

        Raises:
            FormatError: the tree never had these sizes, or they are out of order.
        """
        self._check(0 <= old_size <= size <= self._size, f"no trees of {old_size} and {size}")
        if old_size in (0, size):
            return []
        start, stop, whole = 0, size, True
        path = []
        while old_size != stop:  # RFC 6962, 2.1.2: SUBPROOF, from the top down
            middle = start + (1 << (stop - start - 1).bit_length() - 1)
            if old_size <= middle:
                path.append(self._fold(middle, stop))
                stop = middle
            else:
                path.append(self._fold(start, middle))
                start, whole = middle, False
        if not whole:
            path.append(self._fold(start, stop))
        return path[::-1]

    def _append(self, node: bytes) -> None:
        """Append one leaf hash, and what it completes."""
        levels, size = self._levels, self._size
        level = 0
        while size >> level & 1:  # the left half of a pair is there, so this completes it
            below = levels[level]
            below += node
            left: bytes = _read(below, len(below) - 2 * HASH_BYTES)[0]
            node = sha256(b"\1" + left + node).digest()
            level += 1
            if level == len(levels):
                levels.append(bytearray())
        levels[level] += node
        self._size = size + 1

    def _complete(self) -> None:
        """Hash every pair that has become complete, level by level."""
        levels = self._levels
        level = 0
        while len(levels[level]) >= 2 * HASH_BYTES:
            below = levels[level]
            if len(levels) == level + 1:
                levels.append(bytearray())
            start = 2 * (len(levels[level + 1]) + self._base(level + 1) * HASH_BYTES)
            start -= self._base(level) * HASH_BYTES
            stop = len(below) - len(below) % (2 * HASH_BYTES)
            pairs = bytes(below[start:stop])
            levels[level + 1] += b"".join(
                [sha256(b"\1" + pairs[at : at + 64]).digest() for at in range(0, len(pairs), 64)]
            )
            level += 1

    def _fold(self, start: int, stop: int) -> bytes:
        """Return the root over leaves ``start`` to ``stop``, ``start`` being aligned to them."""
        width = stop - start
        node = b""
        while width:
            level = (width & -width).bit_length() - 1
            left = self._node(level, (stop >> level) - 1)
            node = sha256(b"\1" + left + node).digest() if node else left
            width &= width - 1
        return node

    def _base(self, level: int) -> int:
        """Return how many hashes of a level the extending thread no longer has."""
        return self._trimmed >> level if level < TILE_LEVELS else 0

    def _node(self, level: int, index: int) -> bytes:
        """Return the hash of a complete subtree."""
        levels, trimmed = self._held
        if level < TILE_LEVELS:
            base = trimmed >> level
            if index < base:
                width = TILE_LEVELS - level
                return self._tile(index >> width)[level][index & (1 << width) - 1]
            index -= base
        node: bytes = _read(levels[level], index << 5)[0]
        return node

    def _check(self, holds: bool, message: str) -> None:
        if not holds:
            raise FormatError(f"merkle: {message}; there are {self._size}")


def _grow(leaves: bytes) -> list[list[bytes]]:
    """Return the hashes below a full tile's root, level by level, from its leaf hashes.

    Raises:
        FormatError: these are not the leaf hashes of a full tile.
    """
    if len(leaves) != _TILE * HASH_BYTES:
        raise FormatError("merkle: the tile of a trimmed tree is not to be had")
    levels = [[leaves[at : at + HASH_BYTES] for at in range(0, len(leaves), HASH_BYTES)]]
    while len(levels) < TILE_LEVELS:
        below = levels[-1]
        levels.append(
            [
                sha256(b"\1" + left + right).digest()
                for left, right in zip(below[::2], below[1::2], strict=True)
            ]
        )
    return levels
