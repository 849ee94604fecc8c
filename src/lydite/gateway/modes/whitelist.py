"""Which models may be uploaded: those of signed bundles, from the settings and by instruction.

What instructions add or remove is kept in the state directory, as bundles whose signatures are
checked again at every start: whoever writes there can take models off the list, never put one on.
Knows nothing of uploads.
"""

import asyncio
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from lydite.errors import (
    ConfigurationError,
    FormatError,
    LyditeError,
    Reason,
    StorageError,
    UnavailableError,
)
from lydite.gateway.modes import bundles
from lydite.gateway.modes.bundles import LAYOUT, SIGNATURE, Anchors, Listed

_REMOVED = ".removed"
_PART = ".part"
_INCOMING = "incoming"
_NAME = re.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Bundle(NamedTuple):
    """A model signature and the layout of its model, as bytes."""

    signature: bytes
    layout: bytes


class Whitelist:
    """The listed models, by weights root."""

    def __init__(self, anchors: Anchors, state: Path, directories: Sequence[Path]) -> None:
        """Read the bundles in ``directories`` (of the settings) and those that were added.

        Raises:
            ConfigurationError: a bundle of the settings cannot be read or is not signed.
            StorageError: one in the state is not: somebody changed it.
        """
        self._anchors = anchors
        self._state = state
        self._models: dict[str, Listed] = {}
        self.on_removal: Callable[[str], None] = lambda _: None
        """Called with the root of a model that was taken off the list."""
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        for directory in directories:
            self._take(_configured(directory, anchors))
        for directory in sorted(path for path in state.iterdir() if path.is_dir()):
            if directory.suffix != _PART and directory.name != _INCOMING:  # not whole, not taken
                self._take(_kept(directory, anchors))

    @property
    def sizes(self) -> dict[str, int]:
        """Root of every listed model, and its size in bytes."""
        return {root: listed.size for root, listed in self._models.items()}

    def find(self, root: str) -> Listed:
        """Return a listed model.

        Raises:
            UnavailableError: it is not on the list (``not-listed``).
        """
        if root not in self._models:
            raise UnavailableError(f"{root[:16]} is not on the whitelist", Reason.NOT_LISTED)
        return self._models[root]

    async def add(self, bundle: Bundle) -> str:
        """Put the model of a signed bundle on the list, and return its weights root.

        Raises:
            VerificationError: no pinned key signed it.
            FormatError: it lists something else than plain files.
            StorageError: it could not be kept.
        """
        listed = await asyncio.to_thread(bundles.verify, *bundle, self._anchors)
        await asyncio.to_thread(self._keep, listed.root, bundle)
        self._models[listed.root] = listed
        return listed.root

    async def adopt(self, name: str) -> str:
        """Put the bundle on the list that somebody laid into ``incoming/name`` of the state.

        For layouts that are too long for an instruction. Return the weights root.

        Raises:
            UnavailableError: there is no such directory.
            LyditeError: as ``add``.
        """
        if not _NAME.fullmatch(name):
            raise FormatError(f"{name!r} is not the plain name of a directory")
        try:
            bundle = await asyncio.to_thread(_read, self._state / _INCOMING / name)
        except OSError as error:
            raise UnavailableError(f"{_INCOMING}/{name}: {error.strerror}") from error
        return await self.add(bundle)

    async def remove(self, root: str) -> str:
        """Take a model off the list, for good; return its root.

        Raises:
            UnavailableError: it is not on the list.
            StorageError: the removal could not be kept; the model is off the list all the same.
        """
        self.find(root)
        del self._models[root]
        self.on_removal(root)
        await asyncio.to_thread(self._strike, root)
        return root

    def _take(self, listed: Listed) -> None:
        if not (self._state / (listed.root + _REMOVED)).exists():
            self._models[listed.root] = listed

    def _keep(self, root: str, bundle: Bundle) -> None:
        try:
            part, place = self._state / (root + _PART), self._state / root
            for path in (part, place):
                shutil.rmtree(path, ignore_errors=True)
            part.mkdir(mode=0o700)
            (part / LAYOUT).write_bytes(bundle.layout)
            (part / SIGNATURE).write_bytes(bundle.signature)
            part.rename(place)
            (self._state / (root + _REMOVED)).unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"cannot keep a bundle in {self._state}: {error}") from error

    def _strike(self, root: str) -> None:
        try:
            (self._state / (root + _REMOVED)).touch(mode=0o600)
        except OSError as error:
            raise StorageError(f"cannot strike {root[:16]} off: {error}") from error


def _configured(directory: Path, anchors: Anchors) -> Listed:
    try:
        return bundles.verify(*_read(directory), anchors)
    except (OSError, LyditeError) as error:
        raise ConfigurationError(f"whitelist: {directory}: {error}") from error


def _kept(directory: Path, anchors: Anchors) -> Listed:
    try:
        if not re.fullmatch("[0-9a-f]{64}", directory.name):
            raise StorageError("is not named by a weights root")
        listed = bundles.verify(*_read(directory), anchors)
        if listed.root != directory.name:
            raise StorageError("holds another model than its name says")
    except (OSError, LyditeError) as error:
        raise StorageError(f"whitelist: {directory}: {error}", Reason.DAMAGED) from error
    return listed


def _read(directory: Path) -> Bundle:
    return Bundle((directory / SIGNATURE).read_bytes(), (directory / LAYOUT).read_bytes())
