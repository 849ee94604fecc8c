"""How a process of the gateway runs: its event loop, and where its log lines go."""

import asyncio
import gc
import logging
from collections.abc import Coroutine
from typing import Any

from lydite.gateway.settings import LogLevel

_GARBAGE = 20_000
"""New objects between two looks for cycles among them."""


def log_to_stderr(level: LogLevel, prefix: str = "") -> None:
    """Send log lines of this process to standard error."""
    logging.basicConfig(format=f"{prefix}%(levelname)s %(name)s %(message)s")
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
