"""``make bench-gateway``: what the gateway costs beside proxies that keep no record.

One run, one engine, one load for all, in interleaved rounds: medians, and ratios within the run.
Only the candidate that is measured runs; the others are stopped (SIGSTOP) meanwhile.

    make bench-gateway ARGS="--rounds 5 --requests 1000000"
    make bench-gateway ARGS="--only lydite nginx --seconds 1 --rounds 1 --dry"
"""

import argparse
import os
import signal
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import gateway_faults
import gateway_load
from gateway_candidates import (
    BATCHED,
    GROUP,
    LITELLM,
    NGINX,
    PLAIN_SIGNED,
    ROUTER,
    STARTS,
    AbsentError,
    Candidate,
    install_peers,
)
from gateway_load import Bench, Cost, stop, works
from report import Row, row, write

SLOW_STREAMS = {LITELLM: 10}
"""Streams at once for a candidate that stalls at the number that the others take."""


VERSIONS: dict[str, str] = {}
"""Of every candidate that was measured."""


class Taken(NamedTuple):
    """Every cost of one candidate, by work, one for each round."""

    candidate: Candidate
    costs: dict[str, list[Cost]]

    def middle(self, work: str, figure: str) -> float:
        """Return the median of a property of the cost, or of a figure of the load generator."""
        found = [
            getattr(cost, figure) if hasattr(cost, figure) else cost.figures.get(figure, 0.0)
            for cost in self.costs[work]
        ]
        return statistics.median(found)


@contextmanager
def awake(candidate: Candidate) -> Iterator[None]:
    """Let a stopped candidate run for a while."""
    os.killpg(candidate.process.pid, signal.SIGCONT)
    try:
        yield
    finally:
        os.killpg(candidate.process.pid, signal.SIGSTOP)


def begin(names: Sequence[str], bench: Bench, folder: Path) -> list[Candidate]:
    """Start every candidate that there is and stop it at once; name those that there are not."""
    found = []
    for number, (name, start) in enumerate(STARTS.items()):
        if not any(name.startswith(each) for each in names):
            continue
        place = folder / str(number)
        place.mkdir()
        try:
            candidate = start(bench.engine.port, place)
        except AbsentError as why:
            print(f"left out: {why}", file=sys.stderr)
            continue
        os.killpg(candidate.process.pid, signal.SIGSTOP)
        print(f"{name} {candidate.version}", file=sys.stderr)
        VERSIONS[name] = candidate.version
        found.append(candidate)
    return found


def rounds(bench: Bench, all_taken: Sequence[Taken], count: int, seconds: float) -> None:
    """Put every work on every candidate, in turn, in another order each round."""
    for turn in range(count):
        shift = turn % len(all_taken)
        for taken in [*all_taken[shift:], *all_taken[:shift]]:
            candidate = taken.candidate
            streams = SLOW_STREAMS.get(candidate.name, 50)
            with awake(candidate):
                for name, work in works(seconds, streams).items():
                    bench.load(candidate.port, work._replace(seconds=0.2))
                    cost = bench.measure(candidate.port, candidate.process.pid, work)
                    taken.costs.setdefault(name, []).append(cost)
        print(f"round {turn + 1} of {count}", file=sys.stderr)


GOALS = {
    BATCHED: (1.7, 2.0),
    PLAIN_SIGNED: (2.8, 3.5),
}
"""CPU of a request, in times nginx: goal and must."""


def cpu_rows(all_taken: dict[str, Taken]) -> Iterator[Row]:
    """CPU of a request: in microseconds, and beside each peer."""
    costs = {name: taken.middle("json", "per_answer_us") for name, taken in all_taken.items()}
    for name, cost in costs.items():
        yield row(f"CPU a request: {name}", cost, "us")
    nginx, router, litellm = (costs.get(name) for name in (NGINX, ROUTER, LITELLM))
    for name, (goal, must) in GOALS.items():
        if name in costs and nginx:
            yield row(
                f"CPU a request, times nginx: {name}", costs[name] / nginx, "x",
                goal=goal, must=must, at_most=True, peer=1.0, peer_name=NGINX,
            )  # fmt: skip
    if PLAIN_SIGNED in costs and router:
        yield row(
            f"CPU a request, times vllm-router: {PLAIN_SIGNED}", costs[PLAIN_SIGNED] / router, "x",
            goal=1.0, must=1.2, at_most=True, peer=1.0, peer_name=ROUTER,
        )  # fmt: skip
    if PLAIN_SIGNED in costs and litellm:
        yield row(
            f"requests a CPU second, times LiteLLM: {PLAIN_SIGNED}", litellm / costs[PLAIN_SIGNED],
            "x", goal=150, must=100, peer=1.0, peer_name=LITELLM,
        )  # fmt: skip


