"""What an exchange says of its own tokens: parsed from the exact bytes of request and answer.

Knows nothing of tokenizers or models. The prompt comes out as the client wrote it; the auditor
renders it with the declared tokenizer, and prompt ids that an answer carries are never read.

``asked`` refuses what the client did, ``answered`` what the provider did. A request may only hold
fields that are known to leave the draw alone, or to change it as we repeat. Of an answer exactly
one text is read, where every client of its API reads it; one that shows another is refused.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from lydite.errors import FormatError, Reason, UnavailableError, VerificationError
from lydite.evidence.tokens.events import DONE, events_of
from lydite.evidence.tokens.logprobs import Served
from lydite.evidence.tokens.sampling import UNDERSTOOD, Sampling, from_request

T = TypeVar("T")
TokenId = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]
_SHAPE = {"choices", "error", "index", "finish_reason", "message", "delta"}
_NAMES = _SHAPE | {"content", "role", "text", "token_ids"}
"""What clients read of an answer, some of them in any case."""
_ROLES = frozenset({"system", "user", "assistant"})
"""Whose messages every server renders as the chat template says."""
_HARMLESS = frozenset(
    {
        "cache_salt",
        "logprobs",
        "metadata",
        "model",
        "parallel_tool_calls",
        "priority",
        "prompt_cache_key",
        "prompt_cache_retention",
        "prompt_logprobs",
        "request_id",
        "return_token_ids",
        "return_tokens_as_token_ids",
        "safety_identifier",
        "service_tier",
        "store",
        "stream",
        "stream_options",
        "top_logprobs",
        "user",
    }
)
"""Fields of a request that leave prompt, draw and end alone on every server that we know."""


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a chat, its content as plain text."""

    role: str
    content: str


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a request asks for."""

    prompt: str | tuple[TokenId, ...] | tuple[Turn, ...]
    """Text or ids of a completion, or the turns of a chat."""
    sampling: Sampling
    chat: bool
    streamed: bool
    """Whether the answer is to be an event stream; the bytes of the answer do not decide it."""
    model: str | None = None
    """The model that the client named, if any: a server may have several."""
    scored: bool = False
    """Whether the answer is to give the log-probabilities of its tokens."""


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """A request and its answer: what was asked, how to sample, and which tokens came."""

    prompt: str | tuple[TokenId, ...] | tuple[Turn, ...]
    """Text or ids of a completion, or the turns of a chat."""
    sampling: Sampling
    output_ids: tuple[TokenId, ...]
    """May be empty, and then so is the text. An end token is among them only if the server says
    so."""
    text: str
    finish_reason: str | None
    complete: bool
    """False when a stream ended before it said that it was done; the tokens so far still count."""
    logprobs: tuple[Any, ...] = ()
    """What each part of the answer says of the log-probabilities of its tokens, if it does, as it
    does; ``logprobs.read`` reads it."""


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What the verifier weighs: these tokens, after this prompt, so sampled, with this seed."""

    prompt_ids: tuple[TokenId, ...]
    output_ids: tuple[TokenId, ...]
    sampling: Sampling
    seed: int
    served: Served | None = None
    """What the answer says of the log-probabilities of its tokens, if it does."""


class _Choice(msgspec.Struct):
    index: int = 0
    text: str | None = None
    message: dict[str, Any] | None = None
    delta: dict[str, Any] | None = None
    token_ids: tuple[TokenId, ...] | None = None
    finish_reason: str | None = None
    logprobs: Any = None


class _Answer(msgspec.Struct):
    choices: list[_Choice]


class _Part(msgspec.Struct):
    type: Literal["text"]
    text: str


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None


class _Chat(msgspec.Struct):
    messages: Annotated[list[dict[str, Any]], msgspec.Meta(min_length=1)]


class _Completion(msgspec.Struct):
    prompt: str | Annotated[tuple[TokenId, ...], msgspec.Meta(min_length=1)]


class _Frame(msgspec.Struct):
    stream: bool | None = None
    model: str | None = None
    logprobs: Any = None


