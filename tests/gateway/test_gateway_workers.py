"""Several workers on one port, one log: real processes, and what happens when they die."""

import asyncio
import base64
import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lydite.gateway import wire
from lydite.gateway.settings import Limits, Tls
from lydite.gateway.workers import channel
from lydite.messages import compact
from lydite.messages.compact import Compact
from tests.gateway.certificates import Authority
from tests.gateway.conftest import TOKEN, Bench, prepare
from tests.gateway.fleet_process import Running, alive, until
from tests.gateway.raw_client import CHAT, Wire, ask, get, play, post
from tests.gateway.scripted_engine import chat, chat_stream, plain, script
from tests.gateway.test_gateway_crash import check_log, hammer
from tests.gateway.test_gateway_tls import outcome, trusting

Eventually = Callable[[Callable[[], bool]], None]
OK = json.dumps(script(plain(chat()))).encode()
WORKERS = 2
BEARER = b"Authorization: Bearer " + TOKEN.encode() + b"\r\n"


@pytest.fixture(scope="module")
def shared(bench: Bench) -> Iterator[Running]:
    directory = bench.directory / "shared"
    running = Running(prepare(directory, bench.engine.url, workers=WORKERS), directory)
    yield running
    assert running.end() == 0, running.log()


def served_by(running: Running) -> Counter[int]:
    """Return how many established connections each worker has at the gateway's port."""
    inodes = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(f":{running.port:04X}") and fields[3] == "01":
            inodes[f"socket:[{fields[9]}]"] = True
    found: Counter[int] = Counter()
    for pid in running.workers():
        for each in Path(f"/proc/{pid}/fd").iterdir():
            found[pid] += str(each.readlink()) in inodes
    return found


def test_answers_are_whole_and_receipted_whoever_serves(shared: Running, bench: Bench) -> None:
    assert len(shared.workers()) == WORKERS
    numbers = []
    for turn in range(12):
        raw = chat_stream() if turn % 2 else plain(chat())
        body, got = play(shared.port, raw)
        assert got.whole
        if turn % 2:
            receipt, answer = wire.from_stream(got.body)
        else:
            receipt, answer = wire.from_header(got.fields[wire.HEADER]), got.body
        compact.check(receipt, CHAT, body, answer)
        numbers.append(receipt.entry)
    assert numbers == sorted(set(numbers)), "one log, in the order in which answers ended"


def test_every_worker_serves(shared: Running) -> None:
    connections = [Wire(shared.port) for _ in range(32)]
    for each in connections:
        assert each.ask(post(CHAT, OK)).status == 200
    spread = served_by(shared)
    assert len(spread) == WORKERS
    assert all(spread.values()), spread
    for each in connections:
        each.socket.close()


def test_routes_of_the_log_are_answered_by_any_worker(shared: Running) -> None:
    got = ask(shared.port, post(CHAT, OK))
    receipt = wire.from_header(got.fields[wire.HEADER])
    for _ in range(8):
        assert "vrf" in json.loads(ask(shared.port, get(b"/v1/keys")).body)
        said = ask(shared.port, get(b"/v1/receipts/" + receipt.id.encode()))
        assert json.loads(said.body)["index"] == receipt.entry
    cases = {
        get(b"/v1/nothing"): 404,
        post(b"/v1/keys", b""): 405,
        get(b"/v1/receipts/" + b"0" * 32): 404,
        get(b"/v1/audit/openings/2"): 401,
        get(b"/v1/audit/openings/2", BEARER): 403,
    }
    for request, status in cases.items():
        assert ask(shared.port, request).status == status, request
    assert ask(shared.port, get(b"/v1/log/checkpoint")).body.startswith(b"lydite.test/gateway\n")


def test_a_path_that_leads_nowhere_is_refused_before_its_body(shared: Running) -> None:
    with Wire(shared.port) as connection:
        connection.send(b"POST /v1/nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 60000000\r\n\r\n")
        assert connection.read().status == 404


