"""Runs a software TPM (``swtpm``) in a directory of its own, for demonstrations and tests.

It protects nothing: whoever reads its directory has every secret that was sealed with it.
"""

import contextlib
import shutil
import subprocess
import time
from pathlib import Path
from typing import Self

from lydite.errors import ConfigurationError, DeviceError
from lydite.tpm.commands import Tpm
from lydite.tpm.transport import connect

_START_S = 10.0
_STOP_S = 5.0
_SOCKET_BYTES = 100
"""A path in a Unix socket's address is hardly longer."""


class SoftwareTpm:
    """One ``swtpm`` process; started again on its directory it is the same TPM after a boot."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where it answers, as ``connect`` takes it."""
        return f"unix:{self.directory / 'tpm'}"

    def start(self) -> Self:
        """Start it, as a boot does: its registers are reset, what it stores is kept.

        Raises:
            ConfigurationError: ``swtpm`` is not installed, is running there already, or the path is
                too long for a socket.
            DeviceError: it does not come up; the message has its last words.
        """
        program = shutil.which("swtpm")
        if program is None:
            raise ConfigurationError(
                "no software TPM: swtpm is not installed (on Debian and Ubuntu: apt-get install"
                " swtpm)"
            )
        place = self.directory / "tpm"
        if len(str(place)) > _SOCKET_BYTES:
            raise ConfigurationError(f"{place} is too long a path for a socket")
        state = self.directory / "state"
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        _clear(place)
        log = self.directory / "log"
        command = [program, "socket", "--tpm2", "--flags", "not-need-init,startup-clear"]
        command += ["--tpmstate", f"dir={state},mode=0600"]
        command += ["--server", f"type=unixio,path={place},mode=0600"]
        with log.open("ab") as said:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=said
            )
        try:
            self._await()
        except BaseException:
            self.stop()
            raise
        return self

    def _await(self) -> None:
        deadline = time.monotonic() + _START_S
        while True:
            try:
                with connect(self.address, _START_S) as transport:
                    Tpm(transport).startup()
                    return
            except DeviceError as error:
                ended = self._process is None or self._process.poll() is not None
                if ended or time.monotonic() > deadline:
                    words = (self.directory / "log").read_text(errors="replace").strip()[-300:]
                    raise DeviceError(f"swtpm did not start: {words or error}") from error
            time.sleep(0.02)

    def stop(self) -> None:
        """End it, as a loss of power does."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _clear(place: Path) -> None:
    """Remove the socket of a process that is gone.

    Raises:
        ConfigurationError: it is not gone.
    """
    with contextlib.suppress(DeviceError), connect(f"unix:{place}", _START_S):
        raise ConfigurationError(f"a software TPM is running already at {place}")
    place.unlink(missing_ok=True)
