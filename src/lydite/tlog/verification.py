"""Merkle proofs, checked (RFC 9162, 2.1.3.2 and 2.1.4.2).

Knows nothing of trees in memory, of who signed a root, or of what a leaf means.
"""

from collections.abc import Sequence
from hashlib import sha256

from lydite.errors import FormatError, Reason, VerificationError
from lydite.tlog.hashing import EMPTY_ROOT, HASH_BYTES

MAX_SIZE = (1 << 63) - 1
"""Most leaves that a log may have."""

_HASH_LENGTHS = {HASH_BYTES}


def inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Check that the leaf hash ``leaf`` stands at ``index`` in the tree of ``size`` with ``root``.

    1. The index lies in the tree, and every hash has 32 bytes.
    2. The path has the one length that this index and size allow: a sibling at each level up
       to where the index parts from the last leaf, then one for each left subtree.
    3. Hashing upward ends in the root.

    Raises:
        FormatError: 1 fails.
        VerificationError: 2 or 3 fails (``NOT_IN_LOG``).

    **Does not show** that the root is the log's: that takes its signature, and witnesses.
    """
    # 1.
    if not 0 <= index < size <= MAX_SIZE:
        raise FormatError(f"inclusion: index {index} is not in a tree of {size}")
    _check_lengths(path, leaf, root)
    # 2.
    inner = (index ^ (size - 1)).bit_length()
    if len(path) != inner + (index >> inner).bit_count():
        raise VerificationError(
            Reason.NOT_IN_LOG, f"inclusion: {len(path)} hashes are not a path of {index} in {size}"
        )
    # 3.
    node = leaf
    for sibling in path[:inner]:
        if index & 1:
            node = sha256(b"\1" + sibling + node).digest()
        else:
            node = sha256(b"\1" + node + sibling).digest()
        index >>= 1
    for sibling in path[inner:]:
        node = sha256(b"\1" + sibling + node).digest()
    if node != root:
        raise VerificationError(Reason.NOT_IN_LOG, "inclusion: the path does not lead to the root")


def consistency(
    old_size: int, old_root: bytes, size: int, root: bytes, path: Sequence[bytes]
) -> None:
    """Check that the tree of ``size`` begins with the tree of ``old_size``.

    1. The sizes are in order, and every hash has 32 bytes.
    2. The empty tree has one root, and needs no proof to any other.
    3. Equal sizes have equal roots, and need no proof.
    4. Otherwise the path leads to both roots at once.

    Raises:
        FormatError: 1 fails.
        VerificationError: 2, 3 or 4 fails (``INCONSISTENT_LOG``).

    **Does not show** that either root is the log's, or that nobody is shown another tree.
    """
    # 1.
    if not 0 <= old_size <= size <= MAX_SIZE:
        raise FormatError(f"consistency: sizes {old_size} and {size} are out of order")
    _check_lengths(path, old_root, root)
    # 2.
    if (size == 0 and root != EMPTY_ROOT) or (old_size == 0 and old_root != EMPTY_ROOT):
        raise _inconsistent("the tree without leaves has another root")
    # 3.
    if old_size in (0, size):
        if path:
            raise _inconsistent("a proof where none is needed")
        if old_size == size and old_root != root:
            raise _inconsistent(f"two roots at size {size}")
        return
    # 4.
    if _fold(old_size, old_root, size, path) != (old_root, root):
        raise _inconsistent(f"the tree of {size} does not begin with the tree of {old_size}")


def _fold(
    old_size: int, old_root: bytes, size: int, path: Sequence[bytes]
) -> tuple[bytes, bytes] | None:
    """Return the two roots that ``path`` leads to, or None if its length is not right."""
    complete = old_size & (old_size - 1) == 0
    hashes = [old_root, *path] if complete else list(path)
    if not hashes:
        return None
    shift = ((old_size - 1) ^ old_size).bit_length() - 1  # trailing zeros of old_size
    first, last = (old_size - 1) >> shift, (size - 1) >> shift
    old = new = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            return None
        if first & 1 or first == last:
            old = sha256(b"\1" + sibling + old).digest()
            new = sha256(b"\1" + sibling + new).digest()
            while first & 1 == 0 and first:
                first, last = first >> 1, last >> 1
        else:
            new = sha256(b"\1" + new + sibling).digest()
        first, last = first >> 1, last >> 1
    return (old, new) if last == 0 else None


def _check_lengths(path: Sequence[bytes], *ends: bytes) -> None:
    if not _HASH_LENGTHS.issuperset(map(len, (*ends, *path))):
        raise FormatError("merkle proof: a hash must have 32 bytes")


def _inconsistent(message: str) -> VerificationError:
    return VerificationError(Reason.INCONSISTENT_LOG, f"consistency: {message}")
