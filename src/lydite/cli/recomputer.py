"""``lydite recomputer``: makes the files of a recomputer, and runs it."""

import argparse
import json
from pathlib import Path

from lydite import config
from lydite.auditor import recomputer
from lydite.auditor.settings import Recomputer
from lydite.cli.files import new_directory, write
from lydite.errors import ConfigurationError, FormatError
from lydite.signing import keys, notes

_TEMPLATE = """\
# Where the recomputer listens, and what it keeps. Add trust, models and gateways; then
#   lydite recomputer run {directory}/recomputer.toml
key = "{directory}/recomputer.key"
log_key = "{directory}/log.key"
origin = "{name}"
state = "{directory}/state"
bundles = "{directory}/bundles"
port = {port}
trust = "{trust}"
mode = "{mode}"

# [[models]]
# directory = "models/lydite-base"
# references = ["data/reference/tokens/lydite-base.json"]
#
# [[gateways]]
# provider = "its name in the trust file"
# url = "http://127.0.0.1:8088"
# token = "the audit_token of its settings"
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite recomputer``."""
    steps = parser.add_subparsers(dest="step", metavar="STEP", required=True)
    summaries = {
        "init": "make a directory with keys and settings to complete",
        "run": "route, recompute, and act on what is found, until told to stop",
    }
    init, start = (
        steps.add_parser(name, help=text, description=text) for name, text in summaries.items()
    )
    init.add_argument("directory", type=Path, metavar="DIR", help="a new directory")
    init.add_argument("--name", required=True, help="origin of the recomputer's own log")
    init.add_argument("--trust", default="trust.json", help="its trust file")
    init.add_argument("--port", type=int, default=8090, help="where to listen")
    init.add_argument(
        "--enforce", action="store_true", help="act on accusations, not only say what would be done"
    )
    start.add_argument("config", type=Path, metavar="FILE", help="settings, TOML or JSON")
    for each in (init, start):
        each.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Make a recomputer's files, or run it until told to stop."""
    if arguments.step == "init":
        return _init(arguments)
    return recomputer.serve(config.load(arguments.config, Recomputer))


def _init(arguments: argparse.Namespace) -> int:
    directory: Path = arguments.directory
    fields = {name: str(getattr(arguments, name)) for name in ("directory", "name", "trust")}
    if any(set(text) & {'"', "\\", "\n"} for text in fields.values()):
        raise ConfigurationError("a name or path has a quote, backslash or newline in it")
    mode = "enforce" if arguments.enforce else "shadow"
    with new_directory(directory) as place:
        signer = keys.create(place / "recomputer.key")
        log = keys.create(place / "log.key")
        try:
            vkey = str(notes.verifier_key(arguments.name, log))
        except FormatError as error:
            raise ConfigurationError(f"--name {arguments.name!r}: {error}") from error
        text = _TEMPLATE.format(**fields, port=arguments.port, mode=mode)
        write(place / "recomputer.toml", text.encode(), secret=True)
    if arguments.json:
        print(json.dumps({"public_key": signer.public.hex(), "log": vkey}))
        return 0
    print(signer.public.hex())
    return 0
