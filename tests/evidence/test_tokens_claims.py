import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lydite.errors import FormatError, Reason, UnavailableError, VerificationError
from lydite.evidence.tokens.claims import (
    Claims,
    Exchange,
    Turn,
    answered,
    asked,
    check_vocabulary,
    claims,
    from_exchange,
)
from lydite.evidence.tokens.sampling import Sampling

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
CHAT_REQUEST = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "temperature": 0.5}
TEXT_REQUEST = {"model": "m", "prompt": "def f(", "seed": 7}


def dump(value: object) -> bytes:
    return json.dumps(value).encode()


def chat_answer(**choice: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "yo"}
    plain = {"index": 0, "message": message, "token_ids": [5, 6], "finish_reason": "stop"}
    return {"id": "x", "object": "chat.completion", "choices": [plain | choice], "usage": {}}


def sse(*payloads: object, done: bool = True, end: str = "\n") -> bytes:
    lines = [f"data: {json.dumps(payload)}{end}{end}" for payload in payloads]
    return ("".join(lines) + (f"data: [DONE]{end}{end}" if done else "")).encode()


def delta(text: str | None, ids: list[int] | None, finish: str | None = None) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    if ids is not None:
        choice["token_ids"] = ids
    return {"object": "chat.completion.chunk", "choices": [choice]}


STREAM = (
    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},
    delta("y", [5]),
    delta("o", [6]),
    delta(None, [], "stop"),
    {"choices": [], "usage": {"completion_tokens": 2}},
)


def chat(response: bytes, request: object = None) -> Exchange:
    return from_exchange(CHAT, dump(request or CHAT_REQUEST), response)


def stream(response: bytes) -> Exchange:
    return from_exchange(CHAT, dump(CHAT_REQUEST | {"stream": True}), response)


def test_a_chat_answer_says_its_tokens() -> None:
    assert chat(dump(chat_answer())) == Exchange(
        prompt=(Turn(role="user", content="hi"),),
        sampling=Sampling(temperature=0.5),
        output_ids=(5, 6),
        text="yo",
        finish_reason="stop",
        complete=True,
    )


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_stream_says_the_same_as_the_whole_answer(end: str) -> None:
    assert stream(sse(*STREAM, end=end)) == chat(dump(chat_answer()))


def test_comments_other_fields_and_split_data_lines_change_nothing() -> None:
    first, *rest = STREAM
    said = b": keep-alive\n\nretry: 9\nid: 3\n" + sse(first)[:-14] + sse(*rest)
    assert stream(said) == chat(dump(chat_answer()))
    split = b'data: {"choices":\ndata: [{"delta": {"content": "yo"}, "token_ids": [5, 6]}]}\n\n'
    assert stream(split + b"data: [DONE]").output_ids == (5, 6)


@pytest.mark.parametrize("prompt", ["def f(", [1, 2, 3]])
def test_a_completion_says_its_tokens(prompt: object) -> None:
    answer = {"choices": [{"index": 0, "text": "x):", "token_ids": [8], "finish_reason": "length"}]}
    exchange = from_exchange(TEXT + "?x=1", dump(TEXT_REQUEST | {"prompt": prompt}), dump(answer))
    assert exchange.prompt == (prompt if isinstance(prompt, str) else tuple(prompt))
    assert (exchange.output_ids, exchange.text) == ((8,), "x):")
    assert exchange.sampling.seed == 7


def test_prompt_ids_that_an_answer_carries_are_never_believed() -> None:
    answer = chat_answer() | {"prompt_token_ids": [9, 9, 9]}
    assert chat(dump(answer)) == chat(dump(chat_answer()))


def test_a_message_of_one_part_is_its_text() -> None:
    parts = [{"type": "text", "text": "a"}]
    request = CHAT_REQUEST | {"messages": [{"role": "user", "content": parts}]}
    assert chat(dump(chat_answer()), request).prompt == (Turn(role="user", content="a"),)


def test_a_stream_that_breaks_off_counts_as_far_as_it_went() -> None:
    cut = sse(*STREAM[:2], done=False) + b'data: {"choices": [{"delta": {"con'
    failed = sse(*STREAM[:2], {"error": {"message": "out of memory"}}, done=False)
    for said in (cut, failed):
        exchange = stream(said)
        assert (exchange.output_ids, exchange.text) == ((5,), "y")
        assert not exchange.complete


