"""Several workers on one port, kept alive by the main process, which records what they have served.

Each worker accepts on a socket of its own at the same address; the main process holds it too, so
what waits to be accepted survives a worker. One that dies is replaced, and it is said; requests
that it held break off. When the main process dies, its workers see their channels close and end.
"""

import asyncio
import functools
import logging
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence

import msgspec

from lydite.errors import ConfigurationError, LyditeError
from lydite.gateway import answers
from lydite.gateway.answers import Table
from lydite.gateway.channel import (
    Answered,
    Ask,
    Begin,
    Channel,
    Counted,
    Drain,
    Follow,
    Ready,
    Recorded,
    State,
    Submit,
    Unrecorded,
    Up,
)
from lydite.gateway.exchange import Records
from lydite.gateway.front import Prepared
from lydite.gateway.heads import RequestHead
from lydite.gateway.reading import RefusedError, Request
from lydite.gateway.scribe import Entered
from lydite.gateway.settings import Settings
from lydite.gateway.tally import Tally

_START_S = 30.0
_FOLLOW_S = 10.0
_LOOK_S = 0.1
_GRACE_S = 5.0
_QUICK_S = 10.0
"""A worker that lived for less is replaced more slowly each time."""
_SLOWEST_S = 5.0
_logger = logging.getLogger(__name__)


