"""``lydite power watch``: what a monitor seals, each segment verified, shown as it comes.

Reads sealed segments alone, so it may run anywhere that sees the directory. Accuses nobody, and
its exit code says nothing of any provider.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lydite.cli.files import public_key
from lydite.errors import ConfigurationError, UnavailableError
from lydite.messages.plain import plain

if TYPE_CHECKING:
    from lydite.cli.power_screen import Look, Screen
    from lydite.monitor.chain import Link
    from lydite.monitor.columns import Content
    from lydite.signing.dsse import PublicKey

POLL_S = 0.25


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite power watch``."""
    parser.add_argument("directory", type=Path, metavar="DIR", help="the state of a monitor")
    parser.add_argument("--key", required=True, help="the monitor's public key in hexadecimal")
    parser.add_argument(
        "--tdp", type=int, metavar="W", help="stated power of a GPU whose name is not known"
    )
    parser.add_argument("--seconds", type=float, help="end after so long; else when its run ends")
    parser.add_argument("--json", action="store_true", help="print a JSON object a segment and GPU")


def run(arguments: argparse.Namespace) -> int:
    """Show every segment, those that are there and those that come; return 0.

    Raises:
        ConfigurationError: an option cannot be used.
        UnavailableError: nothing was sealed in the time.
        FormatError, VerificationError: a segment is missing, altered or out of place.
    """
    from lydite.cli.power_screen import Screen, looks

    if arguments.tdp is not None and not 1 <= arguments.tdp <= 100_000:
        raise ConfigurationError(f"--tdp {arguments.tdp}: expected 1 to 100000")
    key = public_key(arguments.key, "--key")
    screen = None if arguments.json or not sys.stdout.isatty() else Screen()
    seen = 0
    try:
        for link, content in _follow(arguments, key):
            seen += 1
            found = looks(link, content, arguments.tdp)
            _show(found, link, screen, as_json=arguments.json)
    except KeyboardInterrupt:
        pass
    finally:
        if screen is not None:
            screen.close()
    if not seen:
        raise UnavailableError(f"{arguments.directory} holds no sealed segment")
    return 0


def _follow(arguments: argparse.Namespace, key: "PublicKey") -> Iterator[tuple["Link", "Content"]]:
    """Yield every segment that is sealed, until the run ends or the time is over."""
    from lydite.monitor import chain

    end = None if arguments.seconds is None else time.monotonic() + arguments.seconds
    last: Link | None = None
    while True:
        for link, content in chain.after(arguments.directory, key, last):
            last = link
            yield link, content
        ended = last is not None and last.said.last and chain.opened(arguments.directory) is None
        if ended or (end is not None and time.monotonic() >= end):
            return
        time.sleep(POLL_S)


def _show(found: list["Look"], link: "Link", screen: "Screen | None", *, as_json: bool) -> None:
    if screen is not None:
        screen.show(link, found)
        return
    for look in found:
        print(json.dumps(look.as_json()) if as_json else plain(look.line()), flush=True)
