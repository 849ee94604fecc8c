"""``lydite meter``: weighs every answer of a gateway and tells it what each can carry out."""

import argparse
import json
import sys
from pathlib import Path

from lydite import config
from lydite.auditor import meter
from lydite.auditor.gateway_client import GatewayClient
from lydite.auditor.settings import Meter as Settings
from lydite.cli.files import read_message
from lydite.cli.patience import before_hashing
from lydite.engines.weights import check_root
from lydite.errors import ConfigurationError
from lydite.evidence.egress import reference as references
from lydite.messages.plain import plain
from lydite.signing import keys


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite meter``."""
    steps = parser.add_subparsers(dest="step", metavar="STEP", required=True)
    init = steps.add_parser("init", help="make the meter's key and print the public one")
    init.add_argument("key", type=Path, metavar="KEY", help="a new file")
    work = steps.add_parser("run", help="score answers until told to stop")
    work.add_argument("config", type=Path, metavar="FILE", help="settings, TOML or JSON")
    work.add_argument("--once", action="store_true", help="score what waits now, then end")
    for each in (init, work):
        each.add_argument("--json", action="store_true", help="print JSON objects")


def run(arguments: argparse.Namespace) -> int:
    """Make a key, or score answers until told to stop."""
    if arguments.step == "init":
        public = keys.create(arguments.key).public.hex()
        print(json.dumps({"public_key": public}) if arguments.json else public)
        return 0
    settings = config.load(arguments.config, Settings)
    meters = _meters(settings)
    for line in meter.work(meters, settings.poll_ms / 1000, once=arguments.once):
        print(plain(line), file=sys.stderr, flush=True)
    if arguments.json:
        found = {
            name: {
                "tokens": each.tokens,
                "skipped": {reason.value: count for reason, count in each.skipped.items()},
            }
            for name, each in meters
        }
        print(json.dumps(found))
    return 0


def _meters(settings: Settings) -> list[tuple[str, meter.Meter]]:
    # torch takes seconds to import: not for --help, nor for making a key
    from lydite.engines.transformers_engine import TransformersEngine

    reference = references.parse(read_message(Path(settings.reference)))
    before_hashing(Path(settings.model))
    check_root(Path(settings.model), reference.weights_root)
    signer = keys.load(Path(settings.key))
    engine = TransformersEngine.load(Path(settings.model), settings.dtype, 1)
    scale = meter.Scale(engine, reference)
    kept = None if settings.scores is None else Path(settings.scores)
    made = [
        (
            gateway.provider,
            meter.Meter(GatewayClient(gateway.url, gateway.token), scale, reference, signer, kept),
        )
        for gateway in settings.gateways
    ]
    if not made:
        raise ConfigurationError("the settings name no gateway")
    return made
