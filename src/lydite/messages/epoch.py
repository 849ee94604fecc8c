"""An audit epoch: the range of the log that is drawn from, and the proof of how.

Written by the gateway after its pledge is witnessed and the beacon round that it named is out.
"""

from typing import Annotated, Literal

import msgspec

from lydite.messages.canonical import Count, Hex, Hex32, Message, Word, decode
from lydite.messages.statement import Subject

NoteText = Annotated[str, msgspec.Meta(min_length=1, max_length=1 << 16)]
Ppm = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]


class BeaconRound(Message, frozen=True, kw_only=True):
    """One round of public randomness, in hexadecimal as drand publishes it; chain by name."""

    chain: Word
    round: Count
    signature: Hex
    previous_signature: Hex | None = None
    randomness: Hex32


class Predicate(Message, frozen=True, kw_only=True):
    """Entries ``first`` to ``tree_size`` (1-based, inclusive) were drawn at ``epsilon_ppm``.

    Entry ``tree_size`` is the epoch's pledge, ``entropy`` the randomness that it committed to, and
    ``checkpoint`` a witnessed signed note over it, verbatim.
    """

    epoch: Count
    first: Count
    tree_size: Count
    checkpoint: NoteText
    beacon: BeaconRound
    epsilon_ppm: Ppm
    entropy: Hex32
    vrf_proof: Hex
    provider: Word


class Epoch(Message, frozen=True, kw_only=True):
    """In-toto Statement whose subject is the digest of the checkpoint's bytes."""

    statement_type: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(
        name="_type", default="https://in-toto.io/Statement/v1"
    )
    subject: tuple[Subject]
    predicate_type: Literal["https://lydite.dev/attestations/audit-epoch/v1"] = (
        "https://lydite.dev/attestations/audit-epoch/v1"
    )
    predicate: Predicate


def parse(payload: bytes) -> Epoch:
    """Parse an epoch's payload, at most 256 KiB, in its one spelling."""
    return decode(payload, Epoch, limit=1 << 18)
