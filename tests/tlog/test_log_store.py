"""A log on disk: what it serves, what it refuses, and what survives of it."""

import itertools
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from lydite.errors import (
    ConfigurationError,
    FormatError,
    Reason,
    StorageError,
    UnavailableError,
    VerificationError,
)
from lydite.signing import notes
from lydite.signing.keys import Signer
from lydite.tlog import checkpoint as checkpoints
from lydite.tlog import tiles, verification
from lydite.tlog.checkpoint import Checkpoint
from lydite.tlog.hashing import leaf_hash
from lydite.tlog.merkle import Tree
from lydite.tlog.store import LogStore
from lydite.tlog.witness import Witness

ORIGIN = "log.example/one"


def entries(start: int, stop: int) -> list[bytes]:
    return [b"entry %d" % number for number in range(start, stop)]


def head_of(store: LogStore) -> Checkpoint:
    return checkpoints.open_note(notes.parse(store.checkpoint()), [store.key]).checkpoint


def files(path: Path) -> dict[str, bytes]:
    return {
        str(each.relative_to(path)): each.read_bytes() for each in path.rglob("*") if each.is_file()
    }


def assert_serves_everything(store: LogStore) -> None:
    """Rebuild the newest checkpoint's tree from nothing but what the log serves."""
    head = head_of(store)
    tree = Tree()
    for tile in tiles.between(0, head.size):
        content = store.read(tile.path)
        if tile.level is None:
            tree.extend(tiles.decode_bundle(content, tile.width))
        else:
            assert len(content) == 32 * tile.width
    assert (tree.size, tree.root()) == (head.size, head.root)
    for tile in tiles.between(0, head.size):
        if tile.level is not None:
            start = tile.index * tiles.WIDTH
            expected = tree.hashes(8 * tile.level, start, start + tile.width)
            assert store.read(tile.path) == expected


def test_a_new_log_signs_the_empty_tree(log: LogStore) -> None:
    assert (log.size, head_of(log).size) == (0, 0)
    assert log.read("checkpoint") == log.checkpoint()
    assert log.witnessed() is None


