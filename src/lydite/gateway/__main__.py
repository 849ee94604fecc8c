"""``python -m lydite.gateway --config FILE``: one gateway, until SIGTERM.

Prints one line of JSON with its port when it is ready; log lines go to standard error.
"""

import argparse
import asyncio
import json
import logging
import signal
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from lydite.errors import LyditeError
from lydite.gateway.service import Gateway
from lydite.gateway.settings import Settings, load


async def serve(settings: Settings) -> None:
    """Run a gateway until SIGTERM or SIGINT, then let what runs finish."""
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


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run ``main`` on uvloop where that is installed, else on asyncio's own loop."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the settings and serve; 2 when they cannot be used."""
    parser = argparse.ArgumentParser(prog="lydite.gateway", description="a gateway")
    parser.add_argument("--config", type=Path, required=True, help="settings, .toml or .json")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    try:
        run(serve(load(options.config)))
    except (LyditeError, OSError) as error:
        sys.stderr.write(f"gateway: error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
