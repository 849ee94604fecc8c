"""The operator's port: whether the gateway lives and is ready, its metrics, and routes of others.

Starlette on uvicorn, in the main process, away from the data plane's port and never on the way of a
request. On loopback unless told otherwise: what it says of the gateway is not for clients.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Mapping, Sequence

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from lydite.gateway.office.metrics import CONTENT_TYPE

_STOP_S = 2


def control_app(
    routes: Sequence[BaseRoute],
    checks: Callable[[], Mapping[str, bool]],
    metrics: Callable[[], bytes],
) -> Starlette:
    """Return the application: ``/healthz``, ``/readyz``, ``/metrics``, and ``routes``.

    It is ready when every one of ``checks`` holds; the answer names each.
    """

    def healthz(_: Request) -> Response:
        return JSONResponse({"alive": True})

    def readyz(_: Request) -> Response:
        found = dict(checks())
        return JSONResponse(found, 200 if all(found.values()) else 503)

    def scrape(_: Request) -> Response:
        return Response(metrics(), media_type=CONTENT_TYPE)

    own = {"/healthz": healthz, "/readyz": readyz, "/metrics": scrape}
    return Starlette(routes=[*(Route(path, _here(one)) for path, one in own.items()), *routes])


def _here(answer: Callable[[Request], Response]) -> Callable[[Request], object]:
    """Answer in the event loop: what is read there changes there."""

    async def run(request: Request) -> Response:
        return answer(request)

    return run


class ControlServer:
    """The application on its port, in this event loop."""

    def __init__(self, app: Starlette, place: socket.socket) -> None:
        self._place = place
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            http="httptools",
            ws="none",
            lifespan="off",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_STOP_S,
        )
        self._server = uvicorn.Server(config)
        self._server.capture_signals = contextlib.nullcontext  # the gateway has its own handlers
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port that it listens on."""
        port: int = self._place.getsockname()[1]
        return port

    async def start(self) -> None:
        """Listen: from now on nobody is turned away, even if the first answer takes a turn."""
        self._place.listen()
        self._task = asyncio.create_task(self._server.serve(sockets=[self._place]))

    async def stop(self) -> None:
        """Answer what is under way, then close."""
        if self._task is not None:
            self._server.should_exit = True
            await self._task
        self._place.close()
