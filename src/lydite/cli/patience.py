"""Says before long work how much there is, where somebody looks. Does none of it."""

import sys
from pathlib import Path

from lydite.engines.weights import files_of

LONG_BYTES = 2_000_000_000
"""What takes seconds to read and to hash."""


def before_hashing(directory: Path) -> None:
    """Say on a terminal that the model in ``directory`` is about to be hashed, if it is large.

    Raises:
        ConfigurationError: the directory is not there, or is empty.
    """
    size = sum(path.stat().st_size for path in files_of(directory))
    if size >= LONG_BYTES and sys.stderr.isatty():
        print(f"hashing {size / 1e9:,.0f} GB of {directory}; every byte is read", file=sys.stderr)
