"""Recordings: what was sampled is what is given again, bit for bit, at any speed."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import ConfigurationError, FormatError
from lydite.evidence.power.channels import CHANNELS
from lydite.monitor import columns
from lydite.monitor.columns import Builder
from lydite.monitor.readings import Reading
from lydite.monitor.sources.replay import Replay, made_up, open_recording
from tests.monitor.virtual import SECOND, VirtualTiming, sample

LANES = st.dictionaries(
    st.tuples(st.sampled_from(["GPU/0", "GPU/1"]), st.sampled_from(sorted(CHANNELS))),
    st.lists(st.tuples(st.integers(0, 2**62), st.floats(width=64)), min_size=1, max_size=20),
    max_size=5,
)


def content(lanes: dict[tuple[str, str], list[tuple[int, float]]]) -> columns.Content:
    return {
        key: (
            np.array([t_ns for t_ns, _ in rows], np.int64),
            np.array([value for _, value in rows], np.float64),
        )
        for key, rows in lanes.items()
    }


@given(LANES)
def test_columns_come_back_bit_for_bit(
    lanes: dict[tuple[str, str], list[tuple[int, float]]],
) -> None:
    before = content(lanes)
    after = columns.decode(columns.encode(before))
    assert after.keys() == before.keys()
    for key, (t_ns, values) in after.items():
        assert t_ns.tobytes() == before[key][0].tobytes()
        assert values.tobytes() == before[key][1].tobytes()


def test_no_shorter_file_is_read() -> None:
    data = columns.encode(content({("GPU/0", "energy_j"): [(i, i / 3) for i in range(50)]}))
    for length in [*range(0, len(data), 37), len(data) - 1]:
        with pytest.raises(FormatError):
            columns.decode(data[:length])


def other_file(**fields: object) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(fields), sink)
    return bytes(sink.getvalue())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PAR1",
        b"lease,block\n",
        other_file(t_ns=[1], value=[1.0]),
        other_file(**{f"c{i}": [i] for i in range(500)}),
    ],
    ids=["empty", "mark", "csv", "fewer", "more"],
)
def test_a_file_of_another_shape_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError, match="columns"):
        columns.decode(data)


def test_a_channel_that_comes_twice_or_lacks_a_value_is_refused() -> None:
    table = pq.read_table(pa.BufferReader(columns.encode(content({("d", "energy_j"): [(1, 1.0)]}))))
    other = pq.read_table(pa.BufferReader(columns.encode(content({("e", "energy_j"): [(1, 1.0)]}))))
    sink = pa.BufferOutputStream()
    pq.write_table(pa.concat_tables([table, other, table]).unify_dictionaries(), sink)
    with pytest.raises(FormatError, match="twice"):
        columns.decode(bytes(sink.getvalue()))
    sink = pa.BufferOutputStream()
    hole = table.set_column(3, table.schema.field(3), pa.array([None], pa.float64()))
    pq.write_table(hole, sink)
    with pytest.raises(FormatError, match="missing"):
        columns.decode(bytes(sink.getvalue()))


@pytest.mark.parametrize("speed", [0, 0.5, 1, 1000])
def test_every_speed_gives_the_same_samples(speed: float) -> None:
    device, rows = made_up(4)
    source = Replay(device, rows, speed)
    assert sample(source, VirtualTiming(20 * SECOND)) == rows
    assert source.ended


def test_a_speed_is_a_speed() -> None:
    _, rows = made_up(4)
    timing = VirtualTiming(SECOND)
    found = sample(Replay("d/0", rows, 2), timing)
    assert found == [row for row in rows if row.t_ns < rows[0].t_ns + 2 * SECOND][: len(found)]
    assert found[-1].t_ns - found[0].t_ns == pytest.approx(2 * SECOND, rel=0.02)


def write(path: Path, device: str, rows: list[Reading]) -> Path:
    builder = Builder()
    for row in rows:
        builder.add(device, row)
    path.write_bytes(columns.encode(builder.content()))
    return path


def test_a_file_is_replayed_in_the_order_of_time(tmp_path: Path) -> None:
    device, rows = made_up(2)
    path = write(tmp_path / "a.parquet", device, rows)
    found = sample(open_recording(path, 0), VirtualTiming())
    assert found == sorted(rows, key=lambda row: (row.t_ns, row.channel))


def test_a_directory_is_replayed_whole(tmp_path: Path) -> None:
    device, rows = made_up(2)
    half = len(rows) // 2
    write(tmp_path / "1.parquet", device, rows[half:])
    write(tmp_path / "0.parquet", device, rows[:half])
    found = sample(open_recording(tmp_path, 0), VirtualTiming())
    assert sorted(found) == sorted(rows)


def test_a_recording_of_several_devices_has_to_be_told_which(tmp_path: Path) -> None:
    builder = Builder()
    for device in ("a/0", "b/0"):
        builder.add(device, Reading("energy_j", 1, 2.0))
    path = tmp_path / "x.parquet"
    path.write_bytes(columns.encode(builder.content()))
    with pytest.raises(ConfigurationError, match="a/0, b/0"):
        open_recording(path, 0)
    assert open_recording(path, 0, "b/0").device == "b/0"


def test_what_is_not_there_or_no_recording_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot read"):
        open_recording(tmp_path / "none.parquet", 0)
    with pytest.raises(ConfigurationError, match=r"no \.parquet file"):
        open_recording(tmp_path, 0)
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(FormatError, match=r"x\.parquet"):
        open_recording(tmp_path, 0)


def test_a_trace_is_made_of_what_was_kept() -> None:
    device, rows = made_up(2)
    builder = Builder()
    for row in rows:
        builder.add(device, row)
    (trace,) = columns.traces(builder.content()).values()
    assert trace.device == "simulated GPU"
    assert set(trace.series) == {row.channel for row in rows}
