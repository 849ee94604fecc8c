"""The recomputer's HTTP front: requests are routed, everything else is answered here.

``/v1/models`` lists what some gateway serves, ``/v1/receipts/ID/result`` says what became of a
request, ``/v1/receipts/ID/examine`` has one recomputed for who knows its salt, ``/v1/log`` is the
recomputer's own log, ``/v1/recomputer`` how every gateway stands.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from typing import Annotated, Final, NamedTuple, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lydite.appraisal.outcome import Proven
from lydite.auditor.examining import Examiner
from lydite.auditor.ledger import Ledger
from lydite.auditor.outcomes import Outcomes
from lydite.auditor.registry import Registry
from lydite.auditor.router import ROUTED, Receive, Router, Said, Send
from lydite.auditor.watch import Watch
from lydite.engines.openai_bodies import refusal
from lydite.errors import (
    FormatError,
    LyditeError,
    Reason,
    StorageError,
    UnavailableError,
    VerificationError,
)
from lydite.messages.canonical import encode
from lydite.messages.receipt import ReceiptId
from lydite.signing.dsse import Envelope
from lydite.tlog.checkpointer import Checkpointer

T = TypeVar("T")

_BODY_BYTES: Final = 4096
_STATUS_BY_REASON: Final = {
    Reason.CONFLICT: 429,
    Reason.DESTROYED: 410,
    Reason.NOT_IN_LOG: 404,
    Reason.TOO_LARGE: 413,
    Reason.UNKNOWN_KEY: 403,
}
_STATUS_BY_TYPE: Final[tuple[tuple[type[LyditeError], int], ...]] = (
    (FormatError, 400),
    (VerificationError, 502),
    (UnavailableError, 503),
    (StorageError, 503),
)


class _Salt(msgspec.Struct, forbid_unknown_fields=True):
    salt: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Hall(NamedTuple):
    """What the front answers from."""

    router: Router
    registry: Registry
    watches: Sequence[Watch]
    outcomes: Outcomes
    examiner: Examiner
    ledger: Ledger
    checkpointer: Checkpointer
    keys: bytes
    """The JSON that ``/v1/keys`` answers."""
    threads: Executor
    """Where it waits for gateways and for the disk."""


class Front:
    """The ASGI application."""

    def __init__(self, hall: Hall) -> None:
        self._hall = hall
        self._own = Starlette(
            routes=[
                Route(path, _answering(answer), methods=[method])
                for method, path, answer in (
                    ("GET", "/v1/models", self._models),
                    ("GET", "/v1/receipts/{id:str}", self._receipt),
                    ("GET", "/v1/receipts/{id:str}/result", self._result),
                    ("POST", "/v1/receipts/{id:str}/examine", self._examine),
                    ("GET", "/v1/keys", self._keys),
                    ("GET", "/v1/log/checkpoint", self._checkpoint),
                    ("GET", "/v1/log/envelopes/{number:int}", self._envelope),
                    ("GET", "/v1/log/proofs/{name:str}", self._proof),
                    ("GET", "/v1/log/{tile:path}", self._tile),
                    ("GET", "/v1/recomputer", self._standings),
                )
            ],
            exception_handlers={404: _nowhere, 405: _nowhere},
        )

    async def __call__(self, scope: Said, receive: Receive, send: Send) -> None:
        """Answer one request."""
        routed = scope["type"] == "http" and scope["path"] in ROUTED
        if routed and scope["method"] == "POST":
            await self._hall.router(scope, receive, send)
        else:
            await self._own(scope, receive, send)

    async def _run(self, work: Callable[..., T], *arguments: object) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._hall.threads, lambda: work(*arguments))

    async def _models(self, _: Request) -> Response:
        served = self._hall.registry.models()
        data = [
            {"id": model, "object": "model", "created": 0, "owned_by": ", ".join(names)}
            for model, names in served.items()
        ]
        return _json(msgspec.json.encode({"object": "list", "data": data}))

    async def _receipt(self, request: Request) -> Response:
        name = _receipt_id(request)
        found = await self._run(self._hall.outcomes.locate, name)
        return _json(encode(found.served))

    async def _result(self, request: Request) -> Response:
        name = _receipt_id(request)
        return _json(encode(await self._run(self._hall.outcomes.outcome, name)))

    async def _examine(self, request: Request) -> Response:
        name = _receipt_id(request)
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > _BODY_BYTES:
                raise FormatError("a salt takes less room", Reason.TOO_LARGE)
        salt = _salt(bytes(body))
        return _json(encode(await self._run(self._hall.examiner.examine, name, salt)))

    async def _keys(self, _: Request) -> Response:
        return _json(self._hall.keys)

    async def _checkpoint(self, _: Request) -> Response:
        return Response(self._hall.checkpointer.newest(), media_type="text/plain; charset=utf-8")

    async def _tile(self, request: Request) -> Response:
        path = request.path_params["tile"]
        try:
            content = await self._run(self._hall.ledger.log.read, path)
        except UnavailableError as error:
            raise UnavailableError(str(error), Reason.NOT_IN_LOG) from error
        return Response(content, media_type="application/octet-stream")

    async def _envelope(self, request: Request) -> Response:
        number = request.path_params["number"]
        found = await self._run(self._hall.ledger.at, number)
        return _json(found.envelope)

    async def _proof(self, request: Request) -> Response:
        found = await self._run(self._hall.ledger.find, request.path_params["name"])
        proof = None if found is None else self._hall.checkpointer.proof(found.number - 1)
        if found is None or proof is None:
            raise UnavailableError("no such statement is proved here yet", Reason.NOT_IN_LOG)
        envelope = msgspec.json.decode(found.envelope, type=Envelope)
        shown = Proven(envelope=envelope, index=found.number, proof=proof.encode().decode())
        return _json(encode(shown))

    async def _standings(self, _: Request) -> Response:
        standings = [watch.standing() for watch in self._hall.watches]
        return _json(b'{"gateways":[' + b",".join(map(encode, standings)) + b"]}")


def _answering(
    answer: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    """Return ``answer`` with what we foresaw as a status and an error body."""

    async def respond(request: Request) -> Response:
        try:
            return await answer(request)
        except LyditeError as error:
            fallback = next((s for kind, s in _STATUS_BY_TYPE if isinstance(error, kind)), 500)
            status = _STATUS_BY_REASON.get(error.reason, fallback)
            return _json(msgspec.json.encode(refusal(str(error), error.reason.value)), status)

    return respond


async def _nowhere(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    message = f"{request.method} {request.url.path} is not served here"
    return _json(msgspec.json.encode(refusal(message, "not_found")), status)


def _receipt_id(request: Request) -> str:
    try:
        return msgspec.convert(request.path_params["id"], ReceiptId)
    except msgspec.ValidationError as error:
        raise FormatError(f"that is no receipt id: {error}") from error


def _salt(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Salt).salt
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"salt: {error}") from error


def _json(content: bytes, status: int = 200) -> Response:
    return Response(content, status, media_type="application/json")
