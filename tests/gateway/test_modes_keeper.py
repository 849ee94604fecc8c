"""The keeper does what the specification says, whatever is done to it, in whichever order.

Hypothesis drives a keeper over its real upload port, with a machine that is a record of what it
was switched on with, and holds it to ``modes.step`` after each act.
"""

import asyncio
import contextlib
import json
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lydite.engines.weights import measure
from lydite.errors import LyditeError, StorageError
from lydite.gateway.modes import bundles, modes
from lydite.gateway.modes.bundles import SIGNATURE, Anchors
from lydite.gateway.modes.intake import Store
from lydite.gateway.modes.keeper import Change, Keeper, World
from lydite.gateway.modes.modes import Answers, Arrived, Begin, Fail, Matched, PowerIsOff, State
from lydite.gateway.modes.power import stuck
from lydite.gateway.modes.upload import Port, UploadConnection
from lydite.gateway.modes.whitelist import Whitelist
from lydite.gateway.settings import CommandPower, Modes
from lydite.messages.mode import Cause, Mode
from tests.gateway.guarded import make_model


class Machine:
    """Holds what was in the store when it was switched on, until it is switched off."""

    name = "machine"

    def __init__(self, store: Path) -> None:
        self.store = store
        self.holds: str | None = "anything"
        self.obeys = True

    async def on(self) -> None:
        self.holds = measure(self.store / "model").root

    async def off(self) -> None:
        if not self.obeys:
            raise stuck("the switch refuses")
        self.holds = None


class Office:
    """A keeper in a loop of its own thread, with everything around it."""

    def __init__(self) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="lydite-keeper-", dir="/dev/shm"))
        model = make_model(self.place / "model", size=3000)
        bundles.create_key(self.place / "key")
        (self.place / "signed").mkdir()
        self.listed = bundles.sign(model, self.place / "key", self.place / "signed")
        self.body = b"".join(path.read_bytes() for path in sorted(model.iterdir()))
        (self.place / "store").mkdir()
        self.machine = Machine(self.place / "store")
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.entries: list[Change] = []
        self.writable = True
        self.hung_up = 0
        self.keeper: Keeper
        self.server: asyncio.Server

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    def call(self, work: Callable[[], Any]) -> Any:
        async def inside() -> Any:
            return work()

        return self.run(inside())

    def start(self) -> None:
        self.run(self._start())

    async def _start(self) -> None:
        key = self.place / "signed" / "signer.pem"
        state = self.place / "state"
        shutil.rmtree(state, ignore_errors=True)
        self.whitelist = Whitelist(Anchors((key,)), state, [self.place / "signed"])
        nothing = CommandPower(on=("true",), off=("true",))
        how = Modes(store=str(self.place / "store"), power=nothing, retry_ms=5, stall_ms=60_000)
        world = World(
            power=self.machine,
            store=Store(self.place / "store"),
            whitelist=self.whitelist,
            declared=self.listed.root,
            enter=self._enter,
            answers=self._answers,
            hang_up=self._hang_up,
            clock_ms=lambda: 0,
        )
        self.keeper = Keeper(how, world)
        port = Port(self.keeper, 60, None, set())
        self.server = await self.loop.create_server(lambda: UploadConnection(port), "127.0.0.1", 0)
        self.keeper.start()

    async def _enter(self, change: Change) -> None:
        if not self.writable:
            raise StorageError("the disk is full")
        self.entries.append(change)

    async def _answers(self) -> bool:
        return self.machine.holds is not None

    def _hang_up(self) -> None:
        self.hung_up += 1

    def crash(self) -> None:
        """Forget the keeper and all that it was about to do; the machine stays as it is."""

        async def inside() -> None:
            self.server.close()
            others = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self.run(inside())

    def close(self) -> None:
        self.crash()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()
        shutil.rmtree(self.place)

    def connect(self) -> socket.socket:
        port: int = self.server.sockets[0].getsockname()[1]
        return socket.create_connection(("127.0.0.1", port), timeout=10)

    def head(self, root: str, size: int) -> bytes:
        text = f"PUT /v1/upload/{root} HTTP/1.1\r\nHost: t\r\nContent-Length: {size}\r\n\r\n"
        return text.encode()


