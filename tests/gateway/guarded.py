"""A gateway with modes before a machine that is really switched on and off, for tests."""

import json
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from lydite.gateway.modes import bundles
from lydite.gateway.modes.bundles import Listed
from lydite.gateway.modes.sending import Outcome, send
from lydite.gateway.service import Gateway
from lydite.gateway.settings import CommandPower, Modes, Settings
from lydite.laboratory import machine
from lydite.messages import mode
from lydite.messages.canonical import decode
from lydite.messages.mode import Predicate
from lydite.signing.dsse import Envelope, PublicKey, key_id, open_envelope, payload_of
from tests.gateway.conftest import Bench, prepare
from tests.gateway.raw_client import Got, ask, get, post

ENGINE = Path(__file__).parent / "loading_engine.py"
CHAT = b"/v1/chat/completions"
BODY = b'{"model":"loaded","messages":[]}'


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def make_model(directory: Path, seed: int = 0, size: int = 3_000_000) -> Path:
    """A directory with a safetensors file of two tensors, a text, and an empty file."""
    directory.mkdir(parents=True)
    half = size // 2
    tensors = {
        "first": {"dtype": "U8", "shape": [half], "data_offsets": [0, half]},
        "second": {"dtype": "U8", "shape": [size - half], "data_offsets": [half, size]},
    }
    head = json.dumps(tensors).encode()
    block = bytes((seed + i * 7) % 256 for i in range(997))
    body = (block * (size // len(block) + 1))[:size]
    raw = len(head).to_bytes(8, "little") + head + body
    (directory / "model.safetensors").write_bytes(raw)
    (directory / "config.json").write_text(f'{{"seed": {seed}}}')
    (directory / "empty.txt").write_bytes(b"")
    return directory


class Guarded:
    """Model, signature, store, machine and gateway; ``start`` begins in the dark."""

    def __init__(self, bench: Bench, name: str, **changes: Any) -> None:
        self.bench = bench
        self.name = name
        self.place = bench.directory / name
        self.place.mkdir(parents=True)
        self.store = Path(tempfile.mkdtemp(prefix="lydite-store-", dir="/dev/shm"))
        self.model = make_model(self.place / "model")
        self.key = self.place / "signer.key"
        bundles.create_key(self.key)
        self.listed = self.sign(self.model, "signed")
        self.engine_port = free_port()
        self.machine = self.place / "machine"
        self.modes = self._modes(**changes)
        self.gateway: Gateway | None = None

    def sign(self, model: Path, name: str, **how: Any) -> Listed:
        out = self.place / name
        out.mkdir()
        return bundles.sign(model, self.key, out, **how)

    def _modes(self, **changes: Any) -> Modes:
        python = (sys.executable, "-m", "lydite.laboratory.machine")
        engine = (sys.executable, str(ENGINE), str(self.engine_port), str(self.store / "model"))
        base = Modes(
            store=str(self.store),
            power=CommandPower(
                on=(*python, "on", str(self.machine), *engine),
                off=(*python, "off", str(self.machine)),
            ),
            whitelist=(str(self.place / "signed"),),
            signing_keys=(str(self.place / "signed" / "signer.pem"),),
            upload_port=0,
            stall_ms=600,
            load_timeout_ms=20_000,
            retry_ms=100,
        )
        return msgspec.structs.replace(base, **changes)

    def start(self, **changes: Any) -> "Guarded":
        self.gateway = self.bench.gateway(self.name, **self.settings(), **changes)
        return self

    def settings(self) -> dict[str, Any]:
        return {
            "upstream": f"http://127.0.0.1:{self.engine_port}",
            "modes": self.modes,
            "weights_root": bytes.fromhex(self.listed.root),
        }

    def prepare(self) -> Settings:
        """Settings for a gateway in a process of its own."""
        return prepare(self.place, **self.settings())

    def stop(self) -> None:
        if self.gateway is not None:
            self.bench.stop(self.gateway)
            self.gateway = None

    def close(self) -> None:
        self.stop()
        machine.off(self.machine)
        shutil.rmtree(self.store, ignore_errors=True)

    @property
    def up(self) -> Gateway:
        assert self.gateway is not None
        return self.gateway

    @property
    def upload_port(self) -> int:
        assert self.up.modal is not None
        return self.up.modal.port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.upload_port}"

    @property
    def mode(self) -> str:
        return str(self.report()["mode"])

    def report(self) -> dict[str, Any]:
        got = ask(self.upload_port, get(b"/v1/mode"))
        assert got.status == 200
        return dict(json.loads(got.body))

    def until(self, holds: Callable[[], bool], timeout_s: float = 10) -> None:
        deadline = time.monotonic() + timeout_s
        while not holds():
            assert time.monotonic() < deadline, self.report()
            time.sleep(0.01)

    def until_mode(self, *modes: str) -> None:
        self.until(lambda: self.mode in modes)

    def send(self, model: Path | None = None, **how: Any) -> Outcome:
        return send(model or self.model, self.url, **how)

    def chat(self) -> Got:
        return ask(self.up.port, post(CHAT, BODY))

    def is_on(self) -> bool:
        return machine.is_on(self.machine)

    def changes(self) -> list[Predicate]:
        """Every change of mode, once all are in the log, in its order."""
        self.until(lambda: self.logged()[-1].sequence == self.report()["sequence"])
        return self.logged()

    def logged(self) -> list[Predicate]:
        """Every change of mode in the log, signed by the gateway."""
        key = PublicKey(
            bytes.fromhex(json.loads(ask(self.up.port, get(b"/v1/keys")).body)["gateway"])
        )
        found, number = [], 1
        while (got := ask(self.up.port, get(b"/v1/log/envelopes/%d" % number))).status == 200:
            number += 1
            payload = payload_of(decode(got.body, Envelope))
            if b"/gateway-mode/v1" in payload:
                open_envelope(got.body, {key_id(key): key}, (key_id(key),))
                found.append(mode.parse(payload).predicate)
        return found
