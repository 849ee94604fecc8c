"""What one answer of any OpenAI-compatible server says: text, perhaps token ids and logprobs.

Parsed from the exact bytes. Servers differ in what they add, so unknown fields are passed over;
what is read has to make sense. Log-probabilities that do not are left out of the answer by name,
and the answer stays. Knows nothing of models or tokenizers.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from lydite.errors import FormatError, Reason, UnavailableError

LEAST_NATS = -1000.0
"""Below this stands a placeholder, such as -9999, and no probability."""
COARSEST = 0.01
"""Log-probabilities rounded to more than this many nats say too little."""
MOST_TOKENS, MOST_BESIDE = 4096, 64
"""Log-probabilities of more tokens, or of more tokens beside one, are not read."""
_ENTRIES_A_TOKEN, _ENTRIES_MORE = 2, 8
"""An answer of n tokens has so many entries at most: an end, and marks that are not shown."""
_OVER = 1e-3
"""How far probabilities may exceed one by rounding."""
_MOST_DECIMALS = 9

TokenId = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]
_Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]


class Reported(msgspec.Struct, frozen=True, kw_only=True):
    """What the server says of one drawn token."""

    token: str
    raw: bytes | None
    """The bytes that the token stands for, if the server says so."""
    logprob: float
    """In nats."""
    top: tuple[tuple[str, float], ...]
    """Likelier tokens beside it, as the server names them, and their log-probabilities."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, as far as it can be read."""

    text: str
    token_ids: tuple[TokenId, ...] | None
    """Only if the server names them."""
    prompt_ids: tuple[TokenId, ...] | None
    """What the server says that the prompt is made of; it may say so to be left alone."""
    reported: tuple[Reported, ...]
    """One for each token; empty if there were none, or none that make sense."""
    fault: Reason | None
    """Why log-probabilities that came are not among ``reported``."""
    decimals: int
    """How many decimals of a log-probability the server gives, nine at most."""
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None

    @property
    def coarse(self) -> bool:
        """Whether its log-probabilities are rounded to more than ``COARSEST``."""
        return 10.0**-self.decimals > COARSEST


class Draw(msgspec.Struct, frozen=True, kw_only=True):
    """How tokens are drawn from logits: scaled, then filtered, then one of what is left."""

    temperature: float = 1.0
    top_k: int = 0
    """0 keeps all."""
    top_p: float = 1.0
    min_p: float = 0.0
    """Keeps what is at least this share of the likeliest token's probability."""


class _Usage(msgspec.Struct):
    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    text: str | None = None
    message: _Message | None = None
    token_ids: tuple[TokenId, ...] | None = None
    prompt_token_ids: tuple[TokenId, ...] | None = None
    logprobs: Any = None
    finish_reason: str | None = None


class _Body(msgspec.Struct):
    choices: Annotated[list[_Choice], msgspec.Meta(max_length=64)] = []
    error: Any = None
    usage: _Usage | None = None
    prompt_token_ids: tuple[TokenId, ...] | None = None


class _Entry(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[Annotated[int, msgspec.Meta(ge=0, le=255)]] | None = None
    top_logprobs: list["_Entry"] = []


class _Content(msgspec.Struct):
    content: list[_Entry]


class _Lists(msgspec.Struct):
    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float] | None] | None = None


def parse(body: bytes, *, chat: bool, tokens: int = MOST_TOKENS) -> Answer:
    """Return what the body of an answer says, to a chat or to a completion.

    ``tokens`` were asked for: log-probabilities of many more are left out.

    Raises:
        FormatError: not the JSON of an answer (``Reason.MALFORMED``), or not one choice
            (``Reason.ODD_ANSWER``).
        UnavailableError: an error (``Reason.UPSTREAM_FAILED``), or an answer without any text and
            tokens (``Reason.EMPTY_ANSWER``).
    """
    try:
        said = msgspec.json.decode(body, type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"answer: {error}") from error
    if said.error:
        raise UnavailableError("the answer is an error", Reason.UPSTREAM_FAILED)
    if len(said.choices) != 1:
        raise FormatError(f"answer: {len(said.choices)} choices, expected one", Reason.ODD_ANSWER)
    choice = said.choices[0]
    text = (choice.message.content if choice.message else None) if chat else choice.text
    if not text and not choice.token_ids:
        raise UnavailableError("an answer of no tokens", Reason.EMPTY_ANSWER)
    reported, decimals, fault = _reported(choice.logprobs, tokens)
    usage = said.usage or _Usage()
    return Answer(
        text=text or "",
        token_ids=choice.token_ids,
        prompt_ids=choice.prompt_token_ids or said.prompt_token_ids,
        reported=reported,
        fault=fault,
        decimals=decimals,
        finish_reason=choice.finish_reason,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
    )


def _reported(logprobs: Any, tokens: int) -> tuple[tuple[Reported, ...], int, Reason | None]:
    """Return what is said of each token and to how many decimals, or why that cannot be used."""
    if not logprobs:
        return (), 0, None
    try:
        said = _of_chat(logprobs) if "content" in logprobs else _of_lists(logprobs)
    except (msgspec.ValidationError, ValueError, TypeError, RecursionError):
        return (), 0, Reason.BAD_LOGPROBS
    most = _ENTRIES_A_TOKEN * tokens + _ENTRIES_MORE
    if len(said) > most or any(len(one.top) > MOST_BESIDE for one in said):
        return (), 0, Reason.BAD_LOGPROBS
    decimals = _decimals([value for one in said for value in _every(one)])
    if not all(_sound(one, 0.5 * 10.0**-decimals) for one in said):
        return (), 0, Reason.BAD_LOGPROBS
    return said, decimals, None


def _of_chat(logprobs: Any) -> tuple[Reported, ...]:
    return tuple(
        Reported(
            token=one.token,
            raw=None if one.bytes is None else bytes(one.bytes),
            logprob=one.logprob,
            top=tuple((other.token, other.logprob) for other in one.top_logprobs),
        )
        for one in msgspec.convert(logprobs, _Content).content
    )


def _of_lists(logprobs: Any) -> tuple[Reported, ...]:
    lists = msgspec.convert(logprobs, _Lists)
    beside = lists.top_logprobs or [None] * len(lists.tokens)
    rows = zip(lists.tokens, lists.token_logprobs, beside, strict=True)
    return tuple(
        Reported(token=token, raw=None, logprob=logprob, top=tuple((top or {}).items()))
        for token, logprob, top in rows
    )


def _sound(one: Reported, half: float) -> bool:
    """Say whether these can be log-probabilities, each rounded by at most ``half``.

    Of one distribution, and no placeholders.
    """
    if not all(LEAST_NATS < logprob <= _OVER + half for logprob in _every(one)):
        return False
    # some servers repeat a drawn token; different tokens may share a name
    return math.fsum(math.exp(value) for _, value in set(one.top)) <= math.exp(_OVER + half)


def _every(one: Reported) -> tuple[float, ...]:
    return (one.logprob, *(logprob for _, logprob in one.top))


def _decimals(values: Sequence[float]) -> int:
    """Return the fewest decimals that write all of ``values``."""
    return next(
        (d for d in range(_MOST_DECIMALS) if all(round(v, d) == v for v in values)), _MOST_DECIMALS
    )
