"""``lydite attest``: what a machine's TPM, its boot and its files amount to, offline."""

import argparse
import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from lydite.cli.files import read, read_message
from lydite.errors import ConfigurationError, FormatError, Refusal
from lydite.evidence.tpm import boot, checkpoint, claims, policies, refstate, verifier
from lydite.evidence.tpm import reference as references
from lydite.evidence.tpm.checkpoint import Checkpoint
from lydite.evidence.tpm.judge import Stranger
from lydite.evidence.tpm.policies import Policies
from lydite.messages.canonical import decode, encode
from lydite.messages.finding import Finding
from lydite.messages.nonce import Issued
from lydite.messages.plain import plain
from lydite.messages.tier import Tier

_SUMMARIES = {
    "check": "appraise a machine's evidence under a Reference Value",
    "explain": "the same, and where it departs: the first event or file, expected against got",
    "boot": "read a boot log: what it measured, as a reference state, or against a good one",
}
LIMITS = (
    "physical attacks on TPM or bus are out of scope",
    "the list of files sees what is loaded, not what memory becomes",
    "a machine with a TPM and no more lets its operator see its memory",
    "fresh only as of the nonce",
)
"""Printed with every result."""
_MARKS = {"affirming": "✔", "contraindicated": "✘", "warning": "!", "none": "?"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite attest``."""
    steps = parser.add_subparsers(dest="step", metavar="STEP", required=True)
    made = {
        name: steps.add_parser(name, help=text, description=text)
        for name, text in _SUMMARIES.items()
    }
    for name in ("check", "explain"):
        step = made[name]
        step.add_argument("FILE", type=Path, help="evidence, as the attester wrote it")
        for option, text in (
            ("--reference", "the Reference Value of this machine"),
            ("--challenge", "the challenge that was issued to it"),
        ):
            step.add_argument(option, type=Path, metavar="FILE", required=True, help=text)
        step.add_argument(
            "--policy",
            type=Path,
            metavar="FILE",
            action="append",
            default=[],
            help="a runtime policy or reference state that the Reference Value names; may repeat",
        )
        step.add_argument(
            "--checkpoint", type=Path, metavar="FILE", help="what the last appraisal left"
        )
        step.add_argument(
            "--save", type=Path, metavar="FILE", help="a file for this appraisal's checkpoint"
        )
        step.add_argument(
            "--at", type=int, metavar="SECONDS", help="the time to appraise at (default: now)"
        )
    made["boot"].add_argument("LOG", type=Path, help="a boot log, binary")
    made["boot"].add_argument("--against", type=Path, metavar="LOG", help="a good boot's log")
    for each in made.values():
        each.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Appraise or read, print, and return the exit code of the tier."""
    if arguments.step == "boot":
        return _boot(arguments)
    return _appraise(arguments)


def _appraise(arguments: argparse.Namespace) -> int:
    now_s = int(time.time()) if arguments.at is None else arguments.at
    known = _policies(arguments, now_s)
    issued = decode(read_message(arguments.challenge), Issued)
    last = None
    if arguments.checkpoint is not None:
        last = checkpoint.parse(read_message(arguments.checkpoint))
    refusal, strangers = None, tuple[Stranger, ...]()
    try:
        evidence = claims.parse(read(arguments.FILE))
        found = verifier.appraise(evidence, known, issued, now_s, last)
        finding, strangers = found.finding, found.strangers
        _save(arguments.save, found.checkpoint)
    except Refusal as error:
        refusal, finding = error, verifier.refused(error, known)
    document = _document(finding, refusal, strangers, last, now_s)
    explained = arguments.step == "explain"
    print(json.dumps(document) if arguments.json else _text(document, explained))
    return finding.tier.exit_code


def _policies(arguments: argparse.Namespace, now_s: int) -> Policies:
    try:
        reference = references.parse(read_message(arguments.reference))
        contents = [read(path) for path in arguments.policy]
        documents = {hashlib.sha256(content).hexdigest(): content for content in contents}
        return policies.prepare(reference, documents, now_s)
    except (FormatError, Refusal) as error:
        raise ConfigurationError(
            f"what is expected of the machine: {error}", error.reason
        ) from error


def _save(path: Path | None, after: Checkpoint) -> None:
    if path is None:
        return
    try:
        path.write_bytes(encode(after) + b"\n")
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error


def _document(
    finding: Finding,
    refusal: Refusal | None,
    strangers: Sequence[Stranger],
    last: Checkpoint | None,
    now_s: int,
) -> dict[str, Any]:
    where = {"where": "", "expected": "", "got": ""}
    if refusal is not None:
        where = {"where": refusal.where, "expected": refusal.expected, "got": refusal.got}
    return {
        "tier": finding.tier.value,
        "reason": finding.reason.value,
        **where,
        "reference": finding.reference,
        "measures": {each.name: each.values[0] for each in finding.measures},
        "strangers": [stranger._asdict() for stranger in strangers],
        "stale_s": 0 if last is None else checkpoint.stale_s(last, now_s),
        "limits": LIMITS,
    }


def _text(document: dict[str, Any], explained: bool) -> str:
    tier = Tier(document["tier"])
    lines = [f"{_MARKS[tier.value]} {tier.words}: {document['reason']}"]
    if document["where"]:
        lines.append(f"  at {document['where']}")
        lines += [f"  {word} {document[word]}" for word in ("expected", "got") if document[word]]
    if document["stale_s"]:
        lines.append(f"  the last appraisal is overdue by {document['stale_s']} s")
    shown = document["strangers"] if explained else document["strangers"][:1]
    for each in shown:
        expected = " or ".join(each["expected"]) or "no such file"
        lines.append(f"  entry {each['number']} {each['name']}")
        lines.append(f"    expected {expected}")
        lines.append(f"    got {each['got']}")
    if explained:
        lines += [f"  {name}: {value}" for name, value in document["measures"].items()]
    lines.append("  does not show:")
    lines += [f"    - {limit}" for limit in document["limits"]]
    return "\n".join(plain(line) for line in lines)


def _boot(arguments: argparse.Namespace) -> int:
    log = boot.parse(read(arguments.LOG))
    if arguments.against is None:
        state = refstate.describe(log)
        text = msgspec.json.format(msgspec.json.encode(state)).decode()
        print(msgspec.json.encode(state).decode() if arguments.json else text)
        return 0
    good = boot.parse(read(arguments.against))
    banks = [bank for bank in log.banks if bank in good.banks and bank != "sha1"]
    event, expected = boot.departs(log, good, (banks or ["sha1"])[0])
    document = {"got": _event(event), "expected": _event(expected)}
    same = event is None and expected is None
    lines = ["the same"] if same else [f"{word} {document[word] or 'nothing'}" for word in document]
    print(json.dumps(document) if arguments.json else "\n".join(map(plain, lines)))
    return 0 if same else 1


def _event(event: boot.Event | None) -> str:
    if event is None:
        return ""
    text = event.data.decode("utf-8", "replace").rstrip("\0")
    shown = text if text.isprintable() else event.data[:40].hex()
    return f"{event.where}: {shown}"
