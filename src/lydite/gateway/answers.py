"""What the gateway answers itself: whole answers, and the handler that gives them when ready."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from lydite.errors import (
    FormatError,
    LyditeError,
    Reason,
    StorageError,
    UnavailableError,
    VerificationError,
)
from lydite.gateway import heads
from lydite.gateway.exchange import Reply
from lydite.gateway.reading import Request

_logger = logging.getLogger(__name__)

_STATUS_BY_REASON = {
    Reason.CONFLICT: 409,
    Reason.NOT_IN_LOG: 404,
    Reason.TOO_LARGE: 413,
    Reason.UNKNOWN_KEY: 401,
}
_STATUS_BY_TYPE: tuple[tuple[type[LyditeError], int], ...] = (
    (FormatError, 400),
    (VerificationError, 403),
    (UnavailableError, 503),
    (StorageError, 503),
)


class Answer(NamedTuple):
    """A body and how to label it."""

    body: bytes
    content_type: bytes = b"application/json"
    status: int = 200


Route = Callable[[Request], Awaitable[Answer]]


class Errand:
    """Runs one route for one client (a Handler). A client that leaves does not stop it."""

    def __init__(self, route: Route, request: Request, client: Reply) -> None:
        self._route = route
        self._request = request
        self._client = client
        self._gone = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Run the route."""
        self._task = asyncio.ensure_future(self._run())

    def pause(self) -> None:
        """Do nothing: the answer is one piece."""

    def resume(self) -> None:
        """Do nothing, as ``pause``."""

    def hang_up(self) -> None:
        """Drop the answer; what was asked for is done all the same."""
        self._gone = True

    def sweep(self, now: float) -> None:
        """Do nothing: each route bounds its own time."""

    async def _run(self) -> None:
        keep = self._request.keep
        try:
            answer = await self._route(self._request)
            fields = ((b"content-type", answer.content_type),)
            whole = heads.answer(answer.status, fields, answer.body, keep=keep)
        except LyditeError as error:
            whole = heads.fault(str(error), error.reason, status_of(error), keep=keep)
        except Exception:  # a bug in one route: its client gets an answer, the log the traceback
            _logger.exception("route %s", self._request.target.decode("latin-1"))
            whole = heads.fault("internal error", Reason.UNAVAILABLE, 500, keep=keep)
        if not self._gone:
            self._client.write(whole)
            self._client.finished(keep=keep)


def status_of(error: LyditeError) -> int:
    """Return the HTTP status of an answer that tells of ``error``."""
    if error.reason in _STATUS_BY_REASON:
        return _STATUS_BY_REASON[error.reason]
    return next((status for kind, status in _STATUS_BY_TYPE if isinstance(error, kind)), 500)
