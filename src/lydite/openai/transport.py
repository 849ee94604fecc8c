"""The transports: what httpx and httpx2 send requests through, watched on the way back.

Whatever is answered that is no error has to come with a receipt, but for the list of models. Errors
carry no answer of a model, and pass without; a receipt that they do bring is checked all the same.
Redirects are refused: no gateway sends one, and where it led nothing would be checked. So is a body
that the library above would decode: receipts are about bytes as they travel.
"""

import re
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

from lydite.errors import LyditeError, VerificationError
from lydite.messages import coding, placement
from lydite.messages.compact import Compact
from lydite.openai import arrival
from lydite.openai.arrival import Asked, Named, Pins, Stream
from lydite.openai.ledger import Receipts

_HEADER = placement.HEADER.decode()
_ID = placement.ID_HEADER.decode()
_SALT = placement.SALT_HEADER.decode()
_ERROR = 400
_MODELS = re.compile(r"/v1/models(?:/.*)?")
"""Paths of the list of models and of one of them: a GET there has no receipt."""


class _Sent(NamedTuple):
    """A request as it went out, and when by this machine's clock, in Unix milliseconds."""

    asked: Asked
    at_ms: int


class _Answer:
    """One answer: what it has to be held against, and where its receipt is kept."""

    def __init__(
        self, request: Any, response: Any, sent: _Sent, pins: Pins, receipts: Receipts
    ) -> None:
        self._response = response
        self._asked, self._asked_ms = sent
        self._pins = pins
        self._receipts = receipts
        self.url = _origin(request)
        headers = response.headers
        self.head: Named | None = None
        kind = headers.get("content-type", "").strip().lower()
        self.streamed = kind.startswith("text/event-stream")

    def begin(self) -> Stream | None:
        """Look at the head; return the state of a stream, ``None`` for an answer in one piece."""
        headers = self._response.headers
        try:
            self.head = arrival.named(
                headers.get(_ID), headers.get(_SALT), self._response.status_code
            )
            coding.check(headers.get("content-encoding", ""), headers.get("content-type", ""))
            return Stream(self._asked, self._pins, self.head) if self.streamed else None
        except LyditeError as error:
            self.accuse(error)
            raise

    def check(self, body: bytes) -> None:
        """Check an answer in one piece, and keep its receipt."""
        assert self.head is not None
        header = self._response.headers.get(_HEADER)
        try:
            receipt = arrival.check_whole(self._asked, self._pins, self.head, header, body)
        except LyditeError as error:
            self.accuse(error)
            raise
        self._keep(receipt)

    def end(self, stream: Stream) -> tuple[bytes, LyditeError | None]:
        """Check a stream that has ended, keep its receipt, and return its end, and any error then.

        That the model server broke off is no fault of the gateway's, but no end either.
        """
        try:
            last, receipt = stream.finish()
        except LyditeError as error:
            self.accuse(error)
            raise
        self._keep(receipt)
        return last, arrival.broken_off(receipt)

    def _keep(self, receipt: Compact) -> None:
        try:
            self._receipts.keep(self.url, receipt, self._asked_ms)
        except VerificationError as error:
            self.accuse(error)
            raise

    def accuse(self, error: LyditeError) -> None:
        """Note what is wrong with the answer."""
        self._receipts.accuse(self.url, error, "" if self.head is None else self.head.receipt_id)

    def leave(self) -> None:
        """Note that the reader left before the end."""
        self._receipts.leave("" if self.head is None else self.head.receipt_id)


def _origin(request: Any) -> str:
    url = request.url
    port = "" if url.port is None else f":{url.port}"
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{url.scheme}://{host}{port}"


class _Watch:
    """What both transports share. ``library`` is httpx or httpx2."""

    def __init__(
        self, inner: Any, library: Any, pins: Pins, receipts: Receipts, exempt: tuple[str, ...]
    ) -> None:
        self._inner = inner
        self._library = library
        self._pins = pins
        self._receipts = receipts
        self._exempt = frozenset(exempt)

    def _looks_away(self, request: Any, response: Any) -> bool:
        """Say whether an answer needs no receipt, and brings none."""
        path = request.url.path
        if path in self._exempt or (request.method == "GET" and _MODELS.fullmatch(path)):
            return True
        return response.status_code >= _ERROR and _HEADER not in response.headers

    def _sent(self, request: Any, body: bytes) -> _Sent:
        return _Sent(Asked(request.url.raw_path, body), self._receipts.now_ms())

    def _answer(self, request: Any, response: Any, sent: _Sent) -> _Answer:
        return _Answer(request, response, sent, self._pins, self._receipts)

    def _again(self, response: Any, stream: Any) -> Any:
        return self._library.Response(
            response.status_code,
            headers=response.headers,
            stream=stream,
            extensions=response.extensions,
        )


