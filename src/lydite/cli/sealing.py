"""``lydite gateway seal`` and ``measure``: what ties a gateway to one machine in one condition."""

import argparse
import json

from lydite import config
from lydite.gateway import settings
from lydite.gateway.sealing import enrolling, measured


def seal(arguments: argparse.Namespace) -> int:
    """Seal a gateway's keys and state to the device that its settings name."""
    public = enrolling.enrol(config.load(arguments.config, settings.Settings))
    if arguments.json:
        print(json.dumps({"keys": public}, sort_keys=True))
    else:
        print("sealed; from now on the keys open on this machine alone, in this condition alone.")
        print("There is no other copy: if the machine is lost, so is the gateway's identity.")
    return 0


def measure(arguments: argparse.Namespace) -> int:
    """Print what administrators sign before a gateway may be replaced by this one."""
    found = measured.measure(config.load(arguments.config, settings.Settings))
    digest = found.digest().hex()
    if arguments.json:
        print(json.dumps({"files": len(found.files), "measurement": digest}, sort_keys=True))
    else:
        print(f"{digest}  {len(found.files)} files and {arguments.config}")
    return 0
