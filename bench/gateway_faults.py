"""Rows of ``make bench-gateway`` for what goes wrong: slow readers, clients that leave, memory."""

import socket
import time
from collections.abc import Iterator

from gateway_candidates import MODES, Candidate
from gateway_load import Bench, Work, memory_mb, request
from report import Row, row

FLOOD_EVENTS = 36_000_000 // 224
READERS = 4
NEVER_US = 30_000_000
PATIENCE_S = 3.0


def rows(bench: Bench, candidate: Candidate, requests: int) -> Iterator[Row]:
    """Measure what each costs, on one candidate that runs."""
    ours = candidate.name in MODES
    name, pid = candidate.name, candidate.process.pid
    bench.load(candidate.port, Work("warm", 32, 1, request()))
    before = memory_mb(pid)
    yield row(
        f"memory: {name}", before, "MB",
        goal=60 if ours else None, must=60 if ours else None, at_most=True,
    )  # fmt: skip
    stalled = _stalled(candidate, before)
    yield row(
        f"memory of a reader that stalls in 36 MB: {name}", stalled, "MB",
        goal=1 if ours else None, must=1 if ours else None, at_most=True,
    )  # fmt: skip
    for phase, (asked, reads) in PHASES.items():
        taken = _hang_up(bench, candidate, asked, reads)
        metric = f"hang-up {phase}, engine's connection closed after: {name}"
        if taken is None:
            metric += f" (not within {PATIENCE_S:.0f} s)"
        yield row(
            metric, PATIENCE_S * 1000 if taken is None else taken, "ms",
            goal=50 if ours else None, must=50 if ours else None, at_most=True,
        )  # fmt: skip
    yield from _slow_streams(bench, candidate)
    if ours:
        yield from _flat(bench, candidate, requests)


def _ask(candidate: Candidate, asked: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", candidate.port))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    connection.sendall(asked)
    return connection


def _stalled(candidate: Candidate, before: float) -> float:
    """Return by how many MB memory grows for each client that asks for 36 MB and reads nothing."""
    asked = request(stream=True, max_tokens=FLOOD_EVENTS, seed=0)
    readers = [_ask(candidate, asked) for _ in range(READERS)]
    time.sleep(PATIENCE_S)
    grown = memory_mb(candidate.process.pid) - before
    for reader in readers:
        reader.close()
    time.sleep(0.5)
    return max(0.0, grown / READERS)


_STREAM = request(stream=True, max_tokens=1000, seed=10_000)
_LATE_STREAM = request(stream=True, max_tokens=1000, seed=NEVER_US)
_LATE = request(seed=NEVER_US)
PHASES = {
    "in a stream": (_STREAM, True),
    "before the first event": (_LATE_STREAM, False),
    "before an answer": (_LATE, False),
}


def _hang_up(bench: Bench, candidate: Candidate, asked: bytes, reads: bool) -> float | None:
    """Return after how many milliseconds the engine saw that the client had left."""
    cuts = bench.engine.stats()["cuts"]
    connection = _ask(candidate, asked)
    time.sleep(0.3)
    if reads:
        connection.recv(1 << 16)
    left = time.monotonic_ns()
    connection.close()
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        stats = bench.engine.stats()
        if stats["cuts"] > cuts:
            return max(0.0, (stats["cut_ns"] - left) / 1e6)
        time.sleep(0.005)
    return None


def _slow_streams(bench: Bench, candidate: Candidate) -> Iterator[Row]:
    """Hold 500 streams of two events a second at once."""
    slow = request(stream=True, max_tokens=8, seed=500_000)
    figures = bench.load(candidate.port, Work("slow", 500, 5.0, slow, 1000))
    ours = candidate.name in MODES
    yield row(
        f"whole answers of 500 slow streams at once: {candidate.name}", figures["answers"], "",
        goal=500 if ours else None, must=500 if ours else None,
    )  # fmt: skip
    yield row(
        f"memory with 500 slow streams: {candidate.name}", memory_mb(candidate.process.pid), "MB"
    )


def _flat(bench: Bench, candidate: Candidate, requests: int) -> Iterator[Row]:
    """Watch memory over many requests."""
    pid = candidate.process.pid
    before = memory_mb(pid)
    bench.load(candidate.port, Work("many", 32, 3600, request()), requests)
    grown = memory_mb(pid) - before
    yield row(
        f"memory grown in {requests:,} requests: {candidate.name}", 1e6 * grown / requests,
        "B/request",
    )  # fmt: skip
