"""The whole monitor: from sources to sealed segments, with nothing on the way unaccounted for."""

import sys
import threading
import urllib.request
from pathlib import Path

import msgspec
import pytest

from lydite.errors import ConfigurationError, Reason, StorageError
from lydite.messages import sensors
from lydite.monitor import chain
from lydite.monitor.bursts import Command, play
from lydite.monitor.metrics import Server
from lydite.monitor.readings import Mishap, Reading, Source
from lydite.monitor.service import Monitor
from lydite.monitor.settings import Selfcheck, Settings
from lydite.monitor.sources.nvml import NvmlSource
from lydite.monitor.sources.replay import Replay, made_up, open_recording
from lydite.monitor.sources.simulated import CYCLE, Faults, Load, SimulatedNvml
from lydite.monitor.timing import SystemTiming
from lydite.monitor.trial import try_sources
from lydite.signing.keys import Signer
from tests.monitor.virtual import MS, SECOND, Scripted, VirtualTiming

SIGNER = Signer(b"1" * 32)
QUIET = Selfcheck(seconds=0)


def settings(directory: Path, **changed: object) -> Settings:
    base = Settings(
        state=str(directory / "segments"), key="unused", drain_ms=10, selfcheck=QUIET, metrics=None
    )
    return msgspec.structs.replace(base, **changed)


def monitored(directory: Path, source: Source, **changed: object) -> list[str]:
    said: list[str] = []
    monitor = Monitor(settings(directory, **changed), [source], SIGNER, SystemTiming())
    monitor.run(say=lambda word, _: said.append(word))
    return said


def kept(directory: Path) -> list[Reading]:
    return [
        Reading(channel, int(t_ns), float(value))
        for _, content in chain.walk(directory / "segments", SIGNER.public)
        for (_, channel), (times, values) in content.items()
        for t_ns, value in zip(times, values, strict=True)
    ]


def test_what_a_device_may_lack_is_no_fault_of_its_sensors() -> None:
    timing = SystemTiming()
    lacks = Faults(metrics=frozenset({60, 61, *range(40, 48)}))
    nvml = SimulatedNvml(timing.now_ns, Load(CYCLE), lacks)
    source = NvmlSource(nvml, 0, 10 * MS, timing.now_ns)
    told = Settings(state="", key="", selfcheck=Selfcheck(seconds=2))
    (report,) = try_sources(told, [source], timing)
    channels = {each.channel for each in report.sensors}
    assert "sm_active" in channels
    assert not channels & {"nvlink_rx_bps", "nvjpg_active"}
    assert not [each for each in report.sensors if each.reason is Reason.NOT_READ]


def test_what_is_sampled_is_sealed_or_counted(tmp_path: Path) -> None:
    device, rows = made_up(12)
    said = monitored(tmp_path, Replay(device, rows, 0), segment_s=3, ring=1000)
    health = chain.check(tmp_path / "segments", SIGNER.public)
    assert health.segments >= 4
    assert said.count("sealed") == health.segments
    assert set(health.counted) == {"repeat"}
    assert health.samples + health.counted["repeat"] == len(rows)
    assert set(kept(tmp_path)) <= set(rows)
    assert health.last.said.last


def test_a_replay_of_segments_seals_the_same_samples_again(tmp_path: Path) -> None:
    device, rows = made_up(6)
    monitored(tmp_path / "a", Replay(device, rows, 0))
    source = open_recording(tmp_path / "a" / "segments", 0)
    monitored(tmp_path / "b", source)
    assert kept(tmp_path / "b") == kept(tmp_path / "a")
    assert source.tally.counts() == {}


def test_a_small_ring_holds_a_recording_back_and_loses_nothing(tmp_path: Path) -> None:
    device, rows = made_up(6)
    monitored(tmp_path, Replay(device, rows, 0), ring=1000)
    health = chain.check(tmp_path / "segments", SIGNER.public)
    assert health.samples + health.counted["repeat"] == len(rows)
    assert set(health.counted) == {"repeat"}


def test_sensors_are_tried_first_and_their_report_is_named(tmp_path: Path) -> None:
    device, rows = made_up(12)
    monitored(tmp_path, Replay(device, rows, 0), selfcheck=Selfcheck(seconds=5))
    end = chain.check(tmp_path / "segments", SIGNER.public).last
    assert end.said.selfcheck is not None
    path = chain.sensors_path(tmp_path / "segments", end.said.selfcheck)
    (report,) = sensors.parse(path.read_bytes()).reports
    assert report.device == device
    assert end.said.samples + sum(c.count for c in end.said.counted) == len(rows)


