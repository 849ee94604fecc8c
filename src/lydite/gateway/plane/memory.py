"""What long bodies may take in the memory of one process, as long as anybody still needs them.

A request counts from its first byte until its receipt is written, an answer until its client has
read it. Each exchange may take ``FREE_BYTES`` each way without asking, so that short ones pay
nothing. Knows nothing of what the bytes are.
"""

FREE_BYTES = 64 * 1024
"""What an exchange holds each way without being counted."""
_SMALL_PARTS = 256
_SMALL_BYTES = 1024 * 1024


class Memory:
    """One bound for all, and how much of it is taken; both in bytes."""

    __slots__ = ("limit", "taken")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0


class Share:
    """What one body takes of it. Given back with ``free``, or when nobody knows it any more."""

    __slots__ = ("_memory", "length")

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.length = 0
        """Bytes that it takes."""

    def take(self, length: int) -> bool:
        """Take ``length`` bytes more, or say that there is no room for them."""
        if self._memory.taken + length > self._memory.limit:
            return False
        self.add(length)
        return True

    def add(self, length: int) -> None:
        """Count ``length`` bytes more that are there already, room or not."""
        self._memory.taken += length
        self.length += length

    def free(self) -> None:
        """Give all of it back."""
        self._memory.taken -= self.length
        self.length = 0

    def __del__(self) -> None:
        """Give back what a request took that was dropped on any way."""
        self.free()


def gather(parts: list[bytes], whole: int) -> int:
    """Join what is behind the first ``whole`` of ``parts`` once it is many small parts.

    Each object costs more than a few bytes of a body do. Returns how many are not looked at again.
    """
    if len(parts) - whole < _SMALL_PARTS:
        return whole
    if sum(map(len, parts[whole:])) > _SMALL_BYTES:
        return len(parts)
    parts[whole:] = [b"".join(parts[whole:])]
    return whole + 1
