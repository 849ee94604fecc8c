"""``lydite power declare``: declared work as a person wrote it, checked, in its one spelling.

Says which field is wrong; invents nothing that is missing.
"""

import argparse
import json
from pathlib import Path

import msgspec

from lydite.cli.files import read, write
from lydite.errors import FormatError, Reason
from lydite.evidence.power import claims as declared
from lydite.evidence.power.claims import MOST_BYTES, Claims
from lydite.messages.canonical import UNREADABLE, encode


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite power declare``."""
    parser.add_argument("draft", type=Path, metavar="DRAFT", help="declared work, as any JSON")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="a new file")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Check a draft, write it in canonical JSON, say what it declares, and return 0.

    Raises:
        ConfigurationError: a file cannot be read, or is there already.
        FormatError: the draft is no declared work; the message names the field.
    """
    work = _read(arguments.draft)
    write(arguments.out, encode(work) + b"\n")
    tokens = sum(one.output_tokens for one in work.requests)
    if arguments.json:
        said = {"file": str(arguments.out), "requests": len(work.requests), "tokens": tokens}
        print(json.dumps(said))
    else:
        print(f"{arguments.out}: {len(work.requests)} requests, {tokens} tokens")
    return 0


def _read(path: Path) -> Claims:
    payload = read(path)
    if len(payload) > MOST_BYTES:
        raise FormatError(f"{path}: over {MOST_BYTES} bytes", Reason.TOO_LARGE)
    try:
        work = msgspec.json.decode(payload, type=Claims)
    except UNREADABLE as error:
        raise FormatError(f"{path}: {error}") from error
    declared.check(work)
    return work
