"""Switches a machine on and off: by commands, over IPMI, or over Redfish.

``off`` returns only when the power is off, and whatever else happens raises: a gateway that does
not know stays dark. Knows nothing of why the power is cut.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Protocol

from lydite.errors import ConfigurationError, Reason, UnavailableError
from lydite.gateway.settings import CommandPower, IpmiPower

_POLL_S = 0.2
_SAID_BYTES = 4096


class Power(Protocol):
    """A machine's power switch."""

    @property
    def name(self) -> str:
        """What people call it; no secret."""

    async def on(self) -> None:
        """Switch the machine on.

        Raises:
            UnavailableError: that failed (``power-stuck``).
        """

    async def off(self) -> None:
        """Cut the power, and return when it is off. Harmless if it is off already.

        Raises:
            UnavailableError: it may still be on (``power-stuck``).
        """


class Commands:
    """Power by two commands, whose exit codes are believed."""

    def __init__(self, settings: CommandPower) -> None:
        self._settings = settings
        self.name = f"command {Path(settings.off[0]).name}"

    async def on(self) -> None:
        """Run the command for it."""
        await run(self._settings.on, self._settings.timeout_ms)

    async def off(self) -> None:
        """Run the command for it."""
        await run(self._settings.off, self._settings.timeout_ms)


class Ipmi:
    """Power over IPMI; off is what the management controller reports, not what it was told."""

    def __init__(self, settings: IpmiPower) -> None:
        secret_file(settings.password_file)
        self.name = f"ipmi {settings.host}"
        self._timeout_ms = settings.timeout_ms
        self._tool = (
            *(settings.tool, "-I", "lanplus", "-H", settings.host),
            *("-U", settings.user, "-f", settings.password_file, "chassis", "power"),
        )

    async def on(self) -> None:
        """Power up."""
        await run((*self._tool, "on"), self._timeout_ms)

    async def off(self) -> None:
        """Power down hard, then ask until the chassis says so."""
        await run((*self._tool, "off"), self._timeout_ms)
        async with within(self._timeout_ms, self.name):
            while not (await self._status()).endswith("is off"):
                await asyncio.sleep(_POLL_S)

    async def _status(self) -> str:
        return (await run((*self._tool, "status"), self._timeout_ms)).strip().lower()


def secret_file(path: str) -> str:
    """Return the one line of a file that nobody else may read.

    Raises:
        ConfigurationError: missing, or readable by others.
    """
    try:
        if Path(path).stat().st_mode & 0o077:
            raise ConfigurationError(f"{path} is readable by others; run chmod 600 on it")
        return Path(path).read_text().strip()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error


async def run(argv: Sequence[str], timeout_ms: int) -> str:
    """Run a command without a shell, and return the beginning of what it printed.

    Raises:
        UnavailableError: it could not be run, took too long, or ended with another code than 0.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError as error:
        raise stuck(f"{argv[0]}: {error.strerror}") from error
    try:
        async with within(timeout_ms, argv[0]):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    text = said[:_SAID_BYTES].decode(errors="replace")
    if process.returncode:
        raise stuck(f"{argv[0]} ended with {process.returncode}: {text.strip()[-200:]}")
    return text


def stuck(what: str) -> UnavailableError:
    """Return the error for a switch that did not obey."""
    return UnavailableError(what, Reason.POWER_STUCK)


@contextlib.asynccontextmanager
async def within(timeout_ms: int, who: str) -> AsyncIterator[None]:
    """Bound what is done inside.

    Raises:
        UnavailableError: it took longer (``power-stuck``).
    """
    try:
        async with asyncio.timeout(timeout_ms / 1000):
            yield
    except TimeoutError as error:
        raise stuck(f"{who} took more than {timeout_ms} ms") from error