def test_workers_hold_no_secret(shared: Running) -> None:
    for pid in shared.workers():
        told = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
        assert TOKEN.encode() not in told
        opened = [str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()]
        assert not [name for name in opened if name.startswith(str(shared.settings.state))]


def test_large_bodies_pass_between_the_processes(shared: Running) -> None:
    large = b"x" * 20_000_000
    body = json.dumps(script(plain(large))).encode()
    got = ask(shared.port, post(CHAT, body))
    assert got.body == large
    compact.check(wire.from_header(got.fields[wire.HEADER]), CHAT, body, got.body)


def hung_up(connection: Wire) -> bool:
    """Say whether a connection on which nothing comes is over."""
    connection.socket.setblocking(False)
    try:
        return connection.socket.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_handshakes_take_places_in_every_worker(bench: Bench, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls")
    secured = Tls(**authority.issue("gateway", "localhost")._asdict())
    limits = Limits(connections_per_peer=2, head_timeout_ms=60_000)
    running = Running(
        prepare(tmp_path, bench.engine.url, workers=WORKERS, tls=secured, limits=limits), tmp_path
    )
    idle = [Wire(running.port) for _ in range(30)]
    until(lambda: sum(map(hung_up, idle)) >= len(idle) - 2 * WORKERS)
    for each in idle:
        each.socket.close()
    trusted = trusting(authority)
    until(lambda: outcome(running.port, trusted) == 200)
    assert running.end() == 0, running.log()


def test_a_disk_that_refuses_is_known_to_every_worker(bench: Bench, tmp_path: Path) -> None:
    settings = prepare(tmp_path, bench.engine.url, workers=WORKERS)
    running = Running(settings, tmp_path)
    journal = Path(settings.state) / "journal"
    assert ask(running.port, post(CHAT, OK)).status == 200
    limit_files(running.process.pid, sum(each.stat().st_size for each in journal.iterdir()) + 100)
    until(lambda: all(ask(running.port, post(CHAT, OK)).status == 503 for _ in range(6)))
    limit_files(running.process.pid, None)
    until(lambda: all(ask(running.port, post(CHAT, OK)).status == 200 for _ in range(6)))
    assert running.end() == 0
    check_log(settings, [])


def limit_files(pid: int, size: int | None) -> None:
    """Bound the size of files that a process may write, as a full disk would."""
    import resource

    most = resource.RLIM_INFINITY
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (most if size is None else size, most))


class Load:
    """Clients that ask until told to stop, and what they hold."""

    def __init__(self, port: int, clients: int = 4) -> None:
        self.held: list[Compact] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._again, args=(port, number % 2 == 0))
            for number in range(clients)
        ]
        for each in self._threads:
            each.start()

    def _again(self, port: int, streamed: bool) -> None:
        while not self._stop.is_set():
            hammer(port, self.held, self._stop, streamed)
            self._stop.wait(0.005)

    def end(self) -> list[Compact]:
        self._stop.set()
        for each in self._threads:
            each.join()
        return self.held


def test_a_worker_that_is_killed_is_replaced_and_no_receipt_is_lost(
    bench: Bench, tmp_path: Path
) -> None:
    settings = prepare(tmp_path, bench.engine.url, workers=WORKERS)
    running = Running(settings, tmp_path)
    load = Load(running.port)
    for _ in range(3):
        before = len(load.held)
        until(lambda n=before: len(load.held) > n + 20)
        victim = running.workers()[0]
        os.kill(victim, signal.SIGKILL)
        until(lambda pid=victim: not alive(pid) and len(running.workers()) == WORKERS)
    before = len(load.held)
    until(lambda: len(load.held) > before + 50)
    held = load.end()
    assert running.end() == 0
    assert running.log().count("ended by SIGKILL: requests that it held broke off") == 3
    assert check_log(settings, held) > len(held)


