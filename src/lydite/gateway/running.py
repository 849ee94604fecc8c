"""Runs one gateway until it is told to stop, on uvloop where that is installed.

Prints one line of JSON with its port when it is ready; log lines go to standard error.
"""

import asyncio
import json
import logging
import signal
import sys
from collections.abc import Callable
from typing import Any

from lydite.errors import ConfigurationError, LyditeError
from lydite.gateway.loop import log_to_stderr, run
from lydite.gateway.service import Gateway
from lydite.gateway.settings import Settings

Reread = Callable[[], Settings]
_logger = logging.getLogger(__name__)


async def _serve(settings: Settings, reread: Reread | None) -> None:
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, done.set)
    again = asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, again.set)
    async with Gateway(settings, reread=reread) as gateway:
        reloading = asyncio.create_task(_reload(gateway, again))
        sys.stdout.write(json.dumps(_said(settings, gateway)) + "\n")
        sys.stdout.flush()
        await done.wait()
        reloading.cancel()
    if gateway.failure is not None:
        raise gateway.failure


def _said(settings: Settings, gateway: Gateway) -> dict[str, Any]:
    """Return what whoever started the gateway needs to know."""
    scheme = "http" if settings.tls is None else "https"
    url = f"{scheme}://{settings.host}:{gateway.port}"
    said = {"port": gateway.port, "url": url, "log": str(gateway.log_key)}
    if gateway.modal is not None:
        said["upload_port"] = gateway.modal.port
    operations = gateway.operations
    if operations is not None and operations.control_port is not None:
        said["control"] = f"http://{settings.control_host}:{operations.control_port}"
    return said


async def _reload(gateway: Gateway, again: asyncio.Event) -> None:
    """Follow new settings each time that it is asked for; go on by the old ones if they are bad."""
    while True:
        await again.wait()
        again.clear()
        try:
            if gateway.operations is not None:
                await gateway.operations.reload(ordered=False)
        except LyditeError as error:
            _logger.error("reload refused: %s", error)


def serve(settings: Settings, reread: Reread | None = None) -> int:
    """Run a gateway until SIGTERM or SIGINT, let what runs finish, and return 0.

    ``reread`` returns the settings as they are by then; SIGHUP asks for it.

    Raises:
        LyditeError: keys, declaration, state or address cannot be used.
    """
    log_to_stderr(settings.log_level)
    try:
        run(_serve(settings, reread))
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}"
        ) from error
    return 0
