"""The load of ``make bench-gateway``: what is asked, the engine, and what an answer cost.

Engine and load generator are the C programs in ``bench/load``, compiled here and pinned to the
first core; what is measured runs alone on the last. CPU is what the kernel counts for a process
and all of its descendants (user and system), by ``/proc/*/task/*/schedstat``.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

SOURCES = Path(__file__).parent / "load"
CORES = sorted(os.sched_getaffinity(0))
LOAD_CORE, PROXY_CORE = CORES[0], CORES[-1]
PATH = b"/v1/chat/completions"
TOKEN = "sk-bench"
BODY_BYTES = 430
EVENTS = 200


class Work(NamedTuple):
    """What the load generator asks for, on how many connections."""

    name: str
    connections: int
    seconds: float
    request: bytes
    spread_us: int = 0
    """Time between the beginnings of two connections."""


class Cost(NamedTuple):
    """What came of a work: the generator's figures, and the proxy's CPU seconds."""

    figures: dict[str, float]
    cpu_s: float
    upstream_connections: int

    @property
    def per_answer_us(self) -> float:
        """CPU of the proxy for one whole answer, in microseconds."""
        return 1e6 * self.cpu_s / max(1.0, self.figures["answers"])

    @property
    def per_event_us(self) -> float:
        """CPU of the proxy for one event of a stream, in microseconds."""
        return 1e6 * self.cpu_s / max(1.0, self.figures["events"])


def request(**fields: Any) -> bytes:
    """Return a whole request of 430 bytes of body; ``fields`` say how the engine answers."""

    def body(filler: str) -> bytes:
        message = {"role": "user", "content": filler}
        return json.dumps({"model": "bench", **fields, "messages": [message]}).encode()

    whole = body(("what does a gateway cost? " * 20)[: BODY_BYTES - len(body(""))])
    head = (
        b"POST %b HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench/1\r\nAccept: application/json\r\n"
        b"Content-Type: application/json\r\nAuthorization: Bearer %b\r\nContent-Length: %d\r\n\r\n"
    )
    return head % (PATH, TOKEN.encode(), len(whole)) + whole


def works(seconds: float, streams: int = 50) -> dict[str, Work]:
    """Return every work that is timed."""
    stream = {"stream": True, "max_tokens": EVENTS}
    short = {"stream": True, "max_tokens": 4}
    return {
        work.name: work
        for work in (
            Work("json", 32, seconds, request()),
            Work("latency", 1, seconds / 2, request()),
            Work("streams", streams, seconds, request(**stream, seed=5000), 5000 // streams),
            Work("first byte", 1, seconds / 2, request(**short, seed=0)),
            Work("burst", 8, seconds / 2, request(**stream, seed=0)),
        )
    }


def compile_programs(folder: Path) -> None:
    """Compile engine and load generator into ``folder``; say so if there is no compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        sys.exit("bench-gateway: no C compiler (cc): on Debian, apt-get install gcc libc6-dev")
    for name in ("engine", "load"):
        subprocess.run(
            [compiler, "-O2", "-o", str(folder / name), str(SOURCES / f"{name}.c")], check=True
        )


URGENT = [False]
"""Whether what is started goes before all other work on its core, by SCHED_FIFO."""


def _pin(core: int) -> None:
    os.sched_setaffinity(0, {core})
    if URGENT[0]:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def calm(pid: int) -> None:
    """Let a process and its descendants be scheduled as any other."""
    for each in family(pid):
        for task in Path(f"/proc/{each}/task").iterdir():
            os.sched_setscheduler(int(task.name), os.SCHED_OTHER, os.sched_param(0))


def start(command: list[str], core: int, **options: Any) -> subprocess.Popen[bytes]:
    """Start a process on one core, in a group of its own."""
    return subprocess.Popen(
        command,
        preexec_fn=lambda: _pin(core),
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        **options,
    )


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and its group."""
    for number in (signal.SIGCONT, signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        try:
            process.wait(0.01 if number == signal.SIGCONT else 10)
        except subprocess.TimeoutExpired:
            continue


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


class Engine:
    """The engine behind all candidates."""

    def __init__(self, folder: Path) -> None:
        self.process = start([str(folder / "engine"), "0"], LOAD_CORE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.port: int = json.loads(self.process.stdout.readline())["port"]

    def stats(self) -> dict[str, int]:
        """Return how many connections, requests and cut answers there were so far."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/stats") as answer:
            found: dict[str, int] = json.load(answer)
        return found


class Bench:
    """Engine and load generator, compiled and running."""

    def __init__(self, folder: Path) -> None:
        compile_programs(folder)
        self._folder = folder
        self.engine = Engine(folder)

    def load(self, port: int, work: Work, requests: int = 0) -> dict[str, float]:
        """Put one work on a port and return the generator's figures."""
        file = self._folder / "request"
        file.write_bytes(work.request)
        arguments = [port, work.connections, work.seconds, file, requests, work.spread_us]
        command = [str(self._folder / "load"), *map(str, arguments)]
        process = start(command, LOAD_CORE, stdout=subprocess.PIPE)
        try:
            said, _ = process.communicate(timeout=work.seconds + 60)
        finally:
            stop(process)
        figures: dict[str, float] = json.loads(said)
        return figures

    def measure(self, port: int, pid: int, work: Work) -> Cost:
        """Put one work on the process that listens on a port, and count its CPU."""
        opened, before = self.engine.stats()["connections"], cpu_s(pid)
        figures = self.load(port, work)
        return Cost(figures, cpu_s(pid) - before, self.engine.stats()["connections"] - opened - 1)

    def close(self) -> None:
        """Stop the engine."""
        stop(self.engine.process)


def family(pid: int) -> Iterator[int]:
    """Yield a process and all of its descendants."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            yield from family(int(child))


def cpu_s(pid: int) -> float:
    """Return the seconds that a process and its descendants have been on a core."""
    files = (
        file for each in family(pid) for file in Path(f"/proc/{each}/task").glob("*/schedstat")
    )
    return sum(int(file.read_text().split()[0]) for file in files) / 1e9


def memory_mb(pid: int) -> float:
    """Return the resident memory of a process and its descendants."""
    pages = sum(int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in family(pid))
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def wait_for(port: int, process: subprocess.Popen[bytes], limit_s: float) -> bool:
    """Wait until a port gives one whole answer; say whether it did."""
    end = time.monotonic() + limit_s
    ask = urllib.request.Request(
        f"http://127.0.0.1:{port}{PATH.decode()}",
        data=request().partition(b"\r\n\r\n")[2],
        headers={"content-type": "application/json", "authorization": f"Bearer {TOKEN}"},
    )
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(ask, timeout=5) as answer:
                if answer.status == 200:
                    return True
        except OSError:
            time.sleep(0.1)
    return False
