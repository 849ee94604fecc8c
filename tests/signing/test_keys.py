"""Key files: in the open with mode 0600, or encrypted, and never the one where the other is due."""

from pathlib import Path

import pytest

from lydite.errors import ConfigurationError, Reason, SealError
from lydite.signing import keys

WRAPPING, OTHER = b"w" * 32, b"o" * 32


def test_an_encrypted_key_is_the_key_that_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    made = keys.create(path)
    assert not keys.is_wrapped(path)
    keys.wrap(path, WRAPPING)
    assert keys.is_wrapped(path)
    assert keys.load(path, WRAPPING).public == made.public
    assert made.seed().hex() not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["a.key"]


def test_what_the_plain_file_held_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    seed = keys.create(path).seed()
    (tmp_path / "other-name").hardlink_to(path)
    keys.wrap(path, WRAPPING)
    assert seed.hex() not in (tmp_path / "other-name").read_bytes().decode()
    assert set((tmp_path / "other-name").read_bytes()) == {0}


def test_a_key_is_never_taken_in_another_form_than_the_one_that_is_due(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    keys.create(path)
    with pytest.raises(SealError, match="in the open") as caught:
        keys.load(path, WRAPPING)
    assert caught.value.reason is Reason.NOT_SEALED
    keys.wrap(path, WRAPPING)
    with pytest.raises(SealError, match="sealed to a device") as caught:
        keys.load(path)
    assert caught.value.reason is Reason.NOT_SEALED
    with pytest.raises(SealError):
        keys.wrap(path, OTHER)  # not twice
    assert keys.load(path, WRAPPING)


def test_an_encrypted_key_that_was_altered_or_is_anothers_does_not_open(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    keys.create(path)
    keys.wrap(path, WRAPPING)
    with pytest.raises(SealError) as caught:
        keys.load(path, OTHER)
    assert caught.value.reason is Reason.STATE_CHANGED
    text = path.read_text()
    start = len("lydite/sealed-key/v1 ")
    for place in range(start, len(text) - 1, 9):
        digit = "0" if text[place] != "0" else "1"
        path.write_text(text[:place] + digit + text[place + 1 :])
        with pytest.raises(SealError):
            keys.load(path, WRAPPING)
    path.write_text(text[: start + 20])
    with pytest.raises(SealError):
        keys.load(path, WRAPPING)
    path.write_text(text[: start + 7])
    with pytest.raises(ConfigurationError):
        keys.load(path, WRAPPING)


def test_a_file_that_others_may_read_is_refused_in_either_form(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    keys.create(path)
    keys.wrap(path, WRAPPING)
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="readable by others"):
        keys.load(path, WRAPPING)
    with pytest.raises(ConfigurationError, match="readable by others"):
        keys.is_wrapped(path)


def test_a_wrap_that_was_cut_short_is_begun_again(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    made = keys.create(path)
    (tmp_path / "a.key.tmp").write_text("half of")
    keys.wrap(path, WRAPPING)
    assert keys.load(path, WRAPPING).public == made.public
