"""What an answer says of its own tokens' log-probabilities: read, or refused with a reason.

Chat answers list them as ``content[].logprob``, completions as ``token_logprobs``; a stream gives
either in parts. Knows nothing of models: whether a number is true is the verifier's to measure,
whether it can be one at all is settled here. The names of tokens beside the numbers are data, in
spellings of each server's own, and not read unless they are ids.
"""

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from lydite.errors import FormatError, Reason, UnavailableError

PLACEHOLDER = -9999.0
"""What servers write for minus infinity, and some for every token."""
EXCESS = 1e-3
"""By how much probabilities may sum to more than one: rounding in half precision."""
COARSEST = 0.01
"""Numbers rounded to more than this many nats say too little to be held against anybody."""
_BY_ID = "token_id:"
"""What vLLM calls tokens by if the request says ``return_tokens_as_token_ids``."""


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """The log-probabilities of an answer's own tokens, in nats, one each."""

    values: tuple[float, ...]
    unit: float
    """To how many nats they were rounded: a unit of the last decimal that any of them has."""


class _Named(msgspec.Struct):
    logprob: float
    token: str | None = None


class _Content(_Named):
    top_logprobs: list[_Named] | None = None


class _Chat(msgspec.Struct):
    content: list[_Content] | None = None


class _Lists(msgspec.Struct):
    token_logprobs: list[float | None] | None = None
    tokens: list[str] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


def read(parts: Sequence[Any], output_ids: Sequence[int], *, chat: bool) -> Served:
    """Return what the ``logprobs`` objects of an answer, in order, say of its tokens.

    Raises:
        UnavailableError: they say nothing (``Reason.NO_LOGPROBS``): there are none, all are
            placeholders, or they are rounded to more than ``COARSEST``.
        FormatError: no honest server says this (``Reason.BAD_LOGPROBS``): another number of them
            than of tokens, one that is not a logarithm of a probability, alternatives that sum to
            more than one or make the token another, or ids that are not those of the answer.
    """
    given = [part for part in parts if part is not None]
    entries = [each for part in given for each in (_chat(part) if chat else _lists(part))]
    if not entries:
        raise UnavailableError("the answer gives no log-probabilities", Reason.NO_LOGPROBS)
    if len(entries) != len(output_ids):
        raise _odd(f"{len(entries)} log-probabilities for {len(output_ids)} tokens")
    values = [entry.logprob for entry in entries]
    if all(value <= PLACEHOLDER for value in values) or not any(values):
        raise UnavailableError("the log-probabilities are placeholders", Reason.NO_LOGPROBS)
    for entry, token in zip(entries, output_ids, strict=True):
        _check(entry, token)
    unit = 10.0 ** min(_exponent(value) for value in values)
    if unit > COARSEST:
        raise UnavailableError(
            f"the log-probabilities are rounded to {unit} nats", Reason.NO_LOGPROBS
        )
    return Served(values=tuple(values), unit=unit)


def _check(entry: _Content, token: int) -> None:
    """Refuse what cannot be the log-probability of ``token`` beside its alternatives."""
    # A sampled token has some probability, so the placeholder for none is false here.
    if not PLACEHOLDER < entry.logprob <= 0.0:
        raise _odd(f"{entry.logprob} is no log-probability of a token that was drawn")
    if (entry.token or "").startswith(_BY_ID) and entry.token != f"{_BY_ID}{token}":
        raise _odd(f"a log-probability of {entry.token}, served was {token}")
    others = {(one.token, one.logprob) for one in entry.top_logprobs or []}  # vllm#42259: twice
    if any(not value <= 0.0 for _, value in others):
        raise _odd("an alternative with no log-probability")
    if math.fsum(math.exp(value) for _, value in others) > 1.0 + EXCESS:
        raise _odd("alternatives that are more probable together than one")


def _chat(part: Any) -> list[_Content]:
    return _convert(part, _Chat).content or []


def _lists(part: Any) -> list[_Content]:
    lists = _convert(part, _Lists)
    values = lists.token_logprobs or []
    beside = [one for one in (lists.tokens, lists.top_logprobs) if one]
    if any(len(one) != len(values) for one in beside):
        raise _odd("lists of unequal length")
    names = lists.tokens or [None] * len(values)
    tops = lists.top_logprobs or [None] * len(values)
    return [_entry(*row) for row in zip(values, names, tops, strict=True)]


def _entry(value: float | None, name: str | None, top: dict[str, float] | None) -> _Content:
    if value is None:
        raise _odd("a token without its log-probability")
    others = [_Named(logprob=each, token=other) for other, each in (top or {}).items()]
    return _Content(logprob=value, token=name, top_logprobs=others)


def _exponent(value: float) -> int:
    """Return the place of the last decimal of the shortest spelling of ``value``."""
    exponent = Decimal(repr(value)).normalize().as_tuple().exponent
    return exponent if isinstance(exponent, int) else 0


def _convert(part: Any, kind: type[Any]) -> Any:
    try:
        return msgspec.convert(part, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise _odd(str(error)) from error


def _odd(what: str) -> FormatError:
    return FormatError(f"answer: logprobs: {what}", Reason.BAD_LOGPROBS)
