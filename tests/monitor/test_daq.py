"""The fast meter: frames however they are cut, bins that are exact, a file and a real socket."""

import socket
import threading
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import ConfigurationError, FormatError, UnavailableError
from lydite.monitor import chain
from lydite.monitor.readings import Reading
from lydite.monitor.service import Monitor
from lydite.monitor.settings import Selfcheck, Settings
from lydite.monitor.sources import frames
from lydite.monitor.sources.daq import Daq, FileBytes, SocketBytes
from lydite.monitor.sources.decimation import Decimator
from lydite.monitor.sources.frames import HEADER_BYTES, Block, Reader, frame, header, parse_header
from lydite.monitor.timing import SystemTiming
from lydite.signing.keys import Signer
from tests.monitor.virtual import MS, VirtualTiming, sample

STEP_NW = 1_000_003
"""A step that no power of two divides."""
steps = st.integers(-(2**31), 2**31 - 1)


def stream(samples: list[int], sizes: list[int], rate_hz: int = 1000) -> bytes:
    data, at, number = header(rate_hz, STEP_NW), 0, 0
    for size in [*sizes, len(samples)]:
        piece = samples[at : at + size]
        if piece:
            data += frame(number, at, np.array(piece, np.int64))
            at, number = at + len(piece), number + 1
    return data


@given(st.lists(steps, max_size=300), st.lists(st.integers(1, 60), max_size=10), st.data())
def test_frames_are_found_however_the_bytes_are_cut(
    samples: list[int], sizes: list[int], data: st.DataObject
) -> None:
    raw = stream(samples, sizes)[HEADER_BYTES:]
    reader, found, at = Reader(), [], 0
    while at < len(raw):
        size = data.draw(st.integers(1, 200))
        found += reader.take(raw[at : at + size])
        at += size
    assert [s for block in found for s in block.samples.tolist()] == samples
    assert reader.broken == reader.end() == 0


@given(st.binary(max_size=80), st.lists(steps, min_size=1, max_size=20), st.binary(max_size=80))
def test_bytes_that_are_no_frame_are_passed_over_and_counted(
    before: bytes, samples: list[int], after: bytes
) -> None:
    whole = frame(0, 0, np.array(samples, np.int64))
    reader = Reader()
    found = reader.take(before + whole + after)
    assert [block.samples.tolist() for block in found if block.first == 0] == [samples]
    assert reader.broken + reader.end() == len(before) + len(after)


@given(st.lists(steps, min_size=1, max_size=20), st.data())
def test_no_flipped_bit_of_a_frame_is_taken_for_samples(
    samples: list[int], data: st.DataObject
) -> None:
    raw = bytearray(frame(0, 0, np.array(samples, np.int64)))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    reader = Reader()
    assert reader.take(bytes(raw)) == []
    assert reader.broken + reader.end() == len(raw)


@given(
    st.lists(steps, max_size=400),
    st.lists(st.integers(1, 90), max_size=12),
    st.sampled_from([1, 7, 10, 100]),
    st.integers(0, 250),
)
def test_no_step_of_energy_is_lost_on_the_way_down(
    samples: list[int], sizes: list[int], per_bin: int, start: int
) -> None:
    """The obvious twin sums every sample that lies in a whole bin, in Python's own integers."""
    decimator, at, bins = Decimator(per_bin), 0, []
    for size in [*sizes, len(samples)]:
        piece = np.array(samples[at : at + size], np.int64)
        if len(piece):
            bins += decimator.take(Block(0, start + at, piece))
        at += len(piece)
    decimator.end()
    first = -(-start // per_bin) * per_bin
    whole = [
        sum(samples[low - start : low - start + per_bin])
        for low in range(first, start + len(samples) - per_bin + 1, per_bin)
    ]
    assert [each.total for each in bins] == whole
    assert [each.whole for each in bins] == [sum(whole[: i + 1]) for i in range(len(whole))]
    assert len(bins) * per_bin + decimator.lost == len(samples)


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 60)), max_size=12))
def test_lost_and_repeated_samples_are_all_accounted_for(blocks: list[tuple[int, int]]) -> None:
    decimator, bins, given_ = Decimator(10), [], 0
    highest = None
    skipped = 0
    for first, count in blocks:
        piece = np.arange(first, first + count, dtype=np.int64)
        bins += decimator.take(Block(0, first, piece))
        given_ += count
        if highest is not None and first > highest:
            skipped += first - highest
        highest = max(highest or 0, first + count)
    decimator.end()
    assert len(bins) * 10 + decimator.lost + decimator.repeated == given_ + skipped
    for each in bins:
        assert each.total == sum(range(each.first, each.first + 10))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x" * HEADER_BYTES,
        header(999, 1),
        header(1000, 0),
        header(1000, 1)[:-1],
        header(1000, 1)[:-1] + b"\x00",
    ],
)
def test_a_header_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        parse_header(data)


@pytest.mark.parametrize("count", [0, frames.MAX_SAMPLES + 1])
def test_a_frame_that_no_reader_would_take_is_not_made(count: int) -> None:
    with pytest.raises(FormatError, match="samples in a frame"):
        frame(0, 0, np.zeros(count, np.int64))


