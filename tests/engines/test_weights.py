"""A model directory is named by the digest of every file in it."""

import hashlib
import shutil
from pathlib import Path

import pytest
from answering import MODELS, SMALL

from lydite.engines.weights import MANIFEST, check_manifest, measure, write_manifest
from lydite.errors import ConfigurationError, FormatError, VerificationError


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name in ("b.bin", "a.json"):
        (tmp_path / name).write_bytes(name.encode())
    write_manifest(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["lydite-small", "lydite-base"])
def test_the_committed_models_are_those_of_their_manifests(name: str) -> None:
    assert check_manifest(MODELS / name).root == measure(MODELS / name).root


def test_the_root_binds_names_and_bytes_in_order(directory: Path) -> None:
    expected = hashlib.sha256()
    for name in ("a.json", "b.bin"):
        expected.update(name.encode() + b"\0" + hashlib.sha256(name.encode()).digest())
    assert measure(directory).root == expected.hexdigest()


def test_any_change_to_a_file_is_seen(directory: Path) -> None:
    (directory / "b.bin").write_bytes(b"c.bin")
    with pytest.raises(VerificationError, match=r"b\.bin"):
        check_manifest(directory)


def test_a_file_too_many_or_too_few_is_seen(directory: Path) -> None:
    (directory / "extra").write_bytes(b"")
    with pytest.raises(VerificationError, match="extra"):
        check_manifest(directory)
    (directory / "extra").unlink()
    (directory / "a.json").unlink()
    with pytest.raises(VerificationError, match=r"a\.json"):
        check_manifest(directory)


def test_exchanged_names_are_seen(directory: Path) -> None:
    before = measure(directory).root
    (directory / "a.json").rename(directory / "c")
    (directory / "b.bin").rename(directory / "a.json")
    (directory / "c").rename(directory / "b.bin")
    assert measure(directory).root != before


@pytest.mark.parametrize("text", [b"", b"{}", b'{"files":[],"root":"","more":1}'])
def test_a_manifest_that_does_not_parse_is_refused(directory: Path, text: bytes) -> None:
    (directory / MANIFEST).write_bytes(text)
    with pytest.raises(FormatError):
        check_manifest(directory)


def test_a_directory_that_is_missing_or_empty_is_refused(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "none"):
        with pytest.raises(ConfigurationError):
            measure(place)
    shutil.copy(SMALL / "config.json", tmp_path)
    with pytest.raises(ConfigurationError, match=MANIFEST):
        check_manifest(tmp_path)
