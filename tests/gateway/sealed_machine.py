"""A machine with a TPM of its own and a sealed gateway, in real processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

import lydite
from lydite.gateway.settings import Device, Settings
from lydite.tpm.software import SoftwareTpm
from tests.gateway.conftest import prepare

COMMAND = [sys.executable, "-m", "lydite.cli.main", "gateway"]


class Machine:
    """One machine: its disk below ``place``, its TPM, its gateway's settings."""

    def __init__(self, upstream: str, **device: Any) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="sealed"))
        self._started: list[Running] = []
        self.software = SoftwareTpm(self.place / "tpm").start()
        self.tied = Device(kind="tpm", address=self.software.address, **device)
        self.settings: Settings = prepare(self.place / "gateway", upstream, device=self.tied)
        self.config = self.place / "gateway" / "gateway.json"
        self.state = Path(self.settings.state)
        self.configure(self.settings)

    def configure(self, settings: Settings) -> None:
        self.config.write_bytes(msgspec.json.encode(settings))

    def close(self) -> None:
        for each in self._started:
            each.process.kill()
        self.software.stop()
        shutil.rmtree(self.place)

    def reboot(self) -> None:
        self.software.stop()
        self.software.start()

    def run(self, step: str, source: Path | None = None) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*COMMAND, step, str(self.config), "--json"],
            env=environment(source),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def seal(self) -> None:
        done = self.run("seal")
        assert done.returncode == 0, done.stderr

    def start(self, source: Path | None = None) -> "Running":
        self._started.append(Running(self.config, source))
        return self._started[-1]

    def refused(self, reason: str, source: Path | None = None) -> str:
        """Start the gateway, hold it to refusing for ``reason``, and return what it says."""
        done = self.run("run", source)
        assert done.returncode == 2, done.stderr
        assert done.stdout == "", "it served"
        assert "Traceback" not in done.stderr
        assert done.stderr.rstrip().endswith(f"({reason})"), done.stderr
        return done.stderr

    def works(self, source: Path | None = None) -> None:
        """Start the gateway, and stop it in order."""
        assert self.start(source).end() == 0


class Running:
    """A gateway that serves."""

    def __init__(self, config: Path, source: Path | None) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "run", str(config)],
            env=environment(source),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(self.process.communicate()[1])
        told = json.loads(line)
        self.port: int = told["port"]
        self.control: str = told.get("control", "")
        self.said = ""

    def hear(self, words: str) -> None:
        """Wait until it says these words on standard error."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if words in line:
                return
        raise AssertionError(f"it never said {words!r}")

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.wait()

    def wait(self) -> int:
        _, self.said = self.process.communicate(timeout=30)
        return self.process.returncode


def environment(source: Path | None) -> dict[str, str]:
    """Return the environment in which the package in ``source`` is the one that runs."""
    home = Path(lydite.__file__).parents[1] if source is None else source
    return {**os.environ, "PYTHONPATH": str(home)}


def copy_of_package(place: Path) -> Path:
    """Return a directory with a copy of the package in it."""
    kept = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(lydite.__file__).parent, place / "lydite", ignore=kept)
    return place


def flip(path: Path, at: int = -1) -> bytes:
    """Flip one bit in the middle of a file, and return what it held."""
    before = path.read_bytes()
    after = bytearray(before)
    after[len(after) // 2 if at < 0 else at] ^= 1
    path.write_bytes(after)
    return before