def test_a_request_that_a_dead_worker_held_breaks_off_and_never_looks_whole(
    bench: Bench, tmp_path: Path
) -> None:
    running = Running(prepare(tmp_path, bench.engine.url, workers=WORKERS), tmp_path)
    slow = json.dumps(script(chat_stream(), [200, 600], pause_s=0.5)).encode()
    with Wire(running.port) as connection:
        connection.send(post(CHAT, slow))
        time.sleep(0.2)
        (victim,) = [pid for pid, count in served_by(running).items() if count]
        os.kill(victim, signal.SIGKILL)
        got = connection.read()
        assert not got.whole
        assert b"[DONE]" not in got.body.replace(b'"[DONE]"', b"").replace(b" data: [DONE]", b"")
    assert ask(running.port, post(CHAT, OK)).status == 200
    assert running.end() == 0


def test_connections_that_wait_outlive_the_worker_that_was_to_accept_them(
    bench: Bench, tmp_path: Path
) -> None:
    running = Running(prepare(tmp_path, bench.engine.url, workers=WORKERS), tmp_path)
    for pid in running.workers():
        os.kill(pid, signal.SIGSTOP)
    waiting = [Wire(running.port) for _ in range(8)]
    for each in waiting:
        each.send(post(CHAT, OK))
    for pid in running.workers():
        os.kill(pid, signal.SIGKILL)
    assert [each.read().status for each in waiting] == [200] * 8
    for each in waiting:
        each.socket.close()
    assert running.end() == 0


@pytest.mark.parametrize("rounds", [3, pytest.param(40, marks=pytest.mark.slow)])
def test_when_the_main_process_is_killed_its_workers_end_and_the_log_is_whole(
    bench: Bench, tmp_path: Path, rounds: int
) -> None:
    settings = prepare(tmp_path, bench.engine.url, workers=WORKERS)
    held: list[Compact] = []
    for _ in range(rounds):
        running = Running(settings, tmp_path)
        load = Load(running.port)
        until(lambda one=load: len(one.held) > 30)
        workers = running.workers()
        assert running.end(signal.SIGKILL) == -signal.SIGKILL
        until(lambda pids=workers: not any(map(alive, pids)))
        with pytest.raises(ConnectionRefusedError):
            Wire(running.port)
        held += load.end()
    assert Running(settings, tmp_path).end() == 0
    assert check_log(settings, held) > len(held) > 30 * rounds


def test_a_stop_lets_every_worker_finish(bench: Bench, tmp_path: Path) -> None:
    settings = prepare(tmp_path, bench.engine.url, workers=WORKERS)
    running = Running(settings, tmp_path)
    slow = json.dumps(script(chat_stream(), [200, 600], pause_s=0.3)).encode()
    waiting = [Wire(running.port) for _ in range(8)]
    for each in waiting:
        each.send(post(CHAT, slow))
    time.sleep(0.2)
    running.send(signal.SIGTERM)
    held = []
    for each in waiting:
        got = each.read()
        assert got.whole
        held.append(wire.from_stream(got.body)[0])
        each.socket.close()
    assert running.process.wait(10) == 0
    check_log(settings, held)


def test_a_worker_that_gets_the_terminals_signals_waits_for_the_main_process(
    bench: Bench, tmp_path: Path
) -> None:
    running = Running(prepare(tmp_path, bench.engine.url, workers=WORKERS), tmp_path)
    workers = running.workers()
    for pid in workers:
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGHUP)
    time.sleep(0.2)
    assert running.workers() == workers
    os.kill(workers[0], signal.SIGTERM)  # one that is told to go is replaced as well
    until(lambda: not alive(workers[0]) and len(running.workers()) == WORKERS)
    assert ask(running.port, post(CHAT, OK)).status == 200
    assert running.end(signal.SIGINT) == 0


