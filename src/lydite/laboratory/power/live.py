"""Plays a scene through a real monitor, and says what can be said whenever a segment is sealed.

The monitor replays, samples, gathers and seals as it would with sensors; what is judged here is
read back from its sealed segments, by its public key. Accuses nobody.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lydite.errors import LyditeError
from lydite.evidence.power import classify, gpus, measuring, reference, rules, verifier
from lydite.evidence.power.reference import Gates
from lydite.evidence.power.rules import Readings
from lydite.evidence.power.trace import Series, Trace
from lydite.laboratory.power.scenes import Scene
from lydite.messages.finding import Finding
from lydite.messages.segment import SegmentPointer
from lydite.monitor import chain, columns
from lydite.monitor.readings import Reading
from lydite.monitor.service import Monitor
from lydite.monitor.settings import Replay as Recording
from lydite.monitor.settings import Selfcheck, Settings
from lydite.monitor.sources.replay import Replay
from lydite.monitor.timing import SystemTiming
from lydite.signing.keys import Signer

HORIZON_S = 60
SEGMENT_S = 10
_SECOND = 1_000_000_000


class Told(NamedTuple):
    """What was said when a segment was sealed."""

    at_s: float
    words: str


class Played(NamedTuple):
    """A scene, after it was played."""

    scene: Scene
    told: tuple[Told, ...]
    traces: tuple[Trace, ...]
    """As read back from the sealed segments."""
    pointers: tuple[SegmentPointer, ...]
    finding: Finding | None
    refusal: str
    """Why there is no finding, where work was declared."""


def play(
    scene: Scene, state: Path, signer: Signer, speed: float, say: Callable[[Told], None]
) -> Played:
    """Play ``scene`` ``speed`` times as fast as it was recorded (0: at once) and return the end.

    Raises:
        StorageError: the disk refused a segment.
        FormatError, VerificationError: what was sealed is not what was played.
    """
    sources = [
        Replay(f"{trace.device}/{number}", _readings(trace), speed)
        for number, trace in enumerate(scene.traces)
    ]
    settings = Settings(
        state=str(state),
        key="",
        sources=(Recording(),),
        segment_s=SEGMENT_S,
        drain_ms=10,
        selfcheck=Selfcheck(seconds=0),
        metrics=None,
    )
    monitor = Monitor(settings, sources, signer, SystemTiming())
    told: list[Told] = []

    def sealed(event: str, _: dict[str, object]) -> None:
        if event == "sealed":
            now = _judge(scene, _read_back(state, signer))
            if now not in told:  # the last segment may hold nothing new
                told.append(now)
                say(now)

    _run(monitor, sources, sealed)
    kept = _read_back(state, signer)
    pointers = tuple(_pointers(state, signer))
    finding, refusal = _check(scene, kept)
    return Played(scene, tuple(told), kept, pointers, finding, refusal)


def _run(
    monitor: Monitor, sources: list[Replay], said: Callable[[str, dict[str, object]], None]
) -> None:
    """Run until every recording was given to its end."""
    monitor.run(None, said)
    left = [source.device for source in sources if not source.ended]
    if left:
        raise RuntimeError(f"the monitor ended before the recordings of {left}")


def _readings(trace: Trace) -> Iterator[Reading]:
    rows = [
        (int(t_ns), name, float(value))
        for name, series in trace.series.items()
        for t_ns, value in zip(series.t_ns, series.values, strict=True)
    ]
    for t_ns, name, value in sorted(rows):
        yield Reading(name, t_ns, value)


def _read_back(state: Path, signer: Signer) -> tuple[Trace, ...]:
    """Return the telemetry of all segments so far, each verified, in the order of devices."""
    parts: dict[str, dict[str, list[Series]]] = {}
    kinds: dict[str, str] = {}
    for _, content in chain.walk(state, signer.public):
        for device, trace in columns.traces(content).items():
            kinds[device] = trace.device
            for name, series in trace.series.items():
                parts.setdefault(device, {}).setdefault(name, []).append(series)
    return tuple(
        Trace(kinds[device], {name: _joined(rows) for name, rows in parts[device].items()})
        for device in sorted(parts)
    )


def _joined(rows: list[Series]) -> Series:
    times = np.concatenate([row.t_ns for row in rows])
    values = np.concatenate([row.values for row in rows])
    return Series(rows[0].channel, times, values)


def _pointers(state: Path, signer: Signer) -> Iterator[SegmentPointer]:
    for link, content in chain.walk(state, signer.public):
        times = [t for t_ns, _ in content.values() for t in (int(t_ns[0]), int(t_ns[-1]))]
        if times:
            yield SegmentPointer(
                segment=link.digest.hex(),
                from_us=min(times) // 1000,
                to_us=max(times) // 1000 + 1,
            )


def _judge(scene: Scene, traces: tuple[Trace, ...]) -> Told:
    """Say what the last ten seconds look like, and whether the run fits so far."""
    end_ns = max(trace.end_ns for trace in traces)
    start_ns = min(trace.start_ns for trace in traces)
    words = [_looks(scene, trace, end_ns) for trace in traces]
    finding, refusal = _check(scene, traces)
    if finding is not None:
        words.append(f"score {finding.values('score')[0] / reference.MICRO:.2f}")
    elif scene.claims is not None and refusal:
        words.append(refusal)
    return Told((end_ns - start_ns) / _SECOND, "; ".join(dict.fromkeys(words)))


def _looks(scene: Scene, trace: Trace, end_ns: int) -> str:
    """Say which gates fire on the last segment's time, else what power leaves open."""
    spans = np.array([[max(end_ns - SEGMENT_S * _SECOND, trace.start_ns), end_ns]], dtype=np.int64)
    means = measuring.means(trace, spans)
    fired = rules.fired(rules.gates(Readings(means, scene.tdp_w, None, None), Gates()))
    watts = rules.power_w(means)
    if watts is None:
        return "no power in the last segment"
    if fired:
        return f"{watts:.0f} W, {', '.join(sorted(fired))}"
    cut = trace.between(int(spans[0, 0]), end_ns + 1)
    power = next(cut.series[name] for name in measuring.POWERS if name in cut.series)
    open_to = classify.allowed(power.values, scene.tdp_w).classes
    return f"{watts:.0f} W, {' or '.join(open_to) or 'no answer'}"


def _check(scene: Scene, traces: tuple[Trace, ...]) -> tuple[Finding | None, str]:
    """Hold the run against its declared work; or say why that cannot be done yet."""
    if scene.claims is None:
        return None, ""
    if len(traces) < scene.claims.gpus:
        return None, "waits for the other GPU"
    known = reference.generic(gpus.find(scene.claims.gpu))
    try:
        return verifier.verify(scene.claims, traces, known, HORIZON_S), ""
    except LyditeError as error:  # refused by name: too short yet, or hardly measured
        return None, f"no verdict yet ({error.reason})"