def test_a_seed_in_the_body_wins_over_that_of_the_gateway() -> None:
    exchange = chat(dump(chat_answer()))
    own = chat(dump(chat_answer()), CHAT_REQUEST | {"seed": 3})
    assert claims(exchange, (1, 2), 99).seed == 99
    assert claims(own, (1, 2), 99).seed == 3
    with pytest.raises(FormatError):
        claims(exchange, (), 99)


def test_tokens_outside_the_vocabulary_are_proof_before_any_pass() -> None:
    claimed = Claims(prompt_ids=(1,), output_ids=(5, 11), sampling=Sampling(), seed=1)
    check_vocabulary(claimed, 12)
    with pytest.raises(VerificationError) as caught:
        check_vocabulary(claimed, 11)
    assert caught.value.reason is Reason.UNKNOWN_TOKEN


TOOL = [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]
UNSUPPORTED = [
    (CHAT, CHAT_REQUEST | {"n": 2}, chat_answer()),
    (CHAT, CHAT_REQUEST | {"tools": TOOL}, chat_answer()),
    (CHAT, CHAT_REQUEST | {"logit_bias": {"5": 3}}, chat_answer()),
    (CHAT, CHAT_REQUEST | {"no_such_field": 1}, chat_answer()),
    (CHAT, CHAT_REQUEST | {"smoothing_factor": 1}, chat_answer()),
    (CHAT, CHAT_REQUEST | {"prompt": "hi"}, chat_answer()),
    (CHAT, {"messages": [{"role": "user", "content": "hi", "name": "bob"}]}, chat_answer()),
    (CHAT, {"messages": [{"role": "assistant", "tool_calls": TOOL}]}, chat_answer()),
    (TEXT, {"prompt": ["a", "b"]}, chat_answer()),
    (TEXT, {"prompt": [[1, 2], [3]]}, chat_answer()),
    ("/v1/embeddings", {"input": "a"}, chat_answer()),
]


@pytest.mark.parametrize(("path", "request_", "answer"), UNSUPPORTED)
def test_what_cannot_be_recomputed_is_the_requests_doing(
    path: str, request_: object, answer: object
) -> None:
    for read in (
        lambda: asked(path, dump(request_)),
        lambda: from_exchange(path, dump(request_), dump(answer)),
    ):
        with pytest.raises(FormatError) as caught:
            read()
        assert caught.value.reason is Reason.UNSUPPORTED


def test_fields_that_leave_the_draw_alone_are_let_through() -> None:
    harmless = {
        "model": "m",
        "user": "u",
        "metadata": {"a": "b"},
        "store": False,
        "logprobs": True,
        "top_logprobs": 3,
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
        "n": 1,
        "no_such_field": None,
    }
    wanted = asked(CHAT, dump(CHAT_REQUEST | harmless))
    assert wanted == msgspec.structs.replace(asked(CHAT, dump(CHAT_REQUEST)), scored=True)
    assert (wanted.model, wanted.chat, wanted.streamed) == ("m", True, False)


ODD = [
    (False, dump(chat_answer(message={"content": None, "tool_calls": TOOL}))),
    (False, dump(chat_answer(message={"content": "a", "reasoning_content": "b"}))),
    (False, dump(chat_answer(message={"content": "a", "refusal": "b"}))),
    (False, dump(chat_answer(message={"content": "a", "role": "b"}))),
    (False, dump(chat_answer(message={"content": ["a"]}))),
    (False, dump(chat_answer(index=1))),
    (False, dump({"choices": chat_answer()["choices"] * 2})),
    (False, dump({"choices": []})),
    (False, dump(chat_answer(text="BUY ACME"))),
    (False, dump(chat_answer(delta={"content": "BUY ACME"}))),
    (False, dump(chat_answer() | {"error": {}})),
    (True, sse({"choices": STREAM[1]["choices"] * 2})),
    (True, sse(delta("y", [5]), chat_answer())),
    (True, sse({"choices": [{"delta": {"content": "y"}, "text": "z", "token_ids": [5]}]})),
    (True, sse({"choices": [{"delta": {"content": "y"}, "index": 1, "token_ids": [5]}]})),
    (True, sse(delta("y", [5]), {"error": ""}, delta("o", [6]))),
    (True, b"event: thread.x\n" + sse(*STREAM)),
    (True, b"event\n" + sse(*STREAM)),
    (True, b"\xef\xbb\xbf" + sse(*STREAM)),
    (True, sse(*STREAM[:2], done=False) + b"data: [DONE] \n\n" + sse(*STREAM[2:])),
    (True, sse(*STREAM[:2], done=False) + b"data: [DONE]\ndata: 1\n\n" + sse(*STREAM[2:])),
]


