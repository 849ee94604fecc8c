"""A tree that forgot its older tiles answers as the one that remembers them."""

import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lydite.errors import FormatError
from lydite.signing.keys import Signer
from lydite.tlog import recovery
from lydite.tlog.merkle import Tree
from lydite.tlog.store import LogStore


def entries(count: int) -> list[bytes]:
    return [b"entry %d" % number for number in range(count)]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 2_000), st.lists(st.integers(0, 2_000), max_size=5), st.data())
def test_a_trimmed_tree_gives_the_same_roots_hashes_and_proofs(
    size: int, trims: list[int], data: st.DataObject
) -> None:
    whole = Tree()
    trimmed = Tree(lambda index: whole.hashes(0, 256 * index, 256 * index + 256))
    steps = sorted(data.draw(st.lists(st.integers(0, size), max_size=6)))
    for start, stop in zip([0, *steps], [*steps, size], strict=True):
        new = entries(size)[start:stop]
        whole.extend(new)
        for entry in new[:3]:
            trimmed.append(entry)
        trimmed.extend(new[3:])
        if trims:
            trimmed.trim(min(trims.pop(), trimmed.size))
    assert trimmed.root() == whole.root()
    old = data.draw(st.integers(0, size))
    assert trimmed.root(old) == whole.root(old)
    assert trimmed.consistency_proof(old, size) == whole.consistency_proof(old, size)
    index = data.draw(st.integers(0, size - 1))
    assert trimmed.inclusion_proof(index, size) == whole.inclusion_proof(index, size)
    for level in range(size.bit_length()):
        stop = size >> level
        start = data.draw(st.integers(0, stop))
        assert trimmed.hashes(level, start, stop) == whole.hashes(level, start, stop)


def test_a_trimmed_tree_without_its_tiles_says_so() -> None:
    tree = Tree()
    tree.extend(entries(600))
    tree.trim(512)
    with pytest.raises(FormatError):
        tree.inclusion_proof(3, 600)


def test_a_log_forgets_and_still_proves_while_others_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "KEPT_LEAVES", 512)
    monkeypatch.setattr(LogStore, "ROTATE_BYTES", 4096)
    twin = Tree()
    stop, wrong = threading.Event(), []
    with LogStore.open(tmp_path, "lydite.test/trim", Signer(bytes(32))) as log:

        def read() -> None:
            while not stop.is_set():
                size = log.size
                if size and log.root(size) != twin.root(size):
                    wrong.append(size)

        reader = threading.Thread(target=read)
        for batch in range(40):
            new = [b"entry %d %d" % (batch, number) for number in range(150)]
            twin.extend(new)
            log.stage(new)
            if not batch:
                reader.start()
            log.publish()
        stop.set()
        reader.join()
        assert log._tree._trimmed > 4_000
        for index in range(0, log.size, 97):
            assert log.inclusion_proof(index, log.size) == twin.inclusion_proof(index, log.size)
            assert log.entry(index)
    assert not wrong
    with LogStore.open(tmp_path, "lydite.test/trim", Signer(bytes(32))) as again:
        assert again.root() == twin.root()
        assert again._tree._trimmed >= 4_000