@pytest.mark.parametrize("size", [1, 255, 256, 257, 512, 70_000])
def test_everything_that_was_appended_is_served(log: LogStore, size: int) -> None:
    assert log.append_durable(entries(0, size)) == range(size)
    log.publish()
    assert head_of(log) == Checkpoint(ORIGIN, size, log.root())
    assert_serves_everything(log)
    for index in {0, size // 2, size - 1}:
        assert log.entry(index) == b"entry %d" % index
        proof = log.proof(index)
        head = head_of(log)
        verification.inclusion(leaf_hash(log.entry(index)), index, head.size, proof.path, head.root)


def test_an_index_is_not_told_before_its_entry_is_durable(log: LogStore) -> None:
    ticket = log.append([b"a", b"b"])
    with pytest.raises(StorageError):
        ticket.indices()
    assert log.size == 0
    log.sync()
    assert ticket.indices() == range(2)


def test_an_entry_has_no_proof_before_a_checkpoint_covers_it(log: LogStore) -> None:
    log.append_durable([b"a"])
    with pytest.raises(UnavailableError):
        log.proof(0)
    log.publish()
    assert log.proof(0).index == 0


def test_publishing_nothing_new_keeps_the_checkpoint(log: LogStore) -> None:
    log.append_durable([b"a"])
    assert log.publish() == log.publish() == log.checkpoint()


def test_every_published_checkpoint_begins_with_the_one_before(log: LogStore) -> None:
    heads = [head_of(log)]
    for step in (1, 300, 7, 256, 1000):
        log.append_durable(entries(0, step))
        log.publish()
        heads.append(head_of(log))
    for old, new in itertools.pairwise(heads):
        path = log.consistency_proof(old.size, new.size)
        verification.consistency(old.size, old.root, new.size, new.root, path)


def test_tiles_never_change_once_they_are_there(log: LogStore, tmp_path: Path) -> None:
    seen: dict[str, bytes] = {}
    for step in (1, 2, 252, 1, 300, 5000, 61_000, 9):
        log.append_durable(entries(0, step))
        log.publish()
        now = {name: data for name, data in files(tmp_path / "log").items() if "tile/" in name}
        for name in seen.keys() & now.keys():
            assert seen[name] == now[name]
        gone = seen.keys() - now.keys()
        assert all(".p/" in name for name in gone)
        seen |= now


@pytest.mark.parametrize("size", [0, 1, 256, 300, 66_000])
def test_a_log_that_is_opened_again_is_the_same(tmp_path: Path, signer: Signer, size: int) -> None:
    with LogStore.open(tmp_path / "log", ORIGIN, signer) as log:
        log.append_durable(entries(0, size))
        checkpoint = log.publish()
    with LogStore.open(tmp_path / "log", ORIGIN, signer) as log:
        assert (log.size, log.checkpoint()) == (size, checkpoint)
        assert log.append_durable([b"more"]) == range(size, size + 1)
        log.publish()
        assert_serves_everything(log)


def test_the_write_ahead_log_is_cut_once_tiles_hold_its_entries(
    tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LogStore, "ROTATE_BYTES", 2000)
    with LogStore.open(tmp_path / "log", ORIGIN, signer) as log:
        for batch in range(40):
            log.append_durable(entries(batch * 100, batch * 100 + 100))
            log.publish()
            assert (tmp_path / "log" / "wal").stat().st_size < 2000 + 256 * 20
        assert [log.entry(index) for index in range(4000)] == entries(0, 4000)
        assert_serves_everything(log)
    with LogStore.open(tmp_path / "log", ORIGIN, signer) as log:
        assert [log.entry(index) for index in range(4000)] == entries(0, 4000)
        assert_serves_everything(log)


def test_entries_without_content_and_of_the_longest_length_are_kept(log: LogStore) -> None:
    longest = b"x" * 65_535
    assert log.append_durable([b"", longest]) == range(2)
    assert (log.entry(0), log.entry(1)) == (b"", longest)
    with pytest.raises(FormatError) as caught:
        log.append([b"", longest + b"x"])
    assert caught.value.reason is Reason.TOO_LARGE
    assert log.append_durable([]) == range(2, 2)
    assert log.size == 2


@pytest.mark.parametrize("path", ["wal", "lock", "../log/wal", "tile/0/../../wal", "", "tile"])
def test_only_tiles_and_the_checkpoint_are_served(log: LogStore, path: str) -> None:
    with pytest.raises(FormatError):
        log.read(path)


def test_a_tile_that_is_not_there_is_unavailable(log: LogStore) -> None:
    log.append_durable([b"a"])
    log.publish()
    for path in ("tile/0/001", "tile/0/000", "tile/0/000.p/2", "tile/entries/000"):
        with pytest.raises(UnavailableError):
            log.read(path)


@pytest.mark.parametrize("index", [-1, 1, 10**20])
def test_an_entry_that_is_not_there_is_refused(log: LogStore, index: int) -> None:
    log.append_durable([b"a"])
    for ask in (log.entry, lambda i: log.inclusion_proof(i, 1)):
        with pytest.raises(FormatError):
            ask(index)


def test_a_second_writer_is_refused(log: LogStore, tmp_path: Path, signer: Signer) -> None:
    with pytest.raises(ConfigurationError):
        LogStore.open(tmp_path / "log", ORIGIN, signer)
    log.append_durable([b"still fine"])


def test_a_closed_log_settles_its_queue(tmp_path: Path, signer: Signer) -> None:
    with LogStore.open(tmp_path / "log", ORIGIN, signer) as log:
        ticket = log.append([b"a"])
    with pytest.raises(StorageError) as caught:
        ticket.indices()
    assert caught.value.reason is Reason.UNAVAILABLE


def test_a_closed_log_takes_nothing_and_closes_again(tmp_path: Path, signer: Signer) -> None:
    log = LogStore.open(tmp_path / "log", ORIGIN, signer)
    log.append_durable([b"a"])
    log.close()
    log.close()
    for use in (lambda: log.append_durable([b"b"]), log.publish, log.sync):
        with pytest.raises(StorageError) as caught:
            use()
        assert caught.value.reason is Reason.UNAVAILABLE


def test_a_commit_that_was_interrupted_is_not_built_upon(
    tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with LogStore.open(tmp_path / "log", ORIGIN, signer) as log:
        log.append_durable([b"a"])
        with monkeypatch.context() as patched:
            patched.setattr(Tree, "extend", interrupt)
            with pytest.raises(KeyboardInterrupt):
                log.append_durable([b"b"])
        with pytest.raises(StorageError):
            log.append_durable([b"c"])
    with LogStore.open(tmp_path / "log", ORIGIN, signer) as log:
        assert [log.entry(index) for index in range(log.size)] == [b"a", b"b"]


def test_threads_that_append_at_once_each_get_their_own_indices(log: LogStore) -> None:
    got: dict[int, bytes] = {}
    done = threading.Event()

    def append(thread: int) -> None:
        for number in range(50):
            batch = [b"%d %d %d" % (thread, number, part) for part in range(3)]
            got.update(zip(log.append_durable(batch), batch, strict=True))

    def publish() -> None:
        while not done.is_set():
            log.publish()

    publisher = threading.Thread(target=publish)
    publisher.start()
    threads = [threading.Thread(target=append, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    publisher.join()
    log.publish()
    assert sorted(got) == list(range(8 * 50 * 3))
    assert all(log.entry(index) == entry for index, entry in got.items())
    assert_serves_everything(log)


def cosignature(log: LogStore, witness: Witness, time_s: int) -> notes.Signature:
    text = notes.parse(log.checkpoint()).text
    return notes.cosign(text, witness.name, witness.signer, time_s)


def test_cosignatures_are_attached_and_survive(
    tmp_path: Path, signer: Signer, identity: Witness
) -> None:
    with LogStore.open(tmp_path / "log", ORIGIN, signer) as log:
        log.append_durable([b"a"])
        log.publish()
        attached = log.attach_cosignatures(log.checkpoint(), [cosignature(log, identity, 7)])
        assert log.checkpoint() == log.witnessed() == log.read("checkpoint") == attached
        verified = notes.verify(notes.parse(attached), [log.key, identity.key])
        assert [each.time_s for each in verified.signed] == [None, 7]
        log.append_durable([b"b"])
        log.publish()
        assert log.witnessed() == attached != log.checkpoint()
        assert log.proof(0).note.encode() == attached
        assert log.proof(1).note.encode() == log.checkpoint()
    with LogStore.open(tmp_path / "log", ORIGIN, signer) as log:
        assert log.witnessed() == attached


def test_cosignatures_of_several_witnesses_come_together(log: LogStore, identity: Witness) -> None:
    second = Witness("second.example", Signer(b"2" * 32), identity.logs)
    bare = log.checkpoint()
    log.attach_cosignatures(bare, [cosignature(log, identity, 7)])
    log.attach_cosignatures(bare, [cosignature(log, second, 8)])
    log.attach_cosignatures(bare, [cosignature(log, identity, 9)])
    keys = [log.key, identity.key, second.key]
    verified = notes.verify(notes.parse(log.checkpoint()), keys)
    assert [each.time_s for each in verified.signed] == [None, 9, 8]


def test_cosignatures_that_come_late_are_attached_to_their_own_checkpoint(
    log: LogStore, identity: Witness
) -> None:
    first, late = log.checkpoint(), cosignature(log, identity, 7)
    log.append_durable([b"a"])
    log.publish()
    second, newer = log.checkpoint(), cosignature(log, identity, 8)
    log.attach_cosignatures(first, [late])
    assert log.checkpoint() == second
    assert head_note(log).size == 0
    log.attach_cosignatures(second, [newer])
    log.attach_cosignatures(first, [late])
    assert head_note(log).size == 1


def test_more_cosignatures_than_a_note_may_have_are_refused(
    log: LogStore, identity: Witness
) -> None:
    text = notes.parse(log.checkpoint()).text
    many = [notes.cosign(text, f"w{n}", identity.signer, 7) for n in range(notes.MAX_SIGNATURES)]
    with pytest.raises(FormatError) as caught:
        log.attach_cosignatures(log.checkpoint(), many)
    assert caught.value.reason is Reason.TOO_LARGE
    assert log.witnessed() is None


def head_note(log: LogStore) -> Checkpoint:
    witnessed = log.witnessed()
    assert witnessed is not None
    return checkpoints.parse(notes.parse(witnessed).text)


def test_cosignatures_over_what_this_log_did_not_sign_are_refused(
    log: LogStore, identity: Witness, signer: Signer
) -> None:
    log.append_durable([b"a"])
    made: list[Callable[[], notes.Note]] = [
        lambda: checkpoints.sign(Checkpoint(ORIGIN, 1, log.root()), Signer(b"x" * 32)),
        lambda: checkpoints.sign(Checkpoint("log.example/two", 1, log.root()), signer),
        lambda: checkpoints.sign(Checkpoint(ORIGIN, 1, bytes(32)), signer),
        lambda: checkpoints.sign(Checkpoint(ORIGIN, 2, log.root()), signer),
    ]
    for make in made:
        with pytest.raises(VerificationError):
            log.attach_cosignatures(make().encode(), [cosignature(log, identity, 7)])
    assert log.witnessed() is None


def test_a_bundle_that_was_changed_on_disk_is_noticed(
    tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LogStore, "ROTATE_BYTES", 0)
    with LogStore.open(tmp_path / "log", ORIGIN, signer) as log:
        log.append_durable(entries(0, 300))
        log.publish()
        bundle = tmp_path / "log" / tiles.Tile(None, 0).path
        bundle.write_bytes(bundle.read_bytes().replace(b"entry 7", b"entry X", 1))
        assert log.entry(6) == b"entry 6"
        with pytest.raises(StorageError) as caught:
            log.entry(7)
        assert caught.value.reason is Reason.DAMAGED
        bundle.unlink()
        with pytest.raises(StorageError) as caught:
            log.entry(6)
        assert caught.value.reason is Reason.DAMAGED
