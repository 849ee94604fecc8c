"""Real processes for a deployment on one machine: started, waited for, ended.

Each service prints one JSON line when it is ready. Knows nothing of what they serve.
"""

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Self

from lydite.errors import UnavailableError

_QUIET = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONUNBUFFERED": "1",
}


class Service:
    """One child process that has said, or will say, that it is ready."""

    def __init__(self, name: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.name = name
        self.process = process
        self._log = log
        self._said: dict[str, Any] | None = None

    def ready(self, timeout_s: float = 120.0) -> dict[str, Any]:
        """Return what the service says of itself, once it does; the same every time.

        Raises:
            UnavailableError: it ended, or said nothing within the time; with its last words.
        """
        if self._said is not None:
            return self._said
        assert self.process.stdout is not None
        line = _first_line(self.process.stdout, time.monotonic() + timeout_s)
        try:
            said: dict[str, Any] = json.loads(line)
        except ValueError as error:
            raise UnavailableError(f"{self.name} did not start: {self.last_words()}") from error
        self._said = said
        return said

    def last_words(self) -> str:
        """Return the end of what the service wrote to its log."""
        with contextlib.suppress(OSError):
            return self._log.read_text(errors="replace")[-600:].strip()
        return "no log"

    def stop(self, timeout_s: float = 5.0) -> None:
        """End the process, politely first."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


class Processes:
    """Every child of one deployment; leaving the context ends them all."""

    def __init__(self, logs: Path) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self._logs = logs
        self._services: list[Service] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for service in reversed(self._services):
            if service.process.poll() is None:
                service.process.terminate()
        for service in reversed(self._services):
            service.stop()

    def start(self, name: str, module: str, *arguments: str | Path) -> Service:
        """Start ``python -m module arguments`` and return at once."""
        return self.run(name, [sys.executable, "-m", module, *map(str, arguments)])

    def run(self, name: str, command: Sequence[str]) -> Service:
        """Start any program and return at once."""
        log = self._logs / f"{name}.log"
        with log.open("wb") as errors:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, env={**os.environ, **_QUIET}
            )
        service = Service(name, process, log)
        self._services.append(service)
        return service


def _first_line(stream: IO[bytes], deadline: float) -> bytes:
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not selector.select(left):
                return b""
            piece = os.read(stream.fileno(), 4096)
            if not piece:
                return b""
            line += piece
    return line.splitlines()[0]
