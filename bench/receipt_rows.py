"""Rows of ``make bench-log`` for receipts and bundles: made, checked one by one, checked whole.

The peer makes and checks the same statement with the same two keys: rfc8785 for the canonical form
and securesystemslib for the envelope.
"""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import report
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.dsse import Envelope as PeerEnvelope
from securesystemslib.signer import CryptoSigner, SSlibKey
from stopwatch import rate

from lydite.appraisal import receipts as checks
from lydite.gateway.ledger import receipts
from lydite.gateway.ledger.receipts import Draft
from lydite.laboratory.world import PATH, World
from lydite.messages import receipt
from lydite.messages.canonical import encode
from lydite.messages.commitment import Salt, commit_request, commit_response
from lydite.signing import notes
from lydite.signing.dsse import open_envelope
from lydite.signing.keys import Signer
from lydite.tlog.proof import Proof

_PEER = "rfc8785 + securesystemslib"
_RECEIPTS = 2_000


def rows() -> list[report.Row]:
    """Measure everything; takes about ten seconds."""
    world = World()
    world.traffic(60, 64)
    world.judged(500_000)
    bundle = world.bundle()
    served = _served(world, 2)
    checked_ms = 1000 / rate(lambda: [checks.check(served, world.trust) for _ in range(200)], 200)
    whole_s = 1 / rate(lambda: world.verify(bundle), 1)
    return [
        *_made(world),
        report.row("receipt with proof, check", checked_ms, "ms", goal=1, at_most=True),
        report.row("bundle of a demo provider, check", whole_s, "s", goal=2, at_most=True),
        report.row("bundle, bytes an audited receipt", _size(world, bundle), "B"),
    ]


def _made(world: World) -> list[report.Row]:
    draft, stamp = _draft(), world.stamp
    statement = json.loads(encode(receipts.receipt_of(draft, stamp)))
    signers = [_peer_signer(each) for each in (stamp.provider, stamp.gateway)]
    envelope = receipts.seal(draft, stamp)
    peer_envelope = PeerEnvelope.from_dict(json.loads(envelope))
    keys = [signer.public_key for signer in signers]
    world_keys = {s.keyid: s.public for s in (stamp.provider, stamp.gateway)}

    def peer_makes() -> None:
        for _ in range(_RECEIPTS):
            _peer_seal(statement, signers)

    made = rate(lambda: [receipts.seal(draft, stamp) for _ in range(_RECEIPTS)], _RECEIPTS)
    peer_made = rate(peer_makes, _RECEIPTS, runs=2)
    opened = rate(lambda: [_open(envelope, world_keys) for _ in range(_RECEIPTS)], _RECEIPTS)
    peer_opened = rate(
        lambda: [peer_envelope.verify(keys, 2) for _ in range(_RECEIPTS)], _RECEIPTS, runs=2
    )
    return [
        report.row(
            "receipts made, two signatures", made, "1/s", goal=15_000, peer=peer_made,
            peer_name=_PEER,
        ),
        report.row(
            "receipts opened, two signatures", opened, "1/s", peer=peer_opened,
            peer_name="securesystemslib",
        ),
    ]  # fmt: skip


def _open(envelope: bytes, keys: dict[Any, Any]) -> None:
    receipt.parse(open_envelope(envelope, keys, list(keys)))


def _peer_signer(signer: Signer) -> CryptoSigner:
    public = {"public": signer.public.hex()}
    key = SSlibKey(signer.keyid, "ed25519", "ed25519", public)
    return CryptoSigner(Ed25519PrivateKey.from_private_bytes(signer.seed()), key)


def _peer_seal(statement: dict[str, Any], signers: Sequence[CryptoSigner]) -> bytes:
    envelope = PeerEnvelope(rfc8785.dumps(statement), "application/vnd.in-toto+json", {})
    for signer in signers:
        envelope.sign(signer)
    return rfc8785.dumps(envelope.to_dict())


def _draft() -> Draft:
    salt, request, response = Salt(bytes(32)), b'{"prompt":"x"}', b'{"choices":[]}'
    return Draft(
        receipt_id="0" * 32,
        salt=salt,
        path=PATH,
        request=request,
        asked=commit_request(salt, PATH, request),
        response=(response,),
        answered=commit_response(salt, response),
        status=200,
        outcome="complete",
        streamed=False,
        received_ms=1_800_000_000_000,
        completed_ms=1_800_000_000_500,
    )


def _served(world: World, number: int) -> bytes:
    mirror = world.auditor.case.mirror
    path = tuple(mirror.tree.inclusion_proof(number - 1, mirror.size))
    proof = Proof(index=number - 1, path=path, note=notes.parse(mirror.note))
    envelope = world.envelope(number)
    fields = {
        "envelope": json.loads(envelope),
        "index": number,
        "proof": proof.encode().decode(),
    }
    return encode(msgspec.convert(fields, checks.Served))


def _size(world: World, bundle: bytes) -> float:
    return len(bundle) / len(world.auditor.case.audits)
