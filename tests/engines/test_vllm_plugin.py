"""The plug-in for vLLM as far as it goes without vLLM; tests/outside runs it there."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lydite.engines import vllm_plugin
from lydite.engines.sketching import Sketcher
from lydite.engines.vllm_plugin import Sketches, receipt_id, register
from lydite.engines.vllm_states import LINGERING, States
from lydite.errors import ConfigurationError
from lydite.evidence.activations import claims
from lydite.evidence.activations.spec import Spec

SPEC = Spec(coordinates=8, delta="0.05")
FIELD = {"spec": "00" * 32, "key": "00" * 8, "sketch": "AAAA"}


def row(*values: float) -> torch.Tensor:
    return torch.tensor([[value] * 4 for value in values], dtype=torch.bfloat16)


def test_states_come_back_in_the_order_of_the_tokens() -> None:
    states = States()
    states.add(["a-12345678", "b-12345678"], [2, 4], row(1, 9))
    states.add(["b-12345678", "a-12345678"], [5, 3], row(8, 2))
    taken = states.take("a", prompt=3, output=2)
    assert taken is not None
    assert taken.dtype == np.float32
    assert taken[:, 0].tolist() == [1, 2]
    assert states.take("a", 3, 2) is None  # once
    assert states.take("b-12345678", 5, 2) is not None  # under its own name too


def test_a_prefill_in_chunks_and_a_pass_again_count_once() -> None:
    states = States()
    for position, value in ((3, 7), (6, 7), (9, 1), (10, 2), (9, 3), (10, 4)):
        states.add(["a"], [position], row(value))
    taken = states.take("a", prompt=10, output=2)
    assert taken is not None
    assert taken[:, 0].tolist() == [3, 4]


def test_states_that_are_not_known_are_not_made_up() -> None:
    states = States()
    states.add(["a"], [2], row(1))
    assert states.take("a", prompt=3, output=2) is None
    assert states.take("z", prompt=3, output=1) is None
    states.add(["b"], [0], row(1))
    assert states.take("b", prompt=1, output=0) is None
    states.add(["c-12345678", "c-87654321"], [0, 0], row(1, 1))
    assert states.take("c", prompt=1, output=1) is None


def test_states_that_nobody_asks_for_do_not_pile_up() -> None:
    states = States()
    for number in range(LINGERING + 50):
        states.add([f"r{number}"], [0], row(1))
        states.finished([f"r{number}", "unknown"])
    assert states.take("r0", 1, 1) is None
    assert states.take(f"r{LINGERING + 49}", 1, 1) is not None
    assert len(states._rows) <= LINGERING


@pytest.mark.parametrize(
    ("name", "receipt"),
    [("chatcmpl-r1", "r1"), ("cmpl-r1-0", "r1"), ("cmpl-r-0-0", "r-0"), ("chatcmpl-r-0", "r-0")],
)
def test_the_receipts_id_is_the_one_in_the_header(name: str, receipt: str) -> None:
    assert receipt_id(name) == receipt


def test_nothing_happens_without_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(vllm_plugin.SETTING, raising=False)
    register()


def test_a_setting_that_names_no_reference_stops_the_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(vllm_plugin.SETTING, str(tmp_path / "none.json"))
    with pytest.raises(ConfigurationError):
        register()


class Engine:
    """Answers as vLLM's does, in parts or whole, and remembers what it is called with."""

    def __init__(self, parts: Sequence[tuple[int, ...]], given: Any = FIELD) -> None:
        self.parts, self.given, self.calls = parts, given, []  # type: ignore[var-annotated]

    async def generate(
        self, prompt: Any, parameters: Any, request_id: str, **named: Any
    ) -> AsyncIterator[Any]:
        for place, ids in enumerate(self.parts):
            yield SimpleNamespace(
                outputs=[SimpleNamespace(token_ids=ids)],
                finished=place == len(self.parts) - 1,
                prompt_token_ids=[7, 8],
            )

    async def collective_rpc(self, method: str, args: tuple[Any, ...]) -> list[Any]:
        self.calls.append((method, args))
        return [None, self.given]


def fetched(engine: Engine, kind: str, n: int = 1, name: str = "chatcmpl-r") -> int:
    async def run() -> int:
        parameters = SimpleNamespace(n=n, output_kind=SimpleNamespace(name=kind))
        parts = vllm_plugin._fetching(Engine.generate)(engine, "p", parameters, name, priority=0)
        return len([part async for part in parts])

    vllm_plugin._made.clear()
    return asyncio.run(run())


def test_a_finished_answer_is_sketched_with_all_of_its_tokens() -> None:
    for kind, parts in (("DELTA", [(1,), (2, 3)]), ("FINAL_ONLY", [(1, 2, 3)])):
        engine = Engine(parts)
        assert fetched(engine, kind) == len(parts)
        assert engine.calls == [("lydite_sketch", ("chatcmpl-r", [7, 8], [1, 2, 3]))]
        assert vllm_plugin._made == {"r": FIELD}


def test_several_answers_at_once_and_states_that_got_lost_have_no_sketch() -> None:
    engine = Engine([(1,)])
    fetched(engine, "DELTA", n=2)
    assert engine.calls == []
    fetched(Engine([(1,)], given=None), "DELTA")
    assert not vllm_plugin._made


