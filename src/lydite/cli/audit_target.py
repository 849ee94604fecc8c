"""What ``--model`` of ``lydite audit`` stands for: weights, a passport of them, another server.

Reads no weights and asks no server.
"""

import argparse
from pathlib import Path

from lydite.cli.files import read_message
from lydite.cli.passport_tables import payload
from lydite.errors import ConfigurationError, LyditeError
from lydite.messages import passport as passports

_URLS = ("http://", "https://")


def settle(arguments: argparse.Namespace) -> None:
    """Put what ``--model`` names where the command looks for it.

    A directory holds the declared weights. A URL is a second server. A file is a passport: it is
    weighed by as those of ``--passport`` are, and names the weights that ``--weights`` holds.

    Raises:
        ConfigurationError: it is none of these, or weights are missing or not wanted.
    """
    named, weights = arguments.model, arguments.weights
    if named is None or named.startswith(_URLS) or Path(named).is_dir():
        if weights is not None:
            raise ConfigurationError("--weights goes with a passport as --model, and nothing else")
        _plain(arguments, named)
        return
    root = _root_of(Path(named))
    if weights is None:
        raise ConfigurationError(
            f"{named} is a passport: it names the weights {root[:16]} and does not hold them; "
            "give their directory with --weights DIR"
        )
    arguments.passport = [*(arguments.passport or ()), Path(named)]
    arguments.model = weights


def _plain(arguments: argparse.Namespace, named: str | None) -> None:
    if named is not None and named.startswith(_URLS):
        arguments.second, arguments.model = named, None
    elif named is not None:
        arguments.model = Path(named)


def _root_of(path: Path) -> str:
    """Return the root that a passport names; who signed it is checked with the others.

    Raises:
        ConfigurationError: there is no such file, or it is none.
    """
    if not path.exists():
        raise ConfigurationError(f"--model {path}: there is no such directory or passport")
    try:
        return passports.parse(payload(read_message(path))).predicate.weights_root
    except LyditeError as error:
        raise ConfigurationError(
            f"--model {path} is neither a directory of weights, nor a passport, nor a URL: {error}",
            error.reason,
        ) from error
