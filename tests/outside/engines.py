"""Engines that are not ours, each in an environment of its own below ``.tools``, as processes."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from lydite.errors import UnavailableError
from lydite.laboratory.processes import Service

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "models"
TOOLS = ROOT / ".tools"
VLLM = TOOLS / "vllm"
LLAMA = TOOLS / "llama"
DECLARED = "lydite-base"
_QUIET = {
    "OMP_NUM_THREADS": "2",
    "OMP_WAIT_POLICY": "passive",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
_VLLM = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


class OutsideEngine(Service):
    """A server that says that it is ready by answering."""

    url = ""

    def ready(self, timeout_s: float = 240.0) -> dict[str, Any]:
        """Return where it answers, once it does.

        Raises:
            UnavailableError: it ended, or did not answer within the time; with its last words.
        """
        deadline = time.monotonic() + timeout_s
        while self.process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/v1/models"):
                return {"url": f"{self.url}/v1"}
            time.sleep(0.5)
        raise UnavailableError(f"{self.name} did not start: {self.last_words()}")


@contextlib.contextmanager
def serving(
    name: str, command: Sequence[str | Path], logs: Path, environment: Mapping[str, str]
) -> Iterator[OutsideEngine]:
    """Run a server until the context is left; ``--port`` is added to its command."""
    port = free_port()
    log = logs / f"{name}.log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            [*map(str, command), "--host", "127.0.0.1", "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            env=_quietly(environment),
            start_new_session=True,  # its workers end with it
        )
    engine = OutsideEngine(name, process, log)
    engine.url = f"http://127.0.0.1:{port}"
    try:
        yield engine
    finally:
        _end(process)


def vllm(
    name: str,
    model: str,
    logs: Path,
    *more: str,
    environment: Mapping[str, str] | None = None,
) -> contextlib.AbstractContextManager[OutsideEngine]:
    """Serve one of our models with vLLM, as if it were the declared one; ``more`` are options."""
    if not (VLLM / "ready").exists():
        pytest.skip("vLLM: make tools installs it where pip finds a CPU build of torch")
    command = [VLLM / "bin" / "vllm", "serve", MODELS / model, "--served-model-name", DECLARED]
    options = ["--dtype", "float32", "--enforce-eager", "--max-model-len", "1024"]
    options += ["--generation-config", "vllm", "--max-logprobs", "20", *more]
    return serving(name, [*command, *options], logs, {**_VLLM, **(environment or {})})


def llama(
    name: str, model: str, logs: Path, *more: str
) -> contextlib.AbstractContextManager[OutsideEngine]:
    """Serve one of our models with llama.cpp, which takes one request at a time."""
    if not (LLAMA / "ready").exists():
        pytest.skip("llama.cpp: make tools builds it where there is no CPU build of torch for vLLM")
    weights = logs / f"{model}.gguf"
    convert = [sys.executable, Path(__file__).with_name("to_gguf.py"), LLAMA / "converter"]
    subprocess.run([*convert, MODELS / model, weights], check=True, timeout=120, env=_quietly({}))
    command = [LLAMA / "bin" / "python", "-m", "llama_cpp.server", "--model", weights]
    options = ["--model_alias", DECLARED, "--n_ctx", "1024", "--n_threads", "2", *more]
    return serving(name, [*command, *options, "--interrupt_requests", "false"], logs, {})


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _quietly(environment: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, **_QUIET, **environment}


def _end(process: "subprocess.Popen[bytes]") -> None:
    for each, timeout_s in ((signal.SIGTERM, 20.0), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, each)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout_s)