def test_a_worker_sketches_what_it_kept() -> None:
    worker = SimpleNamespace(model_runner=SimpleNamespace())
    sketcher = Sketcher(spec=SPEC, weights_root="ab" * 32)
    kept = vllm_plugin._states_of(worker.model_runner)
    kept.add(["cmpl-r-0-12345678"], [1], row(1))
    field = vllm_plugin._sketch(worker, sketcher, "cmpl-r-0", [7, 8], [1])
    assert field == sketcher.field("r", [7, 8], [1], np.ones((1, 4), dtype=np.float32))
    assert vllm_plugin._sketch(worker, sketcher, "cmpl-r-0", [7, 8], [1]) is None
    kept.add(["cmpl-r-0-12345678"], [1], row(float("nan")))
    assert vllm_plugin._sketch(worker, sketcher, "cmpl-r-0", [7, 8], [1]) is None


def test_passes_of_both_runners_are_followed() -> None:
    runner = SimpleNamespace(
        speculative_config=None,
        execute_model_state=SimpleNamespace(sample_hidden_states=row(5)),
        input_batch=SimpleNamespace(
            num_reqs=1, req_ids=["a", None], num_computed_tokens_cpu=np.array([4, 0])
        ),
    )
    scheduled = SimpleNamespace(finished_req_ids={"z"}, num_scheduled_tokens={"a": 3})
    execute = vllm_plugin._forgetting(lambda runner, scheduled: None)
    vllm_plugin._watching_first(execute)(runner, scheduled)
    first = runner._lydite_states.take("a", 7, 1)
    assert first is not None
    batch = SimpleNamespace(
        num_reqs=1,
        req_ids=["a"],
        num_computed_tokens_np=np.array([4]),
        num_scheduled_tokens=np.array([3]),
        logits_indices=torch.tensor([2]),
    )
    hidden = row(1, 2, 5)
    assert vllm_plugin._watching_second(lambda *_: "drawn")(runner, hidden, batch, None) == "drawn"
    second = runner._lydite_states.take("a", 7, 1)
    assert second is not None
    assert second.tolist() == first.tolist()


def test_speculative_passes_are_not_followed() -> None:
    runner = SimpleNamespace(speculative_config=object(), execute_model_state=object())
    scheduled = SimpleNamespace(finished_req_ids=set())
    vllm_plugin._watching_first(lambda runner, scheduled: None)(runner, scheduled)
    batch = SimpleNamespace()
    vllm_plugin._watching_second(lambda *_: None)(runner, row(1), batch, None)
    assert vllm_plugin._states_of(runner).take("a", 1, 1) is None


def passed(parts: Sequence[bytes], kind: bytes, path: str = "/v1/chat/completions") -> bytes:
    """Return what comes out of the middleware for an answer in these parts."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        length = sum(map(len, parts))
        headers = [(b"content-type", kind), (b"content-length", b"%d" % length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for place, part in enumerate(parts):
            more = place < len(parts) - 1
            await send({"type": "http.response.body", "body": part, "more_body": more})

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(Sketches(app)({"type": "http", "path": path}, None, send))
    body = b"".join(message.get("body", b"") for message in sent)
    if kind.startswith(b"application"):
        assert dict(sent[0]["headers"])[b"content-length"] == b"%d" % len(body)
    return body


def spelt(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


WHOLE = {"id": "chatcmpl-r", "choices": [{"index": 0, "text": "é", "finish_reason": "stop"}]}
EVENTS = (
    b"data: "
    + spelt({"id": "chatcmpl-r", "choices": [{"delta": {"content": "x"}, "finish_reason": None}]})
    + b"\n\ndata: "
    + spelt({"id": "chatcmpl-r", "choices": [{"delta": {}, "finish_reason": "stop"}]})
    + b"\n\ndata: "
    + spelt({"id": "chatcmpl-r", "choices": [], "usage": {}})
    + b"\n\ndata: [DONE]\n\n"
)


def test_a_whole_answer_gets_its_sketch() -> None:
    vllm_plugin._made["r"] = FIELD
    body = spelt(WHOLE)
    got = passed([body[:20], body[20:]], b"application/json")
    assert json.loads(got)["choices"][0].pop("activations") == FIELD
    assert claims.stated(got, streamed=False).spec == FIELD["spec"]
    assert got.replace(b',"activations":' + spelt(FIELD), b"") == body
    assert passed([body], b"application/json") == body  # each sketch is put once


@pytest.mark.parametrize("cut", [0, 1, 7, 100, 10_000])
def test_a_stream_gets_its_sketch_on_the_choice_that_ends_it(cut: int) -> None:
    vllm_plugin._made["r"] = FIELD
    parts = [EVENTS[at : at + cut] for at in range(0, len(EVENTS), cut)] if cut else [EVENTS, b""]
    got = passed(parts, b"text/event-stream; charset=utf-8")
    assert claims.stated(got, streamed=True).spec == FIELD["spec"]
    assert got.replace(b',"activations":' + spelt(FIELD), b"") == EVENTS


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"choices":[]}',
        b'{"error":{"message":"no"}}',
        b'{"choices":[1],"id":"chatcmpl-r"}',
        b'{"choices":[{}],"id":"chatcmpl-r"}',
        b'{"choices":[{},{}],"id":"chatcmpl-r"}',
        b'{"choices":[{"finish_reason":"stop"}]}',
    ],
)
def test_other_bodies_pass_as_they_are(body: bytes) -> None:
    vllm_plugin._made["r"] = FIELD
    assert passed([body], b"application/json") == body
    assert passed([body], b"text/event-stream") == body
    assert passed([spelt(WHOLE)], b"application/json", "/v1/models") == spelt(WHOLE)
    vllm_plugin._made.clear()
