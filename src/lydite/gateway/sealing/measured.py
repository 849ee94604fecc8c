"""What the gateway consists of: a digest of every file that it runs, and one of its settings.

Reads files and nothing else. It is the gateway that measures itself here, so this finds what was
changed *around* this module; that this module itself is honest has to come from below it: from
registers that firmware, boot loader or kernel extend (docs/sealed-state.md).
"""

import functools
import hashlib
import importlib
import importlib.metadata as metadata
import importlib.util
import marshal
import os
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec

import lydite
from lydite.errors import ConfigurationError, Reason, SealError
from lydite.gateway.settings import Settings
from lydite.messages.canonical import encode

_FIRST = (
    "cryptography.hazmat.bindings._rust",
    "ctypes",
    "httptools",
    "lydite.gateway.workers.worker",
    "msgspec",
    "nacl.bindings",
    "ssl",
    "uvloop",
)
"""Imported before the process is looked at, so that it looks the same at every start, and so that
compiled copies of what workers load have been looked at as well."""
_NEEDED = (
    "blake3",
    "cryptography",
    "httptools",
    "model-signing",
    "msgspec",
    "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry-sdk",
    "prometheus-client",
    "py-ecc",
    "pynacl",
    "pyopenssl",
    "starlette",
    "uvicorn",
    "uvloop",
)
"""What lydite needs as a gateway, with modes and telemetry, whether its settings ask for them or
not. Spelt out, since an installation may say less; what these need, their own metadata say."""
_NOT_CODE = {"__pycache__", "site-packages", "dist-packages", "test"}
_STARTERS = ("*.pth", "sitecustomize.py", "usercustomize.py")
_THREADS = 4
_NOWHERE = "/nonexistent"


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """Files by name with the SHA-256 of each, and the SHA-256 of the settings, in hexadecimal."""

    files: dict[str, str]
    settings: str

    def digest(self) -> bytes:
        """Return the 32 bytes that stand for all of it, with which a register is extended."""
        content = b"lydite/measurement/v1\0" + encode(self)
        return hashlib.sha256(content).digest()


class Survey(NamedTuple):
    """A measurement, and the digest of each file in it by the path that it has here."""

    measurement: Measurement
    held: dict[str, str]


def measure(settings: Settings) -> Measurement:
    """Return what ``survey`` measures."""
    return survey(settings).measurement


def survey(settings: Settings) -> Survey:
    """Measure the program that runs and the settings in effect.

    Covered: every file of the installed package; the interpreter; its library; the distributions
    that lydite needs as a gateway with any of its parts, whole, with all that they need in turn;
    what runs when the interpreter starts; every module loaded by now and every file mapped as
    code. A compiled copy that is not what its source compiles to is refused. What is none of these
    is for ``importing.guard`` to refuse.

    Raises:
        SealError: a compiled copy says something else than its source, or a file that runs is gone
            (``BINARY_CHANGED``).
        ConfigurationError: a file cannot be read.
    """
    for name in _FIRST:
        importlib.import_module(name)
    _folder.cache_clear()
    named = dict(_files())
    seen = {_real(path) for path in named.values()}
    others = {_real(path) for path in (*_loaded(), *_mapped())} - seen
    named |= {path: Path(path) for path in others}
    with ThreadPoolExecutor(_THREADS) as pool:
        files = dict(zip(named, pool.map(_digest, named.values()), strict=True))
    held = {_real(path): files[name] for name, path in named.items()}
    return Survey(Measurement(files=files, settings=_settings(settings)), held)


def import_from_source() -> None:
    """Have what is imported from now on compiled from its source, which is what was measured."""
    sys.pycache_prefix = _NOWHERE
    sys.dont_write_bytecode = True


def differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return what became of files, a few words each: changed, added, missing."""
    names = sorted(before.keys() | after.keys())
    words = {(True, True): "changed", (False, True): "added", (True, False): "missing"}
    return [
        f"{words[name in before, name in after]} {name}"
        for name in names
        if before.get(name) != after.get(name)
    ]


def tree(root: Path, skip: Iterable[str] = ()) -> Iterator[Path]:
    """Yield every regular file below ``root``, in order, without the directories in ``skip``."""
    for place, folders, names in os.walk(root):
        folders[:] = sorted(set(folders) - set(skip))
        for name in sorted(names):
            path = Path(place, name)
            if path.is_file():
                yield path


def _files() -> Iterator[tuple[str, Path]]:
    """Yield what is measured whether or not it is loaded, by names that no path of ours is in."""
    package = Path(lydite.__file__).parent
    for path in tree(package, {"__pycache__"}):
        yield f"lydite/{path.relative_to(package)}", path
    for root in {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}:
        library = (path for path in tree(Path(root), _NOT_CODE) if path.suffix in {".py", ".so"})
        yield from ((f"python/{path.relative_to(root)}", path) for path in library)
    for site in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        starters = (path for pattern in _STARTERS for path in Path(site).glob(pattern))
        yield from ((f"site/{path.name}", path) for path in starters)
    for distribution in _distributions():
        yield from _contents(distribution)
    yield "interpreter", Path(sys.executable)


def _distributions() -> list[metadata.Distribution]:
    """Return what lydite needs as a gateway and what that needs, as far as it is installed."""
    found: dict[str, metadata.Distribution] = {}
    queue = [_Need(name) for name in _NEEDED]
    done: set[_Need] = set()
    while queue:
        need = queue.pop()
        if need in done:
            continue
        done.add(need)
        try:
            found[need.name] = metadata.distribution(need.name)
        except metadata.PackageNotFoundError:
            continue  # for another platform, or a part of lydite that is not installed
        queue += _needs(found[need.name], need.extras)
    return [found[name] for name in sorted(found)]


class _Need(NamedTuple):
    """A distribution, and which of its extras."""

    name: str
    extras: frozenset[str] = frozenset()


def _needs(distribution: metadata.Distribution, extras: frozenset[str]) -> Iterator[_Need]:
    for line in distribution.requires or ():
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)", line)
        named = re.match(r"([\w.-]+)\s*(?:\[([^]]*)\])?", line)
        if named and (extra is None or extra[1] in extras):
            wanted = frozenset(each.strip() for each in (named[2] or "").split(",") if each)
            yield _Need(re.sub(r"[-_.]+", "-", named[1]).lower(), wanted)


def _contents(distribution: metadata.Distribution) -> Iterator[tuple[str, Path]]:
    """Yield all that lies where a distribution put its packages, its own or not."""
    base = Path(str(distribution.locate_file("")))
    tops = {path.parts[0] for path in distribution.files or () if path.parts}
    for top in sorted(tops):
        place = base / top
        if top in {"..", "__pycache__"} or top.endswith((".dist-info", ".pth")):
            continue
        paths = tree(place, {"__pycache__"}) if place.is_dir() else [place]
        for path in paths:
            if path.is_file():
                yield f"site/{path.relative_to(base)}", path


def _loaded() -> Iterator[Path]:
    """Yield the file of each loaded module, once its compiled copy is known to agree with it."""
    for module in list(sys.modules.values()):
        spec = getattr(module, "__spec__", None)
        if spec is None or not spec.has_location or spec.origin is None:
            continue
        path = Path(spec.origin)
        if path.is_file():
            if spec.cached is not None:
                _check_compiled(path, Path(spec.cached))
            yield path


def _check_compiled(source: Path, compiled: Path) -> None:
    """Refuse a compiled copy that Python would take for that of ``source`` and that is not.

    Raises:
        SealError: it is another program.
    """
    try:
        held = compiled.read_bytes()
        facts = source.stat()
        text = source.read_bytes()
    except OSError:
        return  # there is no copy
    fresh = int(facts.st_mtime).to_bytes(8, "little")[:4] + (facts.st_size & 0xFFFFFFFF).to_bytes(
        4, "little"
    )
    checked = int.from_bytes(held[4:8], "little")
    if held[:4] != importlib.util.MAGIC_NUMBER or (not checked and held[8:16] != fresh):
        return  # Python passes it over
    try:
        same = marshal.loads(held[16:]) == compile(text, str(source), "exec", dont_inherit=True)
    except (ValueError, EOFError, TypeError):
        same = False
    if not same:
        raise SealError(Reason.BINARY_CHANGED, f"{compiled} is not what {source.name} compiles to")


def _mapped() -> Iterator[Path]:
    """Yield every file that is mapped into this process as code.

    Raises:
        SealError: one has been replaced since.
    """
    for line in _read(Path("/proc/self/maps")).decode(errors="surrogateescape").splitlines():
        fields = line.split(None, 5)
        if len(fields) < 6 or "x" not in fields[1] or not fields[5].startswith("/"):
            continue
        if fields[5].endswith(" (deleted)"):
            raise SealError(
                Reason.BINARY_CHANGED, f"{fields[5]}: it runs, and is another file by now"
            )
        yield Path(fields[5])


def _real(path: Path) -> str:
    """Return where a file lies, symbolic links followed."""
    return (
        os.path.realpath(path) if path.is_symlink() else f"{_folder(str(path.parent))}/{path.name}"
    )


@functools.lru_cache(maxsize=1 << 16)
def _folder(place: str) -> str:
    return os.path.realpath(place)


def _settings(settings: Settings) -> str:
    """Return the digest of the settings in effect, and of what they name: declaration, models."""
    digests = [_digest(path) for path in (Path(settings.declaration), *_listing(settings))]
    return hashlib.sha256(encode(settings) + "".join(digests).encode()).hexdigest()


def _listing(settings: Settings) -> Iterator[Path]:
    """Yield the keys and certificates whose model signatures count, and the signed bundles."""
    if settings.modes is not None:
        yield from map(Path, (*settings.modes.signing_keys, *settings.modes.certificates))
        for directory in settings.modes.whitelist:
            yield from tree(Path(directory))


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigurationError(f"cannot measure {path}: {error.strerror}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot measure {path}: {error.strerror}") from error
