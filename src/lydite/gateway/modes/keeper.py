"""Keeps the mode: does what ``modes`` demands of the world, and tells the world's news to it.

Everything here runs in one event loop. Nothing is forwarded but in SERVING; the power is cut by one
task at a time, again and again until it is off; every change of mode goes into the log, the one to
SERVING before a request is answered. Knows nothing of HTTP.
"""

import asyncio
import contextlib
import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple

from lydite.errors import LyditeError, Reason, StorageError, UnavailableError, VerificationError
from lydite.gateway.modes import modes
from lydite.gateway.modes.bundles import Listed
from lydite.gateway.modes.intake import Intake, Store, Watcher
from lydite.gateway.modes.modes import (
    Answers,
    Arrived,
    Begin,
    Deed,
    Fail,
    Matched,
    PowerIsOff,
    State,
)
from lydite.gateway.modes.power import Power, run
from lydite.gateway.modes.whitelist import Whitelist
from lydite.gateway.settings import Modes
from lydite.messages.mode import Cause, Mode

_PROBE_S = 0.05
_logger = logging.getLogger(__name__)


class Change(NamedTuple):
    """A change of mode, as the log is to have it."""

    sequence: int
    state: State
    cause: Cause
    detail: str
    signature: str | None
    at_ms: int


class World(NamedTuple):
    """What a keeper acts on."""

    power: Power
    store: Store
    whitelist: Whitelist
    declared: str
    """The weights root of the declaration: no other model is taken."""
    enter: Callable[[Change], Awaitable[None]]
    """Puts a change into the log; raises a LyditeError where it cannot."""
    answers: Callable[[], Awaitable[bool]]
    """Whether the machine answers."""
    hang_up: Callable[[], None]
    """Stops every answer under way."""
    clock_ms: Callable[[], int]
    """The time of day."""


class Upload:
    """One upload, as the connection that brings it sees it."""

    def __init__(self, keeper: "Keeper", attempt: int, intake: Intake) -> None:
        self._keeper = keeper
        self._attempt = attempt
        self._intake = intake
        self.over: asyncio.Future[Change] = asyncio.get_running_loop().create_future()
        """The change that ended it: to SERVING, or to DARK."""
        self.on_room: Callable[[], None] = lambda: None

    def buffer(self) -> memoryview | None:
        """Return where the next bytes go; None if there is no room, or nothing is missing."""
        return self._intake.buffer()

    @property
    def missing(self) -> int:
        """How many bytes are still to come; 0 too once the attempt is over."""
        state = self._keeper.state
        return state.size - state.received if state.attempt == self._attempt else 0

    def took(self, length: int) -> None:
        """Take note of bytes that came: in the buffer, or where there is no room for them."""
        expected = self.missing >= length
        self._keeper.tell(Arrived(self._attempt, length))
        if expected:
            self._intake.took(length)

    def fail(self, cause: Cause, detail: str = "") -> None:
        """End the upload."""
        self._keeper.tell(Fail(cause, self._attempt), detail)


