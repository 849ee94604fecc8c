"""A gateway as its operator runs it: a process of its own with its workers, and what it said."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from lydite.gateway.settings import Settings


class Running:
    """``lydite gateway run`` with its settings in a file."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.config = directory / "gateway.json"
        self.errors = directory / "errors.log"
        self.write(settings)
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lydite.cli.main", "gateway", "run", str(self.config)],
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        if not said:
            raise RuntimeError(self.errors.read_text())
        self.said: dict[str, Any] = json.loads(said)
        self.port: int = self.said["port"]

    def write(self, settings: Settings) -> None:
        self.settings = settings
        self.config.write_bytes(msgspec.json.encode(settings))

    def workers(self) -> list[int]:
        """Return the process numbers of its workers."""
        found = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        children = [int(pid) for each in found for pid in each.read_text().split()]
        return [pid for pid in children if b"gateway.worker" in command(pid)]

    def send(self, how: signal.Signals) -> None:
        self.process.send_signal(how)

    def end(self, how: signal.Signals = signal.SIGTERM, timeout_s: float = 15) -> int:
        self.process.send_signal(how)
        code = self.process.wait(timeout_s)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def log(self) -> str:
        return self.errors.read_text()


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return command(pid) != b""


def until(holds: Callable[[], bool], timeout_s: float = 10) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        threading.Event().wait(0.02)