def meter(tmp_path: Path, data: bytes, grid_hz: int = 100) -> tuple[Daq, list[Reading]]:
    path = tmp_path / "meter.daq"
    path.write_bytes(data)
    daq = Daq(FileBytes(path), "rail", "power_wall_w", grid_hz, None)
    found = sample(daq, VirtualTiming())
    daq.close()
    return daq, found


@pytest.mark.parametrize("rate_hz", frames.RATES_HZ)
def test_a_file_comes_down_to_the_grid_with_its_energy(tmp_path: Path, rate_hz: int) -> None:
    rng = np.random.default_rng(rate_hz)
    samples = rng.integers(0, 700_000, rate_hz).tolist()
    daq, found = meter(tmp_path, stream(samples, [4001] * 30, rate_hz))
    power = [each for each in found if each.channel == "power_wall_w"]
    energy = [each for each in found if each.channel == "energy_j"]
    assert [each.t_ns for each in power] == [10 * MS * (i + 1) for i in range(100)]
    exact = Fraction(sum(samples) * STEP_NW, rate_hz * 10**9)
    assert energy[-1].value == float(exact)
    assert energy[0] == Reading("energy_j", 0, 0.0)
    assert sum(each.value for each in power) * 0.01 == pytest.approx(float(exact))
    assert daq.tally.counts() == {}


def test_a_lost_frame_is_counted_and_the_counter_begins_anew(tmp_path: Path) -> None:
    blocks = [np.full(100, 5000, np.int64)] * 4
    data = header(1000, STEP_NW)
    for number in (0, 1, 3):
        data += frame(number, 100 * number, blocks[number])
    daq, found = meter(tmp_path, data)
    energy = [each.value for each in found if each.channel == "energy_j"]
    assert energy.count(0.0) == 2
    assert daq.tally.counts() == {"lost-frame": 100}


def test_an_index_from_beyond_all_time_is_counted_and_breaks_nothing(tmp_path: Path) -> None:
    first = np.full(100, 5000, np.int64)
    path = tmp_path / "meter.daq"
    late = 2**64 - 200
    path.write_bytes(header(1000, 1) + frame(0, 0, first) + frame(1, late, first))
    daq = Daq(FileBytes(path), "rail/0", "power_wall_w", 100, None)
    told = Settings(
        state=str(tmp_path / "s"), key="", drain_ms=10, metrics=None, selfcheck=Selfcheck(seconds=0)
    )
    Monitor(told, [daq], Signer(b"1" * 32), SystemTiming()).run(say=lambda *_: None)
    daq.close()
    health = chain.check(tmp_path / "s", Signer(b"1" * 32).public)
    assert health.counted["lost-frame"] == 2**53 - 1
    assert health.counted["out-of-range"] > 0
    assert health.samples > 0


def test_a_file_that_is_cut_short_is_counted(tmp_path: Path) -> None:
    daq, found = meter(tmp_path, stream([1] * 100, [])[:-7])
    assert found == []
    assert daq.tally.counts() == {"broken-frame": 1}


def test_a_rate_that_does_not_come_down_to_the_grid_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="do not come down to 300 Hz"):
        meter(tmp_path, stream([1] * 100, []), grid_hz=300)


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_a_real_socket_gives_what_the_meter_sent(tmp_path: Path, family: str) -> None:
    path = str(tmp_path / "s")
    server = (
        socket.create_server(("127.0.0.1", 0))
        if family == "tcp"
        else socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    )
    if family == "unix":
        server.bind(path)
        server.listen()
    samples = np.random.default_rng(2).integers(0, 9000, 20_000).tolist()

    def send() -> None:
        connection, _ = server.accept()
        data = stream(samples, [1500] * 20, 10_000)
        for at in range(0, len(data), 7001):
            connection.sendall(data[at : at + 7001])
        connection.close()

    sender = threading.Thread(target=send)
    sender.start()
    port = server.getsockname()[1] if family == "tcp" else 0
    address = f"tcp://127.0.0.1:{port}" if family == "tcp" else f"unix:{path}"
    daq = Daq(SocketBytes(address), "rail", "power_wall_w", 100, lambda: 77)
    found: list[Reading] = []
    pause = threading.Event()
    while not daq.ended:
        found += daq.read(0)
        pause.wait(0.001)
    sender.join()
    daq.close()
    server.close()
    energy = [each.value for each in found if each.channel == "energy_j"]
    assert energy[-1] == float(Fraction(sum(samples) * STEP_NW, 10_000 * 10**9))
    assert daq.tally.counts() == {}


@pytest.mark.parametrize("address", ["127.0.0.1:9", "http://127.0.0.1:9", "tcp://:9", "unix:"])
def test_an_address_of_another_form_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationError, match="expected tcp"):
        SocketBytes(address)


def test_a_meter_that_does_not_answer_is_not_read() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(UnavailableError, match="fast meter"):
        SocketBytes(f"tcp://127.0.0.1:{port}")