class Sync(_Watch):
    """The transport of a ``Client``."""

    def handle_request(self, request: Any) -> Any:
        """Send a request, and return its answer once it may be seen.

        Raises:
            VerificationError, FormatError: the receipt is missing, forged or about other bytes, or
                this is a redirect; of a stream, raised to whoever reads it, before its end.
            UnavailableError: the stream broke off, as its receipt says; raised to its reader.
        """
        sent = self._sent(request, request.read())
        response = self._inner.handle_request(request)
        if self._looks_away(request, response):
            return response
        answer = self._answer(request, response, sent)
        try:
            stream = answer.begin()
            if stream is not None:
                kind = _bound(self._library.SyncByteStream, _SyncStream)
                return self._again(response, kind(response.stream, stream, answer))
            whole = b"".join(response.stream)
            answer.check(whole)
        except LyditeError:
            response.close()
            raise
        response.close()
        return self._again(response, self._library.ByteStream(whole))

    def close(self) -> None:
        """Close what is underneath, and stop looking after receipts."""
        self._inner.close()
        self._receipts.close()

    def __enter__(self) -> "Sync":
        self._inner.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._inner.__exit__(*error)
        self._receipts.close()


class Async(_Watch):
    """The transport of an ``AsyncClient``."""

    async def handle_async_request(self, request: Any) -> Any:
        """Send a request, and return its answer once it may be seen.

        Raises:
            VerificationError, FormatError: as ``Sync.handle_request``.
        """
        sent = self._sent(request, await request.aread())
        response = await self._inner.handle_async_request(request)
        if self._looks_away(request, response):
            return response
        answer = self._answer(request, response, sent)
        try:
            stream = answer.begin()
            if stream is not None:
                kind = _bound(self._library.AsyncByteStream, _AsyncStream)
                return self._again(response, kind(response.stream, stream, answer))
            whole = b"".join([part async for part in response.stream])
            answer.check(whole)
        except LyditeError:
            await response.aclose()
            raise
        await response.aclose()
        return self._again(response, self._library.ByteStream(whole))

    async def aclose(self) -> None:
        """Close what is underneath, and stop looking after receipts."""
        await self._inner.aclose()
        self._receipts.close()

    async def __aenter__(self) -> "Async":
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._inner.__aexit__(*error)
        self._receipts.close()


class _SyncStream:
    """The body of a streamed answer, let through as it is checked."""

    def __init__(self, inner: Any, stream: Stream, answer: _Answer) -> None:
        self._inner = inner
        self._stream = stream
        self._answer = answer
        self._done = False

    def __iter__(self) -> Iterator[bytes]:
        for part in self._inner:
            ready = _fed(self._stream, self._answer, part)
            if ready:
                yield ready
        self._done = True
        last, error = self._answer.end(self._stream)
        yield last
        if error is not None:
            raise error

    def close(self) -> None:
        """Close; a stream that is left before its end was not checked."""
        if not self._done:
            self._done = True
            self._answer.leave()
        self._inner.close()


class _AsyncStream:
    """The same for an ``AsyncClient``."""

    def __init__(self, inner: Any, stream: Stream, answer: _Answer) -> None:
        self._inner = inner
        self._stream = stream
        self._answer = answer
        self._done = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._inner:
            ready = _fed(self._stream, self._answer, part)
            if ready:
                yield ready
        self._done = True
        last, error = self._answer.end(self._stream)
        yield last
        if error is not None:
            raise error

    async def aclose(self) -> None:
        """Close; a stream that is left before its end was not checked."""
        if not self._done:
            self._done = True
            self._answer.leave()
        await self._inner.aclose()


def _fed(stream: Stream, answer: _Answer, part: bytes) -> bytes:
    try:
        return stream.feed(part)
    except LyditeError as error:
        answer.accuse(error)
        raise


def _bound(base: type[Any], own: type[Any]) -> Any:
    """Return ``own`` as a stream of the library, which asks for its own base class."""
    return type(own.__name__, (own, base), {})
