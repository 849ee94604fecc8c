"""What a gateway left behind when it last sealed its state, and whether it is still there.

The state says how far log and journal had grown and what else was so, under an authentication code
by the device key; the TPM's counter says which state is the newest. Knows no TPM.
"""

import hashlib
import hmac
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Literal, Protocol

import msgspec

from lydite.errors import FormatError, Reason, SealError
from lydite.gateway.sealing.measured import differences, tree
from lydite.messages.canonical import Count, Hex32, Word, decode, encode
from lydite.tlog import disk
from lydite.tlog.store import LogStore

NAME = "sealed.json"
EMPTY_ROOT = hashlib.sha256().hexdigest()
_LIMIT_BYTES = 64 * 1024 * 1024
_TOLD = 4
_FILE = "file"
_THREADS = 4


class Grown(Protocol):
    """What the log can be completed from: it is never behind."""

    def __len__(self) -> int:
        """Return the number of records."""

    def sync(self) -> None:
        """Make them survive a loss of power."""


class State(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is true of the state directory.

    ``count`` is the number of this state, ``keys`` the public keys by role, ``accepts`` the
    measurements that may open this, ``pins`` the digests that other parts asked to be held to, by
    name; ``files`` all files and their digests if the gateway was shut down in order, else None.
    ``age_ms`` is how long the gateway had run; states from before it was kept here have none.
    """

    v: Literal[1] = 1
    count: Count
    keys: dict[str, Hex32]
    accepts: Annotated[tuple[Hex32, ...], msgspec.Meta(min_length=1, max_length=8)]
    log_size: Count = 0
    log_root: Hex32 = EMPTY_ROOT
    journal: Count = 0
    pins: dict[Word, tuple[Hex32, ...]] = {}
    files: dict[str, Hex32] | None = None
    age_ms: Count | msgspec.UnsetType = msgspec.UNSET


class _Sealed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    mac: Hex32
    state: State


def write(directory: Path, state: State, key: bytes) -> None:
    """Put ``state`` in its place, durably, in one step.

    Raises:
        StorageError: the disk refused; the state before is still there.
    """
    sealed = _Sealed(mac=_mac(state, key), state=state)
    disk.place(directory / NAME, encode(sealed), durable=True)


def read(directory: Path, key: bytes) -> State:
    """Return the state that was left.

    Raises:
        SealError: it is gone, altered, or not under this key (``STATE_CHANGED``).
        StorageError: the disk refuses.
    """
    content = disk.read(directory / NAME)
    if content is None:
        raise SealError(Reason.STATE_CHANGED, f"{NAME} is gone")
    try:
        sealed = decode(content, _Sealed, limit=_LIMIT_BYTES)
    except FormatError as error:
        raise SealError(Reason.STATE_CHANGED, f"{NAME} was altered: {error}") from error
    if not hmac.compare_digest(sealed.mac, _mac(sealed.state, key)):
        raise SealError(Reason.STATE_CHANGED, f"{NAME} was altered, or is another gateway's")
    return sealed.state


def inventory(directory: Path) -> dict[str, str]:
    """Return the digest of every file of a state directory but the sealed state itself."""
    ours = {directory / NAME, directory / f"{NAME}.tmp"}
    with disk.failures("read the state"), ThreadPoolExecutor(_THREADS) as pool:
        paths = [path for path in tree(directory) if path not in ours]
        digests = pool.map(_digest, paths)
        return {
            str(path.relative_to(directory)): digest
            for path, digest in zip(paths, digests, strict=True)
        }


def check_files(directory: Path, state: State) -> None:
    """Hold a directory that was left in order to the digest of each of its files.

    Raises:
        SealError: one differs, is missing or is new (``STATE_CHANGED``).
    """
    if state.files is None:
        return
    found = differences(state.files, inventory(directory))
    if found:
        more = f" and {len(found) - _TOLD} more" if len(found) > _TOLD else ""
        raise SealError(
            Reason.STATE_CHANGED,
            f"state files are not as the gateway left them: {', '.join(found[:_TOLD])}{more}",
        )


def check_pins(directory: Path, state: State) -> None:
    """Hold files that never change any more to their digests.

    Raises:
        SealError: one differs or is gone (``STATE_CHANGED``).
    """
    for name, digests in state.pins.items():
        kind, _, place = name.partition(":")
        if kind == _FILE and not (
            (directory / place).is_file() and _digest(directory / place) in digests
        ):
            raise SealError(Reason.STATE_CHANGED, f"{place} is not as the gateway left it")


def file_pin(path: Path) -> str:
    """Return the name of the pin of a file, by its path below the state directory."""
    return f"{_FILE}:{path}"


def check_growth(state: State, log: LogStore, journal: Grown) -> None:
    """Hold log and journal to what they were: they may have grown, and nothing else.

    Raises:
        SealError: one is shorter, or the log began with other entries (``STATE_CHANGED``).
    """
    if log.size < state.log_size:
        raise SealError(
            Reason.STATE_CHANGED, f"the log has {log.size} entries and had {state.log_size}"
        )
    if log.root(state.log_size).hex() != state.log_root:
        raise SealError(Reason.STATE_CHANGED, "the log does not begin with what was sealed")
    if len(journal) < state.journal:
        raise SealError(
            Reason.STATE_CHANGED, f"the journal has {len(journal)} pairs and had {state.journal}"
        )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _mac(state: State, key: bytes) -> str:
    return hmac.new(key, b"lydite/state/v1\0" + encode(state), "sha256").hexdigest()
