"""A log on disk, read back after a crash: what is durable, what was torn, what is missing.

Refuses a disk that holds less than the log signed, or another tree. Knows nothing of who appends.
"""

import os
import shutil
from pathlib import Path

import msgspec

from lydite.errors import FormatError, Reason, StorageError, VerificationError
from lydite.signing import notes
from lydite.tlog import checkpoint as checkpoints
from lydite.tlog import disk, tiles, wal
from lydite.tlog.hashing import EMPTY_ROOT, HASH_BYTES
from lydite.tlog.merkle import Tree

_SHORTEST_BUNDLE = 2 * tiles.WIDTH
KEPT_LEAVES = 1 << 14
"""How many of the last leaves keep all their hashes in memory (4 MB)."""


class Head(msgspec.Struct, frozen=True):
    """A checkpoint of this log, and the note that it stands in."""

    checkpoint: checkpoints.Checkpoint
    note: notes.Note


class Recent(msgspec.Struct, frozen=True):
    """The entries from index ``base`` on, which the write-ahead log holds too."""

    base: int
    entries: list[bytes]


class Log(msgspec.Struct, frozen=True):
    """What was found: everything durable, and how far the write-ahead log is good."""

    tree: Tree
    newest: Head
    witnessed: Head | None
    recent: Recent
    marker: bytes
    wal_length: int


def recover(path: Path, origin: str, signer: notes.Signer) -> Log:
    """Read the log in ``path``, or begin one there, and mend what a crash left torn.

    1. Full tiles below the base of the write-ahead log are durable; the rest is in that log.
    2. Every checkpoint that was signed is the head of what is there.
    3. Tiles from the base on, and partial ones, are written again where they are torn.

    Raises:
        StorageError: the disk refused, or the write-ahead log is missing or damaged.
        VerificationError: 2 fails (``INCONSISTENT_LOG``), or it is another log.
    """
    _begin(path, origin, signer)
    data = disk.read(path / "wal")
    if data is None:
        raise StorageError("the write-ahead log is missing", Reason.DAMAGED)
    # 1.
    found = wal.scan(data)
    recent = Recent(found.base, found.entries)
    tree = _read_tree(path, found.base)
    tree.extend(found.entries)
    # 2.
    key = notes.verifier_key(origin, signer)
    newest = _head(path / "checkpoint", key, tree)
    if newest is None:
        raise StorageError("the checkpoint is missing", Reason.DAMAGED)
    # 3.
    _mend(path, tree, recent, newest.checkpoint.size)
    return Log(
        tree=tree,
        newest=newest,
        witnessed=_head(path / "checkpoint.witnessed", key, tree),
        recent=recent,
        marker=found.marker,
        wal_length=found.length,
    )


def open_head(note: notes.Note, key: notes.VerifierKey, tree: Tree) -> Head:
    """Check that the checkpoint in ``note`` is a head of ``tree``, signed by ``key``.

    Raises:
        VerificationError: it is not (``INCONSISTENT_LOG``, ``WRONG_ORIGIN``, ``BAD_SIGNATURE``).
    """
    head = checkpoints.open_note(note, [key]).checkpoint
    if head.size > tree.size:
        raise _lost(f"{tree.size} entries, fewer than the {head.size} of a signed checkpoint")
    if tree.root(head.size) != head.root:
        raise _lost(f"another tree than the one signed at size {head.size}")
    return Head(head, note)


def place_tile(
    path: Path, tile: tiles.Tile, tree: Tree, recent: Recent, *, mend: bool = False
) -> None:
    """Write ``tile`` unless it is there. Only with ``mend`` is another content replaced.

    Raises:
        StorageError: the disk refused, or holds another content (``DAMAGED``).
    """
    start, stop = tile.index * tiles.WIDTH, tile.index * tiles.WIDTH + tile.width
    if tile.level is None:
        content = tiles.encode_bundle(recent.entries[start - recent.base : stop - recent.base])
    else:
        content = tree.hashes(8 * tile.level, start, stop)
    target = path / tile.path
    found = disk.read(target)
    if found == content:
        return
    if found is not None and not mend:
        raise StorageError(f"{tile.path} holds something else", Reason.DAMAGED)
    with disk.failures(f"create {target.parent.name}"):
        target.parent.mkdir(parents=True, exist_ok=True)
    disk.place(target, content, durable=False)


