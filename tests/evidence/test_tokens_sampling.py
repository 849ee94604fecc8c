"""How a request asks its tokens to be drawn, and what it may not ask for."""

import math
from typing import Any

import pytest

from lydite.errors import FormatError, Reason
from lydite.evidence.tokens.sampling import COMPLETION_MAX_TOKENS, Sampling, from_request


def test_absent_and_null_fields_take_the_defaults() -> None:
    absent = from_request({"messages": []})
    assert absent == Sampling()
    assert absent == from_request(
        dict.fromkeys(["temperature", "top_p", "top_k", "stop", "seed", "n"]) | {"messages": []}
    )
    assert from_request({"prompt": "x"}).max_tokens == COMPLETION_MAX_TOKENS


def test_every_field_is_read() -> None:
    body = {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "max_tokens": 7,
        "stop": ["a", "b"],
        "seed": -3,
        "ignore_eos": True,
    }
    assert from_request(body) == Sampling(
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        max_tokens=7,
        stop=("a", "b"),
        seed=-3,
        ignore_eos=True,
    )


def test_the_newer_name_of_the_limit_wins() -> None:
    assert from_request({"max_tokens": 5, "max_completion_tokens": 6}).max_tokens == 6


def test_a_single_stop_string_is_a_list_of_one() -> None:
    assert from_request({"stop": "end"}).stop == ("end",)


@pytest.mark.parametrize("top_k", [-1, 0])
def test_no_rank_limit_has_two_spellings(top_k: int) -> None:
    assert from_request({"top_k": top_k}).top_k == 0


@pytest.mark.parametrize(
    "field",
    [
        {"temperature": -0.1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"temperature": True},
        {"temperature": "1"},
        {"top_p": 0},
        {"top_p": 1.01},
        {"top_k": 1.5},
        {"top_k": -2},
        {"max_tokens": 0},
        {"max_tokens": 1 << 40},
        {"stop": ""},
        {"stop": ["a", ""]},
        {"stop": ["a"] * 17},
        {"stop": ["a" * 257]},
        {"stop": 1},
        {"seed": 1 << 63},
        {"seed": 0.5},
        {"seed": True},
    ],
)
def test_values_out_of_range_are_malformed(field: dict[str, Any]) -> None:
    with pytest.raises(FormatError) as caught:
        from_request(field)
    assert caught.value.reason is Reason.MALFORMED


@pytest.mark.parametrize(
    "field",
    [
        {"n": 2},
        {"best_of": 3},
        {"logit_bias": {"5": 1}},
        {"presence_penalty": 0.1},
        {"frequency_penalty": -1},
        {"repetition_penalty": 1.1},
        {"min_p": 0.1},
        {"tools": [{}]},
        {"response_format": {"type": "json_object"}},
        {"guided_json": {}},
        {"echo": True},
        {"use_beam_search": True},
        {"temperature": 1e-9},
    ],
)
def test_what_cannot_be_recomputed_is_refused(field: dict[str, Any]) -> None:
    with pytest.raises(FormatError) as caught:
        from_request(field)
    assert caught.value.reason is Reason.UNSUPPORTED


@pytest.mark.parametrize(
    "field",
    [
        {"n": 1},
        {"logit_bias": {}},
        {"presence_penalty": 0.0},
        {"response_format": {"type": "text"}},
        {"tools": []},
        {"user": "somebody"},
        {"metadata": {"a": "b"}},
    ],
)
def test_fields_that_change_no_draw_are_let_pass(field: dict[str, Any]) -> None:
    assert from_request({"messages": [], **field}) == Sampling()