def test_samples_of_a_channel_that_lies_are_left_out_and_counted(tmp_path: Path) -> None:
    now = [0]
    nvml = SimulatedNvml(lambda: now[0], Load(CYCLE), Faults(energy_scale=0.5))
    source = NvmlSource(nvml, 0, 10 * MS, lambda: now[0])
    rows = []
    for now[0] in range(10 * MS, 8 * SECOND, 10 * MS):
        rows += source.groups[0].read(now[0])
    monitored(tmp_path, Replay("d/0", rows, 0), selfcheck=Selfcheck(seconds=6))
    health = chain.check(tmp_path / "segments", SIGNER.public)
    assert "energy_j" not in {reading.channel for reading in kept(tmp_path)}
    assert health.counted["unusable"] == sum(row.channel == "energy_j" for row in rows)


class Faulty(Scripted):
    """A live source that ends after so many reads."""

    def __init__(self, rows: list[list[Reading]], period_ns: int) -> None:
        self._rows = rows
        super().__init__({("power_instant_w", period_ns): self._next})

    def _next(self, _: int) -> list[Reading]:
        rows = self._rows.pop(0)
        self.ended = not self._rows
        return rows


def test_bad_samples_of_a_live_source_are_counted_in_its_segments(tmp_path: Path) -> None:
    def power(t_ns: int, value: float) -> list[Reading]:
        return [Reading("power_instant_w", t_ns, value)]

    rows = [power(5, 1.0), power(5, 2.0), power(3, 3.0), power(9, 4e5), power(11, float("nan"))]
    source = Faulty([*rows, power(20, 7.0), power(2 * SECOND, 8.0)], MS)
    monitored(tmp_path, source)
    health = chain.check(tmp_path / "segments", SIGNER.public)
    counted = {k: v for k, v in health.counted.items() if k != "missed-beat"}
    assert counted == {"duplicate": 1, "reordered": 1, "wrong-unit": 1, "not-finite": 1, "gap": 1}
    assert [reading.value for reading in kept(tmp_path)] == [1.0, 7.0, 8.0]


class Stepped(SystemTiming):
    """A machine whose Unix time is set ahead while it samples."""

    looks = 0

    def unix_us(self) -> int:
        self.looks += 1
        return super().unix_us() + (3_600_000_000 if self.looks > 2 else 0)


def test_every_mishap_is_explained_to_whoever_reads_a_segment() -> None:
    page = (Path(__file__).parents[2] / "docs" / "monitor.md").read_text(encoding="utf-8")
    assert not [each.value for each in Mishap if f"`{each.value}`" not in page]


def test_a_clock_that_was_set_is_counted(tmp_path: Path) -> None:
    source = Faulty([[Reading("power_instant_w", 1 + i, 5.0)] for i in range(3)], MS)
    Monitor(settings(tmp_path), [source], SIGNER, Stepped()).run(say=lambda *_: None)
    end = chain.check(tmp_path / "segments", SIGNER.public).last.said
    assert {each.reason for each in end.counted} >= {"clock-jump"}
    assert end.zero_us is not None
    assert end.zero_end_us is not None
    assert end.zero_end_us - end.zero_us > 3_000_000_000


def test_stopping_seals_what_there_is(tmp_path: Path) -> None:
    timing = SystemTiming()
    source = NvmlSource(SimulatedNvml(timing.now_ns, Load(CYCLE)), 0, 10 * MS, timing.now_ns)
    monitor = Monitor(settings(tmp_path), [source], SIGNER, timing)
    seen = threading.Event()
    threading.Thread(target=lambda: (seen.wait(60), monitor.stop())).start()
    watch = threading.Timer(0.3, seen.set)
    watch.start()
    monitor.run(say=lambda *_: None)
    health = chain.check(tmp_path / "segments", SIGNER.public)
    assert health.last.said.last
    assert health.samples
    assert health.unsealed is None