class Keeper:
    """The mode of one gateway. Every method belongs to the event loop."""

    def __init__(self, settings: Modes, world: World) -> None:
        self._settings = settings
        self._world = world
        self.boot = os.urandom(16).hex()
        self.state = State()
        self.alarm: str | None = None
        """Why the machine cannot be switched, while it cannot."""
        self.served = asyncio.Event()
        """Set while the mode is SERVING."""
        self.last = Change(1, self.state, Cause.STARTED, "", None, world.clock_ms())
        self._model: Listed | None = None
        self._upload: Upload | None = None
        self._intake: Intake | None = None
        self._unlogged: deque[Change] = deque([self.last])
        self._log_refuses = False
        self._logging = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loading: asyncio.Task[None] | None = None
        world.whitelist.on_removal = lambda root: self.tell(modes.Unlisted(root))

    @property
    def serving(self) -> bool:
        """Whether requests may be forwarded."""
        return self.state.mode is Mode.SERVING

    def check(self) -> None:
        """Let a request through, or not.

        Raises:
            UnavailableError: the mode is not SERVING (``not-serving``).
        """
        if self.state.mode is not Mode.SERVING:
            raise UnavailableError(
                f"no model is served: the gateway is in mode {self.state.mode}", Reason.NOT_SERVING
            )

    def start(self) -> None:
        """Begin in the dark: cut whatever power there may be."""
        self._spawn(self._flush())
        self._spawn(self._darken())

    async def stop(self) -> None:
        """Cut the power, once, and log it: what nobody watches shall not run."""
        self.tell(Fail(Cause.STOPPED))
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._release()
        with contextlib.suppress(LyditeError):  # at the next start it is cut again
            await self._world.power.off()
            await asyncio.to_thread(self._world.store.wipe)
        with contextlib.suppress(LyditeError):  # what cannot be logged now never will be
            await self._log()

    async def cut_power(self, why: str) -> str:
        """Cut the power and return the mode: for instructions, alarms and policies.

        Returns when the power is off, or at the first failure (``alarm`` says which); the keeper
        goes on trying.
        """
        self.tell(Fail(Cause.INSTRUCTION), why)
        return await self.settled()

    async def settled(self) -> str:
        """Wait until the dark is over, or there is an alarm; return the mode."""
        while self.state.mode is Mode.DARK and self.alarm is None:
            await asyncio.sleep(_PROBE_S)
        return self.state.mode.value

    async def start_upload(self, why: str = "") -> str:
        """Drop what is served or under way, and wait for new weights; return the mode."""
        return await self.cut_power(why)

    def begin(self, root: str, size: int) -> Upload:
        """Take an upload.

        Raises:
            LyditeError: not now, not this model, or not of this size.
            StorageError: the log or the store cannot be written.
        """
        if self._log_refuses:
            raise StorageError("the log cannot be written, so no upload is taken")
        if root != self._world.declared and root in self._world.whitelist.sizes:
            raise VerificationError(Reason.NOT_LISTED, f"{root[:16]} is listed, not declared")
        self.state = modes.step(self.state, Begin(root, size), self._world.whitelist.sizes).state
        self._model = self._world.whitelist.find(root)
        try:
            self._intake = Intake(self._model, self._world.store, self._watcher())
        except StorageError as error:
            self.tell(Fail(Cause.NO_ROOM), str(error))
            raise
        self._upload = Upload(self, self.state.attempt, self._intake)
        return self._upload

    def tell(self, event: modes.Event, detail: str = "") -> None:
        """Let something happen, and do what it demands.

        Raises:
            LyditeError: it has no place in this mode.
        """
        before = self.state
        stepped = modes.step(before, event, self._world.whitelist.sizes)
        self.state = stepped.state
        if stepped.cause is None:
            return
        if not isinstance(event, Answers):  # that one is in the log already
            shown = before if stepped.state.mode is Mode.DARK else stepped.state
            self._note(shown._replace(mode=stepped.state.mode), stepped.cause, detail)
            self._spawn(self._flush())
        _logger.info("mode %s: %s %s", self.state.mode, stepped.cause, detail)
        self._act(stepped)

    def _note(self, state: State, cause: Cause, detail: str = "") -> None:
        signature = None if self._model is None else self._model.signature
        number, now = self.last.sequence + 1, self._world.clock_ms()
        self.last = Change(number, state, cause, detail[:400], signature, now)
        self._unlogged.append(self.last)

    def _act(self, stepped: modes.Step) -> None:
        if stepped.deed is Deed.CUT:
            self.served.clear()
            self._world.hang_up()
            self._end_upload()
            self._model = None
            self._spawn(self._darken())
        elif stepped.deed is Deed.POWER_ON:
            self._loading = self._spawn(self._load(self.state.attempt))
        elif self.state.mode is Mode.SERVING:
            self.served.set()
            self._end_upload()

    def _end_upload(self) -> None:
        upload, self._upload = self._upload, None
        if upload is not None and not upload.over.done():
            upload.over.set_result(self.last)

    def _watcher(self) -> Watcher:
        loop, attempt = asyncio.get_running_loop(), self.state.attempt

        def room() -> None:
            if self._upload is not None and self.state.attempt == attempt:
                self._upload.on_room()

        return Watcher(
            matched=lambda: _soon(loop, self.tell, Matched(attempt)),
            failed=lambda cause, why: _soon(loop, self.tell, Fail(cause, attempt), why),
            room=lambda: _soon(loop, room),
        )

    async def _darken(self) -> None:
        """Cut the power and wipe the memory, until that is done."""
        loading, self._loading = self._loading, None
        if loading is not None:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
        while True:
            try:
                await self._world.power.off()
                await self._release()
                await asyncio.to_thread(self._world.store.wipe)
                if self._settings.wipe is not None:
                    await run(self._settings.wipe, self._settings.load_timeout_ms)
                break
            except Exception as error:  # whatever it is, the power has to be tried again
                self.alarm = f"{self._world.power.name}: {error}"
                _logger.critical("the machine may still be on: %s", self.alarm, exc_info=True)
                await asyncio.sleep(self._settings.retry_ms / 1000)
        self.alarm = None
        self.tell(PowerIsOff())

    async def _release(self) -> None:
        intake, self._intake = self._intake, None
        if intake is not None:
            await asyncio.to_thread(intake.close)

    async def _load(self, attempt: int) -> None:
        """Switch the machine on and wait until it answers and the log says so."""
        await self._release()
        try:
            async with asyncio.timeout(self._settings.load_timeout_ms / 1000):
                await self._world.power.on()
                while not await self._world.answers():
                    await asyncio.sleep(_PROBE_S)
        except (TimeoutError, LyditeError) as error:
            why = str(error) or f"no answer within {self._settings.load_timeout_ms} ms"
            self.tell(Fail(Cause.LOAD_FAILED, attempt), why)
            return
        self._note(self.state._replace(mode=Mode.SERVING), Cause.ANSWERS)
        try:
            await self._log()
        except LyditeError as error:
            self.tell(Fail(Cause.UNLOGGED, attempt), str(error))
            return
        self.tell(Answers(attempt))

    async def _flush(self) -> None:
        """Bring the log up to date, however long that takes."""
        while True:
            try:
                await self._log()
            except LyditeError as error:
                _logger.error("a change of mode is not in the log yet: %s", error)
                await asyncio.sleep(self._settings.retry_ms / 1000)
            else:
                return

    async def _log(self) -> None:
        async with self._logging:
            while self._unlogged:
                try:
                    await self._world.enter(self._unlogged[0])
                except LyditeError:
                    self._log_refuses = True
                    raise
                self._log_refuses = False
                self._unlogged.popleft()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _logger.critical("the keeper failed", exc_info=task.exception())
            self.tell(Fail(Cause.LOAD_FAILED), "internal error")


def _soon(loop: asyncio.AbstractEventLoop, work: Callable[..., None], *arguments: Any) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is over, and everything with it
        loop.call_soon_threadsafe(work, *arguments)
