"""What a crash leaves: torn writes at every byte, missing files, another disk."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lydite.errors import LyditeError, Reason, StorageError, VerificationError
from lydite.signing import notes
from lydite.signing.keys import Signer
from lydite.tlog import checkpoint as checkpoints
from lydite.tlog import tiles, verification, wal
from lydite.tlog.checkpoint import Checkpoint
from lydite.tlog.store import LogStore

ORIGIN = "log.example/one"
SIGNER = Signer(b"log key of 32 bytes, for tests 1")


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A directory in memory where there is one: what is torn here is torn by hand."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as path:
        yield Path(path)


def open_log(path: Path) -> LogStore:
    return LogStore.open(path, ORIGIN, SIGNER)


def head_of(path: Path) -> Checkpoint:
    return checkpoints.parse(notes.parse((path / "checkpoint").read_bytes()).text)


def entries(start: int, stop: int) -> list[bytes]:
    return [b"entry %d" % number for number in range(start, stop)]


@pytest.fixture
def crashed(tmp_path: Path) -> Path:
    """A log of five entries in a checkpoint, and three more commits of two that are in none."""
    path = tmp_path / "log"
    with open_log(path) as log:
        log.append_durable(entries(0, 5))
        log.publish()
        for start in (5, 7, 9):
            log.append_durable(entries(start, start + 2))
    return path


def ends_of_frames(data: bytes) -> list[int]:
    """Return where each commit ends, by scanning ever longer beginnings."""
    whole = [wal.scan(data[:cut]).length for cut in range(30 + 4, len(data) + 1)]
    return sorted(set(whole))


def test_a_write_torn_at_any_byte_loses_only_what_nobody_was_told(
    crashed: Path, tmp_path: Path
) -> None:
    data = (crashed / "wal").read_bytes()
    first, *ends = ends_of_frames(data)
    sizes = dict(zip(ends, (5, 7, 9, 11), strict=True))
    for cut in range(len(data)):
        path = tmp_path / "cut"
        shutil.copytree(crashed, path)
        (path / "wal").write_bytes(data[:cut])
        size = max((sizes[end] for end in ends if end <= cut), default=0)
        if size < 5:  # less than the log signed
            with pytest.raises((VerificationError, StorageError)) as caught:
                open_log(path)
            expected = Reason.INCONSISTENT_LOG if cut >= first else Reason.DAMAGED
            assert caught.value.reason is expected
        else:
            with open_log(path) as log:
                assert log.size == head_of(path).size == size
                assert log.append_durable([b"next"]) == range(size, size + 1)
            with open_log(path) as log:
                expected_entries = [*entries(0, size), b"next"]
                assert [log.entry(i) for i in range(log.size)] == expected_entries
        shutil.rmtree(path)


def test_rubbish_behind_the_last_commit_is_cut_off(crashed: Path) -> None:
    data = (crashed / "wal").read_bytes()
    for rubbish in (b"\0", bytes(5000), data[30:60], data[:100], b"\xff" * 17):
        (crashed / "wal").write_bytes(data + rubbish)
        with open_log(crashed) as log:
            assert log.size == 11
        assert (crashed / "wal").stat().st_size >= len(data)


def test_a_changed_byte_never_changes_an_entry(crashed: Path, tmp_path: Path) -> None:
    data = (crashed / "wal").read_bytes()
    last = ends_of_frames(data)[-2]
    for at in range(len(data)):
        path = tmp_path / "flip"
        shutil.copytree(crashed, path)
        (path / "wal").write_bytes(data[:at] + bytes([data[at] ^ 0x5A]) + data[at + 1 :])
        if at >= last:  # only the last commit can be taken for a torn one
            with open_log(path) as log:
                assert log.size == 9
                assert [log.entry(i) for i in range(9)] == entries(0, 9)
        else:
            with pytest.raises(LyditeError) as caught:
                open_log(path)
            assert caught.value.reason is Reason.DAMAGED
        shutil.rmtree(path)


def test_damage_in_the_middle_is_not_taken_for_a_torn_end(crashed: Path) -> None:
    data = bytearray((crashed / "wal").read_bytes())
    at = bytes(data).index(b"entry 7")
    data[at] ^= 1
    (crashed / "wal").write_bytes(data)
    with pytest.raises(StorageError) as caught:
        open_log(crashed)
    assert caught.value.reason is Reason.DAMAGED
    assert (crashed / "wal").read_bytes() == data


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log whose first 512 entries are in durable tiles, and 300 more are not."""
    path = tmp_path / "large"
    monkeypatch.setattr(LogStore, "ROTATE_BYTES", 0)
    with open_log(path) as log:
        log.append_durable(entries(0, 600))
        log.publish()
        monkeypatch.setattr(LogStore, "ROTATE_BYTES", 1 << 30)
        for start in range(600, 900, 100):
            log.append_durable(entries(start, start + 100))
            log.publish()
    assert wal.scan((path / "wal").read_bytes()).base == 512
    return path


def served(path: Path) -> dict[str, bytes]:
    found = [each for each in (path / "tile").rglob("*") if each.is_file()]
    return {str(each.relative_to(path)): each.read_bytes() for each in found}


