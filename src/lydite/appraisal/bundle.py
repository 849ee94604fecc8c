"""One file that joins everything about one provider, checked offline by ``lydite verify``.

Holds what was signed and logged, the proofs that it was, and the documents that the verdict rests
on. Holds no prompt, no answer and no trust anchor.
"""

from typing import Annotated, Literal

import msgspec

from lydite.appraisal.policy import Policy
from lydite.appraisal.references import Reference
from lydite.messages.canonical import Count, Message, Word, decode, encode
from lydite.messages.epoch import NoteText
from lydite.signing.dsse import Envelope

MAX_BUNDLE_BYTES = 64 * 1024 * 1024
MAX_PROOF_HASHES = 63

Hash = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9+/]{43}=\Z")]
Path = Annotated[tuple[Hash, ...], msgspec.Meta(max_length=MAX_PROOF_HASHES)]


class Logged(Message, frozen=True, kw_only=True):
    """A signed envelope, the 1-based number of its log entry, and its inclusion path.

    The path leads from the leaf's sibling up to the root of the bundle's checkpoint.
    """

    entry: Count
    envelope: Envelope
    path: Path

    def envelope_bytes(self) -> bytes:
        """Return the envelope as it was signed and logged."""
        return encode(self.envelope)


class LoggedEpoch(Message, frozen=True, kw_only=True):
    """An epoch, its pledge, and the proof that its checkpoint is a prefix of the bundle's.

    ``retention`` is what the gateway said about the pairs that the epoch did not draw, if it had
    said so by then.
    """

    logged: Logged
    pledge: Logged
    retention: Logged | None
    consistency: Path


class Bystander(Message, frozen=True, kw_only=True):
    """A drawn entry that is no receipt of this provider, shown by its leaf bytes."""

    entry: Count
    leaf: Annotated[str, msgspec.Meta(max_length=1024)]
    path: Path


class Bundle(Message, frozen=True, kw_only=True):
    """Everything about one provider up to one witnessed checkpoint.

    ``receipts`` and ``audits`` stand in log order of the receipts, one audit for each receipt.
    """

    v: Literal[1] = 1
    provider: Word
    checkpoint: NoteText
    declaration: Logged
    epochs: tuple[LoggedEpoch, ...]
    receipts: tuple[Logged, ...]
    bystanders: tuple[Bystander, ...]
    audits: tuple[Logged, ...]
    policy: Policy
    references: tuple[Reference, ...]
    result: Logged


def parse(payload: bytes) -> Bundle:
    """Parse a bundle, at most 64 MiB, in its one spelling."""
    return decode(payload, Bundle, limit=MAX_BUNDLE_BYTES)
