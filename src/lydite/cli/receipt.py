"""``lydite receipt``: a client checks the receipt of its own request, or asks what became of it."""

import argparse
import http.client
import json
import re
import time
import urllib.error
import urllib.request
from pathlib import Path

from lydite.appraisal import choice, outcome, receipts
from lydite.appraisal.receipts import Exchange
from lydite.cli import promised
from lydite.cli.files import read
from lydite.cli.reports import add_options, finish
from lydite.errors import ConfigurationError, UnavailableError
from lydite.messages.commitment import Salt

_LIMIT_BYTES = 8 << 20
_TIMEOUT_S = 60
_LONGEST_S = 10**9
_QUESTIONS = ("result", "examine")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite receipt``."""
    parser.epilog = (
        "exit codes: 0 signed, in the witnessed log and about your bytes, which is not to say that "
        "the declared model answered; 1 it is not; 2 usage; 4 it cannot be had, is not logged yet, "
        "or was not compared with your bytes. `result ID` asks what became of the request: 0 if "
        "its provider is consistent and the draws cover it, 1 if the provider or this answer is "
        "not. `examine ID` has that one answer recomputed, for who knows its salt"
    )
    parser.add_argument(
        "receipt",
        metavar="RECEIPT",
        help="URL of /v1/receipts/ID at a gateway, or a file of it; "
        "or `result` or `examine`, followed by ID; or `check` and a verified client's journal",
    )
    parser.add_argument(
        "id",
        nargs="?",
        metavar="ID",
        help="the x-lydite-receipt-id of the answer; behind `check` the journal's file",
    )
    parser.add_argument(
        "--deadline",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="after them a journal's receipt that is not in the log is a broken promise",
    )
    parser.add_argument(
        "--max-age",
        type=int,
        metavar="SECONDS",
        help="with `result`: refuse a verdict that was issued longer ago, by this machine's clock",
    )
    parser.add_argument(
        "--from", dest="source", metavar="URL", help="the recomputer that is asked about ID"
    )
    parser.add_argument("--salt", metavar="HEX", help="the x-lydite-salt of the answer")
    parser.add_argument("--path", default="/v1/chat/completions", help="where the request went")
    parser.add_argument("--request", type=Path, help="file with the exact request body")
    parser.add_argument("--response", type=Path, help="file with the exact answer body")
    add_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Check one receipt, or ask about one, and print the report; the exit code is its tier's."""
    if arguments.max_age is not None and arguments.receipt != "result":
        raise ConfigurationError("--max-age is about verdicts, which only `receipt result` gives")
    if arguments.receipt == "check" and arguments.id is not None:
        journal, deadline_s = Path(arguments.id), arguments.deadline
        if not 0 <= deadline_s <= _LONGEST_S:
            raise ConfigurationError(f"--deadline {deadline_s} is no time from 0 to {_LONGEST_S} s")
        return finish(lambda trust: promised.settle(journal, trust, deadline_s), arguments)
    if arguments.id is not None or arguments.receipt in _QUESTIONS:
        return _ask(arguments)
    payload = _fetch(arguments.receipt)
    own = _exchange(arguments)
    wanted = _id_in(arguments.receipt)
    return finish(lambda trust: receipts.check(payload, trust, own, wanted), arguments)


def _ask(arguments: argparse.Namespace) -> int:
    """Ask a recomputer about one request and check what it answers."""
    question, wanted, source = arguments.receipt, arguments.id, arguments.source
    if question not in _QUESTIONS or wanted is None or source is None:
        raise ConfigurationError(
            f"`lydite receipt {question}` lacks {'an ID' if wanted is None else '--from'}; as in: "
            "lydite receipt result ID --from http://127.0.0.1:8090"
            if question in _QUESTIONS
            else f"{question!r} is none of check, result and examine"
        )
    if not re.fullmatch("[0-9a-f]{32}", wanted):
        raise ConfigurationError(f"{wanted!r} is no receipt id, 32 characters in hexadecimal")
    own = _own(arguments)
    place = f"{source.rstrip('/').removesuffix('/v1')}/v1/receipts/{wanted}/{question}"
    if question == "examine":
        answer = _fetch(place, json.dumps({"salt": _salt(arguments).hex()}).encode())
        return finish(lambda trust: choice.check(answer, trust, own, wanted), arguments)
    payload = _fetch(place)
    since_ms = 0 if arguments.max_age is None else (int(time.time()) - arguments.max_age) * 1000
    return finish(lambda trust: outcome.check(payload, trust, own, wanted, since_ms), arguments)


def _own(arguments: argparse.Namespace) -> Exchange | None:
    """Return the client's own bytes, if they were given; a salt alone shows none."""
    bare = arguments.request is None and arguments.response is None
    return None if bare else _exchange(arguments)


def _id_in(place: str) -> str | None:
    """Return the receipt id that a gateway's URL asks for; a file asks for none."""
    return place.rpartition("/v1/receipts/")[2] if "/v1/receipts/" in place else None


def _fetch(place: str, body: bytes | None = None) -> bytes:
    if not place.startswith(("http://", "https://")):
        return read(Path(place)).removesuffix(b"\n")
    try:
        request = urllib.request.Request(place, body, {"Content-Type": "application/json"})
        (request.host or "").encode("idna")
    except ValueError as error:
        raise ConfigurationError(f"{place!r} is no URL: {error}") from error
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            return bytes(answer.read(_LIMIT_BYTES))
    except urllib.error.HTTPError as error:
        said = error.read(300).decode("utf-8", "replace")
        raise UnavailableError(f"{place}: HTTP {error.code}: {said}") from error
    except urllib.error.URLError as error:
        raise UnavailableError(f"{place} cannot be reached: {error.reason}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise UnavailableError(f"{place}: {error}") from error


def _exchange(arguments: argparse.Namespace) -> Exchange | None:
    given = (arguments.salt, arguments.request, arguments.response)
    if given == (None, None, None):
        return None
    if None in given:
        raise ConfigurationError("--salt, --request and --response go together")
    return Exchange(
        salt=_salt(arguments),
        path=_path(arguments.path),
        request=read(arguments.request),
        response=read(arguments.response),
    )


def _path(given: str) -> bytes:
    try:
        return given.encode("ascii")
    except UnicodeEncodeError as error:
        raise ConfigurationError(f"--path {given!r} is not in ASCII, as a target is") from error


def _salt(arguments: argparse.Namespace) -> Salt:
    given = arguments.salt or ""
    if not re.fullmatch("[0-9a-f]{64}", given):
        raise ConfigurationError(f"--salt {given!r} is not 32 bytes in lowercase hexadecimal")
    return Salt(bytes.fromhex(given))
