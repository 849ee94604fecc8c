"""``lydite audit`` against vLLM and llama.cpp: the planted int4 is found, the honest one passes."""

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from lydite.cli.main import main
from lydite.engines.transformers_engine import TransformersEngine, load_model
from lydite.laboratory.cheats.weights import INT4_GROUP, quantise
from lydite.messages.canonical import encode
from tests.endpoint.calibrating import with_residuals
from tests.outside.engines import DECLARED, MODELS, OutsideEngine, llama, vllm

pytestmark = [pytest.mark.slow, pytest.mark.outside, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def int4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of the declared model whose weights are int4's."""
    directory = tmp_path_factory.mktemp("planted") / "int4"
    shutil.copytree(MODELS / DECLARED, directory)
    (directory / "lydite-manifest.json").unlink()
    quantise(load_model(MODELS / DECLARED, "bf16"), 7, INT4_GROUP).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Reference Value of honest stacks, none of them an engine that is tried here."""
    torch.set_num_threads(1)
    auditor = TransformersEngine.load(MODELS / DECLARED, "fp32", 1)
    stacks = {way: TransformersEngine.load(MODELS / DECLARED, way, 16) for way in ("bf16", "fp32")}
    made = with_residuals(DECLARED, auditor, stacks, 60, 48)
    for engine in (auditor, *stacks.values()):
        engine.close()
    path = tmp_path_factory.mktemp("reference") / "reference.json"
    path.write_bytes(encode(made))
    return path


@pytest.fixture(scope="module", params=["vllm", "llama"])
def servers(
    request: pytest.FixtureRequest, int4: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, OutsideEngine]]:
    directory = tmp_path_factory.mktemp(request.param)
    with ExitStack() as stack:
        engines = {}
        for name, model in (("honest", DECLARED), ("int4", str(int4))):
            if request.param == "vllm":
                engine = stack.enter_context(vllm(name, model, directory))
            else:
                engine = stack.enter_context(llama(name, model, directory, "--logits_all", "true"))
            engine.ready()
            engines[name] = engine
        yield engines


def audit(url: str, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    words = ["audit", url, "--model", str(MODELS / DECLARED), "--max-requests", "20", "--json"]
    code = main([*words, *options])
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return {**report, "code": code}


def test_the_honest_one_passes_and_the_planted_int4_is_noticed(
    servers: dict[str, OutsideEngine], capsys: pytest.CaptureFixture[str]
) -> None:
    got = audit(servers["honest"].url, capsys)
    assert (got["code"], got["reason"]) == (0, "consistent"), got
    got = audit(servers["int4"].url, capsys)
    assert (got["code"], got["reason"]) == (3, "numerics-differ"), got


def test_with_a_reference_that_holds_residuals_int4_is_inconsistent(
    servers: dict[str, OutsideEngine], reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    got = audit(servers["honest"].url, capsys, "--reference", str(reference))
    assert (got["code"], got["reason"]) == (0, "consistent"), got
    got = audit(servers["int4"].url, capsys, "--reference", str(reference))
    assert (got["code"], got["reason"]) == (1, "inconsistent-tokens"), got
    assert got["tokens"] <= 200
