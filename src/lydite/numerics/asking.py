"""Lets a stack answer questions: an engine in this process, or a server behind a URL.

What comes back is what the stack says of itself; nothing of it is believed here, and whoever
recomputes decides what it is worth. Knows nothing of scores.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from lydite.engines.openai_requests import CHAT_PATH, COMPLETIONS_PATH
from lydite.engines.protocol import Engine, Job
from lydite.engines.sketching import Sketcher
from lydite.errors import FormatError, Reason, UnavailableError
from lydite.evidence.activations import claims as sketches
from lydite.evidence.activations.claims import Stated
from lydite.evidence.tokens import claims as tokens
from lydite.evidence.tokens import logprobs
from lydite.evidence.tokens.claims import Claims
from lydite.evidence.tokens.logprobs import Served
from lydite.numerics.prompts import Question
from lydite.numerics.web import Server


class Answer(NamedTuple):
    """What a stack made of one question."""

    question: Question
    claims: Claims
    """With what it says of the log-probabilities of its tokens, if it does."""
    states: NDArray[np.float32] | None
    """What the output layer was given, shape (tokens, width); only from an engine in process."""
    prompt_tokens: int | None
    """How many tokens the stack says that the prompt has."""
    receipt_id: str = ""
    """What a sketch was made for."""
    inner: NDArray[np.float32] | None = None
    """States at the inner depths, if the engine in process shows them."""
    stated: Stated | None = None
    """The sketch, if the stack made one."""


Ask = Callable[[Sequence[Question]], list[Answer]]
"""Lets a stack answer some questions together."""


def groups(questions: Sequence[Question], size: int) -> Iterator[Sequence[Question]]:
    """Yield the questions ``size`` at a time."""
    for start in range(0, len(questions), size):
        yield questions[start : start + size]


def in_process(engine: Engine, *, tapped: bool, sketcher: Sketcher | None = None) -> Ask:
    """Return what lets an engine in this process answer.

    ``tapped`` asks for its states, too, and ``sketcher`` makes sketches of them, as a server would.
    """

    def ask(questions: Sequence[Question]) -> list[Answer]:
        async def every() -> list[Answer]:
            jobs = (_local(engine, question, tapped=tapped) for question in questions)
            answers = list(await asyncio.gather(*jobs))
            return [_sketched(one, sketcher) for one in answers] if sketcher else answers

        return asyncio.run(every())

    return ask


def remote(server: Server, at_once: int) -> Ask:
    """Return what lets a server answer, ``at_once`` requests at a time."""

    def ask(questions: Sequence[Question]) -> list[Answer]:
        with ThreadPoolExecutor(at_once, thread_name_prefix="asking") as threads:
            return list(threads.map(lambda question: _remote(server, question), questions))

    return ask


async def _local(engine: Engine, question: Question, *, tapped: bool) -> Answer:
    job = Job(
        request_id=str(question.seed),
        prompt_ids=question.prompt_ids,
        sampling=question.sampling,
        seed=question.seed,
        noise_position=len(question.prompt_ids) - 1,
        top_logprobs=0,
        tapped=tapped,
    )
    pieces = [piece async for piece in engine.generate(job)]
    inner = [piece.inner for piece in pieces if piece.inner is not None]
    states = [piece.states for piece in pieces if piece.states is not None]
    return Answer(
        question=question,
        claims=_claims(
            question,
            [token for piece in pieces for token in piece.token_ids],
            [one.logprob for piece in pieces for one in piece.logprobs],
        ),
        states=np.concatenate(states) if states else None,
        prompt_tokens=None,
        inner=np.concatenate(inner, axis=1) if inner else None,
        receipt_id=_name(question),
    )


def _name(question: Question) -> str:
    """Return the id that a sketch of the answer is made for."""
    return f"passport-{question.seed}"


def _sketched(answer: Answer, sketcher: Sketcher) -> Answer:
    """Return an answer with the sketch that a server would have put into it.

    Raises:
        FormatError: the engine does not show the states that the sketch is of.
    """
    if answer.states is None:
        raise FormatError("this engine does not show the states that it draws from")
    both = (answer.claims.prompt_ids, answer.claims.output_ids)
    field = sketcher.field(answer.receipt_id, *both, answer.states, answer.inner)
    return answer._replace(stated=sketches.read(field))


def _claims(question: Question, output_ids: Sequence[int], told: Sequence[float]) -> Claims:
    """Return the claims of an engine in this process, whose numbers nobody rounded."""
    served = Served(values=tuple(told), unit=0.0) if told else None
    return Claims(
        prompt_ids=question.prompt_ids,
        output_ids=tuple(output_ids),
        sampling=question.sampling,
        seed=question.seed,
        served=served,
    )


def _remote(server: Server, question: Question) -> Answer:
    """Ask a server one question.

    Raises:
        UnavailableError: it gives no answer, or one that does not name its tokens.
        FormatError: its answer is none to such a request.
    """
    chat, sampling = question.prompt.chat, question.sampling
    path = CHAT_PATH if chat else COMPLETIONS_PATH
    asked = {"messages": question.prompt.messages} if chat else {"prompt": question.prompt.prompt}
    body = msgspec.json.encode(
        {
            **asked,
            "model": server.model,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": question.seed,
            "ignore_eos": sampling.ignore_eos,
            "return_token_ids": True,
            "logprobs": True if chat else 0,
        }
    )
    response = server.post(path, body, {"X-Request-Id": _name(question)})
    exchange = tokens.from_exchange(path, body, response)
    if not exchange.output_ids:
        raise UnavailableError("an answer of no tokens", Reason.NO_TOKEN_IDS)
    said = _decoded(response)
    try:
        served = logprobs.read(exchange.logprobs, exchange.output_ids, chat=chat)
    except UnavailableError:  # one that tells none can be watched by the other scores
        served = None
    claims = tokens.claims(exchange, question.prompt_ids, question.seed, served)
    drawn = msgspec.structs.replace(claims, sampling=sampling)  # its seed is ours, not a client's
    try:
        stated = sketches.stated(response, streamed=False)
    except UnavailableError:  # one that makes none has a passport of tokens
        stated = None
    return Answer(
        question,
        drawn,
        None,
        said.usage.prompt_tokens if said.usage else None,
        receipt_id=_name(question),
        stated=stated,
    )


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None


class _Said(msgspec.Struct):
    """What an answer says beside its tokens."""

    usage: _Usage | None = None


def _decoded(response: bytes) -> _Said:
    try:
        return msgspec.json.decode(response, type=_Said)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"answer: {error}") from error
