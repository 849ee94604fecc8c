"""SDKs of others, unmodified, in places of their own: answers as without us, receipts intact."""

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lydite.gateway.service import Gateway
from lydite.messages import placement
from lydite.messages.compact import check
from tests.gateway.conftest import Bench
from tests.openai.conftest import anchor_of, url

pytestmark = [pytest.mark.slow, pytest.mark.outside, pytest.mark.timeout(1200)]

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent / "sdks"
TOOLS = ROOT / ".tools" / "sdks"
MODEL = ROOT / "models" / "lydite-small"
QUIET = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "HF_HUB_OFFLINE": "1"}
BASE = ("msgspec", "pynacl", "py_ecc")
NODE_SDKS = ("openai@6.49.0", "ai@6", "@ai-sdk/openai@3", "@ai-sdk/openai-compatible@2")


@pytest.fixture(scope="module")
def served(bench: Bench) -> Iterator[tuple[Gateway, str]]:
    """A gateway before our engine, and the name of its model."""
    pytest.importorskip("torch", reason="the engine extra is not installed")
    command = [sys.executable, "-m", "lydite.engines.serve", "--model", str(MODEL)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, **QUIET})
    assert process.stdout is not None
    engine = json.loads(process.stdout.readline())
    yield bench.gateway("sdks", upstream=f"http://127.0.0.1:{engine['port']}"), engine["model"]
    process.terminate()
    process.wait(10)
    process.stdout.close()


def python_with(name: str, *packages: str) -> Path:
    """Return an interpreter with the packages, from an environment that is made once."""
    home = TOOLS / name
    if not (home / "made").exists():
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        command = [home / "bin" / "python", "-m", "pip", "install", "-q", *packages]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(f"{packages[0]}: pip: {made.stderr.strip().splitlines()[-1]}")
        (home / "made").touch()
    return home / "bin" / "python"


def node_with(name: str, *packages: str) -> Path:
    """Return a directory with the packages and our scripts, made once."""
    if shutil.which("npm") is None:
        pytest.skip(f"{packages[0]}: npm is not installed")
    home = TOOLS / name
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "made").exists():
        command = ["npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", home]
        made = subprocess.run([*command, *packages], capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(f"{packages[0]}: npm: {made.stderr.strip()[-200:]}")
        (home / "made").touch()
    for script in HERE.glob("*.mjs"):
        shutil.copy(script, home)
    return home


def told(command: list[str | Path], place: Path, **environment: str) -> dict[str, Any]:
    """Run an SDK's script and return what it says."""
    clean = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(
        command,
        cwd=place,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("version", ["1.109.1", "2.54.0", "3.51.0"])
def test_openai_python_of_each_generation(served: tuple[Gateway, str], version: str) -> None:
    gateway, model = served
    python = python_with(f"openai-{version}", f"openai=={version}", *BASE)
    said = told(
        [
            python,
            HERE / "python_client.py",
            url(gateway) + "/v1",
            model,
            anchor_of(gateway).gateway_key,
        ],
        HERE,
        PYTHONPATH=str(ROOT / "src"),
    )
    assert said["version"] == version
    assert len(said["texts"]) == 6
    assert all(said["texts"])
    assert said["kept"] == 4
    assert said["refused"] == "bad-signature"


def survived(said: dict[str, Any], answers: int) -> None:
    """Hold each receipt against the bytes that the SDK sent and got."""
    assert len(said["texts"]) == len(said["exchanges"]) == answers
    assert all(said["texts"])
    for each in said["exchanges"]:
        body = base64.b64decode(each["response"])
        if each["receipt"] is None:
            receipt, body = placement.from_stream(body)
        else:
            receipt = placement.from_header(each["receipt"].encode())
        check(receipt, each["target"].encode(), base64.b64decode(each["request"]), body)


def test_openai_node(served: tuple[Gateway, str]) -> None:
    gateway, model = served
    home = node_with("node", *NODE_SDKS)
    survived(told(["node", home / "openai_node.mjs", url(gateway) + "/v1", model], home), 2)


def test_vercel_ai_sdk(served: tuple[Gateway, str]) -> None:
    gateway, model = served
    home = node_with("node", *NODE_SDKS)
    survived(told(["node", home / "ai_sdk.mjs", url(gateway) + "/v1", model], home), 4)


def test_litellm_client(served: tuple[Gateway, str]) -> None:
    gateway, model = served
    python = python_with("litellm", "litellm==1.106.2")
    said = told([python, HERE / "litellm_client.py", url(gateway) + "/v1", model], HERE)
    assert all(said["texts"])
    assert placement.from_header(said["receipt"].encode()).signature is not None
