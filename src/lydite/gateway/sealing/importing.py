"""What a sealed gateway may still import: files that were measured, as they were measured.

Many packages import others if these happen to be there, and a file may be replaced between its
measurement and its use. Knows nothing of devices and keys.
"""

import hashlib
import logging
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from lydite.errors import Reason, SealError

_logger = logging.getLogger(__name__)


def guard(held: Mapping[str, str]) -> None:
    """Let this process import from now on only what is ``held``: SHA-256 by resolved path.

    What is not in it is as if it were not installed; what is and has another digest by now raises
    SealError (``BINARY_CHANGED``) where it is imported.
    """
    sys.meta_path[:] = [Guard(held, [each for each in sys.meta_path if type(each) is not Guard])]


class Guard:
    """The only finder of a guarded process."""

    def __init__(self, held: Mapping[str, str], finders: Sequence[Any]) -> None:
        self._held = held
        self._finders = finders
        self.find_distributions = PathFinder.find_distributions

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how a module is loaded, None where there is none that was measured.

        Raises:
            SealError: its file has changed since.
        """
        found = (finder.find_spec(name, path, target) for finder in self._finders)
        spec: ModuleSpec | None = next((each for each in found if each is not None), None)
        if spec is None or not spec.has_location or spec.origin is None:
            return spec  # a folder without a module, or part of the interpreter
        digest = self._held.get(str(Path(spec.origin).resolve()))
        if digest is None:
            _logger.warning("%s is not imported: %s was not measured", name, spec.origin)
            return None
        if type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(name, spec.origin, digest)
        else:
            _read(spec.origin, digest)
        return spec

    def invalidate_caches(self) -> None:
        """Have the finders look again."""
        PathFinder.invalidate_caches()


class _Loader(SourceFileLoader):
    """Compiles the very bytes that it has digested."""

    def __init__(self, name: str, path: str, digest: str) -> None:
        super().__init__(name, path)
        self._digest = digest

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = compile(_read(path, self._digest), path, "exec", dont_inherit=True)
        return code


def _read(path: str, digest: str) -> bytes:
    """Return what a file holds.

    Raises:
        SealError: it is not what was measured.
        OSError: it cannot be read.
    """
    content = Path(path).read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise SealError(Reason.BINARY_CHANGED, f"{path} has changed since it was measured")
    return content
