"""The commands that a person uses: sign a model, run a gateway, upload, see what came of it."""

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lydite.cli.main import main
from lydite.laboratory.guarding import guard
from tests.gateway.conftest import prepare
from tests.gateway.guarded import CHAT, free_port, make_model
from tests.gateway.raw_client import ask, post

SMALL = Path(__file__).parents[2] / "models" / "lydite-small"


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*words: str | Path) -> tuple[int, Any]:
        code = main([str(word) for word in words])
        said = capsys.readouterr().out
        return code, json.loads(said) if said else None

    return run


def test_sign_makes_a_directory_whole_or_not_at_all(tmp_path: Path, printed: Any) -> None:
    model = make_model(tmp_path / "model", size=2000)
    key, out = tmp_path / "officer.key", tmp_path / "signed"
    sign = ("gateway", "sign", model, "--key", key, "--json", "--out")
    assert printed(*sign, out)[0] == 2, "there is no such key"
    assert not out.exists()
    code, said = printed(*sign, out, "--new-key", "--hash", "blake3")
    assert code == 0
    assert {path.name for path in out.iterdir()} == {"model.sig", "layout.json", "signer.pem"}
    assert printed(*sign, tmp_path / "again")[1]["weightsRoot"] != said["weightsRoot"]
    assert printed(*sign, out)[0] == 2, "nothing is written over"
    assert printed(*sign, tmp_path / "third", "--new-key")[0] == 2, "no key either"


def test_upload_without_a_gateway_learns_nothing(tmp_path: Path, printed: Any) -> None:
    model = make_model(tmp_path / "model", size=2000)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        assert printed("gateway", "upload", model, "--to", f"http://127.0.0.1:{port}")[0] == 4
    assert printed("gateway", "upload", model, "--to", "ftp://here")[0] == 2


@pytest.mark.slow
def test_a_real_engine_serves_what_was_uploaded_and_nothing_else(
    tmp_path: Path, printed: Any
) -> None:
    port = free_port()
    with guard(tmp_path / "guard", SMALL, port) as guarded:
        settings = prepare(
            tmp_path / "gateway",
            f"http://127.0.0.1:{port}",
            modes=guarded.modes,
            weights_root=bytes.fromhex(guarded.listed.root),
        )
        path = tmp_path / "gateway.json"
        path.write_bytes(msgspec.json.encode(settings))
        command = [sys.executable, "-m", "lydite.cli.main", "gateway", "run", str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as gateway:
            try:
                assert gateway.stdout is not None
                said = json.loads(gateway.stdout.readline())
                to = f"http://127.0.0.1:{said['upload_port']}"
                upload = ("gateway", "upload", "--to", to, "--json")
                code, other = printed(*upload, guarded.tampered)
                assert (code, other["reason"]) == (1, "not-listed"), "it does not lie about itself"
                code, served = printed(*upload, SMALL)
                assert (code, served["serving"]) == (0, True), served
                assert guarded.is_on()
                body = b'{"model":"lydite-small","messages":[{"role":"user","content":"def"}]}'
                got = ask(said["port"], post(CHAT, body[:-1] + b',"max_tokens":4}'))
                assert got.status == 200
                assert b"x-lydite-receipt" in got.fields
                assert printed(*upload, SMALL)[0] == 4, "nothing is uploaded while it serves"
            finally:
                gateway.terminate()
        assert not guarded.is_on()
