"""Seals the state again and again while a gateway runs, and says when that cannot be done."""

import asyncio
import logging
from collections.abc import Callable

from lydite.errors import LyditeError
from lydite.gateway.sealing.sealed import Sealed
from lydite.gateway.sealing.standing import Grown
from lydite.tlog.store import LogStore

_TRIES = 3
_AGAIN_S = 5.0

_logger = logging.getLogger(__name__)


class Sealer:
    """One gateway's beat. ``broken`` is called once if disk or TPM refuse three times in a row."""

    def __init__(
        self,
        sealed: Sealed,
        grown: tuple[LogStore, Grown],
        every_s: float,
        compare: Callable[[int], None],
        broken: Callable[[LyditeError], None],
    ) -> None:
        """``compare`` holds the log behind a size to the journal, which nobody else can write."""
        self._sealed = sealed
        self._log, self._journal = grown
        self._every_s = every_s
        self._compare = compare
        self._broken = broken
        self._checked = False
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """Hold log and journal, which are complete by now, to what was sealed; then seal them.

        Raises:
            SealError: they are not what they were.
            LyditeError: disk or TPM refused.
        """
        size = self._sealed.check(self._log, self._journal)
        await asyncio.to_thread(self._compare, size)
        self._checked = True
        if not self._sealed.stands(self._log, self._journal):
            await self._seal()

    async def now(self) -> None:
        """Seal what is there, without waiting for the beat, which tries again if this fails."""
        try:
            await self._seal()
        except LyditeError as error:
            _logger.error("sealing: %s (%s)", error, error.reason)

    async def run(self) -> None:
        """Seal at every beat at which something is new, until cancelled or broken."""
        failed = 0
        while True:
            await asyncio.sleep(min(self._every_s, _AGAIN_S) if failed else self._every_s)
            if self._sealed.stands(self._log, self._journal):
                continue
            try:
                await self._seal()
                failed = 0
            except LyditeError as error:
                failed += 1
                _logger.error("sealing: %s (%s)", error, error.reason)
                if failed == _TRIES:
                    self._broken(error)
                    return

    async def _seal(self) -> None:
        async with self._turn:
            await asyncio.to_thread(self._sealed.seal, self._log, self._journal)

    async def stop(self) -> None:
        """Seal every file as it lies, now that all is closed, and let go of the state.

        What was never found in order is not sealed. If disk or TPM refuse, the state before stands,
        and the next start is like one after a crash.
        """
        try:
            if self._checked:
                await asyncio.to_thread(self._sealed.seal, self._log, self._journal, closed=True)
        except LyditeError as error:
            _logger.error("sealing: %s (%s)", error, error.reason)
        finally:
            self._sealed.close()
