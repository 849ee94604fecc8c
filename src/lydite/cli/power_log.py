"""The log of telemetry findings that one verifier keeps for disputes: signed lines, each chained.

Appends a line whole or not at all; refuses a log of another key, or one with a line gone.
"""

import os
from pathlib import Path
from typing import NamedTuple

from lydite.cli.files import read
from lydite.errors import ConfigurationError, Reason, StorageError, VerificationError
from lydite.messages import telemetry
from lydite.messages.canonical import encode
from lydite.messages.telemetry import Record
from lydite.signing import dsse
from lydite.signing.dsse import PublicKey, key_id
from lydite.signing.keys import Signer, sign_envelope


class Log(NamedTuple):
    """What a log holds, in order."""

    records: tuple[Record, ...]
    head: str | None
    """Digest of the last envelope."""


def load(path: Path, key: PublicKey) -> Log:
    """Return a log's records, all of them signed by ``key`` and none missing in between.

    Raises:
        ConfigurationError: the file cannot be read.
        FormatError: a line is no envelope or no record.
        VerificationError: a signature fails, or a line does not follow the one before.

    **Does not show** that no line is missing at the end: compare with a copy.
    """
    if not path.exists():
        return Log((), None)
    records: list[Record] = []
    head: str | None = None
    for number, line in enumerate(read(path).splitlines(), 1):
        payload = dsse.open_envelope(line, {key_id(key): key}, [key_id(key)])
        record = telemetry.parse(payload)
        if record.predicate.previous != head:
            raise VerificationError(
                Reason.BROKEN_CHAIN, f"line {number} of {path} does not follow the one before"
            )
        records.append(record)
        head = dsse.digest(line).hex()
    return Log(tuple(records), head)


def append(path: Path, record: Record, signer: Signer) -> None:
    """Add one signed line.

    Raises:
        ConfigurationError: the directory is not there.
        StorageError: the disk refused it.
    """
    line = sign_envelope(encode(record), signer) + b"\n"
    try:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error
    try:
        if os.write(handle, line) != len(line):
            raise StorageError(f"{path}: a line was written in part; cut it off")
        os.fsync(handle)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error
    finally:
        os.close(handle)
