"""``lydite witness``: makes the key of a witness, and runs it."""

import argparse
from pathlib import Path

from lydite.appraisal.trust import Anchor
from lydite.cli.files import read_message, write
from lydite.errors import ConfigurationError, FormatError
from lydite.messages.canonical import decode
from lydite.signing import keys, notes
from lydite.signing.notes import Kind
from lydite.tlog import witness_server


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite witness``."""
    steps = parser.add_subparsers(dest="step", metavar="STEP", required=True)
    init = steps.add_parser("init", help="make a key, and a policy file that asks for it")
    init.add_argument("directory", type=Path, metavar="DIR", help="a new directory")
    run_step = steps.add_parser("run", help="cosign the checkpoints of the logs that are named")
    run_step.add_argument("directory", type=Path, metavar="DIR", help="made by init")
    run_step.add_argument(
        "--anchor", action="append", type=Path, required=True, help="a gateway's anchor.json"
    )
    for each in (init, run_step):
        each.add_argument("--name", required=True, help="name of the witness's key")
        each.add_argument("--host", default="127.0.0.1", help="address to bind to")
        each.add_argument("--port", type=int, required=True, help="port to bind to")
        each.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Make a witness, or run it until told to stop."""
    if arguments.step == "init":
        return _init(arguments)
    directory: Path = arguments.directory
    words = ["--name", arguments.name, "--key", str(directory / "witness.key")]
    words += ["--state", str(directory / "state")]
    words += ["--host", arguments.host, "--port", str(arguments.port)]
    for path in arguments.anchor:
        words += ["--log", _anchor(path).log_vkey]
    return witness_server.main(words)


def _init(arguments: argparse.Namespace) -> int:
    directory: Path = arguments.directory
    if directory.exists():
        raise ConfigurationError(f"{directory} exists; name a new directory")
    directory.mkdir(parents=True)
    signer = keys.create(directory / "witness.key")
    name = arguments.name
    vkey = notes.verifier_key(name, signer, Kind.COSIGNATURE)
    url = f"http://{arguments.host}:{arguments.port}"
    policy = f"witness {name} {vkey} {url}\nquorum {name}\n"
    path = write(directory / "witness.policy", policy.encode())
    print(f'{{"policy":"{path}","vkey":"{vkey}"}}' if arguments.json else f"made {path}")
    return 0


def _anchor(path: Path) -> Anchor:
    try:
        return decode(read_message(path), Anchor)
    except FormatError as error:
        raise ConfigurationError(f"anchor {path}: {error}") from error
