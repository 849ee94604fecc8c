"""The server answers the real SDK as OpenAI's would, and says which tokens it answered with."""

import asyncio
import contextlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import Any

import httpx
import openai
import pytest
from answering import SMALL

from lydite.engines.buckets import Answer
from lydite.engines.codec import DirectoryCodec
from lydite.engines.protocol import Engine, Job, Piece, Recomputed
from lydite.engines.server import MAX_BODY_BYTES
from lydite.engines.transformers_engine import TransformersEngine
from lydite.errors import UnavailableError

CHAT: dict[str, Any] = {
    "model": "touchstone",
    "messages": [{"role": "user", "content": "Write a Python function: add two numbers"}],
    "max_tokens": 12,
    "seed": 11,
}
PLAIN: dict[str, Any] = {"model": "touchstone", "prompt": "import os", "max_tokens": 9, "seed": 4}
GO_ON = {"ignore_eos": True}


class Watched:
    """An engine that counts what it gave out, and can be told to fail."""

    def __init__(self, inner: Engine, fail_after: int | None = None) -> None:
        self.inner, self.fail_after = inner, fail_after
        self.context_length, self.vocabulary = inner.context_length, inner.vocabulary
        self.pieces, self.open = 0, 0
        self.jobs: list[Job] = []

    @property
    def codec(self) -> Any:
        return self.inner.codec

    async def generate(self, job: Job) -> AsyncGenerator[Piece, None]:
        self.open += 1
        self.jobs.append(job)
        try:
            async for piece in self.inner.generate(job):
                if self.pieces == self.fail_after:
                    raise UnavailableError("the model fell over")
                self.pieces += 1
                yield piece
        finally:
            self.open -= 1

    def recompute(self, prompt_ids: Sequence[int], output_ids: Sequence[int]) -> Recomputed:
        return self.inner.recompute(prompt_ids, output_ids)

    def recompute_all(
        self, answers: Sequence[Answer], *, sharing: bool = True
    ) -> Iterator[tuple[int, Recomputed]]:
        return self.inner.recompute_all(answers, sharing=sharing)


def test_a_chat_is_answered_with_its_token_ids(
    client: openai.OpenAI, codec: DirectoryCodec
) -> None:
    answer = client.chat.completions.create(**CHAT)
    body = answer.model_dump()
    (choice,) = body["choices"]
    assert body["prompt_token_ids"] == codec.render_chat(CHAT["messages"])
    assert codec.decode(choice["token_ids"]) == choice["message"]["content"]
    assert body["usage"]["completion_tokens"] == len(choice["token_ids"]) == 12
    assert body["usage"]["prompt_tokens"] == len(body["prompt_token_ids"])
    assert choice["finish_reason"] == "length"


def test_a_streamed_chat_says_the_same_as_a_whole_one(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(**CHAT).model_dump()
    chunks = [
        chunk.model_dump()
        for chunk in client.chat.completions.create(
            **CHAT, stream=True, stream_options={"include_usage": True}
        )
    ]
    *parts, last = chunks
    choices = [part["choices"][0] for part in parts]
    assert parts[0]["prompt_token_ids"] == whole["prompt_token_ids"]
    assert choices[0]["delta"]["role"] == "assistant"
    text = "".join(choice["delta"]["content"] for choice in choices)
    assert text == whole["choices"][0]["message"]["content"]
    ids = [token for choice in choices for token in choice["token_ids"]]
    assert ids == whole["choices"][0]["token_ids"]
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(parts) - 1) + ["length"]
    assert last["usage"] == whole["usage"]
    assert last["choices"] == []


def test_a_completion_streams_as_it_answers(client: openai.OpenAI) -> None:
    whole = client.completions.create(**PLAIN).model_dump()
    chunks = [c.model_dump() for c in client.completions.create(**PLAIN, stream=True)]
    assert "".join(c["choices"][0]["text"] for c in chunks) == whole["choices"][0]["text"]
    ids = [token for c in chunks for token in c["choices"][0]["token_ids"]]
    assert ids == whole["choices"][0]["token_ids"]
    assert chunks[0]["prompt_token_ids"] == whole["prompt_token_ids"]
    assert len({c["id"] for c in chunks}) == 1


def test_log_probabilities_come_in_both_dialects(client: openai.OpenAI) -> None:
    chat = client.chat.completions.create(**CHAT, logprobs=True, top_logprobs=3)
    content = chat.choices[0].logprobs.content
    assert len(content) == 12
    assert b"".join(bytes(one.bytes) for one in content).decode() == chat.choices[0].message.content
    for one in content:
        assert len(one.top_logprobs) == 3
        assert one.logprob <= one.top_logprobs[0].logprob <= 0
    plain = client.completions.create(**PLAIN, logprobs=2, extra_body=GO_ON).choices[0].logprobs
    assert len(plain.tokens) == len(plain.token_logprobs) == len(plain.text_offset) == 9
    assert plain.text_offset[0] == 0


