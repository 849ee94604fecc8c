"""The small model at hand, and the small model served, honestly and not, behind real ports."""

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import uvicorn

from lydite.engines.protocol import Engine
from lydite.engines.server import create_app
from lydite.engines.transformers_engine import TransformersEngine

SMALL = Path(__file__).parents[2] / "models" / "lydite-small"


@pytest.fixture(scope="session")
def declared() -> Iterator[TransformersEngine]:
    torch.set_num_threads(1)
    engine = TransformersEngine.load(SMALL, "fp32", 1)
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def served() -> Iterator[Callable[[Engine], str]]:
    """A function that puts an engine behind a real port and returns its URL."""
    servers: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(engine: Engine) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(create_app(engine, "small"), log_level="error", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for server, thread in servers:
        server.should_exit = True
        thread.join()