def latency_rows(all_taken: dict[str, Taken], direct: Cost) -> Iterator[Row]:
    """Latency that a gateway adds at one connection, in milliseconds."""
    limits = {"p50": (0.13, 0.25), "p99": (0.25, 0.6)}
    for name, taken in all_taken.items():
        for part, (goal, must) in limits.items():
            key = f"latency_{part}_us"
            added = (taken.middle("latency", key) - direct.figures[key]) / 1000
            bound = name in GOALS
            yield row(
                f"latency added {part}: {name}", added, "ms", at_most=True,
                goal=goal if bound else None, must=must if bound else None,
            )  # fmt: skip
    if GROUP in all_taken and PLAIN_SIGNED in all_taken:
        more = [all_taken[n].middle("latency", "latency_p50_us") for n in (GROUP, PLAIN_SIGNED)]
        yield row(
            "latency that group commit adds, p50", (more[0] - more[1]) / 1000, "ms",
            goal=0.3, at_most=True,
        )  # fmt: skip


def stream_rows(all_taken: dict[str, Taken]) -> Iterator[Row]:
    """Streams: CPU of an event, time to the first, bursts, and what was held back."""
    nginx = all_taken.get(NGINX)
    base = nginx.middle("streams", "per_event_us") if nginx else None
    for name, taken in all_taken.items():
        ours = name in MODES_OURS
        cost = taken.middle("streams", "per_event_us")
        events = taken.middle("streams", "events") / taken.middle("streams", "seconds")
        yield row(f"CPU an event at {events:,.0f} events/s: {name}", cost, "us")
        if ours and base:
            yield row(
                f"CPU an event, times nginx: {name}", cost / base, "x", goal=1.2, must=1.5,
                at_most=True, peer=1.0, peer_name=NGINX,
            )  # fmt: skip
        yield row(
            f"time to the first event p50: {name}",
            taken.middle("first byte", "first_p50_us") / 1000, "ms",
            goal=0.2 if ours else None, must=0.4 if ours else None, at_most=True,
        )  # fmt: skip
        yield row(
            f"burst: {name}",
            taken.middle("burst", "events") / taken.middle("burst", "seconds") / 1000,
            "1000 events/s",
            goal=140 if ours else None, must=100 if ours else None,
        )  # fmt: skip
        late = taken.middle("streams", "late") / max(1.0, taken.middle("streams", "events"))
        yield row(f"events that came after the next was sent: {name}", 100 * late, "%")


def reuse_rows(all_taken: dict[str, Taken]) -> Iterator[Row]:
    """How many connections to the engine 1000 requests opened."""
    for name, taken in all_taken.items():
        opened = sum(cost.upstream_connections for cost in taken.costs["json"])
        answers = sum(cost.figures["answers"] for cost in taken.costs["json"])
        errors = sum(c.figures["errors"] for costs in taken.costs.values() for c in costs)
        yield row(f"engine connections a 1000 requests: {name}", 1000 * opened / answers, "")
        yield row(f"broken or refused answers: {name}", errors, "")


MODES_OURS = frozenset((BATCHED, PLAIN_SIGNED, GROUP))


def measured(arguments: argparse.Namespace, folder: Path) -> list[Row]:
    """Start everything, measure, and return every row."""
    with ExitStack() as closing:
        bench = Bench(folder)
        closing.callback(bench.close)
        candidates = begin(arguments.only, bench, folder)
        for candidate in candidates:
            closing.callback(stop, candidate.process)
        all_taken = [Taken(candidate, {}) for candidate in candidates]
        direct = bench.measure(bench.engine.port, bench.engine.process.pid, works(1)["latency"])
        rounds(bench, all_taken, arguments.rounds, arguments.seconds)
        by_name = {taken.candidate.name: taken for taken in all_taken}
        rows = [
            *cpu_rows(by_name),
            *latency_rows(by_name, direct),
            *stream_rows(by_name),
            *reuse_rows(by_name),
        ]
        for candidate in candidates:
            gateway_load.calm(candidate.process.pid)
            with awake(candidate):
                rows += gateway_faults.rows(bench, candidate, arguments.requests)
    return rows


def main() -> None:
    """Measure, print, and write ``bench/results/gateway.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each work")
    parser.add_argument("--requests", type=int, default=50_000, help="over which memory is watched")
    parser.add_argument("--only", nargs="+", default=list(STARTS), help="how their names begin")
    parser.add_argument(
        "--urgent",
        action="store_true",
        help="timed works go before other work of a busy machine (SCHED_FIFO; needs root)",
    )
    parser.add_argument("--dry", action="store_true", help="write no result")
    arguments = parser.parse_args()
    gateway_load.URGENT[0] = arguments.urgent
    if any(name.startswith(each) for name in (LITELLM, ROUTER) for each in arguments.only):
        install_peers()
    with tempfile.TemporaryDirectory(prefix="lydite-bench-") as folder:
        rows = measured(arguments, Path(folder))
    write("gateway", rows, keep=not arguments.dry, versions=VERSIONS)


if __name__ == "__main__":
    main()