def asked(path: str, request: bytes) -> Asked:
    """Return what a request asks for; whatever is wrong with it is the client's doing.

    Raises:
        FormatError: the request is not what its path asks for (``Reason.MALFORMED``), or uses
            what cannot be recomputed: several choices, tool calls, other paths, penalties, or a
            field of which we do not know what it does (``Reason.UNSUPPORTED``).
    """
    body = _decode("request", request, dict[str, Any])
    place = path.partition("?")[0]
    chat = place.endswith("/chat/completions")
    if not chat and not place.endswith("/completions"):
        raise FormatError(f"no tokens are known to come from {place!r}", Reason.UNSUPPORTED)
    known = _HARMLESS | UNDERSTOOD | {"messages" if chat else "prompt"}
    unknown = sorted(name for name, value in body.items() if value is not None if name not in known)
    if unknown:
        raise FormatError(
            f"request: no server is known to leave {unknown[0]!r} alone", Reason.UNSUPPORTED
        )
    frame = _convert(body, _Frame)
    return Asked(
        prompt=_turns(body) if chat else _prompt(body),
        sampling=from_request(body),
        chat=chat,
        streamed=bool(frame.stream),
        model=frame.model,
        scored=frame.logprobs is not None and frame.logprobs is not False,  # 0: their own alone
    )


def answered(asked: Asked, response: bytes) -> Exchange:
    """Return what the answer to a request says; whatever is wrong with it is the answer's doing.

    One text is read: ``message.content`` of a chat, ``delta.content`` of one that streams,
    ``text`` of a completion, each of the only choice. An answer without text and with an empty
    list of ids has no tokens, and is legal.

    Raises:
        FormatError: the answer is not what was asked for: not JSON or not an event stream
            (``Reason.MALFORMED``), several choices, or a second text that some client may show
            (``Reason.ODD_ANSWER``).
        UnavailableError: the answer does not say which tokens it is made of
            (``Reason.NO_TOKEN_IDS``), or is an error (``Reason.UPSTREAM_FAILED``).
    """
    choices, complete = _streamed(response) if asked.streamed else (_whole(response), True)
    texts = [_text(choice, asked) for choice in choices]
    named = [choice.token_ids for choice in choices if choice.token_ids is not None]
    output_ids = tuple(token for some in named for token in some)
    if not named or (any(texts) and not output_ids):
        raise UnavailableError("the answer names no tokens", Reason.NO_TOKEN_IDS)
    return Exchange(
        prompt=asked.prompt,
        sampling=asked.sampling,
        output_ids=output_ids,
        text="".join(texts),
        finish_reason=next((c.finish_reason for c in reversed(choices) if c.finish_reason), None),
        complete=complete,
        logprobs=tuple(choice.logprobs for choice in choices if choice.logprobs is not None),
    )


def from_exchange(path: str, request: bytes, response: bytes) -> Exchange:
    """Return what one exchange says of its tokens: ``answered`` after ``asked``, and as they."""
    return answered(asked(path, request), response)


def claims(
    exchange: Exchange, prompt_ids: Sequence[int], seed: int, served: Served | None = None
) -> Claims:
    """Return the claims of an exchange whose prompt the auditor rendered as ``prompt_ids``.

    ``seed`` is the one that the gateway sent along; a seed in the request body wins over it.
    ``served`` is what ``logprobs.read`` makes of the exchange's log-probabilities.

    Raises:
        FormatError: the prompt has no tokens.
    """
    if not prompt_ids:
        raise FormatError("the prompt renders to no tokens")
    own = exchange.sampling.seed
    return Claims(
        prompt_ids=tuple(prompt_ids),
        output_ids=exchange.output_ids,
        sampling=exchange.sampling,
        seed=seed if own is None else own,
        served=served,
    )


def check_vocabulary(claimed: Claims, vocabulary: int) -> None:
    """Check that every token is one of the model's ``vocabulary``, before a pass over them.

    Raises:
        VerificationError: the answer names a token that the declared model does not have.
    """
    worst = max(claimed.output_ids, default=0)
    if worst >= vocabulary:
        raise VerificationError(
            Reason.UNKNOWN_TOKEN, f"token {worst} is not among the model's {vocabulary}"
        )


def _turns(body: Mapping[str, Any]) -> tuple[Turn, ...]:
    return tuple(_turn(message) for message in _convert(body, _Chat).messages)


def _prompt(body: Mapping[str, Any]) -> str | tuple[int, ...]:
    several = body.get("prompt")
    if isinstance(several, list) and several and not isinstance(several[0], int):
        raise FormatError("several prompts in one request", Reason.UNSUPPORTED)
    prompt = _convert(body, _Completion).prompt
    return prompt if isinstance(prompt, str) else tuple(prompt)


