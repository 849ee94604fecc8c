"""One file into one frozen struct: TOML or JSON, unknown names refused, nothing guessed.

Reads no environment. Services define what they are told; this room only reads it.
"""

from pathlib import Path
from typing import TypeVar

import msgspec

from lydite.errors import ConfigurationError
from lydite.messages.canonical import UNREADABLE

T = TypeVar("T")


def load(path: Path, kind: type[T]) -> T:
    """Return the settings in ``path``, TOML or JSON by its suffix.

    Raises:
        ConfigurationError: unreadable, another suffix, or not of this type; the message says where.
    """
    try:
        text = path.read_bytes()
        if path.suffix == ".toml":
            return msgspec.toml.decode(text, type=kind)
        if path.suffix == ".json":
            return msgspec.json.decode(text, type=kind)
    except OSError as error:
        raise ConfigurationError(f"cannot read settings {path}: {error.strerror}") from error
    except UNREADABLE as error:
        raise ConfigurationError(
            f"settings {path}: {error}; docs/settings.md has every setting"
        ) from error
    raise ConfigurationError(f"settings {path}: expected a name that ends in .toml or .json")
