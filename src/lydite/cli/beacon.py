"""``lydite beacon``: makes and runs a local beacon, for development only."""

import argparse
import time
from pathlib import Path

from lydite.cli.files import read_message, write
from lydite.errors import ConfigurationError
from lydite.laboratory import beacon_server
from lydite.messages.canonical import decode, encode
from lydite.sampling.beacon import Chain, Scheme, describe
from lydite.signing import keys


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite beacon``."""
    steps = parser.add_subparsers(dest="step", metavar="STEP", required=True)
    init = steps.add_parser("init", help="make a key, and the chain file that relies on it")
    init.add_argument("--period", type=int, default=3, help="seconds from one round to the next")
    run_step = steps.add_parser("run", help="sign each round when it is due, no sooner")
    run_step.add_argument("--port", type=int, required=True, help="port to bind to on loopback")
    for each in (init, run_step):
        each.add_argument("directory", type=Path, metavar="DIR", help="key and chain")
        each.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Make a beacon, or run it until told to stop."""
    directory: Path = arguments.directory
    if arguments.step == "run":
        chain = decode(read_message(directory / "chain.json"), Chain)
        words = ["--key", str(directory / "beacon.key"), "--port", str(arguments.port)]
        words += ["--period", str(chain.period_s), "--genesis", str(chain.genesis_time_s)]
        return beacon_server.main(words)
    if directory.exists():
        raise ConfigurationError(f"{directory} exists; name a new directory")
    directory.mkdir(parents=True)
    chain = Chain(
        name=beacon_server.NAME,
        scheme=Scheme.LOCAL_DEV,
        public_key=keys.create(directory / "beacon.key").public.hex(),
        genesis_time_s=int(time.time()),
        period_s=arguments.period,
    )
    path = write(directory / "chain.json", encode(chain) + b"\n")
    print(encode(chain).decode() if arguments.json else f"made {path}; {describe(chain)}")
    return 0
