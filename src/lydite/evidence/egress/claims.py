"""What is metered of an answer: its tokens, how it ended, and what its bytes hold besides text.

Knows nothing of models, of HTTP, or of how the tokens were drawn.
"""

from typing import Annotated, Literal

import msgspec

from lydite.messages.canonical import Count, Message, Word

TokenId = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]
Ending = Literal["drawn", "limit", "cut"]
"""Why the answer ends: its last token says so, or its request, or somebody cut it."""


class Claims(Message, frozen=True, kw_only=True):
    """One answer, as the meter weighs it."""

    output_ids: tuple[TokenId, ...]
    ending: Ending
    bursts: tuple[Count, ...] = ()
    """How many tokens each event of a stream brought; empty where all came in one piece."""
    frame_micro: Count = 0
    """What the bytes beside the text can carry, in micro-bits (``frame.micro_bits``)."""


class Outflow(Message, frozen=True, kw_only=True):
    """What a gateway notes of one answer as it leaves, for the meter alone."""

    entry: Count
    """1-based number of the receipt in the log."""
    receipt_id: Word
    session: Word
    received_s: Count
    """When the request came, in seconds since 1970."""
    completed_s: Count
    vocabulary_known: bool = True
    opening: str
    """The canonical opening, in base64."""
