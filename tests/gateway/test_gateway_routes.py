"""Every OpenAI-compatible route passes byte for byte, and streams end as each route's do."""

import base64
import json
from typing import Any

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lydite.errors import FormatError
from lydite.gateway import wire
from lydite.gateway.service import Gateway
from lydite.gateway.settings import Upstream
from lydite.messages.compact import check
from lydite.messages.endings import TypedEnding
from tests.gateway.conftest import Bench
from tests.gateway.raw_client import Got, ask, get, play, post
from tests.gateway.scripted_engine import chunked, plain, script

PATHS = (b"/v1/chat/completions", b"/v1/completions", b"/v1/embeddings", b"/v1/responses")
RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "model": "small",
    "status": "completed",
    "output": [
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Hallo", "annotations": []}],
        }
    ],
    "parallel_tool_calls": False,
    "tool_choice": "auto",
    "tools": [],
    "vendor": 1e16,
}


def typed(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (
        kind.encode(),
        json.dumps({"type": kind, "sequence_number": 0, **fields}).encode(),
    )


def delta(text: str) -> bytes:
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "logprobs": []}
    return typed("response.output_text.delta", delta=text, **place)


COMPLETED = typed("response.completed", response=RESPONSE)
STREAM = [
    typed("response.created", response={**RESPONSE, "status": "in_progress", "output": []}),
    delta("Hal"),
    delta('lo, data: {"type":"response.completed"}'),
    b": keep-alive\n\n",
    COMPLETED,
]


def answer(stream: list[bytes], gateway: Gateway) -> tuple[bytes, Got]:
    return play(gateway.port, chunked(stream), b"/v1/responses")


@pytest.mark.parametrize("path", PATHS)
def test_answers_pass_byte_for_byte_with_a_receipt(gateway: Gateway, path: bytes) -> None:
    odd = b'{ "data":[1.0, 1e16,\t0.1e1], "x":"\\u00e4\xc3\xa4" }\n'
    body, got = play(gateway.port, plain(odd), path)
    assert (got.status, got.body) == (200, odd)
    check(wire.from_header(got.fields[wire.HEADER]), path, body, odd)


@pytest.mark.parametrize("cut", [None, 1, 7])
def test_a_stream_of_typed_events_ends_with_the_receipt_inside_its_last_event(
    gateway: Gateway, cut: int | None
) -> None:
    raw = chunked(STREAM)
    cuts = list(range(1, len(raw), cut)) if cut else []
    body, got = play(gateway.port, raw, b"/v1/responses", cuts=cuts)
    receipt, stripped = wire.from_stream(got.body)
    assert stripped == b"".join(STREAM)
    check(receipt, b"/v1/responses", body, stripped)
    head, _, tail = got.body.partition(b": lydite-receipt ")
    assert head == b"".join(STREAM[:-1])
    assert tail.endswith(b"\n" + COMPLETED)


@pytest.mark.parametrize("kind", ["response.completed", "response.failed", "response.incomplete"])
def test_each_last_type_ends_a_stream(gateway: Gateway, kind: str) -> None:
    _, got = answer([*STREAM[:2], typed(kind, response=RESPONSE)], gateway)
    assert wire.from_stream(got.body)[1].endswith(typed(kind, response=RESPONSE))


IMITATIONS = {
    "escaped": b'data: {"type":"response.comp\\u006ceted"}\n\n',
    "done": b"data: [DONE]\n\n",
    "named only": b'event: response.completed\ndata: {"type":"response.created"}\n\n',
    "typed only": b'event: response.created\ndata: {"type":"response.completed"}\n\n',
    "no data": b"event: response.completed\n\n",
    "two lines": b'data: {"type":\ndata: "response.completed"}\n\n',
    "two names": b"event: response.created\n" + COMPLETED,
    "spaced": b' event: response.completed\ndata: {"type":"response.created"}\n\n',
    "indented data": b'  data: {"type":"response.completed"}\n\n',
    "no type": b'data: {"delta":"x"}\n\n',
    "twice": b'data: {"type":"response.created","type":"response.completed"}\n\n',
    "behind a return": b'data: {"type":"response.created"}\rdata: {"type":"x"}\n\n',
}


