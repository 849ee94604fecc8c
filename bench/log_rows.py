"""Rows of ``make bench-log`` for the log: appending, proving, verifying, recovering, on one core.

The peer is pymerkle on the same entries in the same run; what it has no counterpart for has none.
The clock (``stopwatch``) stands still while other processes hold the core. Rates are the best of
several runs; durable appending and recovery are one run each, waits for the disk included.
"""

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, perf_counter

import pymerkle
from report import Row, row
from stopwatch import now, rate

from lydite.signing import notes
from lydite.signing.keys import Signer
from lydite.tlog import policy as policies
from lydite.tlog import proof as proofs
from lydite.tlog import verification
from lydite.tlog.hashing import leaf_hash
from lydite.tlog.merkle import Tree
from lydite.tlog.store import LogStore
from lydite.tlog.witness import Witness
from lydite.tlog.witness_client import WitnessClient
from lydite.tlog.witness_server import Keeper, WitnessServer

LEAVES = 1_000_000
"""Entries in the tree that is measured."""
ENTRY_BYTES = 130
"""Length of an entry: about that of a receipt's."""
BATCH = 1_000
"""Entries that become durable together."""
CHECKPOINT_S = 0.9
"""Longest time between two checkpoints while appending."""
SAMPLE = 50_000
"""Proofs in one run of ours; the peer's runs are shorter."""
PEER_SAMPLE = 4_000

_ORIGIN = "bench.example/log"
_LOG = Signer(b"a log key of 32 bytes, for bench")


def rows() -> list[Row]:
    """Measure everything; takes about two minutes."""
    entries = [b"%0*d" % (ENTRY_BYTES, number) for number in range(LEAVES)]
    found = [*_memory(entries), *_proofs(entries)]
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as folder:
        found += _durable(Path(folder), entries)
    return found


def _memory(entries: Sequence[bytes]) -> list[Row]:
    def ours(size: int, count: int) -> None:
        tree = Tree()
        for start in range(0, count, size):
            tree.extend(entries[start : start + size])

    def theirs(size: int, count: int) -> None:
        tree = pymerkle.InmemoryTree(algorithm="sha256")
        for start in range(0, count, size):
            tree.append_entries(entries[start : start + size])

    return [
        row(
            f"appends in memory, batches of {size}",
            rate(lambda size=size: ours(size, 200_000), 200_000),
            "1/s",
            peer=rate(lambda size=size: theirs(size, 20_000), 20_000),
            peer_name="pymerkle",
        )
        for size in (4096, 1)
    ]


def _proofs(entries: Sequence[bytes]) -> list[Row]:
    tree, peer = Tree(), pymerkle.InmemoryTree(algorithm="sha256")
    tree.extend(entries)
    peer.append_entries(entries)
    root = tree.root()
    assert peer.get_root() == root
    chance = random.Random(1)
    indices = [chance.randrange(LEAVES) for _ in range(SAMPLE)]
    leaves = [leaf_hash(entries[index]) for index in indices]
    paths = [tree.inclusion_proof(index, LEAVES) for index in indices]
    theirs = [peer.prove_inclusion(index + 1, LEAVES) for index in indices[:PEER_SAMPLE]]
    assert [proof.path[1:] for proof in theirs] == paths[:PEER_SAMPLE]

    def verify() -> None:
        for index, leaf, path in zip(indices, leaves, paths, strict=True):
            verification.inclusion(leaf, index, LEAVES, path, root)

    def verify_theirs() -> None:
        for index, leaf, proof in zip(indices, leaves, theirs, strict=False):
            pymerkle.verify_inclusion(leaf, root, proof, index=index + 1, size=LEAVES)

    return [
        row(
            "inclusion proofs at 1 M leaves",
            rate(lambda: [tree.inclusion_proof(index, LEAVES) for index in indices], SAMPLE),
            "1/s",
            goal=50_000,
            peer=rate(
                lambda: [peer.prove_inclusion(i + 1, LEAVES) for i in indices[:PEER_SAMPLE]],
                PEER_SAMPLE,
            ),
            peer_name="pymerkle",
        ),
        row(
            "inclusion verifications at 1 M leaves",
            rate(verify, SAMPLE),
            "1/s",
            goal=80_000,
            peer=rate(verify_theirs, PEER_SAMPLE),
            peer_name="pymerkle",
        ),
        _consistency(tree, peer, indices),
    ]


