"""A leaf of the log: the digest of one signed envelope, and what kind of thing it is.

The log itself knows nothing of this; transcripts never enter it.
"""

import hashlib
from typing import Literal, NewType

from lydite.messages.canonical import Hex32, Message, Word, decode, encode

EnvelopeDigest = NewType("EnvelopeDigest", bytes)
EntryKind = Literal["declaration", "receipt", "epoch", "audit", "result"]


class Entry(Message, frozen=True, kw_only=True):
    """One leaf: ``env`` is SHA-256 of the canonical envelope, ``prov`` the provider's key id."""

    env: Hex32
    kind: EntryKind
    prov: Word
    v: Literal[1] = 1


def of_envelope(envelope: bytes, kind: EntryKind, provider: str) -> bytes:
    """Return the leaf bytes for a canonical ``envelope``."""
    digest = hashlib.sha256(envelope).hexdigest()
    return encode(Entry(env=digest, kind=kind, prov=provider))


def parse(leaf: bytes) -> Entry:
    """Parse one leaf, at most 1 KiB, in its one spelling."""
    return decode(leaf, Entry, limit=1024)
