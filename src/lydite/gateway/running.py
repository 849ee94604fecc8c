"""Runs one gateway until it is told to stop, on uvloop where that is installed.

Prints one line of JSON with its port when it is ready; log lines go to standard error.
"""

import asyncio
import json
import logging
import signal
import sys
from collections.abc import Coroutine
from typing import Any

from lydite.errors import ConfigurationError
from lydite.gateway.service import Gateway
from lydite.gateway.settings import LogLevel, Settings


async def _serve(settings: Settings) -> None:
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, done.set)
    async with Gateway(settings) as gateway:
        url = f"http://{settings.host}:{gateway.port}"
        said = {"port": gateway.port, "url": url, "log": str(gateway.log_key)}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()
        await done.wait()


def serve(settings: Settings) -> int:
    """Run a gateway until SIGTERM or SIGINT, let what runs finish, and return 0.

    Raises:
        LyditeError: keys, declaration, state or address cannot be used.
    """
    log_to_stderr(settings.log_level)
    try:
        run(_serve(settings))
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}"
        ) from error
    return 0


def log_to_stderr(level: LogLevel, prefix: str = "") -> None:
    """Send log lines of this process to standard error."""
    logging.basicConfig(format=f"{prefix}%(levelname)s %(name)s %(message)s")
    logging.getLogger().setLevel(level.upper())


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run to the end, on uvloop where that is installed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)
