"""The steps of ``lydite gateway`` about weights: sign a model for a whitelist, upload one."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from lydite.cli.files import new_directory, read
from lydite.cli.patience import Bar, before_hashing
from lydite.engines.weights import ALGORITHMS
from lydite.gateway.modes import bundles
from lydite.gateway.modes.sending import Outcome, send
from lydite.messages.plain import plain
from lydite.messages.tier import Tier


def add_steps(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``sign`` and ``upload`` with their arguments."""
    text = "sign a model directory, so that a gateway's whitelist can name it"
    signing = commands.add_parser("sign", help=text, description=text)
    signing.add_argument("model", type=Path, metavar="DIR", help="the model directory")
    signing.add_argument(
        "--key", type=Path, required=True, help="private EC key in PEM; see --new-key"
    )
    signing.add_argument("--new-key", action="store_true", help="make the key first")
    signing.add_argument("--out", type=Path, required=True, help="a new directory for the result")
    text = "upload a model directory to a gateway and say what became of it"
    upload = commands.add_parser("upload", help=text, description=text)
    upload.add_argument("model", type=Path, metavar="DIR", help="the model directory")
    upload.add_argument("--to", required=True, metavar="URL", help="the gateway's upload port")
    upload.add_argument("--token-file", type=Path, help="file with the uploader's bearer token")
    upload.add_argument("--ca-file", type=Path, help="PEM file of whose certificates count")
    for each in (signing, upload):
        each.add_argument(
            "--hash", default="sha256", choices=ALGORITHMS, help="what digests files are made with"
        )
        each.add_argument("--json", action="store_true", help="print one JSON object")


def sign(arguments: argparse.Namespace) -> int:
    """Write model signature, layout and public key into a new directory."""
    with new_directory(arguments.out) as place:
        before_hashing(arguments.model)
        if arguments.new_key:
            bundles.create_key(arguments.key)
        listed = bundles.sign(arguments.model, arguments.key, place, arguments.hash)
    if arguments.json:
        print(msgspec.json.encode({"weightsRoot": listed.root, "size": listed.size}).decode())
    else:
        print(f"signed {arguments.model}: weights {listed.root}, {listed.size} bytes")
        print(f"settings of a gateway name {arguments.out}/ in modes.whitelist, and signer.pem")
        print("in it, or a copy of your own, in modes.signing_keys")
    return 0


def upload(arguments: argparse.Namespace) -> int:
    """Send a model, with a bar where somebody looks; exit 0 only if it is served now."""
    token = None
    if arguments.token_file is not None:
        token = read(arguments.token_file).decode("ascii", "replace").strip()
    before_hashing(arguments.model)
    outcome = send(
        arguments.model,
        arguments.to,
        algorithm=arguments.hash,
        token=token,
        ca_file=arguments.ca_file,
        progress=_bar() if sys.stderr.isatty() else _nothing,
    )
    if arguments.json:
        print(msgspec.json.encode({**outcome._asdict(), "serving": outcome.serving}).decode())
    elif outcome.serving:
        size = f"{outcome.size / 1e6:,.1f} MB"
        print(f"serving: {size} uploaded, checked and loaded in {outcome.seconds:.1f} s")
    else:
        print(plain(f"not served: {outcome.message} ({outcome.reason})"))
    return _exit_code(outcome)


def _exit_code(outcome: Outcome) -> int:
    if outcome.serving:
        return Tier.AFFIRMING.exit_code
    refused = outcome.reason in {"wrong-weights", "wrong-length", "not-listed"}
    return (Tier.CONTRAINDICATED if refused else Tier.NONE).exit_code


def _nothing(_done: int, _size: int) -> None:
    return


def _bar() -> Callable[[int, int], None]:
    bar: Bar | None = None

    def show(done: int, size: int) -> None:
        nonlocal bar
        bar = bar or Bar(size)
        bar.show(done, f"{done / 1e6:,.0f} MB")
        if done == size:
            bar.end()

    return show