@pytest.mark.parametrize("shared", [False, True])
def test_a_port_that_is_taken_stops_the_start(bench: Bench, tmp_path: Path, shared: bool) -> None:
    """Sockets that could be shared by anybody are still not shared with another gateway."""
    with socket.create_server(("127.0.0.1", 0), reuse_port=shared) as taken:
        settings = prepare(tmp_path, bench.engine.url, workers=WORKERS, port=taken.getsockname()[1])
        with pytest.raises(RuntimeError, match="cannot listen"):
            Running(settings, tmp_path)


def test_what_a_stop_breaks_off_has_its_receipt(bench: Bench, tmp_path: Path) -> None:
    limits = Limits(sweep_ms=50, drain_ms=200)
    settings = prepare(tmp_path, bench.engine.url, workers=WORKERS, limits=limits)
    running = Running(settings, tmp_path)
    with Wire(running.port) as connection:
        connection.send(post(CHAT, json.dumps(script(chat_stream(), [200], pause_s=1)).encode()))
        time.sleep(0.3)
        assert running.end() == 0
        assert not connection.read().whole
    assert check_log(settings, []) == 2


def test_an_opening_comes_whole_through_a_worker(bench: Bench, tmp_path: Path) -> None:
    """The largest answer of the main process: frames are not bounded by what a relay may hold."""
    limits = Limits(sweep_ms=50)
    running = Running(prepare(tmp_path, bench.engine.url, workers=2, limits=limits), tmp_path)
    large = os.urandom(3_000_000)
    body = json.dumps(script(plain(base64.b64encode(large)))).encode()
    got = ask(running.port, post(CHAT, body))
    receipt = wire.from_header(got.fields[wire.HEADER])
    said = ask(running.port, get(b"/v1/receipts/" + receipt.id.encode()))
    assert json.loads(said.body)["index"] == receipt.entry
    assert running.end() == 0


def test_a_worker_that_cannot_start_is_tried_again_and_the_others_serve(
    bench: Bench, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "tls")
    given = Tls(**authority.issue("gateway", "localhost")._asdict())
    running = Running(prepare(tmp_path, bench.engine.url, workers=2, tls=given), tmp_path)
    key = Path(given.key)
    kept = key.read_bytes()
    key.unlink()
    os.kill(running.workers()[0], signal.SIGKILL)
    until(lambda: running.log().count("does not start: tls: ") > 1)
    key.write_bytes(kept)
    until(lambda: len(running.workers()) == 2)
    seen = [outcome(running.port, trusting(authority)) for _ in range(16)]
    assert seen == [200] * 16
    assert running.end() == 0


def test_messages_are_sent_in_frames_that_the_other_end_takes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "FRAME_BYTES", 1000)
    got: list[channel.Down] = []

    async def talk() -> None:
        lost = asyncio.Event()
        one = channel.Channel[channel.Up](channel.Up, lambda _: None, lost.set)
        two = channel.Channel[channel.Down](channel.Down, got.append, lambda: None)
        ours, theirs = socket.socketpair()
        await one.connect(ours)
        await two.connect(theirs)
        for number in range(50):
            one.send(channel.Answered(number, b"x" * 40, b"", 200))
        while len(got) < 50:
            await asyncio.sleep(0.001)
        one.send(channel.Answered(50, b"x" * 2000, b"", 200))  # one that no frame can hold
        await lost.wait()

    bench.run(talk(), 5)
    assert [each.number for each in got if isinstance(each, channel.Answered)] == list(range(50))


@pytest.mark.parametrize("sent", [b"\x04\0\0\0\xc1\xc1\xc1\xc1", b"\xff\xff\xff\xff"])
def test_an_end_that_talks_nonsense_is_cut_off(bench: Bench, sent: bytes) -> None:
    async def talk() -> None:
        lost = asyncio.Event()
        one = channel.Channel[channel.Up](channel.Up, lambda _: None, lost.set)
        ours, theirs = socket.socketpair()
        await one.connect(ours)
        theirs.sendall(sent)
        await lost.wait()
        theirs.close()

    bench.run(talk(), 5)
