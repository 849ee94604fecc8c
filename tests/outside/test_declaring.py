"""A gateway before an engine that is not ours declares what that engine can do, and no more."""

import base64
import json
from pathlib import Path

from lydite.cli.main import main
from lydite.messages import declaration
from lydite.messages.declaration import Predicate

ROOT = Path(__file__).parents[2]


def declared(directory: Path, *options: str) -> Predicate:
    arguments = ["gateway", "init", str(directory), "--name", "outside.example/log"]
    arguments += ["--upstream", "http://127.0.0.1:1", "--model", str(ROOT / "models/lydite-small")]
    assert main([*arguments, *options]) == 0
    envelope = json.loads((directory / "declaration.json").read_bytes())
    return declaration.parse(base64.b64decode(envelope["payload"])).predicate


def test_an_engine_without_our_sampler_or_token_ids_is_declared_so(tmp_path: Path) -> None:
    options = ["--engine", "llama.cpp 0.3.36", "--dtype", "float32", "--sampler", "none"]
    said = declared(tmp_path / "outside", *options, "--no-token-ids")
    assert (said.engine, said.dtype, said.sampler) == ("llama.cpp 0.3.36", "float32", "none")
    assert said.token_ids is False


def test_unless_said_otherwise_answers_carry_their_token_ids(tmp_path: Path) -> None:
    assert declared(tmp_path / "ours").token_ids is True
