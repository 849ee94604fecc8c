"""What is metered of an answer: its tokens, how it ended, and what its bytes hold besides text.

Knows nothing of models, of HTTP, or of how the tokens were drawn.
"""

from typing import Annotated, Literal

import msgspec

from lydite.evidence.egress.frame import Frame
from lydite.messages.canonical import Count, Message, Word

TokenId = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]
Ending = Literal["whole", "cut"]
"""Whether its tokens, its request or the context end an answer, or somebody cut it."""


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, as the meter weighs it."""

    output_ids: tuple[TokenId, ...]
    ending: Ending
    frame: Frame = Frame((), (), (), 0, 0)
    """What its bytes hold besides the tokens."""


class Outflow(Message, frozen=True, kw_only=True):
    """What a gateway notes of one answer as it leaves, for the meter alone."""

    entry: Count
    """1-based number of the receipt in the log."""
    receipt_id: Word
    session: Word
    received_s: Count
    """When the request came, in seconds since 1970."""
    completed_s: Count
    opening: str
    """The canonical opening, in base64."""
