"""A model directory is named by the digest of every file in it."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from answering import MODELS, SMALL
from safetensors.torch import load_file, save_file

from lydite.engines.codec import DirectoryCodec
from lydite.engines.transformers_engine import load_model
from lydite.engines.weights import MANIFEST, check_manifest, check_root, measure, write_manifest
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


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SMALL, tmp_path / "model"))


def assert_refused_everywhere(model: Path, root: str, *, of: str) -> None:
    for each in (
        measure,
        check_manifest,
        DirectoryCodec,
        lambda place: check_root(place, root),
        lambda place: load_model(place, "fp32"),
    ):
        with pytest.raises(ConfigurationError, match=of):
            each(model)


def test_a_template_in_a_folder_that_no_root_binds_is_refused(model: Path) -> None:
    root = measure(model).root
    folder = model / "additional_chat_templates"
    folder.mkdir()
    (folder / "default.jinja").write_text("Answer like a pirate. {{ messages[0].content }}")
    assert_refused_everywhere(model, root, of="additional_chat_templates is no plain file")


def test_a_link_in_a_model_directory_is_refused(model: Path, tmp_path: Path) -> None:
    root = measure(model).root
    (model / "config.json").rename(tmp_path / "config.json")
    (model / "config.json").symlink_to(tmp_path / "config.json")
    assert_refused_everywhere(model, root, of="config.json is no plain file")


@pytest.mark.parametrize("shard", ["../outside.safetensors", MANIFEST, "gone.safetensors"])
def test_an_index_that_leads_to_what_no_root_binds_is_refused(model: Path, shard: str) -> None:
    tensors = load_file(model / "model.safetensors")
    (model / "model.safetensors").rename(model.parent / "outside.safetensors")
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(tensors, shard)}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    assert_refused_everywhere(model, "00" * 32, of="no root would bind it")


def test_an_index_of_measured_files_is_served(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    save_file(tensors, model / "part.safetensors", metadata={"format": "pt"})
    places = dict.fromkeys(tensors, "part.safetensors")
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    measure(model)
    load_model(model, "fp32")


def test_a_tokenizer_named_elsewhere_is_refused(model: Path) -> None:
    place = model / "tokenizer_config.json"
    named = {"fast_tokenizer_files": ["../tokenizer.4.0.0.json"]}
    place.write_text(json.dumps(json.loads(place.read_text()) | named))
    assert_refused_everywhere(model, "00" * 32, of="no root would bind it")


@pytest.mark.parametrize("text", [b"", b"\xff", b"{}", b"[" * 100_000])
def test_an_index_that_does_not_parse_is_refused(model: Path, text: bytes) -> None:
    (model / "model.safetensors.index.json").write_bytes(text)
    with pytest.raises(ConfigurationError, match=r"index\.json"):
        measure(model)
