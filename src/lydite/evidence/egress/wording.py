"""The text that the tokens of an answer spell, piece by piece, as an honest server would send it.

Predicts each piece from the tokens before it alone. Knows nothing of bodies.
"""

from collections.abc import Callable, Sequence

Spell = Callable[[Sequence[int]], str]
_UNFINISHED = "\N{REPLACEMENT CHARACTER}"


class Wording:
    """The text of one answer, of which nothing was said yet."""

    def __init__(self, output_ids: Sequence[int], stops: Sequence[str], spell: Spell) -> None:
        """Spell all tokens; a stop string ends the text, and is not part of it."""
        self._ids = output_ids
        self._spell = spell
        self._whole = spell(output_ids)
        found = [at for at in map(self._whole.find, stops) if at >= 0]
        self._end = min(found, default=len(self._whole))
        self._anchor = self._settled = self._now = 0
        self._anchored = ""
        self._ready = 0
        self._said: int | None = 0

    def expect(self, count: int) -> str:
        """Take ``count`` more tokens and return the text that they make ready."""
        self._now += count
        if self._now >= len(self._ids):
            self._ready = self._end
        elif self._now > self._settled:
            self._settle()
        return "" if self._said is None else self._whole[self._said : self._ready]

    def hear(self, text: str) -> int | None:
        """Take note of what was said; return its length if it goes on in the answer's text."""
        if self._said is None or not self._whole.startswith(text, self._said):
            self._said = None
            return None
        self._said += len(text)
        return len(text)

    def _settle(self) -> None:
        """Spell the latest tokens after those before them; what is unfinished waits."""
        window = self._spell(self._ids[self._anchor : self._now])
        fresh = window[len(self._anchored) :]
        if window.endswith(_UNFINISHED) or not self._whole.startswith(fresh, self._ready):
            return
        self._ready = min(self._ready + len(fresh), self._end)
        self._anchor, self._settled = self._settled, self._now
        self._anchored = self._spell(self._ids[self._anchor : self._now])
