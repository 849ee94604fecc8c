"""One request to a model and its answer: forwarded, committed to, recorded, then let go.

The last byte of an answer leaves only after its receipt is in the log: an answer that is not
streamed waits as a whole, a stream waits before its last event. An answer that breaks is
never made to look complete.
"""

import hashlib
from time import perf_counter
from typing import NamedTuple, Protocol

from lydite.errors import FormatError, LyditeError, Reason, StorageError, UnavailableError
from lydite.gateway import heads, wire
from lydite.gateway.heads import AnswerHead
from lydite.gateway.ledger.receipts import Draft
from lydite.gateway.ledger.recorder import Done
from lydite.gateway.ledger.scribe import Entered
from lydite.gateway.plane.events import EventCutter
from lydite.gateway.plane.fleet import Fleet
from lydite.gateway.plane.memory import FREE_BYTES, Memory, Share, gather
from lydite.gateway.plane.pool import Call
from lydite.gateway.plane.reading import Request
from lydite.gateway.settings import Limits
from lydite.gateway.tally import Served, Spans, Tally, Times
from lydite.messages import commitment, endings
from lydite.messages.commitment import ResponseCommitment, Salt
from lydite.messages.receipt import Outcome

EVENT_BYTES = 4 * 1024 * 1024
"""Largest event of a stream that is taken from an engine."""
CLIENT_CLOSED = 499
"""Status in the receipt of a request whose client left before there was any answer."""
_LAST_CHUNK = b"0\r\n\r\n"
_ASK = b"%bx-request-id: %b\r\n" + wire.SEED_HEADER + b": %d\r\ncontent-length: %d\r\n\r\n%b"
_NAMES = wire.ID_HEADER + b": %b\r\n" + wire.SALT_HEADER + b": %b\r\n"
_RECEIPT = b"%b" + _NAMES + wire.HEADER + b": %b\r\n" + heads.LENGTH + b"%b"
_NO_MEMORY = "too many long answers are under way; try again later"
_NO_RECEIPT = "no receipt can be written at present, so no answer is given; try again later"


class Reply(Protocol):
    """The client, as far as an answer needs it."""

    def write(self, data: bytes) -> None:
        """Send bytes."""

    def finished(self, *, keep: bool) -> None:
        """Take note that the answer is written."""


class Records(Protocol):
    """Who makes receipts: the recorder, or the way to it from another process."""

    @property
    def failing(self) -> bool:
        """Whether nothing can be recorded at present."""

    def clock_ms(self) -> int:
        """Return the time of day in milliseconds since 1970."""

    def submit(self, work: Draft, done: Done) -> None:
        """Record ``work``; ``done`` is called in the loop when it is in the log, or cannot be."""


class Plane(NamedTuple):
    """What every exchange of one gateway shares."""

    fleet: Fleet
    recorder: Records
    limits: Limits
    tally: Tally
    memory: Memory
    notarised: bool = False
    """Whether what is recorded says who asked."""
    serving: bool = True
    spans: Spans | None = None


class Identity(NamedTuple):
    """What makes this exchange this one: drawn by the gateway, fresh for each request."""

    receipt_id: str
    salt: Salt
    received_ms: int
    """When its request was whole, since 1970."""


