"""What a provider declares that it serves: the model by its weights, and how it samples.

Signed by the provider, logged once, named by digest in every receipt.
"""

from typing import Literal

import msgspec

from lydite.messages.canonical import Hex32, Message, Word, decode
from lydite.messages.statement import Subject


class Predicate(Message, frozen=True, kw_only=True):
    """The declared model and execution.

    ``sampler`` names a noise adapter (``lydite/v1``), or ``none`` where the answer cannot be
    reproduced from a seed. ``token_ids`` says that answers carry the ids of their tokens.
    """

    model: Word
    weights_root: Hex32
    dtype: Word
    engine: Word
    sampler: Literal["lydite/v1", "none"]
    token_ids: bool
    provider: Word


class Declaration(Message, frozen=True, kw_only=True):
    """In-toto Statement whose subject is the root digest of the weights."""

    statement_type: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(
        name="_type", default="https://in-toto.io/Statement/v1"
    )
    subject: tuple[Subject]
    predicate_type: Literal["https://lydite.dev/attestations/model-declaration/v1"] = (
        "https://lydite.dev/attestations/model-declaration/v1"
    )
    predicate: Predicate


def parse(payload: bytes) -> Declaration:
    """Parse a declaration's payload, at most 64 KiB, in its one spelling."""
    return decode(payload, Declaration, limit=1 << 16)
