"""What the gateway answers itself: whole answers, and the handler that gives them when ready."""

import asyncio
import functools
import logging
import re
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
from lydite.gateway.plane.exchange import Reply
from lydite.gateway.plane.reading import RefusedError, Request

_logger = logging.getLogger(__name__)

_STATUS_BY_REASON = {
    Reason.CONFLICT: 409,
    Reason.DESTROYED: 410,
    Reason.EGRESS_BUDGET: 429,
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
Row = tuple[bytes, re.Pattern[bytes], Callable[..., Awaitable[Answer]]]
"""Method, exact path, and who answers: it is given the request and the groups of the path."""


class Table:
    """Finds the route of a request, by method and exact path."""

    def __init__(self, *rows: Row) -> None:
        self._rows = rows

    @property
    def paths(self) -> list[tuple[bytes, bytes]]:
        """Methods and patterns, in order: enough to refuse what leads nowhere."""
        return [(method, pattern.pattern) for method, pattern, _ in self._rows]

    def route(self, method: bytes, target: bytes) -> Route:
        """Return who answers.

        Raises:
            RefusedError: 404 or 405.
        """
        allowed = False
        for wanted, pattern, answer in self._rows:
            match = pattern.fullmatch(target)
            if match is None:
                continue
            if wanted == method:
                arguments = [each.decode() for each in match.groups()]
                return functools.partial(_ask, answer, arguments)
            allowed = True
        if allowed:
            raise RefusedError(405, "this path takes another method")
        raise RefusedError(404, "there is nothing at this path")


async def _ask(
    answer: Callable[..., Awaitable[Answer]], arguments: list[str], request: Request
) -> Answer:
    return await answer(request, *arguments)


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
        answer = await settle(self._route, self._request)
        if not self._gone:
            fields = ((b"content-type", answer.content_type),)
            self._client.write(heads.answer(answer.status, fields, answer.body, keep=keep))
            self._client.finished(keep=keep)


async def settle(route: Route, request: Request) -> Answer:
    """Return the answer of a route, or one that says what went wrong."""
    try:
        return await route(request)
    except LyditeError as error:
        return fault(error, status_of(error))
    except Exception:  # a bug in one route: its client gets an answer, the log the traceback
        _logger.exception("route %s", request.target.decode("latin-1"))
        return fault(UnavailableError("internal error"), 500)


def fault(error: LyditeError, status: int) -> Answer:
    """Return the answer that tells of an error."""
    return Answer(heads.fault_body(str(error), error.reason, status), status=status)


def status_of(error: LyditeError) -> int:
    """Return the HTTP status of an answer that tells of ``error``."""
    if error.reason in _STATUS_BY_REASON:
        return _STATUS_BY_REASON[error.reason]
    return next((status for kind, status in _STATUS_BY_TYPE if isinstance(error, kind)), 500)