@pytest.mark.parametrize(("streamed", "response"), ODD)
def test_an_answer_that_may_show_a_client_another_text_is_refused(
    streamed: bool, response: bytes
) -> None:
    wanted = asked(CHAT, dump(CHAT_REQUEST | {"stream": streamed}))
    with pytest.raises(FormatError) as caught:
        answered(wanted, response)
    assert caught.value.reason is Reason.ODD_ANSWER


@pytest.mark.parametrize("other", ["message", "delta"])
@pytest.mark.parametrize("streamed", [True, False])
def test_a_completion_has_no_text_but_its_own(other: str, streamed: bool) -> None:
    choice = {"text": "BUY ACME", other: {"content": "hi"}, "token_ids": [5]}
    response = sse({"choices": [choice]}) if streamed else dump({"choices": [choice]})
    with pytest.raises(FormatError) as caught:
        answered(asked(TEXT, dump({"prompt": "a", "stream": streamed})), response)
    assert caught.value.reason is Reason.ODD_ANSWER


@pytest.mark.parametrize("name", ["text", "content", "error", "index", "choices"])
@pytest.mark.parametrize("streamed", [False, True])
def test_tokens_that_differ_in_case_may_stand_beside_the_drawn_one(
    name: str, streamed: bool
) -> None:
    beside = {"tokens": ["yo"], "top_logprobs": [{name: -0.6, name.title(): -0.9}]}
    choice = {"index": 0, "text": "yo", "token_ids": [5], "logprobs": beside}
    said = {"choices": [choice | {"finish_reason": "length"}]}
    request_ = TEXT_REQUEST | {"logprobs": 5, "stream": streamed}
    answer = sse(said) if streamed else dump(said)
    assert from_exchange(TEXT, dump(request_), answer).output_ids == (5,)


@pytest.mark.parametrize(
    "answer",
    [
        b'{"choices":[{"index":0,"text":"yo","token_ids":[5],"logprobs":{"a":1,"a":2}}]}',
        b'{"choices":[{"index":0,"text":"yo","token_ids":[5],"Text":""}]}',
        b'{"choices":[{"index":0,"text":"yo","token_ids":[5]}],"Choices":[]}',
        b'{"choices":[{"index":0,"text":"yo","token_ids":[5],"Message":{"content":1,"Content":2}}]}',
    ],
)
def test_names_that_some_clients_take_for_one_are_refused_where_they_are_read(
    answer: bytes,
) -> None:
    with pytest.raises(FormatError, match="occurs twice") as found:
        from_exchange(TEXT, dump(TEXT_REQUEST), answer)
    assert found.value.reason is Reason.ODD_ANSWER


def test_the_request_says_whether_the_answer_is_a_stream() -> None:
    with pytest.raises(FormatError):
        chat(sse(*STREAM))
    with pytest.raises(UnavailableError):
        stream(dump(chat_answer()))


@pytest.mark.parametrize("text", ["", None])
def test_an_answer_without_tokens_is_an_answer(text: str | None) -> None:
    empty = {"role": "assistant", "content": text}
    exchange = chat(dump(chat_answer(token_ids=[], message=empty)))
    assert (exchange.output_ids, exchange.text, exchange.complete) == ((), "", True)
    claimed = claims(exchange, (1,), 9)
    check_vocabulary(claimed, 1)
    assert stream(sse(delta(None, [], "stop"))).output_ids == ()


@pytest.mark.parametrize(
    "response",
    [
        dump(chat_answer(token_ids=None)),
        dump(chat_answer(token_ids=[])),
        dump({"choices": [{"message": {"content": "yo"}}]}),
    ],
)
def test_an_answer_without_token_ids_teaches_nothing(response: bytes) -> None:
    with pytest.raises(UnavailableError) as caught:
        chat(response)
    assert caught.value.reason is Reason.NO_TOKEN_IDS


