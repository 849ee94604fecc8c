"""A request that leaves no receipt, such as the list of models: forwarded, and its answer too."""

from lydite.errors import LyditeError, Reason, UnavailableError
from lydite.gateway import heads
from lydite.gateway.heads import AnswerHead
from lydite.gateway.plane.exchange import Reply
from lydite.gateway.plane.fleet import Fleet
from lydite.gateway.plane.pool import Call
from lydite.gateway.plane.reading import Request

_ANSWER_BYTES = 1024 * 1024
_TIMEOUT_S = 30.0


class Relay:
    """State of one such request: a Handler for the client, a Sink for the engine."""

    def __init__(self, fleet: Fleet, request: Request, client: Reply, now: float) -> None:
        self._fleet = fleet
        self._request = request
        self._client = client
        self._deadline = now + _TIMEOUT_S
        self._call: Call | None = None
        self._head: AnswerHead | None = None
        self._body = b""

    def start(self) -> None:
        """Send the request on."""
        try:
            pool = self._fleet.choose()
        except UnavailableError as error:
            self._answer_fault(str(error), error.reason, 503)
            return
        self._call = pool.call(self._request.head.engine_lines(pool.host) + b"\r\n", self)

    def pause(self) -> None:
        """Do nothing: the answer is small and held as a whole."""

    def resume(self) -> None:
        """Do nothing, as ``pause``."""

    def hang_up(self) -> None:
        """Stop the engine."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def sweep(self, now: float) -> None:
        """Give up on an engine that takes too long."""
        if now > self._deadline:
            self._refuse("engine: silent for too long")

    def head(self, head: AnswerHead) -> None:
        """Note how the answer begins."""
        if head.refused:
            self._refuse(str(heads.refusal(head.status)))
            return
        self._head = head

    def data(self, data: bytes) -> None:
        """Collect the answer."""
        self._body += data
        if len(self._body) > _ANSWER_BYTES:
            self._refuse("engine: the answer is too large")

    def end(self) -> None:
        """Answer the client."""
        call, self._call = self._call, None
        if call is None or self._head is None:
            return
        call.finish()
        keep = self._request.keep
        end = heads.end_of_head(heads.LENGTH % len(self._body), keep=keep)
        self._client.write(self._head.lines + end + self._body)
        self._client.finished(keep=keep)

    def fail(self, error: LyditeError, *, fresh: bool) -> None:
        """Try again where that is safe, else say so to the client."""
        if self._call is None or (fresh and self._call.retry()):
            return
        self._refuse(str(error))

    def _refuse(self, message: str) -> None:
        call, self._call = self._call, None
        if call is None:
            return
        call.cancel()
        self._answer_fault(message, Reason.UPSTREAM_FAILED, 502)

    def _answer_fault(self, message: str, reason: Reason, status: int) -> None:
        keep = self._request.keep
        self._client.write(heads.fault(message, reason, status, keep=keep))
        self._client.finished(keep=keep)
