"""A machine that a gateway with modes keeps: its switch, its store, and a signed model for it.

For the demo and for trying modes on one computer. The machine is one process of ``lydite engine``
that loads what the store holds; it is really started and really killed.
"""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lydite.errors import ConfigurationError
from lydite.gateway.modes import bundles
from lydite.gateway.modes.bundles import Listed
from lydite.gateway.settings import CommandPower, Modes
from lydite.laboratory import machine

_MEMORY = Path("/dev/shm")


class Guard(NamedTuple):
    """What a deployment needs to put a gateway with modes before its machine."""

    modes: Modes
    """For the gateway's settings, beside ``upstream``."""
    listed: Listed
    model: Path
    tampered: Path
    """The same model with one bit flipped, in the middle of its largest file."""
    place: Path
    """Names the machine to ``laboratory.machine``."""
    log: Path
    """What the engine says."""

    def is_on(self) -> bool:
        """Say whether the machine runs."""
        return machine.is_on(self.place)


@contextlib.contextmanager
def guard(directory: Path, model: Path, engine_port: int, *engine: str) -> Iterator[Guard]:
    """Sign ``model`` and yield a machine for it, off; at the end it is off and its store gone.

    ``directory`` takes keys, signature and the tampered copy; ``engine`` are further options of
    ``lydite engine``.

    Raises:
        ConfigurationError: there is no memory to put a store in, or no model.
    """
    if not os.access(_MEMORY, os.W_OK):
        raise ConfigurationError(f"{_MEMORY} is not there: modes need a directory in memory")
    directory.mkdir(parents=True, exist_ok=True)
    key, signed, place = directory / "officer.key", directory / "signed", directory / "machine"
    signed.mkdir()
    bundles.create_key(key)
    listed = bundles.sign(model, key, signed)
    tampered = tamper(model, directory / "tampered")
    store = Path(tempfile.mkdtemp(prefix="lydite-store-", dir=_MEMORY))
    command = [sys.executable, "-m", "lydite.engines.serve", "--model", str(store / "model")]
    command += ["--port", str(engine_port), "--name", model.resolve().name, *engine]
    switch = (sys.executable, "-m", "lydite.laboratory.machine")
    modes = Modes(
        store=str(store),
        power=CommandPower(
            on=(*switch, "on", str(place), *command), off=(*switch, "off", str(place))
        ),
        whitelist=(str(signed),),
        signing_keys=(str(signed / "signer.pem"),),
        upload_port=0,
        stall_ms=5_000,
        load_timeout_ms=120_000,
        retry_ms=500,
    )
    try:
        yield Guard(modes, listed, model, tampered, place, place.with_suffix(".log"))
    finally:
        machine.off(place)
        shutil.rmtree(store, ignore_errors=True)


def tamper(model: Path, out: Path) -> Path:
    """Copy a model and flip one bit of it, where nobody would look."""
    shutil.copytree(model, out)
    largest = max(out.iterdir(), key=lambda path: path.stat().st_size)
    with largest.open("r+b") as file:
        file.seek(largest.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    return out
