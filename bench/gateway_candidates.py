"""What ``make bench-gateway`` compares: lydite in its ways to give receipts, and its peers.

Each is started alone on the last core before the same engine. A peer that is not installed, or
that does not come up, is left out and named. LiteLLM and vllm-router are installed with pip into
``.tools/peers``, a virtual environment of their own.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from gateway_load import PROXY_CORE, TOKEN, free_port, start, stop, wait_for

from lydite import __version__

ROOT = Path(__file__).parents[1]
PEERS = ROOT / ".tools" / "peers"
PINNED = ("litellm[proxy]==1.106.2", "vllm-router==0.1.17")
NGINX, LITELLM, ROUTER = "nginx", "LiteLLM", "vllm-router"
BATCHED, PLAIN_SIGNED, GROUP = (
    "lydite, signed in batches",
    "lydite, Ed25519 on each",
    "lydite, Ed25519 on each, on disk",
)
MODES = {
    BATCHED: {"receipts": "batched", "durability": "process"},
    PLAIN_SIGNED: {"receipts": "signed", "durability": "process"},
    GROUP: {"receipts": "signed", "durability": "group-fsync"},
}
"""Names of lydite's rows and the settings behind them; the last is the default."""

_NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  keepalive_requests 1000000000; tcp_nodelay on;
  upstream engine {{ server 127.0.0.1:{engine}; keepalive 512; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{
      proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering {buffering}; proxy_read_timeout 300s;
    }}
  }}
}}
"""
_HAPROXY = """
global
  nbthread 1
  maxconn 4096
defaults
  mode http
  option http-keep-alive
  option http-no-delay
  option abortonclose
  timeout connect 5s
  timeout client 300s
  timeout server 300s
frontend front
  bind 127.0.0.1:{port}
  default_backend engine
backend engine
  http-reuse always
  server one 127.0.0.1:{engine}
"""
_LITELLM = """
model_list:
  - model_name: bench
    litellm_params:
      model: openai/bench
      api_base: http://127.0.0.1:{engine}/v1
      api_key: none
general_settings:
  master_key: {token}
"""


class Candidate(NamedTuple):
    """One of those compared, running."""

    name: str
    version: str
    port: int
    process: subprocess.Popen[bytes]


class AbsentError(Exception):
    """A candidate that cannot be measured here; the message says why."""


def lydite(mode: str) -> Callable[[int, Path], Candidate]:
    """Return what starts lydite with the settings of one mode."""

    def begin(engine: int, folder: Path) -> Candidate:
        home, port = folder / "home", free_port()
        model = ROOT / "models" / "lydite-small"
        command = [sys.executable, "-m", "lydite.cli.main", "gateway"]
        made = [*command, "init", str(home), "--upstream", f"http://127.0.0.1:{engine}"]
        made += ["--model", str(model), "--name", "bench.example/gateway", "--port", str(port)]
        subprocess.run([*made, "--json"], check=True, stdout=subprocess.DEVNULL)
        config = home / "gateway.json"
        settings = {**json.loads(config.read_text()), **MODES[mode]}
        config.write_text(json.dumps(settings))
        return _begin(mode, __version__, port, [*command, "run", str(config)], folder)

    return begin


def nginx(engine: int, folder: Path) -> Candidate:
    """Start nginx, which relays and does nothing else."""
    binary, port = _found("nginx"), free_port()
    version = _said([binary, "-v"])
    config = folder / "nginx.conf"
    text = _NGINX.format(folder=folder, port=port, engine=engine, buffering="off")
    config.write_text(text)
    command = [binary, "-p", str(folder), "-c", str(config), "-e", str(folder / "error.log")]
    return _begin(NGINX, version, port, command, folder)


def haproxy(engine: int, folder: Path) -> Candidate:
    """Start haproxy, which relays and does nothing else."""
    binary, port = _found("haproxy"), free_port()
    config = folder / "haproxy.cfg"
    config.write_text(_HAPROXY.format(port=port, engine=engine))
    command = [binary, "-db", "-f", str(config)]
    return _begin("haproxy", _said([binary, "-v"]), port, command, folder)


def litellm(engine: int, folder: Path) -> Candidate:
    """Start LiteLLM's proxy with one worker, key authentication and no database."""
    binary, port = _peer("litellm"), free_port()
    config = folder / "litellm.yaml"
    config.write_text(_LITELLM.format(engine=engine, token=TOKEN))
    command = [binary, "--config", str(config), "--port", str(port), "--host", "127.0.0.1"]
    return _begin(LITELLM, _version("litellm"), port, [*command, "--num_workers", "1"], folder)


def router(engine: int, folder: Path) -> Candidate:
    """Start vllm-router, written in Rust, which relays and does nothing else."""
    binary, port = _peer("vllm-router"), free_port()
    command = [binary, "--worker-urls", f"http://127.0.0.1:{engine}", "--port", str(port)]
    command += ["--host", "127.0.0.1", "--policy", "round_robin", "--log-level", "warning"]
    command += ["--prometheus-port", str(free_port())]
    return _begin(ROUTER, _version("vllm-router"), port, command, folder)


STARTS: dict[str, Callable[[int, Path], Candidate]] = {
    **{mode: lydite(mode) for mode in MODES},
    NGINX: nginx,
    "haproxy": haproxy,
    ROUTER: router,
    LITELLM: litellm,
}
"""Every candidate by name."""


def install_peers() -> None:
    """Install the peers that pip has, once; without them the benchmark goes on."""
    if (PEERS / "bin" / "litellm").exists():
        return
    commands = (
        [sys.executable, "-m", "venv", str(PEERS)],
        [str(PEERS / "bin" / "pip"), "install", "--quiet", *PINNED],
    )
    for command in commands:
        if subprocess.run(command, check=False, stdout=sys.stderr).returncode:
            print("the peers of pip could not be installed", file=sys.stderr)
            return


def _begin(name: str, version: str, port: int, command: list[str], folder: Path) -> Candidate:
    with (folder / "out").open("wb") as out:
        process = start(command, PROXY_CORE, stdout=out, stderr=subprocess.STDOUT)
    if not wait_for(port, process, 90):
        stop(process)
        tail = (folder / "out").read_text(errors="replace").strip().splitlines()[-1:]
        raise AbsentError(f"{name} did not answer: {' '.join(tail)[:200]}")
    return Candidate(name, version, port, process)


def _found(name: str) -> str:
    binary = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if binary is None:
        raise AbsentError(f"{name} is not installed (on Debian: apt-get install {name})")
    return binary


def _peer(name: str) -> str:
    binary = PEERS / "bin" / name
    if not binary.exists():
        raise AbsentError(f"{name} could not be installed with pip")
    return str(binary)


def _version(package: str) -> str:
    said = _said([str(PEERS / "bin" / "pip"), "show", package])
    return said.removeprefix("Version: ")


def _said(command: list[str]) -> str:
    """Return the version in what a command says of itself."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    found = re.search(r"\d+\.\d+[.\w]*", done.stdout + done.stderr)
    return found.group() if found else "unknown"
