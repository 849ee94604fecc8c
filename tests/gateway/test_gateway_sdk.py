"""The real ``openai`` SDK works through the gateway unchanged, sync and async, streamed or not."""

import asyncio
import base64
import json
from typing import Any

import openai
import pytest

from lydite.gateway.service import Gateway
from tests.gateway.raw_client import ask, get
from tests.gateway.scripted_engine import chat, chunked, events, plain, script
from tests.gateway.test_gateway_events import IMITATIONS

MESSAGES: Any = [{"role": "user", "content": "?"}]
TEXT = "Hal" + "lo, " + "[DONE]" + " data: [DONE]\n\n" + ": lydite-receipt {}" + "\U0001f30d"


def url(gateway: Gateway) -> str:
    return f"http://127.0.0.1:{gateway.port}/v1"


def test_sync_chat_plain_and_streamed(gateway: Gateway) -> None:
    with openai.OpenAI(base_url=url(gateway), api_key="k", max_retries=0) as client:
        answer = client.chat.completions.create(model="small", messages=MESSAGES)
        assert answer.choices[0].message.content == "Hallo, Wörld \U0001f30d"
        assert answer.model_dump()["vendor"] == {"unknown": [1.0, 1e16]}
        for _ in range(3):
            stream = client.chat.completions.create(model="small", messages=MESSAGES, stream=True)
            chunks = list(stream)
            assert "".join(c.choices[0].delta.content or "" for c in chunks) == TEXT
            assert chunks[-1].choices[0].finish_reason == "stop"
        raw = client.chat.completions.with_raw_response.create(model="small", messages=MESSAGES)
        assert len(raw.headers["x-lydite-receipt-id"]) == 32
        assert [each.id for each in client.models.list()] == ["small"]


def test_async_chat_plain_and_streamed(gateway: Gateway) -> None:
    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=url(gateway), api_key="k") as client:
            answer = await client.chat.completions.create(model="small", messages=MESSAGES)
            assert answer.choices[0].message.content == "Hallo, Wörld \U0001f30d"
            stream = await client.chat.completions.create(
                model="small", messages=MESSAGES, stream=True
            )
            text = [c.choices[0].delta.content or "" async for c in stream]
            assert "".join(text) == TEXT

    asyncio.run(main())


def test_completions_streams_with_ids_and_errors(gateway: Gateway) -> None:
    completion = (
        b'{"id":"cmpl-1","object":"text_completion","created":1,"model":"small",'
        b'"choices":[{"index":0,"text":"yes","finish_reason":"stop","logprobs":null}]}'
    )
    with openai.OpenAI(base_url=url(gateway), api_key="k", max_retries=0) as client:
        answer = client.completions.create(
            model="small", prompt="?", extra_body=script(plain(completion))
        )
        assert answer.choices[0].text == "yes"
        with_ids = [b"id: %d\nevent: message\n" % n + each for n, each in enumerate(events())]
        with_ids[-1] = events()[-1]
        chunks = list(
            client.chat.completions.create(
                model="small", messages=MESSAGES, stream=True, extra_body=script(chunked(with_ids))
            )
        )
        assert chunks[-1].choices[0].finish_reason == "stop"
        fault = b'{"error":{"message":"no","type":"rate_limit","param":null,"code":"slow"}}'
        with pytest.raises(openai.RateLimitError, match="no"):
            client.chat.completions.create(
                model="small",
                messages=MESSAGES,
                extra_body=script(plain(fault, status=b"429 Too Many Requests")),
            )
        with pytest.raises(openai.NotFoundError, match="nothing at this path"):
            client.moderations.create(input="x")


def outcome(gateway: Gateway, receipt_id: str) -> str:
    """What the signed receipt says became of an answer."""
    held = json.loads(ask(gateway.port, get(b"/v1/receipts/" + receipt_id.encode())).body)
    payload = json.loads(base64.b64decode(held["envelope"]["payload"]))
    return str(payload["predicate"]["response"]["outcome"])


@pytest.mark.parametrize("last", [*IMITATIONS, b"data: [DONE]", b"data:[DONE]", b"data: [DONE]\r"])
def test_the_sdk_sees_a_clean_end_exactly_where_the_receipt_says_complete(
    gateway: Gateway, last: bytes
) -> None:
    stream = chunked([*events()[:-1], last + b"\n\n"])
    with openai.OpenAI(base_url=url(gateway), api_key="k", max_retries=0) as client:
        raw = client.chat.completions.with_raw_response.create(
            model="small", messages=MESSAGES, stream=True, extra_body=script(stream)
        )
        try:
            list(raw.parse())
            seen = "complete"
        except openai.APIError:
            seen = "aborted"
    assert seen == ("aborted" if last in IMITATIONS else "complete")
    assert outcome(gateway, raw.headers["x-lydite-receipt-id"]) == seen


def test_many_at_once(gateway: Gateway) -> None:
    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=url(gateway), api_key="k") as client:
            answers = await asyncio.gather(
                *(
                    client.chat.completions.create(
                        model="small", messages=MESSAGES, extra_body=script(plain(chat(str(n))))
                    )
                    for n in range(100)
                )
            )
            assert [a.choices[0].message.content for a in answers] == [str(n) for n in range(100)]

    asyncio.run(main())
