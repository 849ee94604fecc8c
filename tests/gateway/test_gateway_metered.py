"""A real gateway before real models: whoever carries a secret out is charged, then stopped."""

import asyncio
import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import torch

from lydite.auditor.gateway_client import GatewayClient
from lydite.auditor.meter import Meter, Scale, recount
from lydite.engines.codec import DirectoryCodec
from lydite.engines.protocol import Engine
from lydite.engines.server import create_app
from lydite.engines.transformers_engine import TransformersEngine, load_model
from lydite.evidence.egress.reference import Reference, parse
from lydite.gateway.settings import Egress
from lydite.laboratory.smuggler import Smuggler
from lydite.messages import egress
from lydite.signing.dsse import Envelope, payload_of
from lydite.signing.keys import Signer
from tests.gateway.conftest import Bench

ROOT = Path(__file__).parents[2]
SMALL = ROOT / "models" / "lydite-small"
METER = Signer(b"m" * 32)
TOKEN = "the token of the meter"
PROMPTS = json.loads((ROOT / "data" / "reference" / "tokens" / "prompts.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def measured() -> Reference:
    return parse((ROOT / "data" / "reference" / "egress" / "lydite-small.json").read_bytes())


@pytest.fixture(scope="module")
def engine() -> Iterator[TransformersEngine]:
    torch.set_num_threads(1)
    engine = TransformersEngine.load(SMALL, "bf16", 1)
    yield engine
    engine.close()


class Served:
    """An engine on a port, in a bench's loop."""

    def __init__(self, bench: Bench, engine: Engine) -> None:
        import uvicorn

        config = uvicorn.Config(create_app(engine, "small"), port=0, log_level="error")
        self._bench = bench
        self._server = uvicorn.Server(config)
        self._task = bench.run(self._start())

    async def _start(self) -> "asyncio.Task[None]":
        task = asyncio.ensure_future(self._server.serve())
        while not self._server.started:
            await asyncio.sleep(0.01)
        return task

    @property
    def url(self) -> str:
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    def stop(self) -> None:
        self._server.should_exit = True

        async def wait() -> None:
            await self._task

        self._bench.run(wait())


def say(port: int, number: int, who: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = {"model": "small", "prompt": f"def function_{number}(", "max_tokens": 24}
    if number % 2:
        body["stream"] = True
    headers = {"Authorization": f"Bearer {who}"}
    connection.request("POST", "/v1/completions", json.dumps(body), headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def test_a_smuggler_is_stopped_and_an_honest_provider_is_not(
    bench: Bench, measured: Reference, engine: TransformersEngine, tmp_path: Path
) -> None:
    smuggler = Smuggler(
        load_model(SMALL, "bf16"), DirectoryCodec(SMALL), "top-16 at every token", b"s" * 4096
    )
    limits = Egress(meters=(METER.public.hex(),), token=TOKEN, budget_bits_session=200)
    statuses: dict[str, list[int]] = {}
    kept: dict[str, Path] = {}
    for name, served in (("honest", engine), ("smuggler", smuggler)):
        upstream = Served(bench, served)
        gateway = bench.gateway(f"metered-{name}", upstream=upstream.url, egress=limits)
        client = GatewayClient(f"http://127.0.0.1:{gateway.port}", TOKEN)
        kept[name] = tmp_path / f"{name}.jsonl"
        meter = Meter(client, Scale(engine, measured), measured, METER, kept[name])
        statuses[name] = []
        for number in range(6):
            statuses[name].append(say(gateway.port, number, name))
            meter.round()
        bench.stop(gateway)
        upstream.stop()
    smuggler.close()
    assert statuses["honest"] == [200] * 6
    assert statuses["smuggler"][:2] == [200, 200]
    assert statuses["smuggler"][-1] == 429
    assert smuggler.heard().bits == smuggler.bits
    charged = sum(scores(kept["smuggler"], measured)) / 1e6
    assert smuggler.bits <= charged <= 2 * smuggler.bits
    assert sum(scores(kept["honest"], measured)) / 1e6 < 60


def scores(path: Path, measured: Reference) -> list[int]:
    """What anyone counts again from the meter's file."""
    found = []
    for line in path.read_bytes().splitlines():
        payload = payload_of(msgspec.json.decode(line, type=Envelope))
        found.append(egress.parse_score(payload).predicate)
    return recount(found, measured)
