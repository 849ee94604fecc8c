"""How fast a model is taken: a real upload port, every byte hashed twice and stored in memory.

Sender, gateway and store share the machine, so a gateway of its own is faster. The power switch
does nothing. Knows nothing of ``b3sum``.
"""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import report

from lydite.engines.weights import Algorithm
from lydite.gateway.modes import bundles
from lydite.gateway.modes.bundles import Anchors
from lydite.gateway.modes.intake import Store
from lydite.gateway.modes.keeper import Change, Keeper, World
from lydite.gateway.modes.sending import send
from lydite.gateway.modes.upload import Port, UploadConnection
from lydite.gateway.modes.whitelist import Whitelist
from lydite.gateway.settings import CommandPower, Modes

_NOTHING = ("true",)


class _Switch:
    name = "nothing"

    async def on(self) -> None:
        """Do nothing."""

    async def off(self) -> None:
        """Do nothing."""


def rows(model: Path, place: Path, rounds: int) -> list[report.Row]:
    """Return MB/s from the first byte sent to the answer, for both algorithms."""
    found = []
    bundles.create_key(place / "key")
    for algorithm in ("sha256", "blake3"):
        rate = _rate(model, place / algorithm, place / "key", algorithm, rounds)
        found.append(report.row(f"upload, files by {algorithm}", rate, "MB/s"))
    return found


def _rate(model: Path, place: Path, key: Path, algorithm: Algorithm, rounds: int) -> float:
    place.mkdir()
    listed = bundles.sign(model, key, place, algorithm)
    best = 0.0
    for number in range(rounds):
        with _port(place, listed.root, place / f"state{number}") as url:
            started = time.perf_counter()
            outcome = send(model, url, root=listed.root)
            taken_s = time.perf_counter() - started
        if not outcome.serving:
            raise SystemExit(f"the upload failed: {outcome.message}")
        best = max(best, listed.size / taken_s / 1e6)
    return best


@contextmanager
def _port(signed: Path, root: str, state: Path) -> Iterator[str]:
    """Serve an upload port in a thread, and yield its address."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    keeper, port = asyncio.run_coroutine_threadsafe(_start(signed, root, state), loop).result()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(keeper.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _start(signed: Path, root: str, state: Path) -> tuple[Keeper, int]:
    store = state / "store"
    store.mkdir(parents=True)

    async def enter(_: Change) -> None:
        return

    async def answers() -> bool:
        return True

    world = World(
        power=_Switch(),
        store=Store(store),
        whitelist=Whitelist(Anchors((signed / "signer.pem",)), state / "whitelist", [signed]),
        declared=root,
        enter=enter,
        answers=answers,
        hang_up=lambda: None,
        clock_ms=lambda: 0,
    )
    power = CommandPower(on=_NOTHING, off=_NOTHING)
    keeper = Keeper(Modes(store=str(store), power=power), world)
    shared = Port(keeper, 60, None, set())
    server = await asyncio.get_running_loop().create_server(
        lambda: UploadConnection(shared), "127.0.0.1", 0
    )
    keeper.start()
    await keeper.settled()
    port: int = server.sockets[0].getsockname()[1]
    return keeper, port
