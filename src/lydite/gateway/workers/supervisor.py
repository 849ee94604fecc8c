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
from collections import deque
from collections.abc import Sequence

import msgspec

from lydite.errors import ConfigurationError, LyditeError
from lydite.gateway.heads import RequestHead
from lydite.gateway.ledger.scribe import Entered
from lydite.gateway.plane import answers
from lydite.gateway.plane.answers import Table
from lydite.gateway.plane.exchange import Records
from lydite.gateway.plane.front import Prepared
from lydite.gateway.plane.reading import RefusedError, Request
from lydite.gateway.settings import Settings
from lydite.gateway.tally import Tally
from lydite.gateway.workers.channel import (
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

_START_S = 30.0
_FOLLOW_S = 10.0
_LOOK_S = 0.1
_GRACE_S = 5.0
_STUCK_S = 60.0
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
        self.tally = Tally()
        self.usable = 0
        self.heard = asyncio.get_running_loop().time()
        """When it last said anything, in the loop's seconds."""
        self._channels: list[Channel[Up]] = []
        self._expected: deque[asyncio.Future[str | None]] = deque()

    async def start(self, office: "Supervisor", begin: Begin) -> str | None:
        """Start the process and tell it to begin; return why it cannot, None if it serves."""
        pairs = [socket.socketpair() for _ in range(2)]
        inherited = [pair[1].fileno() for pair in pairs] + [self.listener.fileno()]
        command = [sys.executable, "-m", "lydite.gateway.workers.worker", *map(str, inherited)]
        try:
            self.process = subprocess.Popen(
                command, pass_fds=inherited, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
        finally:
            for pair in pairs:
                pair[1].close()
        take = functools.partial(office.take, self)
        self._channels = [Channel[Up](Up, take, self.gone.set) for _ in pairs]
        for channel, (ours, _) in zip(self._channels, pairs, strict=True):
            await channel.connect(ours)
        return await self.ask(begin, _START_S)

    async def ask(self, message: Begin | Follow, limit_s: float) -> str | None:
        """Have it follow settings; return what it has against them, None for nothing."""
        answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._expected.append(answer)
        self._channels[1].send(message)
        gone = asyncio.ensure_future(self.gone.wait())
        either = (gone, answer)
        try:
            await asyncio.wait(either, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
        if answer.done():
            return answer.result()
        return "it is gone" if self.gone.is_set() else "it does not answer"

    def answered(self, refusal: str | None) -> None:
        """Take the answer to the first question that is open."""
        answer = self._expected.popleft()
        if not answer.done():
            answer.set_result(refusal)

    def reply(self, message: Recorded | Unrecorded | State) -> None:
        """Send what concerns records."""
        if self._channels:
            self._channels[0].send(message)

    def tell(self, message: Answered | Drain) -> None:
        """Send anything else."""
        if self._channels:
            self._channels[1].send(message)

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()

    async def end(self) -> int:
        """Make sure that it is gone, and return how it ended."""
        for channel in self._channels:
            channel.close()
        self.gone.set()
        if self.process is None:
            return 0
        self.kill()
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
        starts = (hand.start(self, self._begin()) for hand in self._hands)
        refusals = await asyncio.gather(*starts)
        for hand, refusal in zip(self._hands, refusals, strict=True):
            if refusal is not None:
                raise ConfigurationError(f"worker {hand.number} does not start: {refusal}")
        self._tasks = [asyncio.create_task(self._keep(hand)) for hand in self._hands]
        self._tasks.append(asyncio.create_task(self._look()))

    async def change(self, prepared: Prepared) -> None:
        """Have every worker follow new settings.

        Raises:
            ConfigurationError: one could not; it is replaced by one that starts with them.
        """
        self._settings = _public(prepared.settings)
        follow = Follow(self._settings)
        hands = [hand for hand in self._hands if not hand.gone.is_set()]
        refusals = await asyncio.gather(*(hand.ask(follow, _FOLLOW_S) for hand in hands))
        for hand, refusal in zip(hands, refusals, strict=True):
            if refusal is not None:
                hand.kill()
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
        hand.heard = asyncio.get_running_loop().time()
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
                hand.answered(message.refusal)

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
            hand.tally.inflight = 0
            self._past.add(hand.tally)
            pause_s = 0.0 if loop.time() - began > _QUICK_S else min(2 * pause_s + 0.1, _SLOWEST_S)
            await asyncio.sleep(pause_s)
            hand = await self._another(hand)

    async def _another(self, old: _Hand) -> _Hand:
        """Start a worker in the place of one that is gone; one that does not come up is gone."""
        new = _Hand(old.number, old.listener)
        self._hands[self._hands.index(old)] = new
        try:
            refusal = await new.start(self, self._begin())
        except OSError as error:
            refusal = str(error)
        if refusal is not None:
            _logger.error("worker %d does not start: %s", new.number, refusal)
            new.kill()
            new.gone.set()
        return new

    async def _look(self) -> None:
        """Tell workers when recording fails, and when it works again."""
        said = self._records.failing
        while True:
            await asyncio.sleep(_LOOK_S)
            self._end_stuck()
            if said != self._records.failing:
                said = self._records.failing
                for hand in self._hands:
                    hand.reply(State(said))

    def _end_stuck(self) -> None:
        """End workers that have said nothing for long, though they count all the time."""
        now = asyncio.get_running_loop().time()
        for hand in self._hands:
            if now - hand.heard > _STUCK_S and not hand.gone.is_set():
                _logger.error("worker %d is stuck", hand.number)
                hand.kill()
                hand.heard = now


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
