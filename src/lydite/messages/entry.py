"""A leaf of the log: the digest of one statement, and what kind of thing it is.

The leaf commits to the statement (the DSSE payload), not to the signatures over it: those are
deterministic and travel with it, so that they may be made when somebody first asks. The log itself
knows nothing of this; transcripts never enter it.
"""

import hashlib
from typing import Literal

from lydite.messages.canonical import Hex32, Message, Word, decode

EntryKind = Literal[
    "admin",
    "alarm",
    "audit",
    "cannot",
    "declaration",
    "entropy",
    "epoch",
    "examination",
    "mode",
    "receipt",
    "result",
    "retention",
]


class Entry(Message, frozen=True, kw_only=True):
    """One leaf: ``sha256`` is of the statement's bytes, ``prov`` the provider's key id."""

    kind: EntryKind
    prov: Word
    sha256: Hex32
    v: Literal[2] = 2


def leaf(statement_digest: bytes, kind: EntryKind, provider: str) -> bytes:
    """Return the leaf bytes for the SHA-256 of a statement, as ``encode`` would write them.

    ``provider`` is a key id, which needs no escape in JSON.
    """
    return b'{"kind":"%b","prov":"%b","sha256":"%b","v":2}' % (
        kind.encode(),
        provider.encode(),
        statement_digest.hex().encode(),
    )


def of_statement(statement: bytes, kind: EntryKind, provider: str) -> bytes:
    """Return the leaf bytes for a statement."""
    return leaf(hashlib.sha256(statement).digest(), kind, provider)


def parse(leaf: bytes) -> Entry:
    """Parse one leaf, at most 1 KiB, in its one spelling."""
    return decode(leaf, Entry, limit=1024)