@pytest.mark.parametrize("name", IMITATIONS)
def test_no_typed_stream_looks_done_where_the_receipt_says_aborted(
    gateway: Gateway, name: str
) -> None:
    body, got = answer([STREAM[0], IMITATIONS[name]], gateway)
    receipt, stripped = wire.from_stream(got.body)
    check(receipt, b"/v1/responses", body, stripped)
    if name in ("escaped", "twice"):  # every client reads it as the end, and so do we
        assert stripped == STREAM[0] + IMITATIONS[name]
        return
    assert stripped.startswith(STREAM[0] + b'data: {"error":')
    assert IMITATIONS[name] not in stripped


def test_a_typed_stream_without_its_last_event_is_broken(gateway: Gateway) -> None:
    _, got = answer(STREAM[:-1], gateway)
    assert b'"upstream-failed"' in wire.from_stream(got.body)[1]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                *(
                    b"event: response.completed\n",
                    b"event:response.created\n",
                    b": x\n",
                    b"id: 1\n",
                ),
                *(b'data: {"type":"response.completed"}\n', b'data:{"type":"response.created"}\n'),
                *(b"data: [DONE]\n", b"data\n", b'data: {"type": 1}\r', b"event\n", b"\xff\n"),
            ]
        ),
        max_size=4,
    )
)
def test_what_ends_a_stream_for_one_kind_of_client_ends_it_for_all(lines: list[bytes]) -> None:
    """Beside the obvious readers: one goes by the name, one by the type in the data."""
    event = b"".join(lines) + b"\n"
    try:
        last = TypedEnding().is_last(event)
    except FormatError:
        return
    fields = [line.partition(b":") for line in event.replace(b"\r", b"\n").split(b"\n")]
    names = [value.strip() for name, _, value in fields if name == b"event" and value.strip()]
    data = [value for name, _, value in fields if name == b"data"]
    by_type = bool(data) and json.loads(b"\n".join(data))["type"] == "response.completed"
    assert last is by_type
    assert not names or (names[-1] == b"response.completed") is last


def test_the_sdk_reads_responses_and_embeddings_unchanged(gateway: Gateway) -> None:
    vector = base64.b64encode(b"\x00\x00\x80\x3f").decode()
    embedding = {"object": "embedding", "index": 0, "embedding": vector}
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    found = {"object": "list", "data": [embedding], "model": "small", "usage": usage}
    url = f"http://127.0.0.1:{gateway.port}/v1"
    with openai.OpenAI(base_url=url, api_key="k", max_retries=0) as client:
        plainly = client.responses.create(
            model="small", input="?", extra_body=script(plain(json.dumps(RESPONSE).encode()))
        )
        assert plainly.output_text == "Hallo"
        stream = client.responses.create(
            model="small", input="?", stream=True, extra_body=script(chunked(STREAM))
        )
        kinds = [event.type for event in stream]
        assert kinds[0] == "response.created"
        assert kinds[-1] == "response.completed"
        embedded = client.embeddings.create(
            model="small", input="?", extra_body=script(plain(json.dumps(found).encode()))
        )
        assert embedded.data[0].embedding == [1.0]
        assert client.models.retrieve("small").id == "small"
        broken = client.responses.create(
            model="small", input="?", stream=True, extra_body=script(chunked(STREAM[:-1]))
        )
        with pytest.raises(openai.APIError, match="last event"):
            list(broken)


ASTRAY = [
    b"/v1/models/../metrics",
    b"/v1/models/a/%2e%2e/b",
    b"/v1/models/a%2F..%2Fmetrics",
    b"/v1/models/a/../../x",
    b"/v1/models//x",
    b"/v1/models/.",
    b"/v1/models/",
]


def test_one_model_is_relayed_and_nothing_beside_the_models(bench: Bench, gateway: Gateway) -> None:
    assert json.loads(ask(gateway.port, get(b"/v1/models/org/some-model:1.5")).body)["id"]
    asked = len(bench.engine.seen)
    for path in ASTRAY:
        assert ask(gateway.port, get(path)).status == 404, path
    assert ask(gateway.port, post(b"/v1/models/small", b"")).status == 405
    assert ask(gateway.port, get(b"/v1/embeddings")).status == 405
    assert len(bench.engine.seen) == asked


def test_a_declared_model_is_told_by_the_gateway(bench: Bench) -> None:
    declared = Upstream(url=bench.engine.url, models=("org/small",))
    named = bench.gateway("declared", upstream=None, upstreams=(declared,))
    for path in (b"/v1/models/org/small", b"/v1/models/org%2Fsmall"):
        assert json.loads(ask(named.port, get(path)).body)["id"] == "org/small"
    assert ask(named.port, get(b"/v1/models/other")).status == 404