def _consistency(tree: Tree, peer: pymerkle.InmemoryTree, indices: Sequence[int]) -> Row:
    sizes = [index + 1 for index in indices]
    return row(
        "consistency proofs to 1 M leaves",
        rate(lambda: [tree.consistency_proof(size, LEAVES) for size in sizes], SAMPLE),
        "1/s",
        peer=rate(
            lambda: [peer.prove_consistency(size, LEAVES) for size in sizes[:PEER_SAMPLE]],
            PEER_SAMPLE,
        ),
        peer_name="pymerkle",
    )


def _durable(folder: Path, entries: Sequence[bytes]) -> list[Row]:
    with LogStore.open(folder / "log", _ORIGIN, _LOG) as log:
        started, published = now(), monotonic()
        for start in range(0, LEAVES, BATCH):
            log.append_durable(entries[start : start + BATCH])
            if monotonic() - published > CHECKPOINT_S:
                log.publish()
                published = monotonic()
        log.publish()
        durable = LEAVES / (now() - started)
    started = now()
    with LogStore.open(folder / "log", _ORIGIN, _LOG) as log:
        recovery_s = now() - started
        witnessed = _witnessed(folder, log)
    return [
        row(
            "durable appends, 1000 a batch, a signed checkpoint each second",
            durable,
            "1/s",
            goal=50_000,
            peer=_durable_peer(folder, entries[:100_000]),
            peer_name="pymerkle on SQLite, without checkpoints",
        ),
        row("recovery at 1 M entries", recovery_s, "s"),
        *witnessed,
    ]


def _durable_peer(folder: Path, entries: Sequence[bytes]) -> float:
    tree = pymerkle.SqliteTree(str(folder / "peer.db"), algorithm="sha256")
    started = now()
    for start in range(0, len(entries), BATCH):
        tree.append_entries(entries[start : start + BATCH])
    per_s = len(entries) / (now() - started)
    tree.con.close()
    return per_s


def _witnessed(folder: Path, log: LogStore) -> list[Row]:
    """Have three witnesses cosign, over HTTP, then weigh and verify a proof file."""
    took_s = []
    names = [f"w{number}.example" for number in range(3)]
    witnesses = [Witness(name, Signer(name.encode().ljust(32)), (log.key,)) for name in names]
    for each in witnesses:
        with WitnessServer(Keeper(each, folder / each.name)) as server:
            client = WitnessClient(server.url, each.key)
            for _ in range(20):
                started = perf_counter()
                signature = client.cosign(log.checkpoint(), log.consistency_proof)
                took_s.append(perf_counter() - started)
            client.close()
            log.attach_cosignatures(log.checkpoint(), [signature])
    lines = [f"log {log.key}", *(f"witness {each.name} {each.key}" for each in witnesses)]
    lines += [f"group most 2 {' '.join(names)}", "quorum most\n"]
    policy = policies.parse("\n".join(lines).encode())
    leaf, encoded = leaf_hash(log.entry(777_777)), log.proof(777_777).encode()
    per_s = rate(
        lambda: [proofs.verify(proofs.parse(encoded), leaf, policy) for _ in range(200)], 200
    )
    assert len(notes.parse(log.checkpoint()).signatures) == 4
    return [
        row("witness round over HTTP, slowest of 60", max(took_s), "s", goal=1.0, at_most=True),
        row("proof file, three witnesses", len(encoded), "bytes", goal=2_000, at_most=True),
        row("proof file, verified offline", 1_000 / per_s, "ms", goal=1.0, at_most=True),
    ]
