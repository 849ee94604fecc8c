"""A file of lines that only the holder of a key could have written, in this order and no other.

Each line has an authentication code over the line and the code before it. The first says at which
line, and at which code, an earlier file ended. An ``Anchor`` kept elsewhere says how far the file
had come: one that does not reach it is an older copy. Knows nothing of what the lines mean.
"""

import hmac
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from lydite.errors import Reason, StorageError
from lydite.tlog import disk

_CODE_BYTES = 32
_HEX = 2 * _CODE_BYTES
_START = b"lydite/egress-accounts/v1 "


class Anchor(NamedTuple):
    """How far a file had come: the number of its newest line, and that line's code."""

    lines: int
    code: bytes


ORIGIN = Anchor(0, bytes(_CODE_BYTES))


class Chain:
    """One file; append only, but for ``renew``, which puts another in its place."""

    def __init__(self, path: Path, key: bytes) -> None:
        """Take a path and 32 bytes that are nobody else's; nothing is read or written yet."""
        self._path = path
        self._key = key
        self._file = -1
        self._end = 0
        self.at = ORIGIN
        """How far the file has come."""

    @property
    def written(self) -> int:
        """How many bytes were appended since the file was put in its place."""
        return self._end

    def read(self, anchor: Anchor | None) -> list[bytes] | None:
        """Return every line, without what a crash tore; None if there is no file and never was.

        Raises:
            StorageError: a line is not ours, or the file is gone or older than ``anchor`` says
                (``EGRESS_ACCOUNTS``); or the disk refuses.
        """
        data = disk.read(self._path)
        if data is None and anchor is None:
            return None
        *rows, _torn = (data or b"").split(b"\n")  # what is torn was never acted upon
        if not rows:
            raise _refused("there are no accounts, and there were")
        at = self._first(rows[0])
        met = anchor is None or anchor.lines < at.lines
        found = []
        for number, row in enumerate(rows):
            if number:
                at = Anchor(at.lines + 1, self._checked(row, at.code, at.lines + 1))
                found.append(row[_HEX + 1 :])
            if anchor is not None and at.lines == anchor.lines:
                met = hmac.compare_digest(at.code, anchor.code)
        if not met:
            raise _refused("they are an older copy of what the log knows")
        self.at = at
        return found

    def renew(self, lines: Iterable[bytes], after: Anchor | None = None) -> None:
        """Put a file of these lines in its place, durably, which follows on what was there.

        Raises:
            StorageError: the disk refuses; the file before is still there.
        """
        before = self.at if after is None else after
        start = _START + b"%d %s" % (before.lines, before.code.hex().encode())
        code = self._code(bytes(_CODE_BYTES), start)
        at, rows = Anchor(before.lines + 1, code), [code.hex().encode() + b" " + start]
        for line in lines:
            code = self._code(at.code, line)
            at = Anchor(at.lines + 1, code)
            rows.append(code.hex().encode() + b" " + line)
        disk.place(self._path, b"\n".join(rows) + b"\n", durable=True)
        self.close()
        with disk.failures("open the accounts of egress"):
            self._path.chmod(0o600)
            self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        self.at, self._end = at, 0

    def append(self, line: bytes) -> None:
        """Add a line; it survives the end of this process, not a loss of power before ``sync``.

        Raises:
            StorageError: it was not written whole.
        """
        code = self._code(self.at.code, line)
        data = code.hex().encode() + b" " + line + b"\n"
        with disk.failures("write the account of egress"):
            if os.write(self._file, data) != len(data):
                raise StorageError("the account of egress was not written whole")
        self.at = Anchor(self.at.lines + 1, code)
        self._end += len(data)

    def sync(self) -> Anchor:
        """Make what was appended survive a loss of power, and return how far that is; blocks.

        Raises:
            StorageError: the disk refuses.
        """
        at = self.at
        if self._file < 0:
            raise StorageError("the accounts of egress are closed")
        with disk.failures("write the accounts of egress"):
            os.fdatasync(self._file)
        return at

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def _first(self, row: bytes) -> Anchor:
        """Return where the first line stands, and its code."""
        code = self._checked(row, bytes(_CODE_BYTES), 1)
        said = row[_HEX + 1 :].removeprefix(_START).split(b" ")
        return Anchor(int(said[0]) + 1, code)

    def _checked(self, row: bytes, before: bytes, number: int) -> bytes:
        code = self._code(before, row[_HEX + 1 :])
        if not hmac.compare_digest(code.hex().encode(), row[:_HEX]) or row[_HEX : _HEX + 1] != b" ":
            raise _refused(f"line {number} is not what this gateway wrote")
        return code

    def _code(self, before: bytes, line: bytes) -> bytes:
        return hmac.digest(self._key, before + line, "sha256")


def _refused(why: str) -> StorageError:
    return StorageError(f"the accounts of egress are not believed: {why}", Reason.EGRESS_ACCOUNTS)