def sync_tiles(path: Path, old_size: int, size: int) -> None:
    """Make durable the full tiles that the tree of ``size`` has and that of ``old_size`` has not.

    Raises:
        StorageError: the disk refused.
    """
    full = [Path(tile.path) for tile in tiles.between(old_size, size) if tile.full]
    directories = {path / each for name in full for each in name.parents}
    with disk.failures("make tiles durable"):
        disk.sync_all([path / name for name in full])
        disk.sync_all(directories)


def _begin(path: Path, origin: str, signer: notes.Signer) -> None:
    """Begin a log where there is none, or where beginning was cut short."""
    if any((path / name).exists() for name in ("checkpoint", "checkpoint.witnessed", "tile")):
        return
    data = disk.read(path / "wal")
    if data is None:
        data = wal.header(os.urandom(wal.MARKER_BYTES), 0)
        disk.place(path / "wal", data, durable=True)
    if wal.scan(data).base or wal.scan(data).entries:
        return
    head = checkpoints.Checkpoint(origin=origin, size=0, root=EMPTY_ROOT)
    disk.place(path / "checkpoint", checkpoints.sign(head, signer).encode(), durable=True)
    with disk.failures("create the log"):
        disk.sync(path.parent)


def _read_tree(path: Path, base: int) -> Tree:
    """Read the tree of the first ``base`` entries from its tiles; see that bundles are there."""
    tree = Tree(lambda index: _leaves(path, index))
    for index in range(base // tiles.WIDTH):
        bundle = path / tiles.Tile(None, index).path
        if not bundle.exists() or bundle.stat().st_size < _SHORTEST_BUNDLE:
            raise _lost(f"no whole {tiles.Tile(None, index).path}")
        tree.extend_hashes(_leaves(path, index))
        if tree.size % KEPT_LEAVES == 0:
            tree.trim(tree.size - KEPT_LEAVES)
    return tree


def _leaves(path: Path, index: int) -> bytes:
    found = disk.read(path / tiles.Tile(0, index).path)
    if found is None or len(found) != tiles.WIDTH * HASH_BYTES:
        raise _lost(f"no whole {tiles.Tile(0, index).path}")
    return found


def _head(path: Path, key: notes.VerifierKey, tree: Tree) -> Head | None:
    note = disk.read(path)
    if note is None:
        return None
    try:
        return open_head(notes.parse(note), key, tree)
    except FormatError as error:
        raise StorageError(f"{path.name}: {error}", Reason.DAMAGED) from error


def _mend(path: Path, tree: Tree, recent: Recent, published: int) -> None:
    for tile in tiles.between(0, tree.size):
        if tile.full and (tile.level or tile.index * tiles.WIDTH >= recent.base):
            place_tile(path, tile, tree, recent, mend=True)
            shutil.rmtree(path / f"{tile.path}.p", ignore_errors=True)
    for tile in tiles.partial(tree.size):
        _mend_partial(path, tile, tree, recent)
    for tile in tiles.partial(published):
        if not (path / tile.path).parent.with_suffix("").exists():
            place_tile(path, tile, tree, recent, mend=True)


def _mend_partial(path: Path, last: tiles.Tile, tree: Tree, recent: Recent) -> None:
    """Write again each partial tile on disk where ``last`` is the widest that there can be."""
    directory = (path / last.path).parent
    names = [each.name for each in directory.iterdir()] if directory.exists() else []
    for name in names:
        if name.isdecimal() and 0 < int(name) <= last.width:
            tile = tiles.Tile(last.level, last.index, int(name))
            place_tile(path, tile, tree, recent, mend=True)
        else:  # a temporary file, cut short
            (directory / name).unlink()


def _lost(what: str) -> VerificationError:
    return VerificationError(Reason.INCONSISTENT_LOG, f"the disk holds {what}")
