"""Reads binary forms from front to back, and never beyond their end.

Whoever reads names the reasons for what may be wrong: knows no form and no reason of its own.
"""

from typing import Literal

from lydite.errors import Reason, Refusal


class Cursor:
    """A place in bytes that were sent by somebody else."""

    __slots__ = ("_content", "_end", "_order", "_short", "_what", "at")

    def __init__(
        self, content: bytes, what: str, short: Reason, *, little: bool = False, at: int = 0
    ) -> None:
        """Start at ``at`` of ``content``, which is called ``what``; ``short`` says that it ends."""
        self._content, self._what, self._short = content, what, short
        self._order: Literal["little", "big"] = "little" if little else "big"
        self._end = len(content)
        self.at = at

    @property
    def left(self) -> int:
        """How many bytes are left."""
        return self._end - self.at

    def take(self, count: int) -> bytes:
        """Return the next ``count`` bytes.

        Raises:
            Refusal: so many are not there.
        """
        end = self.at + count
        if end > self._end or count < 0:
            raise Refusal(
                self._short, f"{self._what}, byte {self.at}", f"{count} more bytes", str(self.left)
            )
        taken = self._content[self.at : end]
        self.at = end
        return taken

    def number(self, count: int) -> int:
        """Return the next ``count`` bytes as a number."""
        return int.from_bytes(self.take(count), self._order)

    def u8(self) -> int:
        """Return the next byte."""
        return self.take(1)[0]

    def u16(self) -> int:
        """Return the next two bytes as a number."""
        return self.number(2)

    def u32(self) -> int:
        """Return the next four bytes as a number."""
        return self.number(4)

    def u64(self) -> int:
        """Return the next eight bytes as a number."""
        return self.number(8)

    def sized(self, most: int, over: Reason, width: int = 2) -> bytes:
        """Return what stands behind its own length, which is at most ``most``.

        Raises:
            Refusal: it is longer (``over``), or not all there.
        """
        count = self.number(width)
        if count > most:
            raise Refusal(
                over, f"{self._what}, byte {self.at}", f"at most {most} bytes", str(count)
            )
        return self.take(count)

    def end(self, over: Reason) -> None:
        """Refuse what is left.

        Raises:
            Refusal: there is something (``over``).
        """
        if self.at != self._end:
            raise Refusal(over, self._what, f"an end at byte {self.at}", f"{self.left} more")