def _turn(fields: Mapping[str, Any]) -> Turn:
    message = _convert(fields, _Message)
    more = [name for name, value in fields.items() if value not in (None, [])]
    if not {"role", "content"}.issuperset(more):  # a template may render any of them
        raise FormatError("a message of more than role and content", Reason.UNSUPPORTED)
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
        raise FormatError(f"answer: {len(choices)} choices, expected one", Reason.ODD_ANSWER)
    return choices


def _choices(payload: bytes) -> list[_Choice]:
    answer = _decode("answer", payload, dict[str, Any])
    try:
        for read in _read_of(json.loads(payload, object_pairs_hook=_once)):
            _refuse_twice([name.casefold() for name in read if name.casefold() in _NAMES])
    except (ValueError, RecursionError) as error:  # reads other depths and numbers than msgspec
        raise FormatError(f"answer: {error}") from error
    if answer.get("error"):
        raise UnavailableError("the answer is an error", Reason.UPSTREAM_FAILED)
    if answer.get("error") is not None:  # some clients stop here, others read on
        raise FormatError("answer: an error that is none", Reason.ODD_ANSWER)
    return _convert(answer, _Answer).choices


def _read_of(answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what clients read of an answer: all of it, its choices, and what these say.

    Elsewhere names are data: the tokens beside a drawn one are keys of its ``top_logprobs``.
    """
    level = [answer]
    for names in ({"choices"}, {"message", "delta"}):
        yield from level
        inner = (v for fields in level for k, v in fields.items() if k.casefold() in names)
        every = (each for v in inner for each in (v if isinstance(v, list) else (v,)))
        level = [each for each in every if isinstance(each, dict)]
    yield from level


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object in which no name occurs twice."""
    _refuse_twice([name for name, _ in pairs])
    return dict(pairs)


def _refuse_twice(names: Sequence[str]) -> None:
    """Refuse an object in which some clients would read another value than the auditor does."""
    if len(set(names)) != len(names):
        raise FormatError("answer: a name that occurs twice", Reason.ODD_ANSWER)


def _streamed(response: bytes) -> tuple[list[_Choice], bool]:
    choices: list[_Choice] = []
    events = events_of(response)
    for data in events:
        if data == DONE:
            if next(events, None) is not None:
                raise FormatError("answer: events after the stream said that it was done")
            return choices, True
        if data.startswith(DONE):  # some clients stop here, others read on
            raise FormatError("answer: an end of the stream that is none", Reason.ODD_ANSWER)
        try:
            choices += _event(data)
        except UnavailableError as error:  # what came before the server failed counts
            if any(later != DONE for later in events):  # some clients read on
                raise FormatError("answer: events after an error", Reason.ODD_ANSWER) from error
    return choices, False


def _event(data: bytes) -> list[_Choice]:
    said = _choices(data)
    if len(said) > 1:  # clients read the first
        raise FormatError("answer: several choices in one event", Reason.ODD_ANSWER)
    return said


def _text(choice: _Choice, asked: Asked) -> str:
    """Return the one text of a choice, which every client of this API shows."""
    if choice.index != 0:
        raise FormatError("answer: another choice than the first", Reason.ODD_ANSWER)
    spoken, other = choice.message, choice.delta
    if asked.streamed:
        spoken, other = other, spoken
    if other or (choice.text if asked.chat else spoken):
        raise FormatError("answer: text where its API has none", Reason.ODD_ANSWER)
    text = _spoken(spoken or {}) if asked.chat else choice.text or ""
    if choice.token_ids is None and text:
        raise UnavailableError("text without the ids of its tokens", Reason.NO_TOKEN_IDS)
    return text


def _spoken(said: Mapping[str, Any]) -> str:
    beside = [name for name, value in said.items() if value and name not in {"role", "content"}]
    if beside:
        raise FormatError(f"answer: {beside[0]!r} beside its text", Reason.ODD_ANSWER)
    text = said.get("content") or ""
    if not isinstance(text, str) or said.get("role") not in (None, "", "assistant"):
        raise FormatError("answer: not the text of an assistant", Reason.ODD_ANSWER)
    return text


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
