"""The journal keeps every record that it acknowledged, whatever a crash leaves behind it."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lydite.errors import FormatError, StorageError
from lydite.gateway.ledger.pairs import Journal, Pair


def pair(number: int, size: int = 50) -> Pair:
    return Pair(
        kind="receipt",
        body=b"%d" % number * size,
        receipt_id=f"{number:032x}",
    )


def append(journal: Journal, *pairs: Pair) -> int:
    with journal.appending(pairs) as first:
        return first


def contents(journal: Journal) -> list[Pair]:
    return list(journal.after(0))


def test_what_was_appended_is_read_again_after_reopening(tmp_path: Path) -> None:
    journal = Journal(tmp_path, segment_bytes=300)
    pairs = [pair(n) for n in range(20)]
    assert [append(journal, each) for each in pairs] == list(range(1, 21))
    epoch = Pair(kind="epoch", body=b"e")
    append(journal, epoch)
    journal.close()
    assert len(list(tmp_path.glob("*.seg"))) > 3
    again = Journal(tmp_path, segment_bytes=300)
    assert contents(again) == [*pairs, epoch]
    assert again.number_of(pairs[7].receipt_id) == 8
    assert again.number_of_envelope(hashlib.sha256(b"e").digest()) == 21
    assert again.of_kind("epoch") == (21,)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_a_tail_torn_at_any_byte_loses_only_what_was_not_acknowledged(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("torn")
    journal = Journal(directory)
    append(journal, pair(1), pair(2))
    whole = journal._end
    append(journal, pair(3))
    end = journal._end
    journal.close()
    segment = directory / "00000000.seg"
    cut = data.draw(st.integers(whole, end - 1))
    noise = data.draw(st.binary(max_size=40))
    segment.write_bytes(segment.read_bytes()[:cut] + noise)
    again = Journal(directory)
    assert contents(again) == [pair(1), pair(2)]
    again.cut_torn_tail()
    assert append(again, pair(4)) == 3
    again.close()
    assert contents(Journal(directory)) == [pair(1), pair(2), pair(4)]


def test_a_block_that_raises_leaves_nothing_behind(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    append(journal, pair(1))
    with pytest.raises(RuntimeError), journal.appending([pair(2)]):
        raise RuntimeError
    assert append(journal, pair(3)) == 2
    journal.close()
    assert contents(Journal(tmp_path)) == [pair(1), pair(3)]


def test_a_damaged_older_segment_is_an_error_not_a_shorter_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path, segment_bytes=100)
    for number in range(5):
        append(journal, pair(number))
    journal.close()
    segment = tmp_path / "00000001.seg"
    raw = bytearray(segment.read_bytes())
    raw[20] ^= 1
    segment.write_bytes(raw)
    with pytest.raises(StorageError, match="damaged"):
        Journal(tmp_path)


def test_a_record_that_the_disk_changed_is_never_handed_out(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    append(journal, pair(1))
    segment = tmp_path / "00000000.seg"
    raw = bytearray(segment.read_bytes())
    raw[20] ^= 1
    segment.write_bytes(raw)
    with pytest.raises(StorageError, match="damaged"):
        journal.read(1)


@pytest.mark.parametrize("number", [0, 2, -1])
def test_there_is_no_other_entry(tmp_path: Path, number: int) -> None:
    journal = Journal(tmp_path)
    append(journal, pair(1))
    with pytest.raises(FormatError):
        journal.read(number)


def test_a_probe_leaves_nothing_behind(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    append(journal, pair(1))
    journal.probe()
    journal.close()
    assert contents(Journal(tmp_path)) == [pair(1)]


def test_an_authenticated_record_is_whole_at_its_own_place_only(tmp_path: Path) -> None:
    journal = Journal(tmp_path, key=b"k" * 32)
    append(journal, pair(1), pair(2))
    journal.close()
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    half = len(content) // 2
    assert contents(Journal(tmp_path, key=b"k" * 32)) == [pair(1), pair(2)]
    for forged, whole in (
        (content[half:] + content[:half], 0),
        (content[:half] * 2, 1),
        (content + content[:half], 2),
    ):
        path.write_bytes(forged)
        assert len(Journal(tmp_path, key=b"k" * 32)) == whole
    path.write_bytes(content)
    assert len(Journal(tmp_path, key=b"l" * 32)) == 0


def test_plain_segments_are_read_only_where_they_are_expected(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    append(journal, pair(1))
    journal.close()
    with pytest.raises(StorageError, match="another kind"):
        Journal(tmp_path, key=b"k" * 32)
    journal = Journal(tmp_path, key=b"k" * 32, plain=["00000000.seg"])
    append(journal, pair(2))
    journal.close()
    with pytest.raises(StorageError, match="another kind"):
        Journal(tmp_path)
    again = Journal(tmp_path, key=b"k" * 32, plain=["00000000.seg"])
    assert contents(again) == [pair(1), pair(2)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000000.seg", "00000001.mac"]