def test_the_model_is_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["touchstone"]


def test_the_header_seeds_a_request_that_names_no_seed(client: openai.OpenAI) -> None:
    unseeded = {**CHAT, "seed": None}

    def said(body: dict[str, Any], header: str) -> str | None:
        answer = client.chat.completions.create(**body, extra_headers={"X-Lydite-Seed": header})
        return answer.choices[0].message.content

    assert said(unseeded, "11") == said(CHAT, "99")
    assert said(unseeded, "12") != said(unseeded, "11")


def test_the_request_id_becomes_part_of_the_answers(client: openai.OpenAI) -> None:
    headers = {"X-Request-Id": "0123abcd"}
    assert client.chat.completions.create(**CHAT, extra_headers=headers).id == "chatcmpl-0123abcd"
    assert client.completions.create(**PLAIN, extra_headers=headers).id == "cmpl-0123abcd"
    odd = client.completions.create(**PLAIN, extra_headers={"X-Request-Id": 'a"b'}).id
    assert '"' not in odd


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"model": "another"}, 404, "model_not_found"),
        ({"messages": [{"role": "user", "content": "x " * 3000}]}, 400, "context_length_exceeded"),
        ({"n": 3}, 400, "unsupported"),
        ({"temperature": -1}, 400, None),
    ],
)
def test_refusals_have_openais_shape(
    client: openai.OpenAI, change: dict[str, Any], status: int, code: str | None
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(**{**CHAT, **change})
    assert caught.value.status_code == status
    assert caught.value.code == code
    assert caught.value.body["message"]


def test_raw_nonsense_is_refused_in_the_same_shape(url: str) -> None:
    chat = f"{url}/v1/chat/completions"
    answers = [
        (400, httpx.post(chat, content=b"{")),
        (400, httpx.post(chat, json={**CHAT, "seed": None}, headers={"X-Lydite-Seed": "x"})),
        (400, httpx.post(f"{url}/v1/completions", json={"prompt": [5000]})),
        (400, httpx.post(f"{url}/v1/completions", json={"prompt": []})),
        (404, httpx.get(f"{url}/v1/nothing")),
        (405, httpx.get(chat)),
        (413, httpx.post(chat, content=b" " * (MAX_BODY_BYTES + 1))),
    ]
    for status, answer in answers:
        assert answer.status_code == status
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert httpx.get(f"{url}/health").json() == {"status": "ok"}


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_hangs_up_stops_the_work(
    engine: TransformersEngine, serving: Callable[[Engine], str], stream: bool
) -> None:
    watched = Watched(engine)
    url = serving(watched)
    body = {**CHAT, "max_tokens": 900, "ignore_eos": True, "stream": stream}
    place = f"{url}/v1/chat/completions"
    with (
        contextlib.suppress(httpx.ReadTimeout),  # a whole answer takes longer than this waits
        httpx.stream("POST", place, json=body, timeout=0.3) as answer,
    ):
        list(itertools.islice(answer.iter_lines(), 9))
    deadline = time.monotonic() + 5
    while watched.open and time.monotonic() < deadline:
        time.sleep(0.01)
    assert watched.open == 0
    assert 0 < watched.pieces < 900


def test_a_model_that_fails_says_so(
    engine: TransformersEngine, serving: Callable[[Engine], str]
) -> None:
    whole = httpx.post(f"{serving(Watched(engine, fail_after=2))}/v1/chat/completions", json=CHAT)
    assert whole.status_code == 500
    assert whole.json()["error"]["code"] == "unavailable"
    streamed = httpx.post(
        f"{serving(Watched(engine, fail_after=2))}/v1/chat/completions",
        json={**CHAT, "stream": True},
    )
    assert "[DONE]" not in streamed.text
    assert "the model fell over" in streamed.text


def test_many_requests_at_once_are_each_answered_as_if_alone(client: openai.OpenAI) -> None:
    asynchronous = openai.AsyncOpenAI(base_url=client.base_url, api_key="none")

    async def run() -> list[str | None]:
        work = [
            asynchronous.chat.completions.create(**{**CHAT, "seed": seed % 3}) for seed in range(24)
        ]
        return [answer.choices[0].message.content for answer in await asyncio.gather(*work)]

    said = asyncio.run(run())
    assert len(set(said)) == 3


def test_the_command_serves_a_directory_and_says_where() -> None:
    command = [sys.executable, "-m", "lydite.engines.serve", "--model", str(SMALL), "--name", "m"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            assert httpx.get(f"{ready['url']}/models").json()["data"][0]["id"] == "m"
            assert ready["url"] == f"http://127.0.0.1:{ready['port']}/v1"
        finally:
            process.terminate()


def test_the_command_says_what_is_wrong_with_a_directory() -> None:
    command = [sys.executable, "-m", "lydite.engines.serve", "--model", "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "lydite: error: no model directory at nowhere\n"