def test_tiles_torn_by_a_loss_of_power_are_written_again(large: Path) -> None:
    good = served(large)
    for name in good:
        tile = tiles.parse_path(name)
        if tile.index < 2 and tile.full:
            continue  # durable since the write-ahead log was cut
        for torn in (None, b"", good[name][:-1], bytes(len(good[name]))):
            if torn is None and not tile.full and name not in needed(large):
                continue  # a partial tile of an older checkpoint may go
            if torn is None:
                (large / name).unlink()
            else:
                (large / name).write_bytes(torn)
            with open_log(large) as log:
                assert log.size == 900
            assert served(large) == good


def needed(path: Path) -> set[str]:
    return {tile.path for tile in tiles.between(0, head_of(path).size)}


def test_a_crash_between_tiles_and_checkpoint_leaves_a_log_that_opens(
    large: Path, tmp_path: Path
) -> None:
    """Tiles of a checkpoint that was never signed are there, some of them torn."""
    older = tmp_path / "older"
    shutil.copytree(large, older)
    with open_log(large) as log:
        log.append_durable(entries(900, 1500))
        log.publish()
        expected = served(large)
    for name, data in expected.items():
        target = older / name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data[: len(data) // 2])
    shutil.copy(large / "wal", older / "wal")
    with open_log(older) as log:
        assert log.size == head_of(older).size == 1500
    assert expected.items() <= served(older).items()


@pytest.mark.parametrize(
    "name", ["tile/0/000", "tile/0/001", "tile/entries/000", "tile/entries/001"]
)
def test_a_disk_that_lost_a_durable_tile_is_refused(large: Path, name: str) -> None:
    whole = (large / name).read_bytes()
    for content in (None, b"", whole[:100]):
        if content is None:
            (large / name).unlink()
        else:
            (large / name).write_bytes(content)
        with pytest.raises(VerificationError) as caught:
            open_log(large)
        assert caught.value.reason is Reason.INCONSISTENT_LOG


def test_a_durable_tile_with_another_hash_is_refused(large: Path) -> None:
    tile = large / "tile/0/001"
    tile.write_bytes(bytes(32) + tile.read_bytes()[32:])
    with pytest.raises(VerificationError) as caught:
        open_log(large)
    assert caught.value.reason is Reason.INCONSISTENT_LOG


@pytest.mark.parametrize("name", ["wal", "checkpoint"])
def test_a_log_without_one_of_its_files_is_refused(large: Path, name: str) -> None:
    (large / name).unlink()
    with pytest.raises(StorageError) as caught:
        open_log(large)
    assert caught.value.reason is Reason.DAMAGED


def test_a_log_of_which_only_the_checkpoint_is_left_is_refused(crashed: Path) -> None:
    (crashed / "wal").unlink()
    shutil.rmtree(crashed / "tile")
    with pytest.raises(StorageError):
        open_log(crashed)


def test_a_log_put_back_to_an_older_copy_is_refused_by_its_own_checkpoint(
    crashed: Path, tmp_path: Path
) -> None:
    with open_log(crashed):
        pass
    older = tmp_path / "older"
    shutil.copytree(crashed, older)
    with open_log(crashed) as log:
        log.append_durable(entries(11, 20))
        newest = log.publish()
    (older / "checkpoint").write_bytes(newest)
    with pytest.raises(VerificationError) as caught:
        open_log(older)
    assert caught.value.reason is Reason.INCONSISTENT_LOG
    assert "fewer" in str(caught.value)


def test_a_witnessed_checkpoint_is_held_against_the_disk_too(crashed: Path) -> None:
    ahead = Checkpoint(ORIGIN, 12, bytes(32))
    (crashed / "checkpoint.witnessed").write_bytes(checkpoints.sign(ahead, SIGNER).encode())
    with pytest.raises(VerificationError) as caught:
        open_log(crashed)
    assert caught.value.reason is Reason.INCONSISTENT_LOG


def test_a_log_is_not_opened_under_another_name_or_key(crashed: Path) -> None:
    with pytest.raises(VerificationError) as caught:
        LogStore.open(crashed, "log.example/two", SIGNER)
    assert caught.value.reason is Reason.WRONG_ORIGIN
    with pytest.raises(VerificationError) as caught:
        LogStore.open(crashed, ORIGIN, Signer(b"x" * 32))
    assert caught.value.reason is Reason.UNKNOWN_KEY


def test_a_refused_log_is_left_as_it_was_and_unlocked(crashed: Path) -> None:
    shutil.copy(crashed / "checkpoint", crashed / "kept")
    (crashed / "checkpoint").write_bytes(b"rubbish")
    for _ in range(2):
        with pytest.raises(StorageError):
            open_log(crashed)
    shutil.move(crashed / "kept", crashed / "checkpoint")
    with open_log(crashed) as log:
        assert log.size == 11


def test_a_beginning_that_was_cut_short_begins_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with open_log(path):
        pass
    (path / "checkpoint").unlink()  # the write-ahead log came first
    with open_log(path) as log:
        assert (log.size, head_of(path).size) == (0, 0)
    shutil.rmtree(path)
    path.mkdir()
    (path / "wal.tmp").write_bytes(b"lyd")
    with open_log(path) as log:
        assert log.append_durable([b"a"]) == range(1)


def test_recovery_signs_nothing_that_contradicts_what_was_signed(crashed: Path) -> None:
    old = head_of(crashed)
    with open_log(crashed) as log:
        new = head_of(crashed)
        path = log.consistency_proof(old.size, new.size)
    verification.consistency(old.size, old.root, new.size, new.root, path)
    assert new.size == 11
