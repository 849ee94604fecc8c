"""The committed small model as an engine, behind a real port, for the tests of this room."""

import socket
import threading
from collections.abc import Callable, Iterator

import openai
import pytest
import torch
import uvicorn
from answering import SMALL

from lydite.engines.codec import DirectoryCodec
from lydite.engines.protocol import Engine
from lydite.engines.server import create_app
from lydite.engines.sketching import Sketcher
from lydite.engines.transformers_engine import TransformersEngine


@pytest.fixture(scope="session")
def engine() -> Iterator[TransformersEngine]:
    torch.set_num_threads(1)
    engine = TransformersEngine.load(SMALL, "fp32")
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def codec() -> DirectoryCodec:
    return DirectoryCodec(SMALL)


@pytest.fixture(scope="session")
def serving() -> Iterator[Callable[..., str]]:
    """A function that puts an engine behind a real port and returns its base URL."""
    servers: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(engine: Engine, sketcher: Sketcher | None = None) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        app = create_app(engine, "touchstone", sketcher=sketcher)
        config = uvicorn.Config(app, log_level="error", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for server, thread in servers:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def url(engine: TransformersEngine, serving: Callable[[Engine], str]) -> str:
    return serving(engine)


@pytest.fixture(scope="session")
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
