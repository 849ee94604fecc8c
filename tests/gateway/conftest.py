"""A real gateway before a scripted engine, both on loopback, in a thread of their own."""

import asyncio
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
import uvloop

from lydite.gateway import settings as gateway_settings
from lydite.gateway.service import Gateway
from lydite.gateway.settings import Health, Limits, Settings
from lydite.messages.canonical import encode
from lydite.messages.declaration import Declaration, Predicate
from lydite.messages.statement import subject
from lydite.signing import keys
from lydite.signing.keys import sign_envelope
from tests.gateway.scripted_engine import ScriptedEngine

T = TypeVar("T")
ORIGIN = "lydite.test/gateway"
TOKEN = "a token of the auditor's"
ROOT = bytes(range(32))


def prepare(directory: Path, upstream: str | None, **changes: Any) -> Settings:
    """Write keys and a declaration, unless they are there, and return settings that use them."""
    root = changes.pop("weights_root", ROOT)
    directory.mkdir(parents=True, exist_ok=True)
    paths = {name: directory / f"{name}.key" for name in ("gateway", "provider", "log", "vrf")}
    for path in paths.values():
        if not path.exists():
            keys.create(path)
    provider = keys.load(paths["provider"])
    statement = Declaration(
        subject=subject("small", root),
        predicate=Predicate(
            model="small",
            weights_root=root.hex(),
            dtype="bfloat16",
            engine="scripted",
            sampler="lydite/v1",
            token_ids=True,
            provider=provider.keyid,
        ),
    )
    declaration = directory / "declaration.json"
    declaration.write_bytes(sign_envelope(encode(statement), provider))
    base = Settings(
        upstream=upstream,
        state=str(directory / "state"),
        keys=gateway_settings.Keys(**{name: str(path) for name, path in paths.items()}),
        declaration=str(declaration),
        origin=ORIGIN,
        port=0,
        audit_token=TOKEN,
        checkpoint_ms=100,
        limits=Limits(sweep_ms=50),
        health=Health(interval_ms=0),
    )
    return msgspec.structs.replace(base, **changes)


class Bench:
    """An event loop in a thread, the engine and the gateways that run in it."""

    def __init__(self, directory: Path, loop: asyncio.AbstractEventLoop) -> None:
        self.directory = directory
        self.loop = loop
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.engine = ScriptedEngine()
        self.run(self.engine.start())
        self._gateways: list[Gateway] = []

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float = 30) -> T:
        """Run a coroutine in the loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout_s)

    def gateway(self, name: str = "gateway", **changes: Any) -> Gateway:
        """Start a gateway before the engine."""
        settings = prepare(
            self.directory / name, changes.pop("upstream", self.engine.url), **changes
        )
        gateway = Gateway(settings)
        self.run(gateway.start())
        self._gateways.append(gateway)
        return gateway

    def stop(self, gateway: Gateway) -> None:
        """Stop a gateway before the bench does."""
        self._gateways.remove(gateway)
        self.run(gateway.stop())

    def close(self) -> None:
        """Stop everything."""
        for gateway in self._gateways:
            self.run(gateway.stop())
        self.run(self.engine.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@pytest.fixture(scope="module", params=["uvloop", pytest.param("asyncio", marks=pytest.mark.slow)])
def bench(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    loops = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
    bench = Bench(tmp_path_factory.mktemp("bench"), loops[request.param]())
    yield bench
    bench.close()


@pytest.fixture(scope="module")
def gateway(bench: Bench) -> Gateway:
    return bench.gateway()


@pytest.fixture
def memory() -> Iterator[Path]:
    """A place that is quick to flush, where what a kill leaves is the same as elsewhere."""
    place = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=place if place.is_dir() else None) as directory:
        yield Path(directory)


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Wait until something holds; fail when it does not within five seconds."""

    def wait(holds: Callable[[], bool]) -> None:
        done = threading.Event()
        for _ in range(500):
            if holds():
                return
            done.wait(0.01)
        raise AssertionError("it never came true")

    return wait
