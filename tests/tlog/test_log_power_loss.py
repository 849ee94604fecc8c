"""Loss of power at every moment, on the worst disk that POSIX allows.

Of a file survives what it held at its last fsync; of a directory, the names that it had at its
last fsync. Whatever was written, created, renamed or removed since is gone.
"""

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from lydite.signing import notes
from lydite.signing.keys import Signer
from lydite.tlog import checkpoint as checkpoints
from lydite.tlog import disk, verification
from lydite.tlog.checkpoint import Checkpoint
from lydite.tlog.store import LogStore

ORIGIN = "log.example/one"
SIGNER = Signer(b"log key of 32 bytes, for tests 1")
Names = dict[str, int]


class WorstDisk:
    """Remembers what is durable of a directory tree, by inode, as each fsync makes it so."""

    def __init__(self, root: Path) -> None:
        self.root = root.stat().st_ino
        self.files: dict[int, bytes] = {}
        self.directories: dict[int, Names] = {self.root: {}}
        self.before_each: Callable[[], None] = lambda: None
        self._real = os.fsync
        self._one_at_a_time = threading.Lock()

    def fsync(self, descriptor: int) -> None:
        with self._one_at_a_time:
            self.before_each()
            self._real(descriptor)
            status = os.fstat(descriptor)
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            if stat.S_ISDIR(status.st_mode):
                names = {each.name: each.lstat().st_ino for each in path.iterdir()}
                self.directories[status.st_ino] = names
                for each in path.iterdir():
                    if each.is_dir():
                        self.directories.setdefault(each.lstat().st_ino, {})
                    else:  # an inode may have been a directory before
                        self.directories.pop(each.lstat().st_ino, None)
            else:
                self.directories.pop(status.st_ino, None)
                self.files[status.st_ino] = path.read_bytes()

    def write_image(self, target: Path) -> None:
        """Write what would be found after a loss of power."""
        self._write(self.root, target)

    def _write(self, inode: int, target: Path) -> None:
        target.mkdir()
        for name, child in self.directories[inode].items():
            if child in self.directories:
                self._write(child, target / name)
            else:
                (target / name).write_bytes(self.files.get(child, b""))


class Told:
    """What was told to anyone before some moment."""

    def __init__(self) -> None:
        self.entries: dict[int, bytes] = {}
        self.heads: list[Checkpoint] = []

    def check(self, path: Path) -> None:
        """Open the log at ``path``, which must hold all of it, once."""
        with LogStore.open(path, ORIGIN, SIGNER) as log:
            found = [log.entry(index) for index in range(log.size)]
            assert {index: found[index] for index in self.entries} == self.entries
            assert len(set(found)) == len(found)
            for head in self.heads:
                proof = log.consistency_proof(head.size, log.size)
                verification.consistency(head.size, head.root, log.size, log.root(), proof)
            assert log.append_durable([b"goes on"]) == range(log.size - 1, log.size)
            log.publish()


@pytest.mark.parametrize("rotate", [0, 6_000, 1 << 30])
def test_nothing_that_was_told_is_lost_at_any_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rotate: int
) -> None:
    monkeypatch.setattr(LogStore, "ROTATE_BYTES", rotate)
    path, told, moments = tmp_path / "log", Told(), [0]
    path.mkdir()
    worst = WorstDisk(path)

    def lose_power() -> None:
        """Look at what would be left just before one more thing becomes durable."""
        moments[0] += 1
        worst.before_each = lambda: None
        monkeypatch.setattr(disk.os, "fsync", lambda _: None)
        image = tmp_path / f"image{moments[0]}"
        worst.write_image(image)
        told.check(image)
        monkeypatch.setattr(disk.os, "fsync", worst.fsync)
        worst.before_each = lose_power

    monkeypatch.setattr(disk, "_SYNC_THREADS", 1)
    monkeypatch.setattr(disk.os, "fsync", worst.fsync)
    with LogStore.open(path, ORIGIN, SIGNER) as log:
        worst.before_each = lose_power
        number = 0
        for batch in (1, 40, 215, 1, 60, 200, 7, 30, 300, 3):
            entries = [b"entry %d" % each for each in range(number, number + batch)]
            told.entries |= dict(zip(log.append_durable(entries), entries, strict=True))
            number += batch
            if batch != 7:
                head = checkpoints.parse(notes.parse(log.publish()).text)
                told.heads.append(head)
        worst.before_each = lambda: None
    assert moments[0] > 25
