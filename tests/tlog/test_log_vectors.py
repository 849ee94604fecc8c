"""The committed vectors: ours to keep, and anyone's to run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lydite.errors import LyditeError
from lydite.signing import notes
from lydite.tlog import checkpoint as checkpoints
from lydite.tlog import policy, tiles, verification
from lydite.tlog import proof as proofs
from lydite.tlog.hashing import leaf_hash
from lydite.tlog.merkle import Tree

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors" / "tlog"
POLICY = policy.parse((VECTORS / "policy").read_bytes())
CASES = json.loads((VECTORS / "proofs.json").read_text())
ACCEPTED = policy.accept(notes.parse((VECTORS / "checkpoint").read_bytes()), POLICY)


def outcome(proof: str) -> str:
    try:
        parsed = proofs.parse(proof.encode())
        proofs.verify(parsed, bytes.fromhex(CASES["leaf"]), policy.parse(CASES["policy"].encode()))
    except LyditeError as error:
        return error.reason.value
    return "accepted"


@pytest.mark.parametrize("case", CASES["cases"], ids=lambda case: case["name"])
def test_each_proof_has_the_outcome_that_is_written_beside_it(case: dict[str, str]) -> None:
    assert outcome(case["proof"]) == case["outcome"]


def test_the_tiles_make_the_root_of_the_checkpoint() -> None:
    tree = Tree()
    head = ACCEPTED.checkpoint
    for tile in tiles.between(0, head.size):
        content = (VECTORS / tile.path).read_bytes()
        if tile.level is None:
            tree.extend(tiles.decode_bundle(content, tile.width))
        else:
            start = tile.index * tiles.WIDTH
            assert content == tree.hashes(8 * tile.level, start, start + tile.width)
    assert (tree.size, tree.root()) == (head.size, head.root)


def test_the_quorum_of_two_stood_when_the_second_witness_had_cosigned() -> None:
    assert ACCEPTED.time_s == 1_790_000_001
    assert ACCEPTED.witnesses == ("w1", "w2", "w3")


@pytest.mark.parametrize("path", sorted((VECTORS / "proofs").glob("*.tlog-proof")), ids=str)
def test_every_proof_verifies_and_is_spelt_as_we_would_spell_it(path: Path) -> None:
    proof = proofs.parse(path.read_bytes())
    assert proof.encode() == path.read_bytes()
    entry = path.with_suffix(".entry").read_bytes()
    assert proofs.verify(proof, leaf_hash(entry), POLICY) == ACCEPTED


def test_every_consistency_proof_verifies() -> None:
    head = ACCEPTED.checkpoint
    for line in (VECTORS / "consistency").read_bytes().splitlines():
        size, *hashes = line.split(b" ")
        root, *path = map(checkpoints.decode_hash, hashes)
        verification.consistency(int(size), root, head.size, head.root, path)


def test_the_vectors_are_those_that_the_script_makes(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts" / "make_tlog_vectors.py"
    script.write_bytes((ROOT / "scripts" / "make_tlog_vectors.py").read_bytes())
    subprocess.run([sys.executable, str(script)], check=True)
    made = tmp_path / "tests" / "vectors" / "tlog"
    names = {str(each.relative_to(made)) for each in made.rglob("*") if each.is_file()}
    kept = {str(each.relative_to(VECTORS)) for each in VECTORS.rglob("*") if each.is_file()}
    assert names == kept - {"README.md"}
    assert all((made / name).read_bytes() == (VECTORS / name).read_bytes() for name in names)
