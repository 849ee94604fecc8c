"""Which models may be uploaded: those of signed bundles, from the settings and by instruction.

What instructions add or remove lasts because the log has the instructions, which are carried out
again at each start. No file says what is on the list: one that somebody lays beside may be adopted
by an instruction that names the model's root, and is nothing without. Knows nothing of uploads.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from lydite.errors import (
    ConfigurationError,
    FormatError,
    LyditeError,
    Reason,
    UnavailableError,
    VerificationError,
)
from lydite.gateway.modes import bundles
from lydite.gateway.modes.bundles import LAYOUT, SIGNATURE, Anchors, Listed
from lydite.tlog import disk

_ROOT = re.compile("[0-9a-f]{64}")


class Bundle(NamedTuple):
    """A model signature and the layout of its model, as bytes."""

    signature: bytes
    layout: bytes


class Whitelist:
    """The listed models, by weights root."""

    def __init__(self, anchors: Anchors, laid: Path, directories: Sequence[Path]) -> None:
        """Read the bundles in ``directories``, of the settings; ``laid`` is for ``adopt``.

        Raises:
            ConfigurationError: a bundle cannot be read or is not signed.
            StorageError: the disk refuses.
        """
        self._anchors = anchors
        self._laid = laid
        self.on_removal: Callable[[str], None] = lambda _: None
        """Called with the root of a model that was taken off the list."""
        with disk.failures("make a place for bundles"):
            laid.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = [_configured(directory, anchors) for directory in directories]
        self._models: dict[str, Listed] = {listed.root: listed for listed in found}

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
        """
        listed = await asyncio.to_thread(bundles.verify, *bundle, self._anchors)
        self._models[listed.root] = listed
        return listed.root

    async def adopt(self, root: str) -> str:
        """Put the bundle on the list that somebody laid into the directory ``root`` of the state.

        For layouts that are too long for an instruction. Return the weights root.

        Raises:
            FormatError: it is no weights root.
            UnavailableError: there is no such directory.
            VerificationError: no pinned key signed it, or it is of another model.
        """
        if not _ROOT.fullmatch(root):
            raise FormatError(f"{root!r} is not a weights root")
        try:
            bundle = await asyncio.to_thread(_read, self._laid / root)
        except OSError as error:
            raise UnavailableError(f"whitelist/{root[:16]}: {error.strerror}") from error
        listed = await asyncio.to_thread(bundles.verify, *bundle, self._anchors)
        if listed.root != root:
            raise VerificationError(
                Reason.NOT_LISTED, f"whitelist/{root[:16]} holds the bundle of {listed.root[:16]}"
            )
        self._models[root] = listed
        return root

    async def remove(self, root: str) -> str:
        """Take a model off the list, until somebody adds it again; return its root.

        Raises:
            UnavailableError: it is not on the list.
        """
        self.find(root)
        self.strike(root)
        return root

    def strike(self, root: str) -> None:
        """Take a model off the list if it is there."""
        if self._models.pop(root, None) is not None:
            self.on_removal(root)


def _configured(directory: Path, anchors: Anchors) -> Listed:
    try:
        return bundles.verify(*_read(directory), anchors)
    except (OSError, LyditeError) as error:
        raise ConfigurationError(f"whitelist: {directory}: {error}") from error


def _read(directory: Path) -> Bundle:
    return Bundle((directory / SIGNATURE).read_bytes(), (directory / LAYOUT).read_bytes())
