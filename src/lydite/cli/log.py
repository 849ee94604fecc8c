"""``lydite log``: read a gateway's transparency log, prove and check entries."""

import argparse
import collections
import json
from pathlib import Path

import msgspec

from lydite import config
from lydite.appraisal import story
from lydite.appraisal.authority import Authority
from lydite.appraisal.story import Reader
from lydite.appraisal.trust import Anchor, Trust
from lydite.auditor.gateway_client import GatewayClient
from lydite.auditor.mirror import Mirror
from lydite.cli.files import read, read_message
from lydite.cli.reports import add_trust, load_trust
from lydite.errors import ConfigurationError, FormatError, VerificationError
from lydite.messages import entry
from lydite.messages.plain import plain
from lydite.signing import notes
from lydite.tlog import checkpoint
from lydite.tlog import proof as proofs
from lydite.tlog.hashing import leaf_hash
from lydite.tlog.proof import Proof


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lydite log``."""
    steps = parser.add_subparsers(dest="step", metavar="STEP", required=True)
    summaries = {
        "status": "say what a log's newest checkpoint says; check nothing",
        "mirror": "fetch every entry and recompute the witnessed root",
        "story": "fetch and check every statement, and tell what happened",
        "prove": "print the .tlog-proof file of one entry",
        "check": "check a .tlog-proof file against an entry's bytes",
    }
    status, mirror, story, prove, check = (
        steps.add_parser(name, help=text, description=text) for name, text in summaries.items()
    )
    for each in (status, mirror, story, prove):
        each.add_argument("url", metavar="URL", help="the gateway")
    for each in (mirror, story, prove, check):
        add_trust(each)
        each.add_argument("--provider", help="its name in the trust file (default: the only one)")
    story.add_argument("--authority", type=Path, help="file with the gateway's admin section")
    prove.add_argument("entry", type=int, metavar="N", help="1-based number of the entry")
    check.add_argument("proof", type=Path, metavar="PROOF", help="the .tlog-proof file")
    check.add_argument("leaf", type=Path, metavar="LEAF", help="file with the entry's bytes")
    for each in (status, mirror, story, prove, check):
        each.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Run one step."""
    steps = {
        "status": _status,
        "mirror": _mirror,
        "story": _story,
        "prove": _prove,
        "check": _check,
    }
    return steps[arguments.step](arguments)


def _status(arguments: argparse.Namespace) -> int:
    note = notes.parse(GatewayClient(arguments.url, "").checkpoint())
    said = checkpoint.parse(note.text)
    fields = {
        "origin": said.origin,
        "size": said.size,
        "root": said.root.hex(),
        "signatures": [signature.name for signature in note.signatures],
        "checked": False,
    }
    _say(fields, arguments, "nothing here is checked; `lydite log mirror` does")
    return 0


def _mirror(arguments: argparse.Namespace) -> int:
    mirror = _synced(arguments)
    kinds = collections.Counter(entry.parse(leaf).kind for leaf in mirror.leaves)
    head = mirror.checkpoint
    assert head is not None
    fields: dict[str, object] = {"origin": head.origin, "size": head.size, "root": head.root.hex()}
    fields.update({str(kind): count for kind, count in kinds.items()})
    _say(fields, arguments, "every entry fetched, and they give the witnessed root")
    return 0


class _Governed(msgspec.Struct):
    """Of a gateway's settings, who its officers are."""

    admin: Authority


def _story(arguments: argparse.Namespace) -> int:
    """Tell each entry but receipts, which are counted: there are too many, and they say little."""
    trust = load_trust(arguments.trust)
    anchor = _anchor(trust, arguments.provider)
    authority = None
    if arguments.authority is not None:
        authority = config.load(arguments.authority, _Governed).admin
    client, reader = GatewayClient(arguments.url, ""), Reader(anchor, trust, authority)
    mirror = _synced(arguments)
    lines, answers, strangers = [], 0, 0
    for number in range(1, mirror.size + 1):
        leaf = mirror.entry(number)
        if leaf.kind == "receipt":
            answers += 1
            continue
        envelope = client.envelope(number)
        try:
            line = story.tell(number, leaf, envelope, reader)
        except (FormatError, VerificationError) as error:
            line = story.untold(number, leaf, error)
        strangers += line.signer == "unknown"
        lines.append(line)
    if arguments.json:
        told = {"answers": answers, "strangers": strangers, "lines": lines}
        print(msgspec.json.encode(told).decode())
    else:
        for line in lines:
            print(f"{line.entry:>6}  {line.time:<24}  {line.signer:<10}  {line.text}")
        print(f"{answers} answers besides; every entry is in the witnessed log")
    if strangers and not arguments.json:
        print(f"{strangers} by signers whom you do not know; --authority names officers")
    return 1 if strangers else 0


def _prove(arguments: argparse.Namespace) -> int:
    mirror = _synced(arguments)
    if not 1 <= arguments.entry <= mirror.size:
        raise ConfigurationError(f"entry {arguments.entry} is not in the log at {mirror.size}")
    index = arguments.entry - 1
    path = tuple(mirror.tree.inclusion_proof(index, mirror.size))
    text = Proof(index=index, path=path, note=notes.parse(mirror.note)).encode().decode()
    leaf = mirror.leaves[index].decode()
    if arguments.json:
        print(json.dumps({"entry": arguments.entry, "leaf": leaf, "proof": text}))
    else:
        print(text, end="")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    trust = load_trust(arguments.trust)
    proof = proofs.parse(read(arguments.proof))
    policy = trust.log_policy(_anchor(trust, arguments.provider))
    accepted = proofs.verify(proof, leaf_hash(read_message(arguments.leaf)), policy)
    fields = {
        "entry": proof.index + 1,
        "size": accepted.checkpoint.size,
        "witnesses": list(accepted.witnesses),
    }
    _say(fields, arguments, "the entry is in the witnessed log")
    return 0


def _synced(arguments: argparse.Namespace) -> Mirror:
    trust = load_trust(arguments.trust)
    anchor = _anchor(trust, arguments.provider)
    mirror = Mirror(GatewayClient(arguments.url, ""), trust.log_policy(anchor))
    mirror.sync()
    return mirror


def _anchor(trust: Trust, name: str | None) -> Anchor:
    found = [anchor for anchor in trust.providers if name in {None, anchor.name}]
    if len(found) != 1:
        known = ", ".join(anchor.name for anchor in trust.providers)
        raise ConfigurationError(f"name one provider with --provider: {known}")
    return found[0]


def _say(fields: dict[str, object], arguments: argparse.Namespace, summary: str) -> None:
    if arguments.json:
        print(json.dumps(fields))
        return
    print("\n".join(plain(f"{name}: {value}") for name, value in fields.items()))
    print(summary)
