"""A real gateway before real models: whoever carries a secret out is charged, then stopped."""

import asyncio
import http.client
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from lydite.auditor.gateway_client import GatewayClient
from lydite.auditor.meter import Meter, Scale, recount
from lydite.auditor.settings import Gateway as Watched
from lydite.auditor.settings import Meter as MeterSettings
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


Change = Callable[[bytes], bytes]


def changed(app: Any, odd: Change) -> Any:
    """An application whose bodies are changed before they leave."""

    async def served(scope: Any, receive: Any, send: Any) -> None:
        head: dict[str, Any] = {}

        async def pass_on(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                head.update(message)
                return
            body = odd(message["body"])
            kept = [field for field in head["headers"] if field[0] != b"content-length"]
            kept.append((b"content-length", b"%d" % len(body)))
            await send({**head, "headers": kept})
            await send({**message, "body": body})

        await app(scope, receive, pass_on if scope["type"] == "http" else send)

    return served


class Served:
    """An engine on a port, in a bench's loop."""

    def __init__(self, bench: Bench, engine: Engine, odd: "Change | None" = None) -> None:
        import uvicorn

        app = create_app(engine, "small")
        served = app if odd is None else changed(app, odd)
        config = uvicorn.Config(served, port=0, log_level="error")
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


def say(port: int, number: int, who: str, *, whole: bool = False) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = {"model": "small", "prompt": f"def function_{number}(", "max_tokens": 24}
    if number % 2 and not whole:
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


def run_meter(url: str, directory: Path) -> Path:
    """Score what waits, in a process of its own; return the file of the scores."""
    key, kept, settings = (directory / name for name in ("meter.key", "kept.jsonl", "meter.json"))
    key.write_bytes((b"m" * 32).hex().encode() + b"\n")
    key.chmod(0o600)
    made = MeterSettings(
        gateways=(Watched(url=url, token=TOKEN, provider="p"),),
        key=str(key),
        model=str(SMALL),
        reference=str(ROOT / "data" / "reference" / "egress" / "lydite-small.json"),
        scores=str(kept),
    )
    settings.write_bytes(msgspec.json.encode(made))
    command = [sys.executable, "-m", "lydite.cli.main", "meter", "run", str(settings), "--once"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return kept


def test_no_answer_stops_the_meter(
    bench: Bench, measured: Reference, engine: TransformersEngine, tmp_path: Path
) -> None:
    """Around the depth at which parsers give up, which one gives up hangs on who called it."""
    depths = iter(range(900, 1005, 3))

    def nest(body: bytes) -> bytes:
        depth = next(depths, 0)
        return body[:-1] + b',"x":' + b"[" * depth + b"]" * depth + b"}"

    upstream = Served(bench, engine, nest)
    limits = Egress(meters=(METER.public.hex(),), token=TOKEN, budget_bits_session=1 << 30)
    gateway = bench.gateway("nested", upstream=upstream.url, egress=limits)
    asked = [say(gateway.port, number, "nested", whole=True) for number in range(37)]
    kept = run_meter(f"http://127.0.0.1:{gateway.port}", tmp_path)
    client = GatewayClient(f"http://127.0.0.1:{gateway.port}", TOKEN)
    assert client.unscored() == []
    bench.stop(gateway)
    upstream.stop()
    found = scores(kept, measured)
    assert asked == [200] * 37
    assert len(found) == 37
    assert min(found[:35]) / 1e6 > 1000


def test_floats_for_ids_are_charged(
    bench: Bench, measured: Reference, engine: TransformersEngine, tmp_path: Path
) -> None:
    """Which of the prompt's ids come back as floats once said a bit each for nothing."""

    def spell(body: bytes) -> bytes:
        fields = json.loads(body)
        fields["prompt_token_ids"] = [float(token) for token in fields["prompt_token_ids"]]
        return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()

    upstream = Served(bench, engine, spell)
    limits = Egress(meters=(METER.public.hex(),), token=TOKEN)
    gateway = bench.gateway("floats", upstream=upstream.url, egress=limits)
    client = GatewayClient(f"http://127.0.0.1:{gateway.port}", TOKEN)
    kept = tmp_path / "kept.jsonl"
    meter = Meter(client, Scale(engine, measured), measured, METER, kept)
    for number in range(0, 6, 2):
        say(gateway.port, number, "floats")
        meter.round()
    bench.stop(gateway)
    upstream.stop()
    assert min(scores(kept, measured)) / 1e6 > 1000


def scores(path: Path, measured: Reference) -> list[int]:
    """What anyone counts again from the meter's file."""
    found = []
    for line in path.read_bytes().splitlines():
        payload = payload_of(msgspec.json.decode(line, type=Envelope))
        found.append(egress.parse_score(payload).predicate)
    return recount(found, measured)
