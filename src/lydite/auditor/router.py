"""Routes a request to a gateway that serves its model, and hands the answer on as it comes.

Bytes of request and answer are not touched, so the gateway's receipt stays valid for the client. A
client that leaves stops the work behind it; an answer that breaks is never made to look whole. A
request is sent to one gateway only: another is tried only where no connection came about.
"""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, MutableMapping
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from lydite.auditor.line import Field, Head, Line
from lydite.auditor.refusals import Refusal, Refusals, Unserved
from lydite.auditor.registry import Place, Registry
from lydite.engines.openai_bodies import refusal
from lydite.errors import LyditeError, UnavailableError
from lydite.signing.dsse import payload_of

Said = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Said]]
Send = Callable[[Said], Awaitable[None]]

ROUTED: Final = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")
"""Paths that are handed on; a query may follow."""
CANNOT_HEADER: Final = b"x-lydite-cannot"

_SHARE: Final = 0.8
"""Of the deadline, for finding a gateway; the rest is for writing down that there is none."""
_HOP_BY_HOP: Final = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
_NOT_ON: Final = _HOP_BY_HOP | {b"content-length", b"expect", b"host"}


class _Named(msgspec.Struct):
    model: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class _RefusedError(Exception):
    """An answer of our own that is an error."""

    def __init__(self, status: int, message: str, code: str) -> None:
        super().__init__(message)
        kind = "invalid_request_error" if status < 500 else "server_error"
        self.status, self.body = status, refusal(message, code, kind)


class _Ask(NamedTuple):
    """One request as it came."""

    target: bytes
    fields: list[Field]
    body: bytes
    model: str
    received_s: float


class Router:
    """An ASGI application for the paths in ``ROUTED``."""

    def __init__(
        self, registry: Registry, refusals: Refusals, *, deadline_s: float, body_bytes: int
    ) -> None:
        self._registry = registry
        self._refusals = refusals
        self._deadline_s = deadline_s
        self._body_bytes = body_bytes

    async def __call__(self, scope: Said, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            ask = await self._read(scope, receive)
        except _RefusedError as refused:
            await _answer(send, refused.status, refused.body)
            return
        if ask is not None:
            await _unless_gone(receive, self._serve(ask, send))

    async def _serve(self, ask: _Ask, send: Send) -> None:
        try:
            found = await self._connect(ask.model)
            if found is None:
                await self._refuse(ask, send)
                return
            place, line = found
            with contextlib.closing(line), _counted(place):
                await _hand_on(ask, line, send)
        except _RefusedError as refused:
            await _answer(send, refused.status, refused.body)

    async def _connect(self, model: str) -> tuple[Place, Line] | None:
        """Return a line to the first gateway for ``model`` that takes one, within the deadline."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._deadline_s * _SHARE
        candidates = self._registry.candidates(model)
        for tried, place in enumerate(candidates):
            left = (deadline - loop.time()) / (len(candidates) - tried)
            if left > 0:
                with contextlib.suppress(UnavailableError):
                    return place, await Line.open(place.address, left)
        return None

    async def _refuse(self, ask: _Ask, send: Send) -> None:
        """Answer that nobody serves the model, once that is in the log."""
        if not self._refusals.admit():
            raise _RefusedError(429, f"too many requests for {ask.model!r}", "too_many")
        asked = self._registry.asked(ask.model)
        unserved = Unserved(ask.model, ask.target, ask.body, asked, ask.received_s)
        try:
            written = await self._refusals.refuse(unserved)
        except LyditeError as error:
            raise _RefusedError(503, str(error), error.reason.value) from error
        body = refusal(f"nobody serves {ask.model!r} at present", "cannot", "server_error")
        statement, said = _spelt(written)
        field = (CANNOT_HEADER, statement.encode())
        await _answer(send, 503, {**body, "lydite": said}, (field, (b"retry-after", b"1")))

    async def _read(self, scope: Said, receive: Receive) -> _Ask | None:
        """Return a request with its whole body, None if its client left before that."""
        body = bytearray()
        more = True
        while more:
            event = await receive()
            if event["type"] == "http.disconnect":
                return None
            body += event.get("body", b"")
            more = event.get("more_body", False)
            if len(body) > self._body_bytes:
                raise _RefusedError(413, f"more than {self._body_bytes} bytes", "too_large")
        try:
            model = msgspec.json.decode(body, type=_Named).model
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _RefusedError(400, f"no model can be read: {error}", "malformed") from error
        query = scope["query_string"]
        target = scope["raw_path"] + (b"?" + query if query else b"")
        fields = [(name, value) for name, value in scope["headers"] if name not in _NOT_ON]
        return _Ask(target, fields, bytes(body), model, time.time())


async def _unless_gone(receive: Receive, work: Coroutine[None, None, None]) -> None:
    """Run ``work``, and cancel it as soon as the client hangs up."""
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_hang_up(receive))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        working.cancel()
        watching.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _hang_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _hand_on(ask: _Ask, line: Line, send: Send) -> None:
    """Send a request on and its answer back; one that breaks off ends without its last chunk."""
    try:
        head = await line.ask("POST", ask.target, ask.fields, ask.body)
    except UnavailableError as error:
        raise _RefusedError(502, str(error), error.reason.value) from error
    await send(_start(head))
    with contextlib.suppress(UnavailableError):  # the server cuts the client off as we return
        async for part in line.parts():
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def _start(head: Head) -> Said:
    fields = [(name.lower(), value) for name, value in head.fields]
    kept = [(name, value) for name, value in fields if name not in _HOP_BY_HOP]
    return {"type": "http.response.start", "status": head.status, "headers": kept}


async def _answer(
    send: Send, status: int, body: dict[str, Any], more: tuple[Field, ...] = ()
) -> None:
    content = msgspec.json.encode(body)
    length = (b"content-length", b"%d" % len(content))
    fields = [(b"content-type", b"application/json"), length, *more]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": content})


def _spelt(written: Refusal) -> tuple[str, dict[str, Any]]:
    """Return the digest of a *cannot*, and what its client gets of it."""
    envelope = written.entered.parsed()
    statement = hashlib.sha256(payload_of(envelope)).hexdigest()
    said = {
        "cannot": statement,
        "entry": written.entered.number,
        "envelope": msgspec.to_builtins(envelope),
        "salt": written.salt.hex(),
    }
    return statement, said


@contextlib.contextmanager
def _counted(place: Place) -> Iterator[None]:
    place.running += 1
    try:
        yield
    finally:
        place.running -= 1
        place.answered += 1
