"""What servers read in more than one way is not recomputed: nobody is accused for the difference.

Each case was tried on vLLM 0.32.0, whose prompt or draw is another than that of our engine.
"""

import json
from typing import Any

import pytest

from lydite.errors import FormatError, Reason
from lydite.evidence.tokens.claims import from_exchange

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
PARTS = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
HI = {"role": "user", "content": "hi"}


def exchange(path: str, request: dict[str, Any], **said: Any) -> None:
    asked: dict[str, Any] = {"messages": [HI]} if path == CHAT else {"prompt": "hi"}
    message = {"role": "assistant", "content": "yo", **said}
    content = {"message": message} if path == CHAT else {"text": "yo"}
    answer = {"choices": [{"index": 0, "token_ids": [5, 6], **content}]}
    from_exchange(path, json.dumps(asked | request).encode(), json.dumps(answer).encode())


@pytest.mark.parametrize(
    ("path", "request_fields"),
    [
        (CHAT, {"messages": [{"role": "user", "content": PARTS}]}),
        (CHAT, {"messages": [{"role": "developer", "content": "be brief"}, HI]}),
        (CHAT, {"messages": [HI, {"role": "tool", "content": "42"}]}),
        (CHAT, {"chat_template": "{{ messages }}"}),
        (CHAT, {"chat_template_kwargs": {"enable_thinking": False}}),
        (CHAT, {"add_generation_prompt": False, "continue_final_message": True}),
        (CHAT, {"documents": [{"text": "a"}]}),
        (CHAT, {"reasoning_effort": "low"}),
        (TEXT, {"add_special_tokens": False}),
        (TEXT, {"truncate_prompt_tokens": 3}),
        (TEXT, {"stop_token_ids": [276]}),
        (TEXT, {"stop": ["x"], "include_stop_str_in_output": True}),
        (TEXT, {"vllm_xargs": {"processor": 1}}),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_a_request_that_servers_read_in_unlike_ways_is_not_recomputed(
    path: str, request_fields: dict[str, Any]
) -> None:
    with pytest.raises(FormatError) as refused:
        exchange(path, request_fields)
    assert refused.value.reason is Reason.UNSUPPORTED


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_an_answer_with_reasoning_beside_its_text_is_not_recomputed(field: str) -> None:
    with pytest.raises(FormatError) as refused:
        exchange(CHAT, {}, **{field: "let me see"})
    assert refused.value.reason is Reason.ODD_ANSWER


def test_the_same_fields_at_their_defaults_change_nothing() -> None:
    exchange(CHAT, {"chat_template_kwargs": {}, "documents": [], "add_generation_prompt": True})
    exchange(CHAT, {"chat_template": None, "reasoning_effort": None, "tools": []}, reasoning=None)
    exchange(TEXT, {"add_special_tokens": None, "vllm_xargs": {}})
