"""The example deployment ends by itself, every verdict right, and the client has its own result."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lydite.errors import ConfigurationError
from lydite.laboratory import balancer

ROOT = Path(__file__).parents[2]
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


@pytest.mark.slow
@pytest.mark.outside
@needs_nginx
@pytest.mark.parametrize("words", [(), ("--cheat",), ("--cheat", "smaller-model", "--enforce")])
def test_the_example_tells_each_client_the_truth(tmp_path: Path, words: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "lydite.cli.main", "example", "--json", "--out", str(tmp_path)]
    done = subprocess.run(
        [*command, *words], capture_output=True, cwd=ROOT, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr.decode()
    said = json.loads(done.stdout)
    assert said["right"]
    honest, second = said["servers"]
    assert (honest["tier"], honest["alarm"]) == ("affirming", "")
    alarm = {0: "", 1: "would shut-down", 3: "shut down"}[len(words)]
    assert (second["tier"], second["alarm"]) == (
        "contraindicated" if words else "affirming",
        alarm,
    )
    assert second["routed"] == ("--enforce" not in words)
    tiers = {
        name: row["tier"]
        for name, row in zip(("server-1", "server-2"), said["servers"], strict=True)
    }
    assert {(each["server"], each["tier"]) for each in said["questions"]} <= set(tiers.items())
    assert "503" in said["cannot"]
    bundle = tmp_path / "latest" / "server-2.bundle.json"
    verify = [sys.executable, "-m", "lydite.cli.main", "verify", str(bundle)]
    checked = subprocess.run(
        [*verify, "--trust", str(tmp_path / "latest" / "trust.json")], check=False, cwd=ROOT
    )
    assert checked.returncode == (1 if words else 0)


def test_where_nginx_is_not_installed_the_package_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(ConfigurationError, match="apt-get install nginx-light"):
        balancer.program()


@pytest.mark.outside
@needs_nginx
def test_the_balancer_knows_nothing_but_addresses(tmp_path: Path) -> None:
    from lydite.laboratory.processes import Processes

    with Processes(tmp_path / "logs") as processes:
        balancer.start(processes, tmp_path, ["http://127.0.0.1:1", "http://127.0.0.1:2"])
        text = (tmp_path / "balancer" / "nginx.conf").read_text()
    assert "lydite" not in text.replace(str(tmp_path), "")
    assert "server 127.0.0.1:1;" in text
