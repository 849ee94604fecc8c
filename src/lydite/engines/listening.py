"""Puts an application on a port and says so once it answers."""

import asyncio
import socket
import sys

import msgspec
import uvicorn
from starlette.applications import Starlette

from lydite.errors import ConfigurationError


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """What the one line on standard output says."""

    port: int
    url: str
    model: str
    root: str
    """Of the model directory that the server was given."""


async def serve(app: Starlette, host: str, port: int, model: str, root: str) -> None:
    """Serve ``app`` until a signal ends it, and say so on standard output once it answers.

    Raises:
        ConfigurationError: the port cannot be had.
    """
    try:
        listener = socket.create_server((host, port))
    except (OSError, OverflowError) as error:
        raise ConfigurationError(f"cannot listen on {host}:{port}: {error}") from error
    with listener:
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.005)
        bound = listener.getsockname()[1]
        ready = Ready(port=bound, url=f"http://{host}:{bound}/v1", model=model, root=root)
        sys.stdout.write(msgspec.json.encode(ready).decode() + "\n")
        sys.stdout.flush()
        await serving
