"""``lydite passport``: measures how a stack computes, merges what was measured, and shows it."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from lydite.cli import passport_tables as tables
from lydite.cli.files import new, read, read_message, write
from lydite.cli.patience import Bar
from lydite.errors import ConfigurationError, FormatError, LyditeError, UnavailableError
from lydite.messages import passport as passports
from lydite.messages.canonical import encode
from lydite.messages.declaration import SAMPLERS
from lydite.messages.passport import Passport
from lydite.numerics import merging, sketch_merging
from lydite.signing import keys
from lydite.signing.dsse import KeyId, PublicKey, key_id, open_envelope
from lydite.signing.keys import sign_envelope

REPORT = "report.json"
"""What a self-check writes beside the candidate that it leaves."""
_UNKNOWN = "unknown"
_DOUBTFUL = ("outside", "underpowered", _UNKNOWN)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the steps of ``lydite passport``."""
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")
    _make(steps.add_parser("make", help="measure a stack and sign what was counted"))
    _merge(steps.add_parser("merge", help="make one Reference Value of several passports"))
    _show(steps.add_parser("show", help="say what a passport holds, and draw it"))
    endorse = steps.add_parser("endorse", help="sign a candidate after measuring it again")
    endorse.add_argument("candidate", type=Path, metavar="CANDIDATE", help="an unsigned passport")
    endorse.add_argument("--key", type=Path, required=True, help="of a verifier: who stands for it")
    endorse.add_argument("--out", type=Path, required=True, help="a new file to write")
    endorse.add_argument(
        "--although",
        choices=_DOUBTFUL,
        help=f"sign what a self-check found to be so, or what has no {REPORT} beside it",
    )
    endorse.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Run one step."""
    step = {"make": _run_make, "merge": _run_merge, "show": _run_show, "endorse": _run_endorse}
    return step[arguments.step](arguments)


def signers(public_keys: Sequence[str]) -> dict[KeyId, PublicKey]:
    """Return accepted signers by key id, from public keys in hexadecimal.

    Raises:
        ConfigurationError: one is no Ed25519 public key.
    """
    try:
        raw = [PublicKey(bytes.fromhex(key)) for key in public_keys]
    except ValueError as error:
        raise ConfigurationError(f"a signer's key is not hexadecimal: {error}") from error
    if any(len(key) != 32 for key in raw):
        raise ConfigurationError("a signer's key has 32 bytes, 64 hexadecimal digits")
    return {key_id(key): key for key in raw}


def signed(path: Path) -> bytes:
    """Return the envelope in a file.

    Raises:
        FormatError: it holds a candidate, which nobody has signed.
    """
    content = read_message(path)
    try:
        passports.parse(content)
    except LyditeError:  # as it should be: an envelope, which whoever opens it checks
        return content
    raise FormatError(f"{path} is not signed yet; see `lydite passport endorse`")


def add_stack(parser: argparse.ArgumentParser) -> None:
    """Add what says how a model is run: in this process, or, in words, behind a URL."""
    parser.add_argument("--served", help="the model's name at the URL, if it has several")
    parser.add_argument("--dtype", default="bf16", help="bf16 or fp32; behind a URL any word")
    parser.add_argument("--batch", type=int, default=16, help="answers decoded together")
    parser.add_argument("--threads", type=int, default=1, help="processor threads for the model")
    parser.add_argument(
        "--attention", choices=["sdpa", "eager"], default="sdpa", help="kernels, in this process"
    )
    remote = parser.add_argument_group("the stack behind a URL, in words")
    for word in ("engine", "version", "kernels", "architecture", "parallelism", "decoding"):
        remote.add_argument(f"--{word}", default="unknown", help=f"its {word}")
    remote.add_argument("--cache-dtype", default="unknown", help="of its key-value cache")
    remote.add_argument(
        "--sampler", choices=SAMPLERS, default="lydite/v1", help="its noise adapter"
    )


def _make(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, required=True, help="the model's directory")
    parser.add_argument("--prompts", type=Path, required=True, help="JSON list of prompts")
    parser.add_argument("--key", type=Path, required=True, help="of a verifier: signs the passport")
    parser.add_argument("--out", type=Path, required=True, help="a new file to write")
    parser.add_argument("--answers", type=int, default=400, help="how many are asked for")
    parser.add_argument("--days", type=int, default=90, help="until the passport expires")
    parser.add_argument("--cheat", help="measure this cheat of the laboratory instead, for power")
    parser.add_argument(
        "--beside", type=Path, help="an honest passport, whose stack and noise a cheat takes over"
    )
    parser.add_argument("--url", help="measure the server there; else the model in this process")
    add_stack(parser)
    group = parser.add_argument_group("sketches of activations, scored besides")
    group.add_argument("--sketch", type=int, choices=[2, 4], help="bytes a token")
    group.add_argument("--sketch-delta", help="its step, a decimal, if there is no reference")
    group.add_argument(
        "--sketch-reference", type=Path, help="a Reference Value of activations: whose spec to use"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _merge(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "passports", nargs="+", type=Path, metavar="PASSPORT", help="of honest stacks"
    )
    parser.add_argument(
        "--against",
        nargs="+",
        type=Path,
        default=[],
        metavar="PASSPORT",
        help="of known cheats: how many tokens find them",
    )
    parser.add_argument(
        "--signer", action="append", required=True, help="public key in hex of an accepted maker"
    )
    parser.add_argument("--name", required=True, help="what to call the Reference Value")
    parser.add_argument(
        "--level",
        type=float,
        default=1e-4,
        help="of accusations: how probable a false one may be; sets how many answers it takes",
    )
    parser.add_argument("--out", type=Path, required=True, help="a new file to write")
    parser.add_argument(
        "--sketch-out", type=Path, help="a new file for the Reference Value of their sketches"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _show(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "passports", nargs="+", type=Path, metavar="PASSPORT", help="signed, or candidates"
    )
    parser.add_argument(
        "--signer", action="append", default=[], help="public key in hex; checks signatures"
    )
    parser.add_argument("--plot", type=Path, help="picture to write: PNG, SVG or PDF")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _run_make(arguments: argparse.Namespace) -> int:
    from lydite.cli import passport_making

    new(arguments.out)
    bar = Bar(arguments.answers)
    try:
        made = passport_making.made(
            arguments, lambda done: bar.show(done, f"{done} of {arguments.answers} answers")
        )
    finally:
        bar.end()
    write(arguments.out, sign_envelope(encode(made), keys.load(arguments.key)) + b"\n")
    _print(arguments, tables.described([made]), f"{tables.table([made])}\n{arguments.out}")
    return 0


def _run_merge(arguments: argparse.Namespace) -> int:
    accepted, now_ms = signers(arguments.signer), int(time.time() * 1000)
    honest, cheats = (
        merging.accept(map(signed, paths), accepted, now_ms)
        for paths in (arguments.passports, arguments.against)
    )
    for path in filter(None, (arguments.out, arguments.sketch_out)):
        new(path)
    merged = merging.merge(honest, cheats, arguments.name, arguments.level)
    sketched = sketch_merging.merge(honest, cheats, arguments.name, arguments.level)
    if arguments.sketch_out is not None and sketched.reference is None:
        raise UnavailableError(f"no reference of sketches: {'; '.join(sketched.notes)}")
    write(arguments.out, encode(merged.reference) + b"\n")
    files = [str(arguments.out)]
    if arguments.sketch_out is not None:
        write(arguments.sketch_out, encode(sketched.reference) + b"\n")
        files.append(str(arguments.sketch_out))
    told = "\n".join([tables.steps(merged), *tables.sketched(sketched), *files])
    _print(arguments, tables.widening(merged, sketched), told)
    if not merged.reference.alternatives:
        print("lydite: no cheat was given: nothing can be affirmed by this", file=sys.stderr)
    return 0


def _run_show(arguments: argparse.Namespace) -> int:
    known = [_opened(path, arguments.signer) for path in arguments.passports]
    _print(arguments, tables.described(known), tables.table(known))
    if arguments.plot is not None:
        from lydite.cli.passport_plot import draw

        try:
            draw(known).savefig(arguments.plot, dpi=160)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"cannot write {arguments.plot}: {error}") from error
    return 0


def _run_endorse(arguments: argparse.Namespace) -> int:
    candidate = passports.parse(read_message(arguments.candidate))
    passports.check_current(candidate, int(time.time() * 1000))
    outcome = _outcome(arguments.candidate, candidate)
    if outcome not in ("inside", arguments.although):
        raise ConfigurationError(
            f"the outcome of the self-check that left {arguments.candidate} is {outcome}: measure "
            f"that stack yourself, then sign this with --although {outcome}"
        )
    content = sign_envelope(encode(candidate), keys.load(arguments.key))
    write(arguments.out, content + b"\n")
    print(f"lydite: signed what a self-check found to be {outcome}", file=sys.stderr)
    _print(arguments, tables.described([candidate]), str(arguments.out))
    return 0


def _outcome(path: Path, candidate: Passport) -> str:
    """Return what the report beside a candidate says of it; unknown if that is of another."""
    beside = path.with_name(REPORT)
    if not beside.exists():
        return _UNKNOWN
    try:
        said = msgspec.json.decode(read(beside), type=_Said)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _UNKNOWN
    about_it = said.candidate == passports.digest(candidate)
    return said.outcome if about_it and said.outcome in ("inside", *_DOUBTFUL) else _UNKNOWN


class _Said(msgspec.Struct, frozen=True, kw_only=True):
    """What counts here of a self-check's report."""

    outcome: str
    candidate: str | None = None


def _opened(path: Path, accepted: Sequence[str]) -> Passport:
    """Return a passport: of an accepted signer if any are named, else whoever's it is.

    Raises:
        FormatError, VerificationError: it is none, or not signed by one of them.
    """
    if accepted:
        return passports.parse(open_envelope(signed(path), signers(accepted), ()))
    return passports.parse(tables.payload(read_message(path)))


def _print(arguments: argparse.Namespace, content: object, text: str) -> None:
    print(json.dumps(content) if arguments.json else text)
