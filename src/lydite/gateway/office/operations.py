"""A gateway's running parts as its operator sees them: started, changed, reported and stopped.

What may change at run time is named here; anything else is refused by name, and then nothing
changes. Knows nothing of keys, receipts or instructions.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from lydite.errors import ConfigurationError, LyditeError
from lydite.gateway.ledger.recorder import Writer
from lydite.gateway.modes import moded
from lydite.gateway.office.control import Control
from lydite.gateway.plane import front
from lydite.gateway.plane.front import Front, Prepared
from lydite.gateway.settings import Settings
from lydite.gateway.workers.supervisor import Supervisor

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from lydite.gateway.office.control_app import ControlServer
    from lydite.gateway.office.metrics import Plant

CHANGEABLE = frozenset(("health", "limits", "log_level", "serving", "tls", "upstream", "upstreams"))
"""Settings that a running gateway follows; files that they name are read again each time."""
_logger = logging.getLogger(__name__)


def changes(old: Settings, new: Settings) -> list[str]:
    """Return the names of settings that differ.

    Raises:
        ConfigurationError: one of them cannot change while the gateway runs.
    """
    names = [each.name for each in msgspec.structs.fields(Settings)]
    found = [name for name in names if getattr(old, name) != getattr(new, name)]
    fixed = sorted(set(found) - CHANGEABLE)
    if fixed:
        raise ConfigurationError(
            f"cannot change while it runs: {', '.join(fixed)}; nothing was changed"
        )
    return sorted(found)


class Operations:
    """The data plane, here or in workers, and the operator's port."""

    def __init__(
        self,
        prepared: Prepared,
        recorder: Writer,
        control: Control,
        entries: Callable[[], int],
        reread: Callable[[], Settings] | None = None,
    ) -> None:
        """Take what drafts go to, who answers other routes, and where settings are read again.

        Raises:
            OSError: the address cannot be had.
        """
        self.settings = prepared.settings
        """What it follows now."""
        self._prepared = prepared
        self._recorder = recorder
        self._control = control
        self._entries = entries
        self._reread = reread
        self._turn = asyncio.Lock()
        self._server: ControlServer | None = None
        self._stopping = False
        self._checks: dict[str, Callable[[], None]] = {}
        self._places = front.places(self.settings)
        self.port: int = self._places[0].getsockname()[1]
        """Where clients are served."""
        self.control_port: int | None = None
        """Where the operator is."""
        self.front = self._make_front()
        """The data plane, here or in workers."""

    def add_check(self, name: str, check: Callable[[], None]) -> None:
        """Be ready only while ``check`` raises no LyditeError."""
        self._checks[name] = check

    async def start(self, routes: "Sequence[BaseRoute]" = ()) -> None:
        """Serve clients, and on the operator's port ``routes`` besides its own.

        Raises:
            ConfigurationError: a worker does not start.
            OSError: an address cannot be listened on.
        """
        settings = self.settings
        await self.front.start(self._places)
        if settings.control_port is not None:
            await self._open(settings.control_host, settings.control_port, routes)

    async def serve_no_more(self) -> None:
        """Take no more requests and let what runs finish within its time."""
        self._stopping = True
        await self.front.stop()

    async def stop(self) -> None:
        """Close the operator's port."""
        if self._server is not None:
            await self._server.stop()

    async def reload(self, *, ordered: bool = True) -> str:
        """Read the settings again and follow them; drop no request. Return what was changed.

        Where there is an authority, what is not ``ordered`` by it may only have files read again.

        Raises:
            ConfigurationError: they cannot be read or used, or one of them cannot change: nothing
                was changed.
        """
        if self._reread is None:
            raise ConfigurationError("this gateway has no file to read its settings from again")
        return await self.follow(await asyncio.to_thread(self._reread), ordered=ordered)

    async def follow(self, settings: Settings, *, ordered: bool = True) -> str:
        """Follow other settings, as ``reload``."""
        async with self._turn:
            found = changes(self.settings, settings)
            if found and not ordered and self.settings.admin is not None:
                names = ", ".join(found)
                raise ConfigurationError(
                    f"officers change this gateway, order reload-settings to change {names}"
                )
            moded.check(settings, self.settings)
            prepared = front.prepare(settings)
            self.settings = settings
            logging.getLogger().setLevel(settings.log_level.upper())
            await self.front.change(prepared)
        said = f"changed: {', '.join(found) or 'nothing'}; files of TLS were read again"
        _logger.info(said)
        return said

    def checks(self) -> dict[str, bool]:
        """Return what has to hold for requests to be served, and whether it does."""
        return {
            "recording": not self._recorder.failing,
            "serving": not self._stopping,
            "upstreams": self.front.ready,
            **{name: _holds(check) for name, check in self._checks.items()},
        }

    def look(self) -> "Plant":
        """Return the numbers of this moment."""
        from lydite.gateway.office.metrics import Plant

        plane = self.front
        return Plant(
            tallies=plane.tallies(),
            commits=self._recorder.commits,
            unsynced=self._recorder.waiting,
            entries=self._entries(),
            workers=self.settings.workers,
            restarts=plane.restarts if isinstance(plane, Supervisor) else 0,
            ready=all(self.checks().values()),
        )

    def _make_front(self) -> Front | Supervisor:
        if self.settings.workers == 1:
            loop = asyncio.get_running_loop()
            return Front(self._prepared, self._recorder, self._control, loop)
        return Supervisor(self._prepared, self._recorder, self._control.table)

    async def _open(self, host: str, port: int, routes: "Iterable[BaseRoute]") -> None:
        try:
            from lydite.gateway.office import control_app, metrics
        except ImportError as error:
            raise ConfigurationError(
                f"control_port needs {error.name}: pip install 'lydite[gateway]'"
            ) from error
        app = control_app.control_app([*routes], self.checks, metrics.exposition(self.look))
        self._server = control_app.ControlServer(app, front.bind(host, port))
        await self._server.start()
        self.control_port = self._server.port


def _holds(check: Callable[[], None]) -> bool:
    try:
        check()
    except LyditeError:
        return False
    return True
