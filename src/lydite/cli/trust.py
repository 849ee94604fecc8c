"""``lydite trust``: writes down whom a relying party trusts. Fetches nothing."""

import argparse
from pathlib import Path

from lydite.appraisal import policy, references
from lydite.appraisal.trust import Anchor, Trust
from lydite.cli.files import read, read_message, write
from lydite.errors import ConfigurationError, FormatError, LyditeError, VerificationError
from lydite.messages.canonical import decode, encode
from lydite.sampling import beacon
from lydite.sampling.beacon import Chain

_CHAINS = {"drand": beacon.LEAGUE_OF_ENTROPY, "quicknet": beacon.QUICKNET}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite trust``."""
    parser.add_argument(
        "anchors", nargs="+", type=Path, metavar="ANCHOR", help="anchor.json of each provider"
    )
    parser.add_argument("--auditor", action="append", required=True, help="public key in hex")
    parser.add_argument(
        "--reference",
        type=Path,
        action="append",
        required=True,
        help="a Reference Value's file, one for each kind of evidence",
    )
    parser.add_argument(
        "--witnesses", type=Path, required=True, help="tlog-policy without log line"
    )
    parser.add_argument(
        "--beacon", required=True, help="drand, quicknet, or a file with another chain"
    )
    parser.add_argument("--policy", type=Path, help="the appraisal policy (default: built in)")
    parser.add_argument("--out", type=Path, help="a new file to write (default: print it)")
    parser.add_argument("--json", action="store_true", help="the same: the file is JSON anyway")


def run(arguments: argparse.Namespace) -> int:
    """Print or write a trust file made of what was named."""
    try:
        rules = policy.DEFAULT
        if arguments.policy is not None:
            rules = policy.parse(read_message(arguments.policy))
        known = [references.parse(read_message(path)) for path in arguments.reference]
        references.check_set(known)
        anchors = tuple(decode(read_message(path), Anchor) for path in arguments.anchors)
        made = Trust(
            policy=policy.digest(rules),
            references=references.digests(known),
            auditors=tuple(arguments.auditor),
            beacon=_chain(arguments.beacon),
            witnesses=read(arguments.witnesses).decode(),
            providers=anchors,
        )
        _check(made)
    except (FormatError, VerificationError, UnicodeDecodeError) as error:
        raise ConfigurationError(str(error)) from error
    if arguments.out is None:
        print(encode(made).decode())
    else:
        write(arguments.out, encode(made) + b"\n")
    return 0


def _chain(name: str) -> Chain:
    return _CHAINS.get(name) or decode(read_message(Path(name)), Chain)


def _check(made: Trust) -> None:
    """Refuse a trust file that could never be met, before anybody relies on it."""
    try:
        decode(encode(made), Trust)
        for anchor in made.providers:
            made.log_policy(anchor)
        made.auditor_keys()
    except (LyditeError, ValueError) as error:
        raise ConfigurationError(f"the trust file cannot be used: {error}") from error
