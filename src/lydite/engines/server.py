"""An OpenAI-compatible server in front of one engine.

Answers models, chat completions and completions, streaming and not, with token ids beside the
text. Knows nothing of receipts, and keeps nothing of what it answers.
"""

import asyncio
import functools
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from lydite.engines import openai_bodies
from lydite.engines.openai_bodies import Answer
from lydite.engines.openai_requests import CHAT_PATH, COMPLETIONS_PATH, Request, parse
from lydite.engines.protocol import Engine, Job, Piece
from lydite.engines.sketching import Field, Sketched, Sketcher
from lydite.errors import FormatError, LyditeError, Reason

SEED_HEADER = "x-lydite-seed"
"""Decimal; the seed of a request whose body names none."""
REQUEST_ID_HEADER = "x-request-id"
"""Becomes the part of the answer's id after the prefix."""
MAX_BODY_BYTES = 2 << 20
_QUICK_BODY_BYTES = 64 << 10
"""What takes longer than this to tokenize must not keep others waiting."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_SEED = re.compile(r"[0-9]{1,20}")


class _RefusedError(Exception):
    """An answer that is an error; carries the whole of it."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        kind = "invalid_request_error" if status < 500 else "server_error"
        self.response = _json(openai_bodies.refusal(message, code, kind), status)


class _Settings(msgspec.Struct, frozen=True, kw_only=True):
    engine: Engine
    model: str
    clock: Callable[[], float]
    sketcher: Sketcher | None


def create_app(
    engine: Engine,
    model: str,
    clock: Callable[[], float] = time.time,
    sketcher: Sketcher | None = None,
) -> Starlette:
    """Return the application that serves ``engine`` under the name ``model``.

    ``clock`` gives seconds since 1970, for the ``created`` fields alone. With a ``sketcher`` every
    answer carries a sketch of its activations.
    """
    settings = _Settings(engine=engine, model=model, clock=clock, sketcher=sketcher)

    async def complete(http: HttpRequest) -> Response:
        try:
            return await _complete(http, settings)
        except _RefusedError as refused:
            return refused.response

    async def models(_: HttpRequest) -> Response:
        return _json(openai_bodies.models(model, int(clock()), engine.context_length))

    async def health(_: HttpRequest) -> Response:
        return _json({"status": "ok"})

    async def nowhere(http: HttpRequest, error: Exception) -> Response:
        status = getattr(error, "status_code", 404)
        message = f"{http.method} {http.url.path} is not served here"
        return _json(openai_bodies.refusal(message, "not_found"), status)

    return Starlette(
        routes=[
            Route(CHAT_PATH, complete, methods=["POST"]),
            Route(COMPLETIONS_PATH, complete, methods=["POST"]),
            Route("/v1/models", models),
            Route("/health", health),
        ],
        exception_handlers={404: nowhere, 405: nowhere},
    )


async def _complete(http: HttpRequest, settings: _Settings) -> Response:
    request = await _understood(http, settings)
    answer, job = _answer(http, request, settings), _job(http, request, settings)
    sketched = _sketched(http, answer, settings)
    if request.stream:
        return StreamingResponse(
            _events(settings.engine, job, answer, sketched), media_type="text/event-stream"
        )
    pieces = await _until_hang_up(http, _collect(settings.engine, job))
    return _json(answer.whole(pieces, _field(sketched, pieces)))


async def _understood(http: HttpRequest, settings: _Settings) -> Request:
    """Return what ``http`` asks for, if it can be answered."""
    body = await _body(http)
    try:
        reading = functools.partial(parse, http.url.path, body, settings.engine.codec)
        large = len(body) > _QUICK_BODY_BYTES
        request = await asyncio.to_thread(reading) if large else reading()
    except FormatError as error:
        code = "unsupported" if error.reason is Reason.UNSUPPORTED else None
        raise _RefusedError(400, str(error), code) from error
    if request.model not in (None, settings.model):
        raise _RefusedError(404, f"the model {request.model!r} does not exist", "model_not_found")
    length, limit = len(request.prompt_ids), settings.engine.context_length
    if not length or max(request.prompt_ids) >= settings.engine.vocabulary:
        raise _RefusedError(400, "the prompt is empty, or has a token that the model does not know")
    if length >= limit:
        raise _RefusedError(
            400,
            f"this model's maximum context length is {limit} tokens, but the prompt has {length}",
            "context_length_exceeded",
        )
    return request