def test_a_disk_that_refuses_for_a_while_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, rows = made_up(12)
    told = settings(tmp_path, segment_s=3, ring=1000)
    monitor = Monitor(told, [Replay(device, rows, 0)], SIGNER, SystemTiming())
    seal, tries = monitor.sealer.seal, []

    def refuse_twice(stretch: object) -> object:
        tries.append(stretch)
        if len(tries) <= 2:
            raise StorageError("cannot write: No space left on device")
        return seal(stretch)  # type: ignore[arg-type]

    monkeypatch.setattr(monitor.sealer, "seal", refuse_twice)
    said: list[str] = []
    monitor.run(say=lambda word, _: said.append(word))
    assert said.count("unsealed") == 2
    health = chain.check(tmp_path / "segments", SIGNER.public)
    assert health.samples + health.counted["repeat"] == len(rows)


def test_prometheus_reads_what_the_monitor_knows(tmp_path: Path) -> None:
    device, rows = made_up(12)
    monitor = Monitor(settings(tmp_path), [Replay(device, rows, 0)], SIGNER, SystemTiming())
    server = Server(monitor, "127.0.0.1", 0)
    monitor.run(say=lambda *_: None)
    with urllib.request.urlopen(server.url, timeout=30) as answer:
        page = answer.read().decode()
    server.close()
    last = [row for row in rows if row.channel == "gpu_temperature_c"][-1].value
    assert f'lydite_monitor_value{{channel="gpu_temperature_c",device="{device}"}} {last}' in page
    assert f'lydite_monitor_mishaps_total{{device="{device}",reason="repeat"}}' in page
    sealed = chain.check(tmp_path / "segments", SIGNER.public).segments
    assert f"lydite_monitor_segments_total {float(sealed)}" in page
    joules = [row.value for row in rows if row.channel == "energy_j"]
    (counted,) = [
        float(line.split()[-1])
        for line in page.splitlines()
        if line.startswith("lydite_monitor_energy_joules_total{")
    ]
    moved = sorted(set(joules))
    assert counted == pytest.approx(moved[-1] - moved[1])


def test_an_address_that_is_taken_is_an_error(tmp_path: Path) -> None:
    device, rows = made_up(1)
    monitor = Monitor(settings(tmp_path), [Replay(device, rows, 0)], SIGNER, SystemTiming())
    first = Server(monitor, "127.0.0.1", 0)
    port = int(first.url.rsplit(":", 1)[1].split("/")[0])
    with pytest.raises(ConfigurationError, match="metrics on"):
        Server(monitor, "127.0.0.1", port)
    first.close()
    monitor.run(say=lambda *_: None)


ECHO = "import sys\nprint('ready', flush=True)\nfor x in sys.stdin: print(x.strip(), flush=True)"


def test_a_burst_command_is_switched_in_the_pattern() -> None:
    burst = Command(("python3", "-c", ECHO))
    timing = VirtualTiming(100 * SECOND)
    edges = play(burst, timing, (100, 50, 20))
    burst.close()
    assert [(edge.t_ns // MS, edge.on) for edge in edges] == [(0, True), (100, False), (150, True)]


@pytest.mark.slow
def test_the_load_of_matrix_products_is_switched_as_it_is_told() -> None:
    burst = Command((sys.executable, "-m", "lydite.monitor.gemm", "cpu"))
    edges = play(burst, VirtualTiming(100 * SECOND), (100, 50))
    burst.close()
    assert [edge.on for edge in edges] == [True, False]


@pytest.mark.parametrize(
    "words", [("no-such-command-anywhere",), ("python3", "-c", "print('no')"), ("true",)]
)
def test_a_burst_command_that_does_not_answer_is_an_error(words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError, match="burst"):
        Command(words)


def test_a_burst_that_fails_ends_the_self_check_with_its_error(tmp_path: Path) -> None:
    answers_once = "import sys\nprint('ready', flush=True)\nsys.stdin.readline()\nprint('on')"
    burst = Command(("python3", "-c", answers_once))
    timing = SystemTiming()
    source = NvmlSource(SimulatedNvml(timing.now_ns, Load(CYCLE)), 0, 10 * MS, timing.now_ns)
    tried = settings(tmp_path, selfcheck=Selfcheck(seconds=1))
    monitor = Monitor(tried, [source], SIGNER, timing, burst)
    with pytest.raises(ConfigurationError, match="burst"):
        monitor.run(say=lambda *_: None)
    burst.close()
    assert chain.check(tmp_path / "segments", SIGNER.public).last.said.last