@settings(
    max_examples=40,
    stateful_step_count=14,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
class Kept(RuleBasedStateMachine):
    """Acts upon the keeper and, beside it, upon the specification."""

    def __init__(self) -> None:
        super().__init__()
        self.office = Office()
        self.client: socket.socket | None = None
        self.good = True
        self.sent = 0

    @initialize()
    def begins(self) -> None:
        self.office.start()
        self.expected = State()
        self.listed = {self.office.listed.root: self.office.listed.size}
        self.settle()

    def teardown(self) -> None:
        self.office.close()

    def expect(self, event: modes.Event) -> None:
        self.expected = modes.step(self.expected, event, self.listed).state

    def settle(self) -> None:
        """Let the world do what follows by itself, there and here, and compare."""
        if self.expected.mode is Mode.DARK and self.office.machine.obeys:
            self.expect(PowerIsOff())
        state = self.expected
        if state.mode is Mode.UPLOAD and state.model is not None and state.received == state.size:
            self.expect(Matched(state.attempt))
            failing = not self.office.writable
            self.expect(Fail(Cause.UNLOGGED) if failing else Answers(state.attempt))
            if failing:
                self.settle()
                return
        deadline = time.monotonic() + 5
        while self.office.call(lambda: self.office.keeper.state) != self.expected:
            found = self.office.keeper.state
            assert time.monotonic() < deadline, f"{found}, expected {self.expected}"
            time.sleep(0.001)

    def drop(self) -> None:
        if self.client is not None:
            self.client.close()
            self.client = None

    @precondition(lambda self: self.client is None)
    @rule(right=st.booleans(), more=st.sampled_from([-1, 0, 0, 0, 1]))
    def somebody_begins(self, right: bool, more: int) -> None:
        root = self.office.listed.root if right else "0" * 64
        begin = Begin(root, self.office.listed.size + more)
        self.client = self.office.connect()
        self.client.sendall(self.office.head(begin.model, begin.size))
        try:
            if self.office.call(lambda: self.office.keeper._log_refuses):
                raise StorageError("the disk is full")
            self.expect(begin)
        except LyditeError as refusal:
            self.is_refused(refusal.reason)
        self.good, self.sent = True, 0
        self.settle()

    def is_refused(self, reason: str) -> None:
        assert self.client is not None
        answer = self.client.recv(65536)
        body = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert body["error"]["code"] == reason
        self.drop()

    @precondition(lambda self: self.client is not None)
    @rule(length=st.integers(1, 4000), wrong=st.booleans(), whole=st.booleans())
    def bytes_arrive(self, length: int, wrong: bool, whole: bool) -> None:
        assert self.client is not None
        attempt, left = self.expected.attempt, self.expected.size - self.expected.received
        length = left if whole else length
        data = bytearray(self.office.body[self.sent : self.sent + length].ljust(length, b"x"))
        if wrong and self.sent < len(self.office.body):
            data[0] ^= 255
            self.good = False
        self.sent += length
        self.client.sendall(data)
        self.expect(Arrived(attempt, length))
        if self.expected.mode is Mode.UPLOAD and not self.good:
            if self.expected.received < self.expected.size:
                self.wait_for_some(length)
                return
            self.expect(Fail(Cause.WRONG_WEIGHTS, attempt))
        if self.expected.mode is not Mode.UPLOAD or self.expected.received == self.expected.size:
            self.settle()
            self.drop()
        self.settle()

    def wait_for_some(self, length: int) -> None:
        """A wrong byte shows with its piece: now, or with bytes to come."""
        deadline = time.monotonic() + 5
        while True:
            state = self.office.call(lambda: self.office.keeper.state)
            if state == self.expected:
                time.sleep(0.003)  # a digest may be under way
                state = self.office.call(lambda: self.office.keeper.state)
            if state == self.expected:
                return
            if state.attempt != self.expected.attempt:
                self.expect(Fail(Cause.WRONG_WEIGHTS, self.expected.attempt))
                self.drop()
                self.settle()
                return
            assert time.monotonic() < deadline
            time.sleep(0.001)

    @precondition(lambda self: self.client is None)
    @rule(wrong=st.booleans())
    def somebody_uploads_all_of_it(self, wrong: bool) -> None:
        self.somebody_begins(right=True, more=0)
        if self.client is not None:
            self.bytes_arrive(length=1, wrong=wrong, whole=True)

    @precondition(lambda self: self.client is not None)
    @rule()
    def the_uploader_hangs_up(self) -> None:
        self.drop()
        self.expect(Fail(Cause.BROKEN_OFF))
        self.settle()

    @rule()
    def an_officer_cuts_the_power(self) -> None:
        self.office.call(lambda: self.office.keeper.tell(Fail(Cause.INSTRUCTION), "so"))
        self.expect(Fail(Cause.INSTRUCTION))
        self.settle()
        self.drop()

    @rule()
    def the_switch_changes_its_mind(self) -> None:
        self.office.machine.obeys = not self.office.machine.obeys
        self.settle()

    @rule()
    def the_disk_changes_its_mind(self) -> None:
        self.office.writable = not self.office.writable
        if self.office.writable:
            time.sleep(0.02)
        self.settle()

    @rule()
    def the_gateway_crashes_and_starts_again(self) -> None:
        self.drop()
        holds = self.office.machine.holds
        self.office.crash()
        assert self.office.machine.holds in {holds, None}, "a crash switches nothing on"
        self.office.start()
        self.listed = {self.office.listed.root: self.office.listed.size}
        self.expected = State()
        self.settle()

    @rule()
    def the_model_is_struck_off_or_put_back(self) -> None:
        root = self.office.listed.root
        if root in self.listed:
            self.office.run(self.office.whitelist.remove(root))
            del self.listed[root]
            self.expect(modes.Unlisted(root))
            if self.expected.mode is Mode.DARK:
                self.settle()
                self.drop()
        else:
            signed = self.office.place / "signed"
            parts = (signed / SIGNATURE).read_bytes(), (signed / "layout.json").read_bytes()
            self.office.run(self.office.whitelist.add(bundle(*parts)))
            self.listed[root] = self.office.listed.size
        self.settle()

    @invariant()
    def what_is_served_is_the_listed_model(self) -> None:
        state = self.office.call(lambda: (self.office.keeper.state, self.office.machine.holds))
        mode, holds = state[0].mode, state[1]
        event(f"mode {mode}")
        if mode is Mode.SERVING:
            assert holds == self.office.listed.root
            assert self.office.entries[-1].cause is Cause.ANSWERS
        if mode is Mode.UPLOAD:
            assert holds is None
        numbers = [change.sequence for change in self.office.entries]
        boots = numbers.count(1)
        assert sum(b <= a for a, b in pairwise(numbers)) < max(boots, 1)


def bundle(signature: bytes, layout: bytes) -> Any:
    from lydite.gateway.modes.whitelist import Bundle

    return Bundle(signature, layout)


TestKept = pytest.mark.timeout(120)(Kept.TestCase)


@pytest.fixture(scope="module")
def office() -> Iterator[Office]:
    made = Office()
    made.start()
    made.run(made.keeper.settled())
    yield made
    made.close()


PIECES = st.sampled_from(
    [
        b"PUT /v1/upload/",
        b"GET /v1/mode HTTP/1.1\r\n",
        b"0" * 64,
        b" HTTP/1.1\r\n",
        b"Host: t\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: -1\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Expect: 100-continue\r\n",
        b"\r\n",
        b"\n",
        b": ",
    ]
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(PIECES | st.binary(max_size=30), max_size=9).map(b"".join))
def test_no_noise_on_the_upload_port_changes_anything(office: Office, noise: bytes) -> None:
    before = office.call(lambda: (office.keeper.state, office.keeper.last))
    with office.connect() as peer:
        peer.sendall(noise)
        peer.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            answer = peer.recv(65536)
            assert not answer or answer.startswith(b"HTTP/1.1 ")
    assert office.call(lambda: (office.keeper.state, office.keeper.last)) == before


def test_strangers_who_wait_cannot_take_all_memory(office: Office) -> None:
    peers = [office.connect() for _ in range(80)]
    try:
        deadline = time.monotonic() + 5
        while sum(hung_up(peer) for peer in peers) < 80 - 64:
            assert time.monotonic() < deadline
    finally:
        for peer in peers:
            peer.close()


def hung_up(peer: socket.socket) -> bool:
    peer.setblocking(False)
    try:
        return peer.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
