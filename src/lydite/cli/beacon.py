"""``lydite beacon``: makes and runs a local beacon, for development only."""

import argparse
import time
from pathlib import Path

from lydite.cli.files import new_directory, read_message, write
from lydite.errors import ConfigurationError, FormatError
from lydite.laboratory import beacon_server
from lydite.messages.canonical import decode, encode
from lydite.sampling.beacon import Chain, Scheme, describe
from lydite.signing import keys


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite beacon``."""
    steps = parser.add_subparsers(dest="step", metavar="STEP", required=True)
    summaries = {
        "init": "make a key, and the chain file that relies on it",
        "run": "sign each round when it is due, no sooner",
    }
    init, run_step = (
        steps.add_parser(name, help=text, description=text) for name, text in summaries.items()
    )
    init.add_argument("--period", type=int, default=3, help="seconds from one round to the next")
    run_step.add_argument("--port", type=int, required=True, help="port to bind to on loopback")
    for each in (init, run_step):
        each.add_argument("directory", type=Path, metavar="DIR", help="key and chain")
        each.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Make a beacon, or run it until told to stop."""
    directory: Path = arguments.directory
    if arguments.step == "init":
        return _init(directory, arguments.period, as_json=arguments.json)
    try:
        chain = decode(read_message(directory / "chain.json"), Chain)
    except FormatError as error:
        raise ConfigurationError(f"beacon chain in {directory}: {error}") from error
    words = ["--key", str(directory / "beacon.key"), "--port", str(arguments.port)]
    words += ["--period", str(chain.period_s), "--genesis", str(chain.genesis_time_s)]
    return beacon_server.main(words)


def _init(directory: Path, period_s: int, *, as_json: bool) -> int:
    if period_s < 1:
        raise ConfigurationError(f"--period {period_s} is not a second or more")
    with new_directory(directory) as place:
        chain = Chain(
            name=beacon_server.NAME,
            scheme=Scheme.LOCAL_DEV,
            public_key=keys.create(place / "beacon.key").public.hex(),
            genesis_time_s=int(time.time()),
            period_s=period_s,
        )
        write(place / "chain.json", encode(chain) + b"\n")
    said = f"made {directory / 'chain.json'}; {describe(chain)}"
    print(encode(chain).decode() if as_json else said)
    return 0
