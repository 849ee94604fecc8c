"""Gives a server that reads its seeds from request bodies the one that the gateway sends along.

Middleware for vLLM, or any ASGI server of this API: ``--middleware lydite.engines.seeding.Seeded``.
Needs the standard library alone, so it runs in the server's own environment. The client's bytes,
which receipts commit to, are the gateway's and stay as they were; a seed that the client chose
wins, as it does with our own engine. Knows nothing of sampling.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

HEADER = b"x-lydite-seed"
LIMIT_BYTES = 16 * 1024 * 1024
"""Longer bodies go through as they are, unseeded."""


class Seeded:
    """The server ``app``, for requests that name their seed in a header."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on, with the seed in its body."""
        fields = dict(scope.get("headers") or ())
        seed = fields.get(HEADER, b"")
        length = fields.get(b"content-length", b"")
        if not seed.isdigit() or not length.isdigit() or int(length) > LIMIT_BYTES:
            await self._app(scope, receive, send)
            return
        body = bytearray()
        more = True
        while more:
            part = await receive()
            body += part.get("body", b"")
            more = part["type"] == "http.request" and part.get("more_body", False)
        told = seeded(bytes(body), int(seed))
        said = [
            (name, str(len(told)).encode() if name == b"content-length" else value)
            for name, value in scope["headers"]
        ]
        first = iter([{"type": "http.request", "body": told, "more_body": False}])

        async def replay() -> Message:
            return next(first, None) or await receive()

        await self._app({**scope, "headers": said}, replay, send)


def seeded(body: bytes, seed: int) -> bytes:
    """Return a request's body with ``seed``, unless it has one or is no JSON object."""
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        return body  # the server says what is wrong with it
    if not isinstance(asked, Mapping) or asked.get("seed") is not None:
        return body
    return json.dumps({**asked, "seed": seed}).encode()
