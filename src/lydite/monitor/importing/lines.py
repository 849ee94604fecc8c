"""Text tables read line by line in bounded memory: header, then rows of as many cells.

Refuses a line, a row count or a column count that is too large before it holds it. Knows nothing of
what the columns mean.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from lydite.errors import ConfigurationError, FormatError, Reason

LONGEST_LINE = 1 << 16
MOST_COLUMNS = 1000
MOST_ROWS = 20_000_000


def table(path: Path) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """Return the header of a CSV file, and its rows with their line numbers.

    Raises:
        ConfigurationError: it cannot be read.
        FormatError: it is empty, no text, or too large.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    try:
        header = [cell.strip() for cell in _cells(_line(file, path, 1), path, 1)]
        if not any(header):
            raise FormatError(f"{path.name}: no header in the first line")
        if len(set(header)) < len(header):
            raise FormatError(f"{path.name}: a column is named twice")
    except BaseException:
        file.close()
        raise
    return header, _rows(file, path, len(header))


def _rows(file: BinaryIO, path: Path, width: int) -> Iterator[tuple[int, list[str]]]:
    with file:
        number = 1
        while line := _line(file, path, number + 1):
            number += 1
            if number > MOST_ROWS:
                raise FormatError(f"{path.name}: over {MOST_ROWS} rows", Reason.TOO_LARGE)
            if not line.strip():
                continue
            cells = _cells(line, path, number)
            if len(cells) != width:
                raise FormatError(
                    f"{path.name}, line {number}: {len(cells)} cells under {width} columns"
                )
            yield number, cells


def _line(file: BinaryIO, path: Path, number: int) -> str:
    """Return the next line, empty at the end."""
    line = file.readline(LONGEST_LINE + 1)
    if len(line) > LONGEST_LINE:
        raise FormatError(
            f"{path.name}, line {number}: longer than {LONGEST_LINE} bytes", Reason.TOO_LARGE
        )
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path.name}, line {number}: no UTF-8 text") from error


def _cells(line: str, path: Path, number: int) -> list[str]:
    try:
        cells = next(csv.reader([line], strict=True), [])
    except csv.Error as error:
        raise FormatError(f"{path.name}, line {number}: {error}") from error
    if len(cells) > MOST_COLUMNS:
        raise FormatError(
            f"{path.name}, line {number}: {len(cells)} columns, {MOST_COLUMNS} at most",
            Reason.TOO_LARGE,
        )
    return cells