class Exchange:
    """State of one request; told of the answer by the engine's connection (a ``Sink``)."""

    def __init__(
        self, plane: Plane, request: Request, client: Reply, identity: Identity, now: float
    ) -> None:
        self._plane = plane
        self._request = request
        self._client = client
        self._identity = identity
        self._name = identity.receipt_id.encode()
        self._asked = commitment.commit_request(identity.salt, request.head.target, request.body)
        self._answered: hashlib._Hash | None = None
        self._heard = self._now = now
        self._share = request.share
        self._free_bytes = FREE_BYTES
        self._parts: list[bytes] = []
        self._gathered = 0
        self._held = b""
        self._length = 0
        self._status = 0
        self._lines = b""
        self._cutter: EventCutter | None = None
        self._call: Call | None = None
        self._over = False
        self._gone = False
        self._model = ""
        self._outcome: Outcome = "refused"
        self._times = Times()

    # What the client's connection asks (a Handler).

    def start(self) -> None:
        """Send the request on, unless no receipt could be kept."""
        self._plane.tally.inflight += 1
        if self._plane.recorder.failing:
            self._refuse(StorageError(_NO_RECEIPT))
            return
        try:
            model = self._plane.fleet.model_of(self._request.body)
            pool = self._plane.fleet.choose(model)
        except LyditeError as error:
            self._refuse(error)
            return
        seed = commitment.sampling_seed(self._identity.salt, self._asked)
        request = self._request
        lines, body = request.head.engine_lines(pool.host), request.body
        rest = body if len(body) > FREE_BYTES else b""
        asked = _ASK % (lines, self._name, seed, len(body), b"" if rest else body)
        self._call = pool.call(asked, self, model, rest)
        self._model = model or ""
        self._times.sent = perf_counter()

    def pause(self) -> None:
        """Let the engine wait."""
        if self._call is not None:
            self._call.pause()

    def resume(self) -> None:
        """Let the engine go on."""
        if self._call is not None:
            self._call.resume()

    def hang_up(self) -> None:
        """Stop the engine and record what there was: the work was done, part of it."""
        self._gone = True
        if not self._over:
            self._stop()
            self._record("aborted", self._status or CLIENT_CLOSED)
        self._count(CLIENT_CLOSED)

    def sweep(self, now: float) -> None:
        """Give up on an engine that has been silent for too long."""
        self._now = now
        limits = self._plane.limits
        limit_ms = limits.upstream_idle_ms if self._status else limits.first_byte_ms
        if now - self._heard > limit_ms / 1000 and not self._over:
            if self._call is not None:
                self._call.expire()
            self._break(UnavailableError("engine: silent for too long", Reason.UPSTREAM_FAILED))

    # What the engine's connection tells (a Sink).

    def head(self, head: AnswerHead) -> None:
        """Note how the answer begins; that of a stream goes out at once."""
        self._heard = self._now
        if head.refused:
            self._break(heads.refusal(head.status))
            return
        if head.coded is not None:
            self._break(head.coded)
            return
        self._status, self._lines = head.status, head.lines
        if not head.streams:
            return
        self._cutter = EventCutter(EVENT_BYTES, endings.of_path(self._request.head.path))
        self._answered = commitment.response_hasher(self._identity.salt)
        self._times.first = perf_counter()
        framing = b"" if self._request.head.old else heads.CHUNKED
        end = heads.end_of_head(framing, keep=self._request.keep)
        self._client.write(self._lines + self._names() + end)

    def data(self, data: bytes) -> None:
        """Take bytes of the answer; those of a stream go on as soon as an event is whole."""
        if self._over:
            return
        self._heard = self._now
        self._length += len(data)
        if self._length > self._plane.limits.answer_bytes:
            self._break(FormatError("engine: the answer is too large", Reason.TOO_LARGE))
        elif self._length > self._free_bytes and not self._counts():
            self._break(UnavailableError(_NO_MEMORY, Reason.OVERLOADED))
        elif self._cutter is None:
            self._keep(data)
        else:
            self._pass_on(self._cutter, data)

    def end(self) -> None:
        """Record the whole answer, and let its last part go when that is done."""
        if self._over:
            return
        if self._cutter is None:
            self._finish_call()
            self._record("complete", self._status)
        elif self._cutter.done:
            self._end_stream(self._cutter)
        else:
            self._break(FormatError("engine: the stream ended without its last event"))

    def fail(self, error: LyditeError, *, fresh: bool) -> None:
        """Try again where that is safe, else say so to the client."""
        if self._over or (fresh and self._call is not None and self._call.retry()):
            return
        self._break(error)

    # Steps.

    def _keep(self, data: bytes) -> None:
        """Hold a part of the answer; a short answer is committed to as a whole, at its end."""
        self._parts.append(data)
        if self._answered is not None:
            self._answered.update(data)
        elif self._length > FREE_BYTES:
            self._answered = commitment.response_hasher(self._identity.salt)
            self._answered.update(b"".join(self._parts))
        self._gathered = gather(self._parts, self._gathered)

    def _counts(self) -> bool:
        """Count an answer that has grown long; say whether there is room for it."""
        more, self._free_bytes = self._length - self._free_bytes, self._length
        if self._share is None:
            self._share = Share(self._plane.memory)
        return self._share.take(more)

    def _pass_on(self, cutter: EventCutter, data: bytes) -> None:
        try:
            whole = cutter.feed(data)
        except FormatError as error:
            self._break(error)
            return
        if whole:
            self._keep(whole)
            self._client.write(self._framed(whole))

    def _end_stream(self, cutter: EventCutter) -> None:
        try:
            self._held = cutter.finish()
        except FormatError as error:
            self._break(error)
            return
        self._finish_call()
        self._keep(self._held)
        self._record("complete", self._status)

    def _break(self, error: LyditeError) -> None:
        """End an answer that cannot be completed: an error, never ``[DONE]``, and a receipt."""
        self._stop()
        crowded = error.reason is Reason.OVERLOADED
        reason = error.reason if crowded else Reason.UPSTREAM_FAILED
        if self._cutter is not None:
            self._held = heads.fault_event(str(error), reason)
            self._keep(self._held)
            self._record("aborted", self._status)
            return
        self._answered = None
        self._length = self._gathered = 0
        self._parts = []
        self._status, self._lines = (503, heads.CROWDED) if crowded else (502, heads.REFUSED)
        self._keep(heads.fault_body(str(error), reason, self._status))
        self._record("refused", self._status)

    def _stop(self) -> None:
        self._over = True
        self._times.heard = perf_counter()
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _finish_call(self) -> None:
        self._over = True
        self._times.heard = perf_counter()
        call, self._call = self._call, None
        if call is not None:
            call.finish()

    def _record(self, outcome: Outcome, status: int) -> None:
        recorder, request, identity = self._plane.recorder, self._request, self._identity
        self._outcome = outcome
        recorder.submit(
            Draft(
                receipt_id=identity.receipt_id,
                salt=identity.salt,
                path=request.head.target,
                request=request.body,
                asked=self._asked,
                response=self._parts,
                answered=self._commit(),
                status=status,
                outcome=outcome,
                streamed=self._cutter is not None,
                received_ms=identity.received_ms,
                completed_ms=recorder.clock_ms(),
                bearer=heads.bearer_of(request.fields) if self._plane.notarised else b"",
            ),
            self._recorded,
        )

    def _recorded(self, result: Entered | LyditeError) -> None:
        """Let the answer go, or, without a receipt, an error in its place."""
        if isinstance(result, Entered):
            self._plane.tally.recorded(self._outcome)
        if self._share is not None:
            self._share.free()  # what the client does not read of it, its connection counts
        if self._gone:
            return
        if isinstance(result, Entered):
            self._release(result.compact)
        elif self._cutter is None:
            held = isinstance(result, UnavailableError)  # there is a receipt, but no leave
            self._refuse(result if held else StorageError(_NO_RECEIPT))
        else:
            self._finish_stream(heads.fault_event(_NO_RECEIPT, result.reason))

    def _release(self, receipt: bytes) -> None:
        if self._cutter is not None:
            self._finish_stream(wire.comment_line(receipt) + self._held)
            return
        keep, body = self._request.head.keep, self._parts
        head = _RECEIPT % (
            self._lines,
            self._name,
            self._identity.salt.hex().encode(),
            wire.header_value(receipt),
            len(body[0]) if len(body) == 1 else sum(map(len, body)),
            heads.end_of_head(b"", keep=keep),
        )
        if self._length > FREE_BYTES:
            self._client.write(head)
            for each in body:
                self._client.write(each)
        else:
            self._client.write(b"".join((head, *body)))
        self._count(self._status)
        self._client.finished(keep=keep)

    def _finish_stream(self, last: bytes) -> None:
        end = b"" if self._request.head.old else _LAST_CHUNK
        self._client.write(self._framed(last) + end)
        self._count(self._status)
        self._client.finished(keep=self._request.keep)

    def _refuse(self, error: LyditeError) -> None:
        """Answer that there is no answer, and no receipt: no engine was asked, or none is kept."""
        self._over = True
        keep = self._request.keep
        status = 400 if isinstance(error, FormatError) else 503
        self._client.write(heads.fault(str(error), error.reason, status, keep=keep))
        self._count(status)
        self._client.finished(keep=keep)

    def _count(self, status: int) -> None:
        route = self._request.head.path.decode()
        plane, model, times = self._plane, self._model, self._times
        plane.tally.served(route, model, status, times)
        if plane.spans is not None:
            fields = self._request.fields
            plane.spans.served(
                Served(self._identity.receipt_id, route, model, status, times, fields)
            )

    def _framed(self, data: bytes) -> bytes:
        return data if self._request.head.old else b"%x\r\n%b\r\n" % (len(data), data)

    def _commit(self) -> ResponseCommitment:
        if self._answered is not None:
            return ResponseCommitment(self._answered.digest())
        if len(self._parts) > 1:
            self._parts = [b"".join(self._parts)]
        whole = self._parts[0] if self._parts else b""
        return commitment.commit_response(self._identity.salt, whole)

    def _names(self) -> bytes:
        return _NAMES % (self._name, self._identity.salt.hex().encode())
