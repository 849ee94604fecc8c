"""Learned numbers as plain arrays: one spelling, one digest, nothing that runs.

A file is the line ``lydite/arrays/v1``, a line of JSON with words and the name, type and shape of
each array in order of names, and the arrays' bytes, least byte first. Knows nothing of models.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lydite.errors import FormatError, Reason

MAGIC = b"lydite/arrays/v1\n"
LARGEST = 1 << 28
_TYPES = {"<f4", "<f8", "<i4", "<i8"}

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Arrays:
    """Arrays by name, and words about them."""

    words: Mapping[str, str]
    arrays: Mapping[str, Array]

    def get(self, name: str, dimensions: int) -> Array:
        """Return the array ``name``.

        Raises:
            FormatError: there is none, or with another number of dimensions.
        """
        found = self.arrays.get(name)
        if found is None or found.ndim != dimensions:
            raise FormatError(f"no array {name} of {dimensions} dimensions")
        return found

    def word(self, name: str) -> str:
        """Return the word ``name``.

        Raises:
            FormatError: there is none.
        """
        if name not in self.words:
            raise FormatError(f"no word {name} about the arrays")
        return self.words[name]

    def under(self, prefix: str) -> "Arrays":
        """Return the arrays and words whose name begins with ``prefix.``, without it."""
        cut = len(prefix) + 1
        return Arrays(
            {k[cut:]: v for k, v in self.words.items() if k.startswith(f"{prefix}.")},
            {k[cut:]: v for k, v in self.arrays.items() if k.startswith(f"{prefix}.")},
        )


def joined(parts: Mapping[str, Arrays]) -> Arrays:
    """Return several as one, each under its own prefix."""
    words = {f"{at}.{k}": v for at, part in parts.items() for k, v in part.words.items()}
    arrays = {f"{at}.{k}": v for at, part in parts.items() for k, v in part.arrays.items()}
    return Arrays(words, arrays)


def pack(several: Arrays) -> bytes:
    """Return the one spelling of ``several``.

    Raises:
        FormatError: a type that is not written, or a value that is not finite.
    """
    listed = []
    bodies = []
    for name in sorted(several.arrays):
        array = several.arrays[name]
        kind = np.dtype(array.dtype).newbyteorder("<").str
        if kind not in _TYPES or not np.all(np.isfinite(array)):
            raise FormatError(f"array {name}: {kind}, or a value that is not finite")
        listed.append([name, kind, list(array.shape)])
        bodies.append(np.ascontiguousarray(array, dtype=kind).tobytes())
    head = {"arrays": listed, "words": dict(several.words)}
    line = json.dumps(head, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return MAGIC + line.encode() + b"\n" + b"".join(bodies)


def unpack(payload: bytes) -> Arrays:
    """Return the arrays of ``payload``, in the spelling that ``pack`` writes and no other.

    Raises:
        FormatError: other bytes.
    """
    if not payload.startswith(MAGIC) or len(payload) > LARGEST:
        raise FormatError("not a file of arrays")
    line, found, body = payload[len(MAGIC) :].partition(b"\n")
    try:
        head = json.loads(line)
        listed = [(str(name), str(kind), tuple(shape)) for name, kind, shape in head["arrays"]]
        words = {str(k): str(v) for k, v in head["words"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError(f"a file of arrays without its list: {error}") from error
    arrays: dict[str, Array] = {}
    at = 0
    for name, kind, shape in listed:
        size = _size(kind, shape)
        if at + size > len(body):
            raise FormatError(f"array {name} is cut short", Reason.MALFORMED)
        arrays[name] = np.frombuffer(body[at : at + size], dtype=kind).reshape(shape)
        at += size
    several = Arrays(words, arrays)
    if not found or at != len(body) or pack(several) != payload:
        raise FormatError("a file of arrays in another spelling")
    return several


def digest(several: Arrays) -> str:
    """Return what a Reference Value is named by: SHA-256 of its spelling, in hex."""
    return hashlib.sha256(pack(several)).hexdigest()


def _size(kind: str, shape: tuple[Any, ...]) -> int:
    whole = all(type(one) is int and 0 <= one <= LARGEST for one in shape)
    if kind not in _TYPES or not whole or len(shape) > 4:
        raise FormatError(f"an array of {kind} and {shape}")
    return int(math.prod(shape)) * int(kind[-1])
