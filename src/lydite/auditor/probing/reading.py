"""Which tokens an answer is made of, as far as that is certain.

Tokens that the answer names are taken at its word if they spell its text; tokens that it spells are
looked up by their bytes; else the text is tokenised anew, and not used where the count says that
the endpoint's tokens were others. What is not certain is masked, never counted as a mismatch.
"""

import functools
from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

from lydite.engines.protocol import Engine
from lydite.errors import FormatError, Reason, UnavailableError
from lydite.evidence.endpoint.claims import Answer, Reported
from lydite.evidence.endpoint.reference import Plan

_LEFT_OUT_MOST = 0.1
"""The largest share of an answer, in tokens or in bytes, that may be left out of it."""
_UNFINISHED = "\N{REPLACEMENT CHARACTER}"


class Served(NamedTuple):
    """The tokens of one answer, and what was said of them."""

    ids: tuple[int, ...]
    logprobs: tuple[float | None, ...] | None
    """One for each token where the server gave one; None where it gave none at all."""
    masked: int
    """Tokens at the end of the answer that were left out."""


class Reader:
    """Reads answers with the declared model's tokenizer."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._before = len(engine.codec.encode(""))

    @functools.cached_property
    def _ends(self) -> tuple[int, ...]:
        return tuple(t for t in range(self._engine.vocabulary) if self._engine.is_end(t))

    @functools.cached_property
    def _spelt(self) -> dict[bytes, int]:
        """Return the token of each spelling that only one has."""
        spellings = [self._engine.codec.token_bytes(t) for t in range(self._engine.vocabulary)]
        times = Counter(spellings)
        return {raw: t for t, raw in enumerate(spellings) if raw and times[raw] == 1}

    def served(self, answer: Answer, prompt_ids: Sequence[int], plan: Plan) -> Served:
        """Return the tokens of ``answer`` to the prompt that we rendered as ``prompt_ids``.

        Raises:
            UnavailableError: the prompt was another one (``PROMPT_DIFFERS``), the answer names no
                tokens although the first one did (``NO_TOKEN_IDS``), or they cannot be found again
                for more than a tenth of it (``RETOKENISED``).
            FormatError: a token that the model does not have (``UNKNOWN_TOKEN``), tokens that do
                not spell the text (``TEXT_DIFFERS``), or more than the context holds.
        """
        _check_prompt(answer, prompt_ids)
        ids, said = self._tokens(answer, plan)
        whole = len(answer.reported) or len(answer.token_ids or ()) or len(ids)
        masked = max(whole - len(ids), 0)
        logprobs: tuple[float | None, ...] | None = None
        self._check_share(answer, ids, masked)
        if plan.logprobs and said and not answer.coarse:
            logprobs = tuple(one.logprob for one in said)
        ends = self._ends
        if not masked and answer.finish_reason == "stop" and len(ends) == 1 and ids[-1] != ends[0]:
            ids = (*ids, ends[0])
            logprobs = None if logprobs is None else (*logprobs, None)
        if len(prompt_ids) + len(ids) > self._engine.context_length:
            raise FormatError("the answer is longer than the model's context", Reason.TOO_LARGE)
        return Served(ids, logprobs, masked)

    def _check_share(self, answer: Answer, ids: tuple[int, ...], masked: int) -> None:
        """Refuse an answer of which too much would not be weighed."""
        counted = max(masked, (answer.completion_tokens or 0) - len(ids))
        ended = answer.finish_reason == "stop"  # an end is counted by some, and spells nothing
        if counted > max(_LEFT_OUT_MOST * (len(ids) + counted), ended):
            raise UnavailableError(
                f"{counted} of {len(ids) + counted} tokens are not found", Reason.RETOKENISED
            )
        spelt = len(self._engine.codec.decode(ids).strip().encode())
        whole = len(answer.text.strip().encode())
        if spelt < (1 - _LEFT_OUT_MOST) * whole:
            raise UnavailableError(f"the tokens spell {spelt} of {whole} bytes", Reason.RETOKENISED)

    def _tokens(self, answer: Answer, plan: Plan) -> tuple[tuple[int, ...], Sequence[Reported]]:
        """Return the tokens that are certain, and what is said of each, if of all."""
        if plan.tokens == "named":
            ids = self._named(answer)
            return ids, answer.reported if len(answer.reported) == len(ids) else ()
        if plan.tokens == "spelt":
            ids = self._looked_up(answer)
            return ids, answer.reported[: len(ids)]
        return self._found(answer), ()

    def _named(self, answer: Answer) -> tuple[int, ...]:
        ids = answer.token_ids
        if not ids:
            raise UnavailableError("the answer names no tokens", Reason.NO_TOKEN_IDS)
        if max(ids) >= self._engine.vocabulary:
            raise FormatError(
                f"token {max(ids)} is not among the model's {self._engine.vocabulary}",
                Reason.UNKNOWN_TOKEN,
            )
        spelt = self._engine.codec.decode(ids).rstrip(_UNFINISHED)
        if spelt.strip() != answer.text.rstrip(_UNFINISHED).strip():
            raise FormatError("the tokens do not spell the text", Reason.TEXT_DIFFERS)
        return ids

    def _looked_up(self, answer: Answer) -> tuple[int, ...]:
        spellings = [one.token.encode() if one.raw is None else one.raw for one in answer.reported]
        text = answer.text.strip().strip(_UNFINISHED).strip()
        if not b"".join(spellings).strip().startswith(text.encode()):
            raise FormatError("the tokens do not spell the text", Reason.TEXT_DIFFERS)
        ids = []
        for raw in spellings:
            token = self._spelt.get(raw)
            if token is None:
                break
            ids.append(token)
        if not ids:
            raise UnavailableError("no token that the answer spells is known", Reason.RETOKENISED)
        return tuple(ids)

    def _found(self, answer: Answer) -> tuple[int, ...]:
        codec = self._engine.codec
        ids = tuple(codec.encode(answer.text)[self._before :])
        if answer.text.endswith(_UNFINISHED) or codec.decode(ids) != answer.text or not ids:
            raise UnavailableError("the text has no tokens of its own", Reason.RETOKENISED)
        counted = answer.completion_tokens
        stopped = answer.finish_reason == "stop"
        if counted is not None and counted not in ((len(ids), len(ids) + 1)[: 1 + stopped]):
            raise UnavailableError(
                f"the text has {len(ids)} tokens, the server counts {counted}", Reason.RETOKENISED
            )
        return ids


def plan_of(answer: Answer, *, greedy: bool) -> Plan:
    """Return how an endpoint whose first answer is ``answer`` is audited."""
    unnamed: Literal["spelt", "found"] = "spelt" if answer.reported else "found"
    return Plan(
        greedy=greedy,
        logprobs=bool(answer.reported),
        tokens=unnamed if answer.token_ids is None else "named",
    )


def _check_prompt(answer: Answer, prompt_ids: Sequence[int]) -> None:
    said, counted = answer.prompt_ids, answer.prompt_tokens
    if said is not None and said != tuple(prompt_ids):
        raise UnavailableError("the server names another prompt", Reason.PROMPT_DIFFERS)
    if counted is not None and counted != len(prompt_ids):
        raise UnavailableError(
            f"the prompt has {len(prompt_ids)} tokens, the server counts {counted}",
            Reason.PROMPT_DIFFERS,
        )
