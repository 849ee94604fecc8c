"""``python -m lydite.engines.serve``: one model directory behind an OpenAI-compatible port.

Prints one JSON line on standard output once it answers, then serves until it is interrupted.
"""

import argparse
import asyncio
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import torch
import uvicorn
from starlette.applications import Starlette

from lydite.engines.server import create_app
from lydite.engines.transformers_engine import TransformersEngine
from lydite.engines.weights import measure
from lydite.errors import LyditeError


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """What the one line on standard output says."""

    port: int
    url: str
    model: str
    root: str
    """Of the model directory that the server was given."""


def parser(description: str) -> argparse.ArgumentParser:
    """Return the options that every server of this kind takes."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--model", type=Path, required=True, help="a model directory")
    options.add_argument("--name", help="what to call the model; its directory's name if absent")
    options.add_argument("--host", default="127.0.0.1")
    options.add_argument("--port", type=int, default=0, help="0 lets the system choose")
    options.add_argument("--dtype", choices=["bf16", "fp32"], default="bf16")
    options.add_argument("--max-batch", type=int, default=16, help="answers decoded together")
    options.add_argument("--threads", type=int, default=1, help="of the processor, for the model")
    return options


async def serve(app: Starlette, host: str, port: int, model: str, root: str) -> None:
    """Serve ``app``, and say so on standard output once it answers."""
    with socket.create_server((host, port)) as listener:
        config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.005)
        bound = listener.getsockname()[1]
        ready = Ready(port=bound, url=f"http://{host}:{bound}/v1", model=model, root=root)
        sys.stdout.write(msgspec.json.encode(ready).decode() + "\n")
        sys.stdout.flush()
        await serving


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = parser("Serve a model directory over OpenAI's interface.").parse_args(arguments)
    torch.set_num_threads(options.threads)
    name = options.name or options.model.resolve().name
    try:
        engine = TransformersEngine.load(options.model, options.dtype, options.max_batch)
        root = measure(options.model).root
    except LyditeError as error:
        sys.stderr.write(f"lydite: error: {error}\n")
        return 2
    asyncio.run(serve(create_app(engine, name), options.host, options.port, name, root))
    engine.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