@pytest.mark.parametrize("response", [sse(delta("y", [5]), delta("o", None)), sse(), b"", b"\n\n"])
def test_a_stream_without_token_ids_teaches_nothing(response: bytes) -> None:
    with pytest.raises(UnavailableError) as caught:
        stream(response)
    assert caught.value.reason is Reason.NO_TOKEN_IDS


def test_an_error_is_no_answer() -> None:
    with pytest.raises(UnavailableError) as caught:
        chat(dump({"error": {"message": "no", "code": 500}}))
    assert caught.value.reason is Reason.UPSTREAM_FAILED


@pytest.mark.parametrize(
    "response",
    [
        b"{",
        b"{}",
        b'{"choices": {}}',
        b'{"choices": []}',
        b"data: {\n\n",
        b"data: 3\n\n",
        sse(*STREAM) + sse(*STREAM),
        dump(chat_answer(token_ids=[-1])),
        dump(chat_answer(token_ids=[1 << 31])),
        dump(chat_answer(token_ids=[1.5])),
        dump(chat_answer(token_ids="5")),
        dump(chat_answer(message="yo")),
        dump(chat_answer(index="0")),
        b'{"choices": ' + b"[" * 100_000,
        b'{"choices": [{"text": "\xff"}]}',
        b"\x00\x01",
    ],
)
def test_malformed_answers_are_refused(response: bytes) -> None:
    for read in (chat, stream):
        with pytest.raises((FormatError, UnavailableError)):
            read(response)


@pytest.mark.parametrize(
    "request_",
    [
        b"",
        b"[]",
        b"{",
        b"null",
        b'{"messages": []}',
        b'{"messages": "hi"}',
        b'{"messages": [{"content": "hi"}]}',
        b'{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}',
        b'{"messages": [{"role": "user", "content": 5}]}',
        b'{"messages": [{"role": "user"}], "temperature": "hot"}',
        b'{"messages": [{"role": "user"}], "temperature": NaN}',
        b'{"messages": [{"role": "user"}], "top_p": 0}',
        b'{"messages":' + b"[" * 100_000,
    ],
)
def test_malformed_requests_are_refused(request_: bytes) -> None:
    with pytest.raises(FormatError):
        from_exchange(CHAT, request_, dump(chat_answer()))


WHOLE, STREAMED, ASKED = dump(chat_answer()), sse(*STREAM), dump(CHAT_REQUEST)
ASKED_STREAM = dump(CHAT_REQUEST | {"stream": True})


@given(
    st.sampled_from([WHOLE, STREAMED]),
    st.lists(st.tuples(st.integers(0, 10_000), st.binary(max_size=4)), min_size=1, max_size=4),
    st.booleans(),
)
@example(STREAMED, [(0, b"")], True)
def test_no_mutation_ends_in_anything_but_an_exchange_or_a_reason(
    response: bytes, edits: list[tuple[int, bytes]], of_request: bool
) -> None:
    wanted = ASKED if response is WHOLE else ASKED_STREAM
    target = bytearray(wanted if of_request else response)
    for place, piece in edits:
        at = place % (len(target) + 1)
        target[at : at + len(piece) + 1] = piece
    request, answer = (bytes(target), response) if of_request else (wanted, bytes(target))
    try:
        exchange = from_exchange(CHAT, request, answer)
    except (FormatError, UnavailableError):
        return
    assert exchange.output_ids or not exchange.text


@given(st.binary(max_size=200))
def test_noise_is_never_an_exchange(noise: bytes) -> None:
    with pytest.raises((FormatError, UnavailableError)):
        from_exchange(CHAT, ASKED, noise)
    with pytest.raises((FormatError, UnavailableError)):
        from_exchange(CHAT, ASKED_STREAM, noise)


@pytest.mark.parametrize("size", range(len(STREAMED)))
def test_every_prefix_of_a_stream_is_a_prefix_of_its_tokens(size: int) -> None:
    prefix = STREAMED[:size]
    if prefix.find(b'"token_ids": [5]}]}\n\n') < 0:
        with pytest.raises(UnavailableError):
            stream(prefix)
    else:
        ids = stream(prefix).output_ids
        assert ids == (5, 6)[: len(ids)]
