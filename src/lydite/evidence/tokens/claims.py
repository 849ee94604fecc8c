"""What an exchange says of its own tokens: parsed from the exact bytes of request and answer.

Knows nothing of tokenizers or models. The prompt comes out as the client wrote it; the auditor
renders it with the declared tokenizer, and prompt ids that an answer carries are never read.
Fields that we do not know are skipped, since servers differ; fields that we know must be right.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from lydite.errors import FormatError, Reason, UnavailableError, VerificationError
from lydite.evidence.tokens.sampling import Sampling, from_request

T = TypeVar("T")
TokenId = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]
_DONE = b"[DONE]"
_ROLES = frozenset({"system", "user", "assistant"})
"""Whose messages every server renders as the chat template says."""


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a chat, its content as plain text."""

    role: str
    content: str


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """A request and its answer: what was asked, how to sample, and which tokens came."""

    prompt: str | tuple[TokenId, ...] | tuple[Turn, ...]
    """Text or ids of a completion, or the turns of a chat."""
    sampling: Sampling
    output_ids: tuple[TokenId, ...]
    """Never empty. An end token is among them only if the server says so."""
    text: str
    finish_reason: str | None
    complete: bool
    """False when a stream ended before it said that it was done; the tokens so far still count."""


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What the verifier weighs: these tokens, after this prompt, so sampled, with this seed."""

    prompt_ids: tuple[TokenId, ...]
    output_ids: tuple[TokenId, ...]
    sampling: Sampling
    seed: int


class _Text(msgspec.Struct):
    content: str | None = None
    tool_calls: list[Any] | None = None
    function_call: Any = None
    reasoning: Any = None
    reasoning_content: Any = None


class _Choice(msgspec.Struct):
    index: int = 0
    text: str | None = None
    message: _Text | None = None
    delta: _Text | None = None
    token_ids: tuple[TokenId, ...] | None = None
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice]


class _Part(msgspec.Struct):
    type: Literal["text"]
    text: str


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None
    tool_calls: list[Any] | None = None


class _Chat(msgspec.Struct):
    messages: Annotated[list[_Message], msgspec.Meta(min_length=1)]


class _Completion(msgspec.Struct):
    prompt: str | Annotated[tuple[TokenId, ...], msgspec.Meta(min_length=1)]


def from_exchange(path: str, request: bytes, response: bytes) -> Exchange:
    """Return what one exchange says of its tokens; the answer may be JSON or an event stream.

    Raises:
        FormatError: request or answer is not what its path asks for (``Reason.MALFORMED``), or
            uses what cannot be recomputed: several choices, tool calls, other paths, penalties
            (``Reason.UNSUPPORTED``).
        UnavailableError: the answer does not say which tokens it is made of, or holds none
            (``Reason.NO_TOKEN_IDS``), or is an error (``Reason.UPSTREAM_FAILED``).
    """
    body = _decode("request", request, dict[str, Any])
    prompt = _prompt(path.partition("?")[0], body)
    sampling = from_request(body)
    if response.lstrip().startswith(b"{"):
        choices, complete = _whole(response), True
    else:
        choices, complete = _streamed(response)
    for choice in choices:
        _check_choice(choice)
    output_ids = tuple(token for choice in choices for token in choice.token_ids or ())
    if not output_ids:
        raise UnavailableError("the answer names no tokens", Reason.NO_TOKEN_IDS)
    return Exchange(
        prompt=prompt,
        sampling=sampling,
        output_ids=output_ids,
        text="".join(_text(choice) for choice in choices),
        finish_reason=next((c.finish_reason for c in reversed(choices) if c.finish_reason), None),
        complete=complete,
    )


def claims(exchange: Exchange, prompt_ids: Sequence[int], seed: int) -> Claims:
    """Return the claims of an exchange whose prompt the auditor rendered as ``prompt_ids``.

    ``seed`` is the one that the gateway sent along; a seed in the request body wins over it.

    Raises:
        FormatError: the prompt has no tokens.
    """
    if not prompt_ids:
        raise FormatError("the prompt renders to no tokens")
    asked = exchange.sampling.seed
    return Claims(
        prompt_ids=tuple(prompt_ids),
        output_ids=exchange.output_ids,
        sampling=exchange.sampling,
        seed=seed if asked is None else asked,
    )


def check_vocabulary(claimed: Claims, vocabulary: int) -> None:
    """Check that every token is one of the model's ``vocabulary``, before a pass over them.

    Raises:
        VerificationError: the answer names a token that the declared model does not have.
    """
    worst = max(claimed.output_ids)
    if worst >= vocabulary:
        raise VerificationError(
            Reason.UNKNOWN_TOKEN, f"token {worst} is not among the model's {vocabulary}"
        )


def _prompt(path: str, body: Mapping[str, Any]) -> str | tuple[int, ...] | tuple[Turn, ...]:
    if path.endswith("/chat/completions"):
        return tuple(_turn(message) for message in _convert(body, _Chat).messages)
    if path.endswith("/completions"):
        several = body.get("prompt")
        if isinstance(several, list) and several and not isinstance(several[0], int):
            raise FormatError("several prompts in one request", Reason.UNSUPPORTED)
        prompt = _convert(body, _Completion).prompt
        return prompt if isinstance(prompt, str) else tuple(prompt)
    raise FormatError(f"no tokens are known to come from {path!r}", Reason.UNSUPPORTED)


def _turn(message: _Message) -> Turn:
    if message.tool_calls:
        raise FormatError("a message with tool calls", Reason.UNSUPPORTED)
    if message.role not in _ROLES:  # vLLM renders a developer as the system, others do not
        raise FormatError(f"a message by {message.role!r}", Reason.UNSUPPORTED)
    content = message.content or ""
    if not isinstance(content, str):
        if len(content) > 1:  # vLLM puts newlines between them, others do not
            raise FormatError("a message in several parts", Reason.UNSUPPORTED)
        content = "".join(part.text for part in content)
    return Turn(role=message.role, content=content)


def _whole(response: bytes) -> list[_Choice]:
    choices = _choices(response)
    if len(choices) != 1:
        raise FormatError(f"{len(choices)} choices, expected one", Reason.UNSUPPORTED)
    return choices


def _choices(payload: bytes) -> list[_Choice]:
    answer = _decode("answer", payload, dict[str, Any])
    if "error" in answer and answer["error"] is not None:
        raise UnavailableError("the answer is an error", Reason.UPSTREAM_FAILED)
    return _convert(answer, _Answer).choices


def _streamed(response: bytes) -> tuple[list[_Choice], bool]:
    choices: list[_Choice] = []
    events = _events(response)
    for data in events:
        if data == _DONE:
            if next(events, None) is not None:
                raise FormatError("answer: events after the stream said that it was done")
            return choices, True
        try:
            choices += _choices(data)
        except UnavailableError:  # the server failed on the way; what came before it counts
            break
    return choices, False


def _events(stream: bytes) -> Iterator[bytes]:
    """Yield the data of each server-sent event; one that a cut stream left unfinished is none."""
    *lines, rest = stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    data: list[bytes] = []
    for line in lines:
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif not line and data:
            yield b"\n".join(data)
            data = []
    if data == [_DONE] or (not data and rest == b"data: " + _DONE):
        yield _DONE


def _check_choice(choice: _Choice) -> None:
    if choice.index != 0:
        raise FormatError("several choices in one answer", Reason.UNSUPPORTED)
    said = choice.message or choice.delta
    if said and (said.tool_calls or said.function_call):
        raise FormatError("an answer with tool calls", Reason.UNSUPPORTED)
    if said and (said.reasoning or said.reasoning_content):
        raise FormatError("an answer with reasoning beside its text", Reason.UNSUPPORTED)
    if choice.token_ids is None and _text(choice):
        raise UnavailableError("text without the ids of its tokens", Reason.NO_TOKEN_IDS)


def _text(choice: _Choice) -> str:
    said = choice.message or choice.delta
    return (said.content if said else choice.text) or ""


def _decode(what: str, payload: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(payload, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"{what}: {error}") from error


def _convert(fields: Mapping[str, Any], kind: type[T]) -> T:
    try:
        return msgspec.convert(fields, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise FormatError(f"{kind.__name__.lstrip('_').lower()}: {error}") from error
