"""Whether an upstream is asked: a breaker that counts failures, and checks that ask after it.

Two witnesses, neither of whom can close the door alone for long. The breaker sees requests fail and
opens; after a while it lets one request try. The checks ask a plain question now and then; one that
is refused several times in a row takes the upstream out, one that is answered takes it back in.
Knows nothing of clients, models or receipts.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from lydite.errors import LyditeError, UnavailableError
from lydite.gateway.settings import Health

_ANSWER_BYTES = 4096
_logger = logging.getLogger(__name__)


class Breaker:
    """Closed, or open until a time, then half-open: one request tries, the others go elsewhere.

    An answer is a success whatever its status: a poisonous request must not close the door to all.
    Times are in the loop's seconds.
    """

    __slots__ = ("_failures", "_open_until", "_openings", "_trying", "health")

    def __init__(self, health: Health) -> None:
        self.health = health
        self._failures = 0
        self._openings = 0
        self._open_until = 0.0
        self._trying = False

    @property
    def open(self) -> bool:
        """Whether it has opened and no request has succeeded since."""
        return self._openings > 0

    def usable(self, now: float) -> bool:
        """Say whether a request may be sent."""
        return not self._openings or (now >= self._open_until and not self._trying)

    def sent(self) -> None:
        """Take note of a request; while half-open, it is the one that tries."""
        if self._openings:
            self._trying = True

    def succeeded(self) -> None:
        """Close."""
        self._failures = self._openings = 0
        self._trying = False

    def abandoned(self) -> None:
        """Take note of a request that ended without showing anything."""
        self._trying = False

    def failed(self, now: float) -> bool:
        """Count a failure and say whether the breaker opened by it."""
        self._failures += 1
        trial, self._trying = self._trying, False
        closed = not self._openings
        if closed and self._failures < self.health.breaker_failures:
            return False
        if closed or trial:
            longest = self.health.breaker_longest_ms
            wait_ms = min(self.health.breaker_open_ms << min(self._openings, 16), longest)
            self._openings += 1
            self._open_until = now + wait_ms / 1000
        return closed


class Watched(Protocol):
    """An upstream, as far as checks need it."""

    name: str
    outstanding: int

    @property
    def well(self) -> bool:
        """What the checks have found so far."""

    async def streams(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection of its own.

        Raises:
            UnavailableError: it cannot be reached in time.
        """

    def checked(self, *, well: bool) -> None:
        """Take note of what a check found."""


class Watch:
    """Checks of every upstream of a fleet, each at its own pace."""

    def __init__(self, health: Health, members: Callable[[], Sequence[Watched]]) -> None:
        self._health = health
        self._members = members

    async def run(self) -> None:
        """Check all, again and again, until cancelled; at once, if the settings say never."""
        failures: dict[str, int] = {}
        while self._health.interval_ms:
            members = self._members()
            found = await asyncio.gather(*(self._ask(each) for each in members))
            failures = {
                each.name: self._judge(each, well, failures.get(each.name, 0))
                for each, well in zip(members, found, strict=True)
            }
            await asyncio.sleep(self._health.interval_ms / 1000)

    def _judge(self, member: Watched, well: bool | None, failures: int) -> int:
        """Tell the member what follows, and return how often it has failed in a row."""
        if well is None:
            return failures
        failures = 0 if well else failures + 1
        if well or failures >= self._health.failures:
            if well is not member.well:
                _logger.warning("upstream %s is %s", member.name, "up" if well else "down")
            member.checked(well=well)
        return failures

    async def _ask(self, member: Watched) -> bool | None:
        """Say whether it answers, None if it may be too busy to say and must not be given up.

        That is while it is at work for us, and always if there is no other to turn to.
        """
        try:
            async with asyncio.timeout(self._health.timeout_ms / 1000):
                return await status(member, self._health.path) < 500
        except TimeoutError:
            return None if member.outstanding or len(self._members()) == 1 else False
        except (LyditeError, OSError, ValueError, EOFError, asyncio.LimitOverrunError):
            return False


async def status(member: Watched, path: str) -> int:
    """Return the status of one answer, on a connection of its own.

    Raises:
        UnavailableError: no connection, or no answer in HTTP.
        OSError: as before.
    """
    reader, writer = await member.streams()
    try:
        head = f"GET {path} HTTP/1.1\r\nhost: {member.name}\r\n"
        writer.write(f"{head}connection: close\r\n\r\n".encode())
        line = (await reader.readuntil(b"\n"))[:_ANSWER_BYTES].split()
        if len(line) < 2 or not line[0].startswith(b"HTTP/1."):
            raise UnavailableError("not an answer in HTTP")
        return int(line[1])
    finally:
        with contextlib.suppress(OSError):
            writer.transport.abort()
