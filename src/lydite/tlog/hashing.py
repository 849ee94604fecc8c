"""The hashes of RFC 6962, 2.1: a leaf, a node, the empty tree. Knows nothing else."""

import hashlib

HASH_BYTES = 32
"""Length of every hash in a tree."""
EMPTY_ROOT = hashlib.sha256(b"").digest()
"""Root of the tree without leaves."""


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of the leaf that holds ``entry``."""
    return hashlib.sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of the node above ``left`` and ``right``."""
    return hashlib.sha256(b"\1" + left + right).digest()
