"""What can be read of an answer is read; what makes no sense is left out by name."""

import contextlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import LyditeError, Reason
from lydite.evidence.endpoint.attester import reported
from lydite.evidence.endpoint.claims import parse


def body(**choice: Any) -> bytes:
    said = {"message": {"role": "assistant", "content": "a b"}, "finish_reason": "stop"}
    return json.dumps({"choices": [{**said, **choice}], "other": [1]}).encode()


def content(*entries: Any) -> dict[str, Any]:
    return {"content": list(entries)}


def entry(logprob: float, token: str = "a", top: tuple[tuple[str, float], ...] = ()) -> Any:
    beside = [{"token": name, "logprob": value} for name, value in top]
    return {"token": token, "logprob": logprob, "bytes": [97], "top_logprobs": beside}


def test_an_answer_is_read() -> None:
    said = parse(body(token_ids=[1, 2], logprobs=content(entry(-0.25), entry(-1.5))), chat=True)
    assert (said.text, said.token_ids, said.decimals) == ("a b", (1, 2), 2)
    assert [one.logprob for one in said.reported] == [-0.25, -1.5]
    assert said.fault is None


def test_the_older_lists_are_read() -> None:
    lists = {
        "tokens": ["a", "b"],
        "token_logprobs": [-0.5, -1.0],
        "top_logprobs": [{"a": -0.5}, {}],
    }
    choice = {"text": "ab", "logprobs": lists}
    said = parse(json.dumps({"choices": [choice]}).encode(), chat=False)
    assert [one.top for one in said.reported] == [(("a", -0.5),), ()]


@pytest.mark.parametrize(
    "logprobs",
    [
        content(entry(-9999.0)),
        content(entry(0.5)),
        content(entry(-1.0, top=(("a", -0.1), ("b", -0.1)))),
        {"tokens": ["a"], "token_logprobs": [-1.0, -2.0]},
        {"tokens": ["a"], "token_logprobs": [None]},
        {"tokens": ["a", "b"], "token_logprobs": [-1.0, -1.0], "top_logprobs": [{}]},
        {"content": 5},
        [1, 2],
        "none",
    ],
    ids=["-9999", "above one", "sum", "unequal", "null", "unequal top", "shape", "list", "word"],
)
def test_logprobs_that_are_none_are_left_out_by_name(logprobs: Any) -> None:
    said = parse(body(logprobs=logprobs), chat=True)
    assert (said.reported, said.fault) == ((), Reason.BAD_LOGPROBS)
    assert said.text == "a b"


def test_a_token_that_a_server_names_twice_counts_once() -> None:
    # vLLM 42259: the drawn token stands among the alternatives a second time
    twice = (("a", -0.1), ("a", -0.1), ("b", -2.6))
    assert parse(body(logprobs=content(entry(-0.1, top=twice))), chat=True).fault is None


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"<html>502</html>", Reason.MALFORMED),
        (b"", Reason.MALFORMED),
        (b'{"choices": []}', Reason.ODD_ANSWER),
        (b'{"choices": [{}, {}]}', Reason.ODD_ANSWER),
        (b'{"choices": [{}]}', Reason.EMPTY_ANSWER),
        (b'{"choices": [{"message": {"content": ""}}]}', Reason.EMPTY_ANSWER),
        (b'{"error": {"message": "no"}}', Reason.UPSTREAM_FAILED),
        (b'{"choices": [{"message": {"content": "a"}, "token_ids": [-1]}]}', Reason.MALFORMED),
        (b'{"choices": [{"message": {"content": "a"}, "token_ids": [1e99]}]}', Reason.MALFORMED),
        (b"[" * 100_000, Reason.MALFORMED),
        (b'{"choices": ' + b"[" * 100_000, Reason.MALFORMED),
    ],
)
def test_what_is_no_answer_is_refused_with_its_reason(answer: bytes, reason: Reason) -> None:
    with pytest.raises(LyditeError) as caught:
        parse(answer, chat=True)
    assert caught.value.reason is reason


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "choices",
                        "message",
                        "content",
                        "logprobs",
                        "token",
                        "logprob",
                        "text",
                        "token_ids",
                        "usage",
                        "tokens",
                        "token_logprobs",
                        "top_logprobs",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=20,
    ).map(lambda value: json.dumps(value).encode())
)
def test_nothing_that_is_said_ends_in_a_crash(said: bytes) -> None:
    for chat in (True, False):
        with contextlib.suppress(LyditeError):
            parse(said, chat=chat)


@given(st.lists(st.floats(-20, 20, width=32), min_size=3, max_size=30), st.integers(1, 6))
def test_what_an_honest_endpoint_reports_is_sound(logits: list[float], decimals: int) -> None:
    one = reported(np.array(logits), 1, 3, decimals)
    said = parse(body(logprobs=content(entry(one.logprob, one.token, one.top))), chat=True)
    assert said.fault is None
    assert said.decimals <= decimals
