"""Requests are read once, the same way by whoever serves and whoever audits."""

import json
from typing import Any

import pytest

from lydite.engines.codec import DirectoryCodec
from lydite.engines.openai_requests import CHAT_PATH, COMPLETIONS_PATH, Request, parse
from lydite.errors import FormatError, Reason

HELLO = [{"role": "user", "content": "hello"}]


def chat(codec: DirectoryCodec, **fields: Any) -> Request:
    return parse(CHAT_PATH, json.dumps({"messages": HELLO, **fields}).encode(), codec)


def completion(codec: DirectoryCodec, **fields: Any) -> Request:
    return parse(COMPLETIONS_PATH, json.dumps(fields).encode(), codec)


def test_a_chat_is_rendered_up_to_the_assistants_turn(codec: DirectoryCodec) -> None:
    request = chat(codec, model="m", stream=True, stream_options={"include_usage": True})
    assert (request.model, request.stream, request.include_usage) == ("m", True, True)
    assert request.prompt_ids[0] == codec.encode("")[0]
    assert codec.decode(request.prompt_ids) == "hello"
    assert request.sampling.max_tokens is None


def test_text_in_parts_is_the_text_joined(codec: DirectoryCodec) -> None:
    parts = [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]
    request = chat(codec, messages=[{"role": "user", "content": parts}])
    assert request.prompt_ids == chat(codec).prompt_ids


def test_every_spelling_of_one_prompt_gives_the_same_ids(codec: DirectoryCodec) -> None:
    ids = codec.encode("def f")
    spellings: list[Any] = ["def f", ["def f"], ids, [ids]]
    assert {completion(codec, prompt=prompt).prompt_ids for prompt in spellings} == {tuple(ids)}


def test_log_probabilities_are_asked_for_in_two_dialects(codec: DirectoryCodec) -> None:
    assert chat(codec, logprobs=True, top_logprobs=3).top_logprobs == 3
    assert chat(codec, logprobs=True).top_logprobs == 0
    assert chat(codec, top_logprobs=3).top_logprobs is None
    assert completion(codec, prompt="x", logprobs=2).top_logprobs == 2
    assert completion(codec, prompt="x").top_logprobs is None


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        {"messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]},
        {"tools": [{"type": "function"}]},
        {"n": 2},
    ],
)
def test_what_cannot_be_recomputed_is_refused(
    codec: DirectoryCodec, fields: dict[str, Any]
) -> None:
    with pytest.raises(FormatError) as caught:
        chat(codec, **fields)
    assert caught.value.reason is Reason.UNSUPPORTED


@pytest.mark.parametrize("prompt", [["a", "b"], [], [[1], [2]], ["a", 1], [[]], "", None, {}, [-1]])
def test_a_prompt_that_is_not_one_prompt_is_refused_or_empty(
    codec: DirectoryCodec, prompt: Any
) -> None:
    try:
        ids = completion(codec, prompt=prompt).prompt_ids
    except FormatError:
        return
    assert len(ids) <= 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT_PATH, b""),
        (CHAT_PATH, b"[]"),
        (CHAT_PATH, b"{}"),
        (CHAT_PATH, b'{"messages":[]}'),
        (CHAT_PATH, b'{"messages":[{"role":"user"'),
        (CHAT_PATH, b'{"messages":[{"content":"x"}]}'),
        (CHAT_PATH, b'{"messages":"x"}'),
        (CHAT_PATH, b'\xff{"messages":[]}'),
        (CHAT_PATH, b"[" * 100_000),
        (CHAT_PATH, b'{"messages":[{"role":"user","content":"\xff"}]}'),
        (COMPLETIONS_PATH, b'{"prompt":"x","logprobs":21}'),
        (COMPLETIONS_PATH, b'{"prompt":"x","stream":1}'),
        (COMPLETIONS_PATH, b'{"prompt":"x","model":7}'),
        ("/v1/embeddings", b'{"prompt":"x"}'),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(
    codec: DirectoryCodec, path: str, body: bytes
) -> None:
    with pytest.raises(FormatError) as caught:
        parse(path, body, codec)
    assert caught.value.reason is Reason.MALFORMED


def test_a_query_after_the_path_changes_nothing(codec: DirectoryCodec) -> None:
    body = b'{"prompt":"x"}'
    assert parse(COMPLETIONS_PATH + "?a=1", body, codec) == parse(COMPLETIONS_PATH, body, codec)


def test_the_template_may_refuse_messages(codec: DirectoryCodec) -> None:
    assert chat(codec, messages=[{"role": "user", "content": ""}]).prompt_ids


@pytest.mark.parametrize("text", [" , don 't  .", "naïve\r\n\tx", "😀 漢字", "\x00\x7f", "<|end|>"])
def test_text_survives_the_tokenizer_exactly(codec: DirectoryCodec, text: str) -> None:
    ids = codec.encode(text)
    assert b"".join(codec.token_bytes(token) for token in ids[1:]).decode() == text