async def _body(http: HttpRequest) -> bytes:
    body = bytearray()
    async for part in http.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise _RefusedError(
                413, f"the request has more than {MAX_BODY_BYTES} bytes", "too_large"
            )
    return bytes(body)


def _answer(http: HttpRequest, request: Request, settings: _Settings) -> Answer:
    return Answer(
        request=request,
        identity=f"{'chatcmpl' if request.chat else 'cmpl'}-{_name(http) or secrets.token_hex(16)}",
        created=int(settings.clock()),
        model=settings.model,
        codec=settings.engine.codec,
    )


def _name(http: HttpRequest) -> str | None:
    """Return what whoever carries the request calls it: behind a gateway the receipt's id."""
    given = http.headers.get(REQUEST_ID_HEADER, "")
    return given if _REQUEST_ID.fullmatch(given) else None


def _sketched(http: HttpRequest, answer: Answer, settings: _Settings) -> Sketched | None:
    """Return what sketches this answer; one that has no name is sketched under its own id."""
    if settings.sketcher is None:
        return None
    name = _name(http) or answer.identity.partition("-")[2]
    return Sketched(settings.sketcher, name, answer.request.prompt_ids)


def _field(sketched: Sketched | None, pieces: Sequence[Piece]) -> Field | None:
    if sketched is None:
        return None
    try:
        return [sketched.add(piece) for piece in pieces][-1]
    except LyditeError as error:
        raise _RefusedError(500, str(error), error.reason.value) from error


def _job(http: HttpRequest, request: Request, settings: _Settings) -> Job:
    seed, header = request.sampling.seed, http.headers.get(SEED_HEADER)
    if seed is None and header is not None:
        if not _SEED.fullmatch(header):
            raise _RefusedError(400, f"the header {SEED_HEADER} is not a decimal number")
        seed = int(header)
    return Job(
        request_id=http.headers.get(REQUEST_ID_HEADER, ""),
        prompt_ids=request.prompt_ids,
        sampling=request.sampling,
        seed=secrets.randbits(63) if seed is None else seed,
        noise_position=len(request.prompt_ids) - 1,
        top_logprobs=request.top_logprobs,
        tapped=settings.sketcher is not None,
    )


async def _collect(engine: Engine, job: Job) -> list[Piece]:
    try:
        async with aclosing(engine.generate(job)) as pieces:
            return [piece async for piece in pieces]
    except LyditeError as error:
        raise _RefusedError(500, str(error), error.reason.value) from error


async def _until_hang_up(
    http: HttpRequest, work: Coroutine[None, None, list[Piece]]
) -> list[Piece]:
    """Return what ``work`` returns, cancelling it as soon as the client hangs up."""
    working, watching = asyncio.create_task(work), asyncio.create_task(_hang_up(http))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise _RefusedError(499, "the client hung up")
        return working.result()
    finally:
        working.cancel()
        watching.cancel()


async def _hang_up(http: HttpRequest) -> None:
    """Return once the client has hung up."""
    while (await http.receive())["type"] != "http.disconnect":
        pass


async def _events(
    engine: Engine, job: Job, answer: Answer, sketched: Sketched | None
) -> AsyncIterator[bytes]:
    """Yield the server-sent events of a streamed answer."""
    yield _event(answer.opening())
    tokens = characters = 0
    try:
        async with aclosing(engine.generate(job)) as pieces:
            async for piece in pieces:
                field = None if sketched is None else sketched.add(piece)
                yield _event(answer.chunk(piece, characters, field))
                tokens += len(piece.token_ids)
                characters += len(piece.text)
    except LyditeError as error:  # the status line is long gone, so the stream says it
        yield _event(openai_bodies.refusal(str(error), error.reason.value, "server_error"))
        return
    if answer.request.include_usage:
        yield _event(answer.closing(tokens))
    yield b"data: [DONE]\n\n"


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(content) + b"\n\n"


def _json(content: dict[str, Any], status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")
