"""Reads OpenAI-style requests: which prompt tokens, drawn how, answered in what form.

The provider that serves a request and the auditor that recomputes it read it with this same
room. Knows nothing of models; what cannot be recomputed is refused, not ignored.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec

from lydite.engines.protocol import Codec
from lydite.errors import FormatError, Reason
from lydite.evidence.tokens.sampling import Sampling, from_request

CHAT_PATH = "/v1/chat/completions"
COMPLETIONS_PATH = "/v1/completions"

_Top = Annotated[int, msgspec.Meta(ge=0, le=20)]
_TokenId = Annotated[int, msgspec.Meta(ge=0, le=(1 << 32) - 1)]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request, understood."""

    chat: bool
    """Whether it asks for a chat completion; else for a completion of plain text."""
    model: str | None
    prompt_ids: tuple[int, ...]
    sampling: Sampling
    top_logprobs: int | None
    """How many alternatives to report beside each log-probability; None: report nothing."""
    stream: bool
    include_usage: bool
    """Whether a stream ends with a chunk that counts its tokens."""


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Form(msgspec.Struct):
    model: str | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None


class _ChatForm(_Form):
    logprobs: bool | None = None
    top_logprobs: _Top | None = None


class _CompletionForm(_Form):
    logprobs: _Top | None = None


class _Part(msgspec.Struct):
    type: str
    text: str | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None
    tool_calls: list[Any] | None = None


class _Chat(msgspec.Struct):
    messages: Annotated[list[_Message], msgspec.Meta(min_length=1, max_length=1024)]


class _Completion(msgspec.Struct):
    prompt: str | list[str | _TokenId | list[_TokenId]]


def parse(path: str, body: bytes, codec: Codec) -> Request:
    """Return what a request of ``body`` to ``path`` asks for.

    Raises:
        FormatError: the path or the body is not what an OpenAI-style server answers
            (``Reason.MALFORMED``), or asks for what cannot be recomputed
            (``Reason.UNSUPPORTED``).
    """
    place = path.partition("?")[0]
    if place not in (CHAT_PATH, COMPLETIONS_PATH):
        raise FormatError(f"request: no completion is made at {path!r}")
    chat = place == CHAT_PATH
    try:
        fields = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"request: {error}") from error
    except RecursionError as error:
        raise FormatError("request: nested too deeply") from error
    sampling = from_request(fields)
    top: int | None
    if chat:
        asked = _convert(fields, _ChatForm)
        top = (asked.top_logprobs or 0) if asked.logprobs else None
    else:
        asked = _convert(fields, _CompletionForm)
        top = asked.logprobs
    return Request(
        chat=chat,
        model=asked.model,
        prompt_ids=tuple(_chat_ids(fields, codec) if chat else _completion_ids(fields, codec)),
        sampling=sampling,
        top_logprobs=top,
        stream=bool(asked.stream),
        include_usage=bool(asked.stream_options and asked.stream_options.include_usage),
    )


def _convert(fields: Mapping[str, Any], form: type[Any]) -> Any:
    try:
        return msgspec.convert(fields, form)
    except msgspec.ValidationError as error:
        raise FormatError(f"request: {error}") from error


def _chat_ids(fields: Mapping[str, Any], codec: Codec) -> Sequence[int]:
    messages: list[_Message] = _convert(fields, _Chat).messages
    if any(message.tool_calls for message in messages):
        raise FormatError("request: tool calls cannot be recomputed", Reason.UNSUPPORTED)
    return codec.render_chat(
        [{"role": message.role, "content": _content(message)} for message in messages]
    )


def _content(message: _Message) -> str:
    if message.content is None or isinstance(message.content, str):
        return message.content or ""
    if any(part.type != "text" or part.text is None for part in message.content):
        raise FormatError("request: only text can be recomputed", Reason.UNSUPPORTED)
    return "".join(part.text or "" for part in message.content)


def _completion_ids(fields: Mapping[str, Any], codec: Codec) -> Sequence[int]:
    prompt = _convert(fields, _Completion).prompt
    if isinstance(prompt, list) and len(prompt) == 1 and not isinstance(prompt[0], int):
        prompt = prompt[0]
    if isinstance(prompt, str):
        return codec.encode(prompt)
    if not all(isinstance(token, int) for token in prompt):
        raise FormatError(f"request: {len(prompt)} prompts, not one", Reason.UNSUPPORTED)
    return list(prompt)
