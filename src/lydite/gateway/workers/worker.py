"""A process that serves clients for a gateway whose main process keeps the log and every key.

Started by the main process with sockets as its inheritance, told by it what to do, and over when it
is. Drafts go there to be recorded; the last byte of an answer still waits until they are.
"""

import asyncio
import logging
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Coroutine
from typing import Any

from lydite.errors import LyditeError
from lydite.gateway import loop
from lydite.gateway.ledger.receipts import Draft
from lydite.gateway.ledger.recorder import Done
from lydite.gateway.plane import front
from lydite.gateway.plane.answers import Answer, Route, Table
from lydite.gateway.plane.front import Front
from lydite.gateway.plane.reading import Request
from lydite.gateway.sealing import measured
from lydite.gateway.settings import Settings
from lydite.gateway.workers.channel import (
    Answered,
    Ask,
    Begin,
    Channel,
    Counted,
    Down,
    Drain,
    Follow,
    Ready,
    Recorded,
    State,
    Submit,
    Unrecorded,
)

_COUNT_S = 0.5
_LOOK_S = 0.01
_LAST_DRAFTS_S = 3.0
"""Less than the main process waits beyond the time that answers get."""
_logger = logging.getLogger(__name__)


class RemoteRecords:
    """The main process's recorder, as exchanges see it."""

    def __init__(self, channel: Channel[Down]) -> None:
        self._channel = channel
        self._waiting: dict[int, Done] = {}
        self._number = 0
        self.failing = False
        """What the main process said last."""

    @property
    def waiting(self) -> int:
        """How many drafts are not yet settled."""
        return len(self._waiting)

    def clock_ms(self) -> int:
        """Return the time of day in milliseconds since 1970."""
        return int(time.time() * 1000)

    def submit(self, work: Draft, done: Done) -> None:
        """Send ``work`` to be recorded."""
        self._number += 1
        self._waiting[self._number] = done
        self._channel.send(Submit(self._number, work))

    def settle(self, message: Recorded | Unrecorded) -> None:
        """Tell who waits, in a turn of its own, so that none can stop the others."""
        done = self._waiting.pop(message.number)
        result = (
            message.entered
            if isinstance(message, Recorded)
            else LyditeError(message.message, message.reason)
        )
        asyncio.get_running_loop().call_soon(done, result)


class RemoteRoutes:
    """The main process's routes: known here, so that what leads nowhere goes no further."""

    def __init__(self, channel: Channel[Down], paths: list[tuple[bytes, bytes]]) -> None:
        self._channel = channel
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._number = 0
        self._table = Table(*((way, re.compile(path), self._ask) for way, path in paths))

    def route(self, method: bytes, target: bytes) -> Route:
        """Return who answers.

        Raises:
            RefusedError: 404 or 405.
        """
        return self._table.route(method, target)

    def settle(self, message: Answered) -> None:
        """Tell who waits."""
        future = self._waiting.pop(message.number)
        if not future.done():
            future.set_result(Answer(message.body, message.content_type, message.status))

    async def _ask(self, request: Request, *_: str) -> Answer:
        self._number += 1
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[self._number] = future
        fields = list(request.fields)
        method, target, body = request.method, request.target, request.body
        self._channel.send(Ask(self._number, method, target, fields, body))
        return await future


class Worker:
    """One worker's state between the first message and the end of the channel."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._routes: RemoteRoutes
        self._over = asyncio.Event()
        self._front: Front | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()

    async def run(self, records: socket.socket, errands: socket.socket) -> None:
        """Serve until told to stop, or until the main process is gone."""
        channel = Channel[Down](Down, self._told, self._orphaned)
        self._errands = Channel[Down](Down, self._told, self._orphaned)
        self._remote = RemoteRecords(channel)
        await channel.connect(records)
        await self._errands.connect(errands)
        await self._over.wait()

    def _told(self, message: Down) -> None:
        match message:
            case Recorded() | Unrecorded():
                self._remote.settle(message)
            case Answered():
                self._routes.settle(message)
            case State():
                self._remote.failing = message.failing
            case Begin():
                self._routes = RemoteRoutes(self._errands, message.routes)
                self._remote.failing = message.failing
                self._do(self._obey(self._begin(message.settings)))
            case Follow():
                self._do(self._obey(self._follow(message.settings)))
            case Drain():
                self.drain()

    def drain(self) -> None:
        """Take no more, finish what runs, end."""
        self._do(self._drain())

    async def _obey(self, work: Coroutine[Any, Any, None]) -> None:
        """Do one thing after the other, and say of each whether it could be done."""
        refusal = None
        async with self._turn:
            try:
                await work
            except (LyditeError, OSError) as error:
                refusal = str(error)
        self._errands.send(Ready(refusal))

    async def _begin(self, settings: Settings) -> None:
        if settings.device is not None:
            measured.import_from_source()
        prepared = front.prepare(settings)
        plane = Front(prepared, self._remote, self._routes, asyncio.get_running_loop())
        await plane.start([self._listener])
        self._front = plane
        self._do(self._count(plane))

    async def _follow(self, settings: Settings) -> None:
        if self._front is not None:
            await self._front.change(front.prepare(settings))

    async def _drain(self) -> None:
        if self._front is not None:
            await self._front.stop()
            await self._last_drafts()
            self._report(self._front)
        self._errands.flush()
        self._over.set()

    async def _last_drafts(self) -> None:
        """Wait until what was broken off at the end is recorded as such."""
        deadline = time.monotonic() + _LAST_DRAFTS_S
        while self._remote.waiting and time.monotonic() < deadline:
            await asyncio.sleep(_LOOK_S)

    async def _count(self, plane: Front) -> None:
        while True:
            self._report(plane)
            await asyncio.sleep(_COUNT_S)

    def _report(self, plane: Front) -> None:
        self._errands.send(Counted(plane.tally(), plane.fleet.usable()))

    def _orphaned(self) -> None:
        """Hang up on everyone: without the main process no answer can get a receipt."""
        if self._front is not None:
            self._front.abort()
        self._over.set()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _logger.error("worker", exc_info=task.exception())
            os._exit(1)  # half a worker is none: the main process starts another


async def _work(records: int, errands: int, listener: int) -> None:
    loop = asyncio.get_running_loop()
    worker = Worker(socket.socket(fileno=listener))
    loop.add_signal_handler(signal.SIGTERM, worker.drain)
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # a terminal tells all: main says when
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    await worker.run(socket.socket(fileno=records), socket.socket(fileno=errands))


def main() -> None:
    """Take three inherited sockets by their numbers, and serve."""
    loop.log_to_stderr("info", f"[worker {os.getpid()}] ")
    loop.run(_work(*map(int, sys.argv[1:4])))


if __name__ == "__main__":
    main()
