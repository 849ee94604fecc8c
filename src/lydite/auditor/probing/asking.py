"""Asks one endpoint many questions, a bounded number at a time, within a budget.

Answers come back in the order in which they were asked, so that whoever stops early has not chosen
by how long an answer took. Knows nothing of models.
"""

import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import msgspec

from lydite.auditor.probing.budget import Budget
from lydite.auditor.probing.line import CHAT, COMPLETIONS, RefusedError, Server
from lydite.errors import LyditeError, Reason, UnavailableError
from lydite.evidence.endpoint.claims import Answer, parse

TOP, MOST_TOP = 5, 20
"""How many alternatives every server reports beside each log-probability, and the most of some."""
_CHARACTERS_PER_TOKEN = 2
"""A prompt is taken to have at most a token for so many characters, to reserve for it."""
_TEMPLATE_TOKENS = 1024
"""A server is believed that it counts at most so many tokens besides what we wrote."""
_OPTIONAL = (("top_k", "min_p"), ("return_token_ids",), ("logprobs", "top_logprobs"), ("seed",))
"""What a server may refuse, least missed first."""


class Style(msgspec.Struct, frozen=True, kw_only=True):
    """How requests look, apart from their prompt."""

    model: str
    temperature: float = 1.0
    answer_tokens: int = 64
    plain: bool = False
    """Ask for text alone, as most clients do, so that requests do not stand out."""
    extra: Mapping[str, Any] = {}
    top: int = TOP
    """Alternatives to ask for beside each log-probability."""
    without: frozenset[str] = frozenset()
    """Fields that the server refuses."""


class Asked(NamedTuple):
    """A prompt and what became of it."""

    prompt: dict[str, Any]
    answer: Answer | LyditeError


def fields(style: Style, prompt: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return where and what to post, with a seed that nobody could foresee.

    The filters that servers apply by default are named and switched off.
    """
    chat = "messages" in prompt
    body: dict[str, Any] = {
        "model": style.model,
        **prompt,
        "max_tokens": style.answer_tokens,
        "temperature": style.temperature,
        "top_p": 1,
        "seed": secrets.randbits(31),
    }
    if not style.plain:
        body |= {"top_k": 0, "min_p": 0, "return_token_ids": True}
        top = style.top
        body |= {"logprobs": True, "top_logprobs": top} if chat else {"logprobs": top}
    kept = {name: value for name, value in body.items() if name not in style.without}
    return CHAT if chat else COMPLETIONS, {**kept, **style.extra}


class Asker:
    """One endpoint, a style and a budget."""

    def __init__(self, server: Server, style: Style, budget: Budget) -> None:
        self.style = style
        self._server, self._budget = server, budget

    def settle(self, prompts: Iterator[dict[str, Any]]) -> tuple[Answer, Answer]:
        """Find out which fields the server takes; return two answers to one and the same prompt.

        Raises:
            UnavailableError: it answers nothing, or refuses even the plainest request, or whoever
                asks, or everything until the budget was spent.
            FormatError: what it answers is no answer.
        """
        prompt, last = next(prompts), None
        for top, optional in ((self.style.top, ()), *((TOP, each) for each in ((), *_OPTIONAL))):
            without = self.style.without | frozenset(optional)
            self.style = msgspec.structs.replace(self.style, top=top, without=without)
            try:
                return self.one(prompt), self.one(prompt)
            except RefusedError as refused:
                last = refused
                if refused.whoever:
                    break
            except UnavailableError as error:
                if last is None or error.reason is not Reason.BUDGET_SPENT:
                    raise
                break
        assert last is not None
        raise last

    def one(self, prompt: dict[str, Any]) -> Answer:
        """Return the answer to one prompt.

        Raises:
            UnavailableError: none came, or the budget is spent (``Reason.BUDGET_SPENT``).
            FormatError: what came is no answer.
        """
        reserved = self._most(prompt)
        if not self._budget.reserve(reserved):
            raise UnavailableError("the budget is spent", Reason.BUDGET_SPENT)
        spent = reserved
        try:
            path, body = fields(self.style, prompt)
            most = self.style.answer_tokens
            answer = parse(self._server.post(path, body), chat=path == CHAT, tokens=most)
            if answer.prompt_tokens is not None and answer.completion_tokens is not None:
                asked = len(str(prompt).encode()) + _TEMPLATE_TOKENS
                spent = min(answer.prompt_tokens, asked) + min(answer.completion_tokens, most)
            return answer
        except RefusedError:
            spent = 0
            raise
        finally:
            self._budget.settle(reserved, spent)

    def all(self, prompts: Iterable[dict[str, Any]], at_once: int) -> Iterator[Asked]:
        """Yield every prompt with what became of it, in order, until the budget is spent."""
        waiting: deque[tuple[dict[str, Any], Future[Answer]]] = deque()
        pool = ThreadPoolExecutor(at_once)
        try:
            source = iter(prompts)
            while True:
                while len(waiting) < at_once and (prompt := next(source, None)) is not None:
                    waiting.append((prompt, pool.submit(self.one, prompt)))
                if not waiting:
                    return
                prompt, future = waiting.popleft()
                outcome = _outcome(future.result)
                if isinstance(outcome, LyditeError) and outcome.reason is Reason.BUDGET_SPENT:
                    return
                yield Asked(prompt, outcome)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _most(self, prompt: Mapping[str, Any]) -> int:
        turns = prompt.get("messages") or [{"content": prompt.get("prompt", "")}]
        characters = sum(len(turn["content"]) for turn in turns)
        return characters // _CHARACTERS_PER_TOKEN + self.style.answer_tokens


def _outcome(result: Callable[[], Answer]) -> Answer | LyditeError:
    try:
        return result()
    except LyditeError as error:
        return error