class _Hand:
    """The main process's end of one worker."""

    def __init__(self, number: int, listener: socket.socket) -> None:
        self.number = number
        self.listener = listener
        self.process: subprocess.Popen[bytes] | None = None
        self.gone = asyncio.Event()
        self.ready: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self.tally = Tally()
        self.usable = 0
        self._channels: list[Channel[Up]] = []

    async def start(self, office: "Supervisor", begin: Begin) -> None:
        """Start the process and tell it to begin."""
        pairs = [socket.socketpair() for _ in range(2)]
        inherited = [pair[1].fileno() for pair in pairs] + [self.listener.fileno()]
        command = [sys.executable, "-m", "lydite.gateway.worker", *map(str, inherited)]
        try:
            self.process = subprocess.Popen(
                command, pass_fds=inherited, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
        finally:
            for pair in pairs:
                pair[1].close()
        take = functools.partial(office.take, self)
        self._channels = [await Channel[Up].over(a, Up, take, self.gone.set) for a, _ in pairs]
        self._channels[1].send(begin)

    def reply(self, message: Recorded | Unrecorded | State) -> None:
        """Send what concerns records."""
        if self._channels:
            self._channels[0].send(message)

    def tell(self, message: Answered | Follow | Drain) -> None:
        """Send anything else."""
        if self._channels:
            self._channels[1].send(message)

    async def end(self) -> int:
        """Make sure that it is gone, and return how it ended."""
        for channel in self._channels:
            channel.close()
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.kill()
        return await asyncio.to_thread(self.process.wait)


class Supervisor:
    """All workers of one gateway, in the place of a data plane of its own."""

    def __init__(self, prepared: Prepared, records: Records, table: Table) -> None:
        self._settings = _public(prepared.settings)
        self._records = records
        self._table = table
        self._hands: list[_Hand] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._errands: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._past = Tally()
        self.restarts = 0
        """How many workers had to be replaced."""

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Start a worker for each socket and wait until all serve.

        Raises:
            ConfigurationError: a worker did not come up.
        """
        self._hands = [_Hand(number, each) for number, each in enumerate(sockets, start=1)]
        for hand in self._hands:
            await hand.start(self, self._begin())
        for hand in self._hands:
            await self._up(hand)
        self._tasks = [asyncio.create_task(self._keep(hand)) for hand in self._hands]
        self._tasks.append(asyncio.create_task(self._look()))

    async def change(self, prepared: Prepared) -> None:
        """Have every worker follow new settings.

        Raises:
            ConfigurationError: one could not; it is replaced by one that starts with them.
        """
        self._settings = _public(prepared.settings)
        loop = asyncio.get_running_loop()
        for hand in self._hands:
            hand.ready = loop.create_future()
            hand.tell(Follow(self._settings))
        refusals = [await self._answer(hand, _FOLLOW_S) for hand in self._hands]
        for hand, refusal in zip(self._hands, refusals, strict=True):
            if refusal is not None and hand.process is not None:
                hand.process.kill()
        told = [refusal for refusal in refusals if refusal is not None]
        if told:
            raise ConfigurationError(f"workers: {told[0]}")

    async def stop(self) -> None:
        """Have every worker finish what it serves within its time, and end it."""
        self._stopping = True
        for hand in self._hands:
            hand.listener.close()
            hand.tell(Drain())
        limit_s = self._settings.limits.drain_ms / 1000 + _GRACE_S
        waits = [asyncio.ensure_future(hand.gone.wait()) for hand in self._hands if hand.process]
        if waits:
            _, late = await asyncio.wait(waits, timeout=limit_s)
            for each in late:
                each.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for hand in self._hands:
            await hand.end()

    def tallies(self) -> list[Tally]:
        """Return what the workers have counted, and last what those that are gone had."""
        return [*(hand.tally for hand in self._hands), self._past]

    @property
    def ready(self) -> bool:
        """Whether any worker may ask any upstream."""
        return any(hand.usable for hand in self._hands if not hand.gone.is_set())

    def take(self, hand: _Hand, message: Up) -> None:
        """Do what a worker asks for."""
        match message:
            case Submit():
                done = functools.partial(self._recorded, hand, message.number)
                self._records.submit(message.draft, done)
            case Ask():
                task = asyncio.ensure_future(self._run(hand, message))
                self._errands.add(task)
                task.add_done_callback(self._errands.discard)
            case Counted():
                hand.tally, hand.usable = message.tally, message.usable
            case Ready():
                if not hand.ready.done():
                    hand.ready.set_result(message.refusal)

    def _recorded(self, hand: _Hand, number: int, result: Entered | LyditeError) -> None:
        if isinstance(result, Entered):
            hand.reply(Recorded(number, result))
        else:
            hand.reply(Unrecorded(number, str(result), result.reason))

    async def _run(self, hand: _Hand, ask: Ask) -> None:
        head = RequestHead(ask.method, ask.target, ask.fields, keep=True, old=False)
        try:
            route = self._table.route(ask.method, ask.target)
        except RefusedError as error:
            answer = answers.fault(error, error.status)
        else:
            answer = await answers.settle(route, Request(head, ask.body))
        hand.tell(Answered(ask.number, answer.body, answer.content_type, answer.status))

    def _begin(self) -> Begin:
        return Begin(self._settings, self._table.paths, self._records.failing)

    async def _up(self, hand: _Hand) -> None:
        refusal = await self._answer(hand, _START_S)
        if refusal is not None:
            raise ConfigurationError(f"worker {hand.number} does not start: {refusal}")

    async def _answer(self, hand: _Hand, limit_s: float) -> str | None:
        """Return what a worker has against its settings, None for nothing."""
        gone = asyncio.ensure_future(hand.gone.wait())
        try:
            await asyncio.wait(
                (gone, hand.ready), timeout=limit_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            gone.cancel()
        if hand.ready.done():
            return hand.ready.result()
        return "it is gone" if hand.gone.is_set() else "it does not answer"

    async def _keep(self, hand: _Hand) -> None:
        """Replace a worker whenever it is gone."""
        loop = asyncio.get_running_loop()
        pause_s = 0.0
        while True:
            began = loop.time()
            await hand.gone.wait()
            pid = hand.process.pid if hand.process is not None else 0
            code = await hand.end()
            if self._stopping:
                return
            _logger.error(
                "worker %d (process %d) ended by %s: requests that it held broke off; starting"
                " another",
                *(hand.number, pid, _how(code)),
            )
            self.restarts += 1
            self._past.add(hand.tally)
            pause_s = 0.0 if loop.time() - began > _QUICK_S else min(2 * pause_s + 0.1, _SLOWEST_S)
            await asyncio.sleep(pause_s)
            hand = self._replace(hand)
            await hand.start(self, self._begin())

    def _replace(self, old: _Hand) -> _Hand:
        new = _Hand(old.number, old.listener)
        self._hands[self._hands.index(old)] = new
        return new

    async def _look(self) -> None:
        """Tell workers when recording fails, and when it works again."""
        said = self._records.failing
        while True:
            await asyncio.sleep(_LOOK_S)
            if said != self._records.failing:
                said = self._records.failing
                for hand in self._hands:
                    hand.reply(State(said))


def _public(settings: Settings) -> Settings:
    """Return settings as a worker may know them."""
    return msgspec.structs.replace(settings, audit_token=None)


def _how(code: int) -> str:
    if code >= 0:
        return f"exit {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
