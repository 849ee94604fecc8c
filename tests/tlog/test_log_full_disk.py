"""A disk that is full or fails: nothing is handed out, nothing is lost, and it goes on after."""

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lydite.errors import Reason, StorageError
from lydite.signing.keys import Signer
from lydite.tlog import disk
from lydite.tlog.store import LogStore

ORIGIN = "log.example/one"
SIGNER = Signer(b"log key of 32 bytes, for tests 1")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB, mounted for this test alone."""
    path = tmp_path / "small"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "lydite-test", str(path)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small tmpfs cannot be mounted here")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def fill(path: Path) -> Path:
    """Leave no byte free."""
    blob = path / "blob"
    with blob.open("wb", buffering=0) as file:
        for size in (4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)
    return blob


def test_a_full_disk_hands_out_no_index_and_loses_none(small_disk: Path) -> None:
    with LogStore.open(small_disk / "log", ORIGIN, SIGNER) as log:
        told: dict[int, bytes] = {}
        reasons = set()
        for number in range(200):
            batch = [b"%d" % number * 1000]
            try:
                told |= dict(zip(log.append_durable(batch), batch, strict=True))
            except StorageError as error:
                reasons.add(error.reason)
        assert reasons == {Reason.DISK_FULL}
        assert told
        assert sorted(told) == list(range(log.size))
        assert {index: log.entry(index) for index in told} == told


def test_the_log_goes_on_once_there_is_space_again(small_disk: Path) -> None:
    with LogStore.open(small_disk / "log", ORIGIN, SIGNER) as log:
        log.append_durable([b"before"])
        checkpoint = log.publish()
        blob = fill(small_disk)
        with pytest.raises(StorageError):
            log.append_durable([b"x" * 60_000])
        blob.unlink()
        assert log.append_durable([b"between"]) == range(1, 2)
        blob = fill(small_disk)
        with pytest.raises(StorageError):
            log.publish()
        assert log.checkpoint() == checkpoint
        blob.unlink()
        assert log.publish() != checkpoint
        assert log.append_durable([b"after"]) == range(2, 3)
    with LogStore.open(small_disk / "log", ORIGIN, SIGNER) as log:
        assert [log.entry(index) for index in range(3)] == [b"before", b"between", b"after"]


def test_a_log_is_not_begun_nor_opened_on_a_full_disk_and_is_afterwards(small_disk: Path) -> None:
    blob = fill(small_disk)
    with pytest.raises(StorageError):
        LogStore.open(small_disk / "log", ORIGIN, SIGNER)
    blob.unlink()
    with LogStore.open(small_disk / "log", ORIGIN, SIGNER) as log:
        log.append_durable([b"a"])
    blob = fill(small_disk)
    with pytest.raises(StorageError):
        LogStore.open(small_disk / "log", ORIGIN, SIGNER)
    blob.unlink()
    with LogStore.open(small_disk / "log", ORIGIN, SIGNER) as log:
        assert log.entry(0) == b"a"


def test_a_write_ahead_log_that_cannot_be_cut_goes_on_growing(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LogStore, "ROTATE_BYTES", 0)
    with LogStore.open(small_disk / "log", ORIGIN, SIGNER) as log:
        log.append_durable([b"a"])
        log.publish()
        log.append_durable([b"b" * 100])
        blob = fill(small_disk)
        with pytest.raises(StorageError):
            log.publish()
        blob.unlink()
        log.append_durable([b"c"])
        log.publish()
    with LogStore.open(small_disk / "log", ORIGIN, SIGNER) as log:
        assert [log.entry(index) for index in range(3)] == [b"a", b"b" * 100, b"c"]


class FailingCalls:
    """Stands in for calls of the operating system that a real disk makes fail now and then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.real = getattr(os, name)
        self.failing = 0
        monkeypatch.setattr(disk.os, name, self)

    def __call__(self, *arguments: object) -> object:
        if self.failing:
            self.failing -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self.real(*arguments)


@pytest.mark.parametrize("name", ["fsync", "pwrite"])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_an_append_that_fails_is_not_in_the_log_though_its_bytes_reached_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, times: int
) -> None:
    with LogStore.open(tmp_path / "log", ORIGIN, SIGNER) as log:
        log.append_durable([b"before"])
        calls = FailingCalls(monkeypatch, name)
        calls.failing = times
        refused = 0
        while calls.failing:
            ticket = log.append([b"refused"])
            with pytest.raises(StorageError) as caught:
                log.sync()
            assert caught.value.reason is Reason.DISK_FULL
            with pytest.raises(StorageError):
                ticket.indices()
            refused += 1
        assert refused
        assert log.append_durable([b"after"]) == range(1, 2)
    with LogStore.open(tmp_path / "log", ORIGIN, SIGNER) as log:
        assert [log.entry(index) for index in range(log.size)] == [b"before", b"after"]


@pytest.mark.parametrize("times", range(1, 12))
def test_publishing_that_fails_at_any_step_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Fail the n-th fsync of a publication that also makes tiles durable and cuts the log."""
    monkeypatch.setattr(LogStore, "ROTATE_BYTES", 0)
    with LogStore.open(tmp_path / "log", ORIGIN, SIGNER) as log:
        log.append_durable([b"%d" % number for number in range(600)])
        real, count = os.fsync, iter(range(1, 10**6))

        def fsync(descriptor: int) -> None:
            if next(count) == times:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            real(descriptor)

        monkeypatch.setattr(disk.os, "fsync", fsync)
        failed = 0
        for _ in range(2):
            try:
                log.publish()
            except StorageError:
                failed += 1
        assert failed <= 1
        log.append_durable([b"more"])
        log.publish()
        monkeypatch.setattr(disk.os, "fsync", real)
    with LogStore.open(tmp_path / "log", ORIGIN, SIGNER) as log:
        assert log.size == 601
        assert [log.entry(index) for index in (0, 599, 600)] == [b"0", b"599", b"more"]
