"""``lydite witness``: makes the key of a witness, and runs it."""

import argparse
import json
from pathlib import Path
from urllib.parse import urlsplit

from lydite.appraisal.trust import Anchor
from lydite.cli.files import new_directory, read, read_message, write
from lydite.errors import ConfigurationError, FormatError
from lydite.messages.canonical import decode
from lydite.signing import keys, notes
from lydite.signing.notes import Kind
from lydite.tlog import policy as policies
from lydite.tlog import witness_server

POLICY = "witness.policy"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite witness``."""
    steps = parser.add_subparsers(dest="step", metavar="STEP", required=True)
    summaries = {
        "init": "make a key, and a policy file that asks for it",
        "run": "cosign the checkpoints of the logs that are named",
    }
    init, run_step = (
        steps.add_parser(name, help=text, description=text) for name, text in summaries.items()
    )
    init.add_argument("directory", type=Path, metavar="DIR", help="a new directory")
    init.add_argument("--name", required=True, help="name of the witness's key")
    init.add_argument("--host", default="127.0.0.1", help="where gateways find it")
    init.add_argument("--port", type=int, required=True, help="where gateways find it")
    run_step.add_argument("directory", type=Path, metavar="DIR", help="made by init")
    run_step.add_argument(
        "--anchor", action="append", type=Path, required=True, help="a gateway's anchor.json"
    )
    run_step.add_argument("--name", help="must be that of init, if given")
    run_step.add_argument("--host", help="address to bind to, if not that of init")
    run_step.add_argument("--port", type=int, help="must be that of init, if given")
    for each in (init, run_step):
        each.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Make a witness, or run it until told to stop."""
    if arguments.step == "init":
        return _init(arguments)
    directory: Path = arguments.directory
    name, host, port = _promised(directory / POLICY)
    for option, given, promised in (
        ("--name", arguments.name, name),
        ("--port", arguments.port, port),
    ):
        if given not in {None, promised}:
            raise ConfigurationError(
                f"{option} {given}: {directory / POLICY}, by which gateways ask, says {promised}"
            )
    words = ["--name", name, "--key", str(directory / "witness.key")]
    words += ["--state", str(directory / "state")]
    words += ["--host", arguments.host or host, "--port", str(port)]
    for path in arguments.anchor:
        words += ["--log", _anchor(path).log_vkey]
    return witness_server.main(words)


def _promised(path: Path) -> tuple[str, str, int]:
    """Return the name, host and port that the policy made by init gives for the witness."""
    try:
        (witness,) = policies.parse(read(path)).witnesses.values()
        parts = urlsplit(witness.url or "")
        if parts.hostname and parts.port:
            return witness.key.name, parts.hostname, parts.port
    except (FormatError, ValueError) as error:  # the latter: another number of witnesses, or a port
        raise ConfigurationError(f"{path}: {error}") from error
    raise ConfigurationError(f"{path}: the witness has no URL with host and port")


def _init(arguments: argparse.Namespace) -> int:
    directory: Path = arguments.directory
    name, port = arguments.name, arguments.port
    if not 0 < port < 65536:
        raise ConfigurationError(f"--port {port} is not one that gateways could ask")
    with new_directory(directory) as place:
        try:
            vkey = notes.verifier_key(name, keys.create(place / "witness.key"), Kind.COSIGNATURE)
            url = f"http://{arguments.host}:{port}"
            policy = f"witness {name} {vkey} {url}\nquorum {name}\n".encode()
            policies.parse(policy)
        except FormatError as error:
            raise ConfigurationError(f"--name {name!r}: {error}") from error
        write(place / POLICY, policy)
    made = directory / POLICY
    print(
        json.dumps({"policy": str(made), "vkey": str(vkey)}) if arguments.json else f"made {made}"
    )
    return 0


def _anchor(path: Path) -> Anchor:
    try:
        return decode(read_message(path), Anchor)
    except FormatError as error:
        raise ConfigurationError(f"anchor {path}: {error}") from error
