"""Turns drawn tokens into text that never breaks a character and never says a stop string.

Text is released only when it is whole and cannot become part of a stop string; a token's id is
released with the last of its text. What is released, taken together, is exactly the decoding of
the ids, up to a stop string. Knows nothing of models.
"""

from collections.abc import Sequence

import msgspec

from lydite.engines.protocol import Codec

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"
"""What a decoder writes for bytes that do not make a character, or not yet."""


class Released(msgspec.Struct, frozen=True, kw_only=True):
    """What may be sent."""

    text: str
    tokens: int
    """How many further tokens have now been sent in full."""


class Detokenizer:
    """The text of one answer as it grows."""

    def __init__(self, codec: Codec, stops: Sequence[str]) -> None:
        self._codec = codec
        self._stops = tuple(stops)
        self._ids: list[int] = []
        self._anchor = 0  # ids from here are decoded anew, so that the decoder sees a context
        self._anchored = ""  # the text of ids[anchor:settled]
        self._settled = 0  # ids before this have whole characters
        self._text = ""
        self._sent = 0
        self._ends: list[int] = []  # of each unsent token whose text is settled
        self.stopped = False
        """Whether a stop string has appeared: nothing follows."""

    def push(self, token: int) -> Released:
        """Take one more token; return what that makes ready."""
        self._ids.append(token)
        window = self._codec.decode(self._ids[self._anchor :])
        if not window.endswith(_UNFINISHED):
            self._settle(window)
        if self.stopped:
            return self._release(len(self._text), everything=True)
        return self._release(len(self._text) - self._held_back(), everything=False)

    def finish(self) -> Released:
        """Return all that was held back: the answer ends here."""
        self._settle(self._codec.decode(self._ids[self._anchor :]))
        return self._release(len(self._text), everything=True)

    def _settle(self, window: str) -> None:
        start = len(self._text)
        self._text += window[len(self._anchored) :]
        self._ends += [len(self._text)] * (len(self._ids) - self._settled)
        self._anchor, self._settled = self._settled, len(self._ids)
        self._anchored = self._codec.decode(self._ids[self._anchor :])
        reach = max(map(len, self._stops), default=0)
        found = [self._text.find(stop, max(0, start - reach)) for stop in self._stops]
        if any(at >= 0 for at in found):
            self._text = self._text[: min(at for at in found if at >= 0)]
            self.stopped = True

    def _held_back(self) -> int:
        """Return how much of the end of the text may yet become a stop string."""
        return max(
            (
                length
                for stop in self._stops
                for length in range(1, len(stop))
                if self._text.endswith(stop[:length])
            ),
            default=0,
        )

    def _release(self, until: int, *, everything: bool) -> Released:
        text, self._sent = self._text[self._sent : until], max(self._sent, until)
        tokens = len(self._ends) if everything else sum(end <= until for end in self._ends)
        del self._ends[:tokens]
        return Released(text=text, tokens=tokens)
