"""``lydite receipt``: a client checks the receipt of its own request."""

import argparse
import http.client
import urllib.error
import urllib.request
from pathlib import Path

from lydite.appraisal import receipts
from lydite.appraisal.receipts import Exchange
from lydite.cli.files import read
from lydite.cli.reports import add_options, finish
from lydite.errors import ConfigurationError, UnavailableError
from lydite.messages.commitment import Salt

_LIMIT_BYTES = 1 << 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite receipt``."""
    parser.epilog = (
        "exit codes: 0 signed, in the witnessed log and about your bytes, which is not to say that "
        "the declared model answered; 1 it is not; 2 usage; 4 it cannot be had, is not logged yet, "
        "or was not compared with your bytes"
    )
    parser.add_argument(
        "receipt", metavar="RECEIPT", help="URL of /v1/receipts/ID at a gateway, or a file of it"
    )
    parser.add_argument("--salt", metavar="HEX", help="the x-lydite-salt of the answer")
    parser.add_argument("--path", default="/v1/chat/completions", help="where the request went")
    parser.add_argument("--request", type=Path, help="file with the exact request body")
    parser.add_argument("--response", type=Path, help="file with the exact answer body")
    add_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Check one receipt and print the report; the exit code is its tier's."""
    payload = _fetch(arguments.receipt)
    own = _exchange(arguments)
    wanted = _id_in(arguments.receipt)
    return finish(lambda trust: receipts.check(payload, trust, own, wanted), arguments)


def _id_in(place: str) -> str | None:
    """Return the receipt id that a gateway's URL asks for; a file asks for none."""
    return place.rpartition("/v1/receipts/")[2] if "/v1/receipts/" in place else None


def _fetch(place: str) -> bytes:
    if not place.startswith(("http://", "https://")):
        return read(Path(place)).removesuffix(b"\n")
    try:
        with urllib.request.urlopen(place, timeout=10) as answer:
            return bytes(answer.read(_LIMIT_BYTES))
    except urllib.error.HTTPError as error:
        raise UnavailableError(f"{place}: HTTP {error.code}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise UnavailableError(f"{place}: {error}") from error


def _exchange(arguments: argparse.Namespace) -> Exchange | None:
    given = (arguments.salt, arguments.request, arguments.response)
    if given == (None, None, None):
        return None
    if None in given:
        raise ConfigurationError("--salt, --request and --response go together")
    try:
        salt = Salt(bytes.fromhex(arguments.salt))
    except ValueError as error:
        raise ConfigurationError("--salt is not hexadecimal") from error
    return Exchange(
        salt=salt,
        path=arguments.path.encode(),
        request=read(arguments.request),
        response=read(arguments.response),
    )
