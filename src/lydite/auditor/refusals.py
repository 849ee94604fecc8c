"""What a client gets where nobody serves its model: a signed *cannot*, in the log before it leaves.

Prompts stay out of it: the request is named by a salted commitment. Knows nothing of routes.
"""

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from lydite.auditor.ledger import Entered, Ledger
from lydite.messages.cannot import Asked, Cannot, Predicate
from lydite.messages.canonical import encode
from lydite.messages.commitment import Salt, commit_request
from lydite.messages.statement import subject

_BURST_S: Final = 2.0


class Unserved(NamedTuple):
    """One request that found no gateway."""

    model: str
    target: bytes
    body: bytes
    asked: tuple[Asked, ...]
    received_s: float


class Refusal(NamedTuple):
    """A *cannot* in the log, and the salt that shows what it is about."""

    entered: Entered
    salt: Salt


class Refusals:
    """Writes them, at most so many a second: anybody may ask for a model that nobody has."""

    def __init__(
        self,
        ledger: Ledger,
        deadline_ms: int,
        per_s: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._deadline_ms = deadline_ms
        self._per_s = per_s
        self._clock = clock
        self._allowance = per_s * _BURST_S
        self._seen_s = clock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="refusals")

    def admit(self) -> bool:
        """Say whether one more may be written now; belongs to the event loop."""
        now = self._clock()
        grown = self._allowance + (now - self._seen_s) * self._per_s
        self._allowance, self._seen_s = min(grown, self._per_s * _BURST_S), now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True

    async def refuse(self, unserved: Unserved) -> Refusal:
        """Do ``write`` in a thread of its own, which no slow gateway keeps busy."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self.write, unserved)

    def write(self, unserved: Unserved) -> Refusal:
        """Sign and log that nobody could serve a request. Blocks on the disk.

        Raises:
            StorageError: it is not in the log, so it may not be given out.
        """
        salt = Salt(os.urandom(32))
        commitment = commit_request(salt, unserved.target, unserved.body)
        statement = Cannot(
            subject=subject("request", commitment),
            predicate=Predicate(
                id=os.urandom(16).hex(),
                model=unserved.model,
                request=commitment.hex(),
                asked=unserved.asked,
                deadline_ms=self._deadline_ms,
                received=timestamp(unserved.received_s),
                issued=timestamp(time.time()),
                recomputer=self._ledger.keyid,
            ),
        )
        return Refusal(self._ledger.enter("cannot", encode(statement)), salt)


def timestamp(time_s: float) -> str:
    """Return RFC 3339 in UTC with milliseconds, of seconds since 1970."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time_s))
    return f"{whole}.{int(time_s * 1000) % 1000:03}Z"
