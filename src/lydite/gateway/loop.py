"""How a process of the gateway runs: its event loop, and where its log lines go."""

import asyncio
import gc
import logging
from collections.abc import Coroutine
from typing import Any

from lydite.gateway.settings import LogLevel
from lydite.messages.plain import plain

_GARBAGE = 20_000
"""New objects between two looks for cycles among them."""


class _Plain(logging.Formatter):
    """Lines in which nothing that a peer sent moves the cursor of who reads them."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """Return the line of a record."""
        return plain(super().formatMessage(record))


def log_to_stderr(level: LogLevel, prefix: str = "") -> None:
    """Send log lines of this process to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Plain(f"{prefix}%(levelname)s %(name)s %(message)s"))
    logging.basicConfig(handlers=[handler])
    logging.getLogger().setLevel(level.upper())


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run to the end, on uvloop where that is installed."""
    gc.collect()
    gc.freeze()  # what was imported is never garbage
    gc.set_threshold(_GARBAGE)  # exchanges leave no cycles behind; decision 0012 has the gain
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)
