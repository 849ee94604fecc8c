"""``lydite admin``: officers write, agree to and send instructions to a gateway."""

import argparse
import hashlib
import secrets
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from lydite.appraisal.trust import Anchor
from lydite.auditor.gateway_client import GatewayClient
from lydite.auditor.ordering import outcome_of
from lydite.cli.files import read, read_message, write
from lydite.errors import (
    ConfigurationError,
    FormatError,
    Reason,
    UnavailableError,
    VerificationError,
)
from lydite.messages import instruction
from lydite.messages.canonical import decode, encode
from lydite.messages.instruction import Instruction, InstructionPredicate
from lydite.messages.plain import plain
from lydite.messages.statement import subject
from lydite.messages.tier import Tier
from lydite.signing import keys, notes
from lydite.signing.dsse import Envelope, key_id, payload_of
from lydite.signing.keys import Signer, sign_envelope

_TIMEOUT_S = 120.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite admin``."""
    commands = parser.add_subparsers(dest="step", metavar="STEP", required=True)
    summaries = {
        "key": "make an officer's key, and print what goes into the authority",
        "order": "write an instruction and sign it as its first officer",
        "agree": "show an instruction, ask you, and add your signature to it",
        "show": "say what an instruction orders, and how many signed it",
        "send": "give an instruction to its gateway, and say what came of it",
    }
    steps = {
        name: commands.add_parser(name, help=text, description=text)
        for name, text in summaries.items()
    }
    steps["key"].add_argument("file", type=Path, metavar="FILE", help="a new key file")
    _configure_order(steps["order"])
    for name in ("agree", "show", "send"):
        steps[name].add_argument("file", type=Path, metavar="FILE", help="the instruction")
    steps["agree"].add_argument("--key", type=Path, required=True, help="your key file")
    steps["agree"].add_argument("--yes", action="store_true", help="sign without asking")
    steps["send"].add_argument(
        "--anchor", type=Path, required=True, help="the gateway's anchor.json"
    )
    steps["send"].add_argument("--to", required=True, help="the gateway's control port, a URL")
    for each in steps.values():
        each.add_argument("--json", action="store_true", help="print one JSON object")


def _configure_order(order: argparse.ArgumentParser) -> None:
    order.add_argument(
        "action",
        metavar="ACTION",
        help="what to do: " + ", ".join(instruction.ACTIONS),
    )
    order.add_argument("--anchor", type=Path, required=True, help="the gateway's anchor.json")
    order.add_argument("--key", type=Path, required=True, help="your key file")
    order.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an argument of the action; NAME=@FILE takes a file's content",
    )
    order.add_argument("--why", required=True, help="the reason, for those who read the log")
    order.add_argument("--valid-s", type=int, default=3600, help="seconds for which it is good")
    order.add_argument("--dry-run", action="store_true", help="ask only what would happen")
    order.add_argument("--out", type=Path, required=True, help="where to write it")


def run(arguments: argparse.Namespace) -> int:
    """Carry out one step."""
    steps = {"key": _key, "order": _order, "agree": _agree, "show": _show, "send": _send}
    return steps[arguments.step](arguments)


def _key(arguments: argparse.Namespace) -> int:
    public = keys.create(arguments.file).public.hex()
    print(msgspec.json.encode({"key": public}).decode() if arguments.json else public)
    return 0


def _order(arguments: argparse.Namespace) -> int:
    if arguments.action not in instruction.ACTIONS:
        known = ", ".join(instruction.ACTIONS)
        raise ConfigurationError(
            f"no gateway knows the action {arguments.action!r}; known: {known}"
        )
    anchor = decode(read_message(arguments.anchor), Anchor)
    _check_text(arguments.why, *arguments.set)
    now_s = int(time.time())
    made = Instruction(
        subject=subject("log", _digest(notes.parse_key(anchor.log_vkey).name)),
        predicate=InstructionPredicate(
            action=arguments.action,
            arguments=dict(_argument(each) for each in arguments.set),
            dry_run=arguments.dry_run,
            expires=_timestamp(now_s + arguments.valid_s),
            gateway=key_id(anchor.gateway_public),
            issued=_timestamp(now_s),
            nonce=secrets.token_hex(32),
            why=arguments.why,
        ),
    )
    try:
        statement = encode(instruction.parse(encode(made)))
    except FormatError as error:
        raise ConfigurationError(str(error)) from error
    write(arguments.out, sign_envelope(statement, keys.load(arguments.key)) + b"\n")
    return _tell(made, 1, arguments)


def _agree(arguments: argparse.Namespace) -> int:
    envelope, made = _read(arguments.file)
    signer: Signer = keys.load(arguments.key)
    if signer.keyid in {each.keyid for each in envelope.signatures}:
        raise ConfigurationError(f"{arguments.key} has signed {arguments.file} already")
    _tell(made, len(envelope.signatures), arguments)
    if not arguments.yes:
        _ask(arguments.file)
    added = decode(sign_envelope(payload_of(envelope), signer), Envelope).signatures[0]
    signed = msgspec.structs.replace(envelope, signatures=(*envelope.signatures, added))
    arguments.file.write_bytes(encode(signed) + b"\n")
    if not arguments.json:
        print("  and by you")
    return 0


def _ask(file: Path) -> None:
    """Ask whoever sits there whether to sign what was shown.

    Raises:
        ConfigurationError: the answer is not yes, or nobody answers.
    """
    print("sign this? [y/N] ", end="", file=sys.stderr, flush=True)
    said = sys.stdin.readline().strip().lower()
    if said not in {"y", "yes"}:
        raise ConfigurationError(f"{file} is not signed; say y, or give --yes")


def _show(arguments: argparse.Namespace) -> int:
    envelope, made = _read(arguments.file)
    return _tell(made, len(envelope.signatures), arguments)


def _send(arguments: argparse.Namespace) -> int:
    envelope, made = _read(arguments.file)
    anchor = decode(read_message(arguments.anchor), Anchor)
    if made.predicate.gateway != key_id(anchor.gateway_public):
        raise ConfigurationError(
            f"{arguments.file} is for {made.predicate.gateway}, not for the gateway of "
            f"{arguments.anchor}"
        )
    client = GatewayClient(arguments.to, "", timeout_s=_TIMEOUT_S)
    try:
        answer = client.instruct(encode(envelope))
    except UnavailableError as error:
        if error.reason is Reason.UNAVAILABLE:
            raise
        raise VerificationError(error.reason, str(error)) from error
    outcome = outcome_of(answer, payload_of(envelope), anchor)
    if arguments.json:
        print(encode(outcome).decode())
    else:
        said = f"{outcome.action}: {outcome.ending}, entry {outcome.entry}: {outcome.detail}"
        print(plain(said))
    done = outcome.ending in {"done", "would-do"}
    return (Tier.AFFIRMING if done else Tier.CONTRAINDICATED).exit_code


def _read(path: Path) -> tuple[Envelope, Instruction]:
    envelope = decode(read_message(path), Envelope)
    return envelope, instruction.parse(payload_of(envelope))


def _tell(made: Instruction, signatures: int, arguments: argparse.Namespace) -> int:
    said = made.predicate
    if arguments.json:
        print(encode(said).decode())
        return 0
    mode = " (dry run)" if said.dry_run else ""
    head = f"{said.action}{mode} at gateway {said.gateway}, until {said.expires}: {said.why}"
    for line in (head, *(f"  {name} = {value}" for name, value in said.arguments.items())):
        print(plain(line))
    print(f"  signed by {signatures}")
    return 0


def _argument(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigurationError(f"--set {text!r} is not NAME=VALUE")
    if value.startswith("@"):
        try:
            return name, read(Path(value[1:])).decode()
        except UnicodeDecodeError as error:
            raise ConfigurationError(f"--set {name}: {value[1:]} is not text") from error
    return name, value


def _check_text(*words: str) -> None:
    try:
        "".join(words).encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError("--why and --set take text in UTF-8") from error


def _digest(origin: str) -> bytes:
    return hashlib.sha256(origin.encode()).digest()


def _timestamp(time_s: int) -> str:
    try:
        return datetime.fromtimestamp(time_s, UTC).isoformat()[:19] + ".000Z"
    except (ValueError, OverflowError, OSError) as error:
        raise ConfigurationError(f"--valid-s ends at no time that there is: {error}") from error
