"""Transports that change what a real gateway answered, on its way to a verified client."""

from collections.abc import AsyncIterator, Callable, Iterator
from types import ModuleType
from typing import Any

Change = Callable[[dict[str, str], bytes], tuple[dict[str, str], bytes]]
"""From the headers and the whole body of an answer to others."""
STATUS = "x-test-status"
"""A header that a change may set: the answer gets this status."""


def meddler(library: ModuleType, change: Change) -> Any:
    """Return a transport of the library that sends for real and changes what comes back."""

    class Cut(library.SyncByteStream):  # type: ignore[name-defined, misc]
        def __init__(self, body: bytes) -> None:
            self._body = body

        def __iter__(self) -> Iterator[bytes]:
            for start in range(0, len(self._body), 7):
                yield self._body[start : start + 7]

    class Meddler(library.HTTPTransport):  # type: ignore[name-defined, misc]
        def handle_request(self, request: Any) -> Any:
            response = super().handle_request(request)
            body = response.read()
            fields, changed = change(dict(response.headers), body)
            for name in ("content-length", "transfer-encoding"):
                fields.pop(name, None)
            status = int(fields.pop(STATUS, response.status_code))
            return library.Response(status, headers=fields, stream=Cut(changed))

    return Meddler()


def async_meddler(library: ModuleType, change: Change) -> Any:
    """Return the same for an ``AsyncClient``."""

    class Cut(library.AsyncByteStream):  # type: ignore[name-defined, misc]
        def __init__(self, body: bytes) -> None:
            self._body = body

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for start in range(0, len(self._body), 7):
                yield self._body[start : start + 7]

    class Meddler(library.AsyncHTTPTransport):  # type: ignore[name-defined, misc]
        async def handle_async_request(self, request: Any) -> Any:
            response = await super().handle_async_request(request)
            body = await response.aread()
            fields, changed = change(dict(response.headers), body)
            for name in ("content-length", "transfer-encoding"):
                fields.pop(name, None)
            status = int(fields.pop(STATUS, response.status_code))
            return library.Response(status, headers=fields, stream=Cut(changed))

    return Meddler()
