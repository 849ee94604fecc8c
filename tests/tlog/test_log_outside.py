"""Verifiers that are not ours, on logs that are: they must agree, and refuse what we refuse."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import metamorphic_log
import pymerkle
import pytest

from lydite.signing import notes
from lydite.signing.keys import Signer
from lydite.tlog import tiles
from lydite.tlog.checkpoint import encode_hash
from lydite.tlog.hashing import leaf_hash
from lydite.tlog.merkle import Tree
from lydite.tlog.store import LogStore

ORIGIN = "log.example/one"
GO_SOURCE = Path("/usr/share/gocode/src/golang.org/x/mod/sumdb")
WITNESSES = {f"w{n}.example": Signer(b"witness %d" % n + bytes(23)) for n in (1, 2, 3)}
WITNESS_KEYS = [
    notes.verifier_key(name, signer, notes.Kind.COSIGNATURE) for name, signer in WITNESSES.items()
]
LOG = Signer(b"log key of 32 bytes, for tests 1")
ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors" / "tlog"
VECTOR_KEYS = [word for word in (VECTORS / "policy").read_text().split() if "+" in word]
OLD_SIZES = (1, 255, 256, 257, 4096, 65_535, 65_536, 65_537, 69_999, 70_000)
INDICES = (0, 1, 255, 256, 65_535, 65_536, 69_888, 69_999)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LogStore]:
    """70 000 entries, three witnesses: the log on which the design was tried."""
    path = tmp_path_factory.mktemp("outside") / "log"
    with LogStore.open(path, ORIGIN, LOG) as store:
        store.append_durable([b"entry %d" % number for number in range(70_000)])
        text = notes.parse(store.publish()).text
        lines = [
            notes.cosign(text, name, signer, 1_790_000_000) for name, signer in WITNESSES.items()
        ]
        store.attach_cosignatures(store.checkpoint(), lines)
        yield store


@pytest.fixture(scope="module")
def served(log: LogStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the log serves, and proofs that it made, as files."""
    path = tmp_path_factory.mktemp("served")
    (path / "checkpoint").write_bytes(log.read("checkpoint"))
    for tile in tiles.between(0, log.size):
        (path / tile.path).parent.mkdir(parents=True, exist_ok=True)
        (path / tile.path).write_bytes(log.read(tile.path))
    (path / "proofs").mkdir()
    for index in INDICES:
        (path / "proofs" / f"{index}.tlog-proof").write_bytes(log.proof(index).encode())
        (path / "proofs" / f"{index}.entry").write_bytes(log.entry(index))
    lines = [
        [str(old), *map(encode_hash, (log.root(old), *log.consistency_proof(old, log.size)))]
        for old in OLD_SIZES
    ]
    (path / "consistency").write_text("".join(" ".join(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def go_verify(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("go") is None or not GO_SOURCE.is_dir():
        pytest.skip("Go sumdb: needs Debian's golang-go and golang-golang-x-mod-dev")
    target = tmp_path_factory.mktemp("go") / "verify"
    source = Path(__file__).with_name("outside") / "verify.go"
    environment = os.environ | {
        "GOPATH": "/usr/share/gocode",
        "GO111MODULE": "off",
        "GOFLAGS": "",
        "GOCACHE": str(target.with_name("cache")),
    }
    subprocess.run(["go", "build", "-o", str(target), str(source)], env=environment, check=True)
    return target


def run_go(program: Path, path: Path, keys: Sequence[object]) -> subprocess.CompletedProcess[str]:
    command = [str(program), str(path), *map(str, keys)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.outside
def test_go_sumdb_verifies_all_of_a_log(go_verify: Path, served: Path, log: LogStore) -> None:
    found = run_go(go_verify, served, [log.key, *WITNESS_KEYS])
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout) == {
        "size": 70_000,
        "cosigned": 3,
        "entries": 70_000,
        "proofs": len(INDICES),
        "consistency": len(OLD_SIZES),
    }


@pytest.mark.outside
def test_go_sumdb_verifies_the_committed_vectors(go_verify: Path) -> None:
    found = run_go(go_verify, VECTORS, VECTOR_KEYS)
    assert json.loads(found.stdout)["entries"] == 300, found.stderr


def change(name: str, old: bytes, new: bytes) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        content = (path / name).read_bytes()
        assert old in content
        (path / name).write_bytes(content.replace(old, new, 1))

    return apply


def flip_hash(path: Path) -> None:
    content = (path / "tile/0/000").read_bytes()
    (path / "tile/0/000").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def cut_bundle(path: Path) -> None:
    name = path / "tile/entries/000"
    name.write_bytes(name.read_bytes()[:-1])


@pytest.mark.outside
@pytest.mark.parametrize(
    ("tamper", "says"),
    [
        (change("tile/entries/000", b"entry 17 ", b"entry 71 "), "entry 17 is not"),
        (change("tile/entries/000", b"entry 101 ", b"entry 102 "), "invalid transparency proof"),
        (cut_bundle, "ends within an entry"),
        (flip_hash, "invalid transparency proof"),
        (change("checkpoint", b"\n300\n", b"\n301\n"), "invalid signature"),
        (change("proofs/257.entry", b"257", b"256"), "invalid transparency proof"),
        (change("proofs/257.tlog-proof", b"index 257", b"index 256"), "invalid transparency"),
        (change("consistency", b"\n255 ", b"\n254 "), "from size 254"),
    ],
)
def test_go_sumdb_refuses_a_log_that_was_tampered_with(
    go_verify: Path, tmp_path: Path, tamper: Callable[[Path], None], says: str
) -> None:
    path = tmp_path / "tampered"
    shutil.copytree(VECTORS, path)
    tamper(path)
    found = run_go(go_verify, path, VECTOR_KEYS)
    assert found.returncode == 1
    assert says in found.stderr


@pytest.mark.outside
def test_go_sumdb_ignores_a_cosignature_under_an_unknown_name(
    go_verify: Path, tmp_path: Path
) -> None:
    path = tmp_path / "renamed"
    shutil.copytree(VECTORS, path)
    change("checkpoint", "\n— w2".encode(), "\n— w9".encode())(path)
    found = run_go(go_verify, path, VECTOR_KEYS)
    assert json.loads(found.stdout)["cosigned"] == 2


@pytest.fixture(scope="module")
def sigstore_js() -> list[str]:
    package = ROOT / ".tools" / "node_modules" / "@sigstore" / "verify"
    node = shutil.which("node")
    if node is None or not package.is_dir():
        pytest.skip("@sigstore/verify: needs node and npm install @sigstore/verify in .tools")
    return [node, str(Path(__file__).with_name("outside") / "verify.cjs"), str(package)]


@pytest.mark.outside
def test_sigstore_js_verifies_our_proofs(sigstore_js: list[str], served: Path) -> None:
    for path, key, count in (
        (VECTORS, VECTOR_KEYS[0], len(list((VECTORS / "proofs").glob("*.entry")))),
        (served, str(notes.verifier_key(ORIGIN, LOG)), len(INDICES)),
    ):
        command = [*sigstore_js, str(path), key]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        assert found.stdout == f"{count}\n", found.stderr


@pytest.mark.outside
@pytest.mark.parametrize(
    ("tamper", "says"),
    [
        (change("proofs/257.entry", b"257", b"256"), "calculated root hash does not match"),
        (change("proofs/257.tlog-proof", b"index 257", b"index 256"), "calculated root hash"),
        (change("proofs/257.tlog-proof", b"index 257", b"index 300"), "invalid index"),
        (change("proofs/257.tlog-proof", b"\n300\n", b"\n301\n"), "invalid checkpoint signature"),
    ],
)
def test_sigstore_js_refuses_a_proof_that_was_tampered_with(
    sigstore_js: list[str], tmp_path: Path, tamper: Callable[[Path], None], says: str
) -> None:
    path = tmp_path / "tampered"
    shutil.copytree(VECTORS, path)
    tamper(path)
    command = [*sigstore_js, str(path), VECTOR_KEYS[0]]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert says in found.stderr


def test_metamorphic_log_verifies_checkpoint_and_inclusion(log: LogStore) -> None:
    note, keys = log.checkpoint().decode(), [str(log.key)]
    head = metamorphic_log.checkpoint_verify(note, keys)
    assert (head.origin, head.size, head.root) == (ORIGIN, 70_000, log.root())
    for index in INDICES:
        leaf = leaf_hash(b"entry %d" % index)
        path = log.inclusion_proof(index, 70_000)
        metamorphic_log.checkpoint_verify_inclusion(note, keys, index, leaf, path)
        with pytest.raises(metamorphic_log.VerifyError):
            metamorphic_log.checkpoint_verify_inclusion(note, keys, index, leaf[::-1], path)


def test_metamorphic_log_refuses_a_tampered_checkpoint(log: LogStore) -> None:
    note = log.checkpoint().decode()
    for changed in (note.replace("\n70000\n", "\n70001\n"), note.replace(ORIGIN, "log.example/2")):
        with pytest.raises(metamorphic_log.VerifyError):
            metamorphic_log.checkpoint_verify(changed, [str(log.key)])
    stranger = notes.verifier_key(ORIGIN, Signer(b"x" * 32))
    with pytest.raises(metamorphic_log.VerifyError):
        metamorphic_log.checkpoint_verify(note, [str(stranger)])


def test_metamorphic_log_verifies_consistency_of_our_checkpoints(
    tmp_path: Path, signer: Signer
) -> None:
    with LogStore.open(tmp_path / "log", ORIGIN, signer) as log:
        checkpoints = []
        for by in (1, 254, 1, 1, 500, 3):
            log.append_durable([b"%d" % number for number in range(by)])
            checkpoints.append((log.size + 0, log.publish().decode()))
        size, newest = checkpoints[-1]
        for old_size, old in checkpoints:
            proof = log.consistency_proof(old_size, size)
            keys = [str(log.key)]
            metamorphic_log.checkpoint_verify_consistency(old, newest, keys, proof)
            wrong = [*proof[:-1], bytes(32)]
            with pytest.raises(metamorphic_log.VerifyError):
                metamorphic_log.checkpoint_verify_consistency(old, newest, keys, wrong)


def test_pymerkle_has_the_same_roots_and_proofs() -> None:
    entries = [b"%d" % number for number in range(300)]
    theirs, ours = pymerkle.InmemoryTree(algorithm="sha256"), Tree()
    theirs.append_entries(entries)
    ours.extend(entries)
    for size in (1, 2, 3, 127, 128, 129, 255, 256, 257, 299, 300):
        assert theirs.get_root(size) == ours.root(size)
        for index in range(0, size, 7):
            proof = theirs.prove_inclusion(index + 1, size)
            assert proof.path == [leaf_hash(entries[index]), *ours.inclusion_proof(index, size)]


def test_pymerkle_has_the_same_root_at_a_hundred_thousand() -> None:
    entries = [b"%d" % number for number in range(100_000)]
    theirs, ours = pymerkle.InmemoryTree(algorithm="sha256"), Tree()
    theirs.append_entries(entries)
    ours.extend(entries)
    assert theirs.get_root() == ours.root()
