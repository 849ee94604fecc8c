"""The real engine behind the gateway: the SDK sees what it sees without, and each seed is ours."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from lydite.gateway import wire
from lydite.gateway.ledger.records import opening_of
from lydite.gateway.service import Gateway
from lydite.messages.commitment import Salt, commit_request, sampling_seed
from lydite.messages.compact import check
from tests.gateway.conftest import Bench
from tests.gateway.raw_client import CHAT, Wire, post

MODEL = Path(__file__).parents[2] / "models" / "lydite-small"
COMPLETIONS = b"/v1/completions"
QUIET = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def engine() -> Iterator[dict[str, Any]]:
    pytest.importorskip("torch", reason="the engine extra is not installed")
    command = [sys.executable, "-m", "lydite.engines.serve", "--model", str(MODEL)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, **QUIET})
    assert process.stdout is not None
    yield json.loads(process.stdout.readline())
    process.terminate()
    process.wait(10)
    process.stdout.close()


@pytest.fixture(scope="module")
def served(bench: Bench, engine: dict[str, Any]) -> Gateway:
    return bench.gateway("engine", upstream=f"http://127.0.0.1:{engine['port']}")


def direct(engine: dict[str, Any], body: bytes, seed: int) -> dict[str, Any]:
    """Ask the engine itself, with the seed that the gateway gave."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{engine['port']}/v1/completions",
        body,
        {"Content-Type": "application/json", "X-Lydite-Seed": str(seed)},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return dict(json.load(answer))


def test_an_answer_is_reproduced_by_the_seed_that_its_receipt_fixes(
    served: Gateway, engine: dict[str, Any]
) -> None:
    body = json.dumps({"model": engine["model"], "prompt": "def ", "max_tokens": 12}).encode()
    texts = set()
    with Wire(served.port, 60) as connection:
        for _ in range(3):
            got = connection.ask(post(COMPLETIONS, body))
            assert got.status == 200, got.body
            compact = wire.from_header(got.fields[wire.HEADER])
            check(compact, COMPLETIONS, body, got.body)
            salt = Salt(bytes.fromhex(compact.salt))
            seed = sampling_seed(salt, commit_request(salt, COMPLETIONS, body))
            answer = json.loads(got.body)
            assert answer["id"].endswith(compact.id)
            again = direct(engine, body, seed)
            assert again["choices"] == answer["choices"]
            texts.add(answer["choices"][0]["text"])
            held = opening_of(served._vault.read(compact.entry))
            assert held.response_bytes() == got.body
    assert len(texts) == 3


def test_the_sdk_chats_and_completes_through_both(served: Gateway, engine: dict[str, Any]) -> None:
    name = engine["model"]
    url = f"http://127.0.0.1:{served.port}/v1"
    messages: Any = [{"role": "user", "content": "Write a function."}]
    with openai.OpenAI(base_url=url, api_key="k", max_retries=0, timeout=60) as client:
        assert [each.id for each in client.models.list()] == [name]
        plain = client.chat.completions.create(
            model=name, messages=messages, max_tokens=12, seed=5, temperature=1
        )
        streamed = client.chat.completions.create(
            model=name, messages=messages, max_tokens=12, seed=5, temperature=1, stream=True
        )
        text = "".join(c.choices[0].delta.content or "" for c in streamed if c.choices)
        assert text == plain.choices[0].message.content
        pieces = client.completions.create(
            model=name, prompt="import ", max_tokens=12, seed=5, stream=True
        )
        whole = client.completions.create(model=name, prompt="import ", max_tokens=12, seed=5)
        assert "".join(piece.choices[0].text for piece in pieces) == whole.choices[0].text
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model=name, messages=messages, max_tokens=-1)


def test_a_stream_of_the_engine_matches_its_receipt(
    served: Gateway, engine: dict[str, Any]
) -> None:
    messages = [{"role": "user", "content": "?"}]
    asked = {"model": engine["model"], "messages": messages, "max_tokens": 8, "stream": True}
    body = json.dumps(asked).encode()
    with Wire(served.port, 60) as connection:
        got = connection.ask(post(CHAT, body))
    compact, stripped = wire.from_stream(got.body)
    check(compact, CHAT, body, stripped)
    assert stripped.endswith(b"data: [DONE]\n\n")
