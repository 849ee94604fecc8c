"""Natural-looking traffic through the real ``openai`` SDK: chat and completions, streamed or not.

Knows nothing of receipts: an unchanged client sees none of it.
"""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from openai import OpenAI, OpenAIError

_TASKS = (
    "reads a file line by line",
    "parses an ISO 8601 date",
    "walks a directory tree",
    "merges two sorted lists",
    "opens a socket and sends a request",
    "formats a table of numbers",
    "counts the words of a text",
    "caches the result of a function",
    "checks that an address is valid",
    "writes a header in a binary format",
    "compares two versions",
    "waits for a lock with a timeout",
)
_OPENINGS = (
    "def {0}(self, {1}):\n    ",
    "class {0}Error(Exception):\n    ",
    "    def _{0}_{1}(self):\n        ",
    "import {0}\nfrom {1} import ",
    "    if not isinstance({0}, {1}):\n        raise ",
    "# {0} the {1} of\n",
)
_NAMES = ("read", "parse", "message", "header", "stream", "buffer", "path", "value", "node", "task")
_WORKERS = 4


class Ask(NamedTuple):
    """One request: its text, whether it is a chat, whether the answer is streamed."""

    text: str
    chat: bool
    streamed: bool


def asks(offset: int = 0) -> Iterator[Ask]:
    """Yield unlike requests for ever, the same ones for the same ``offset``."""
    for number in itertools.count(offset):
        left, right = _NAMES[number % 10], _NAMES[(number // 10 + 3 * number + 1) % 10]
        chat, streamed = number % 2 == 0, number % 3 == 0
        if chat:
            task = _TASKS[(number // 2) % len(_TASKS)]
            yield Ask(f"Write a {left} function for a {right} that {task}.", chat, streamed)
        else:
            opening = _OPENINGS[(number // 2) % len(_OPENINGS)]
            yield Ask(opening.format(left, right), chat, streamed)


def send(
    url: str,
    model: str,
    wanted: list[Ask],
    max_tokens: int,
    done: Callable[[], None],
    *,
    patient: bool = False,
) -> int:
    """Send the requests, a few at a time, and return how many were answered.

    ``url`` is the gateway's; ``done`` is called after each answer. ``patient`` goes on where one
    fails, as it does when a server is shut down in the middle of it.
    """
    with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=120) as client:

        def one(ask: Ask) -> int:
            answer = _chat if ask.chat else _complete
            try:
                answer(client, model, ask, max_tokens)
            except OpenAIError:
                if not patient:
                    raise
                return 0
            done()
            return 1

        with ThreadPoolExecutor(_WORKERS) as pool:
            return sum(pool.map(one, wanted))


def _chat(client: OpenAI, model: str, ask: Ask, max_tokens: int) -> str:
    if ask.streamed:
        parts = client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": ask.text}],
            max_tokens=max_tokens,
            stream=True,
        )
        return "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": ask.text}], max_tokens=max_tokens
    )
    return answer.choices[0].message.content or ""


def _complete(client: OpenAI, model: str, ask: Ask, max_tokens: int) -> str:
    if ask.streamed:
        parts = client.completions.create(
            model=model, prompt=ask.text, max_tokens=max_tokens, stream=True
        )
        return "".join(part.choices[0].text for part in parts if part.choices)
    answer = client.completions.create(model=model, prompt=ask.text, max_tokens=max_tokens)
    return answer.choices[0].text
