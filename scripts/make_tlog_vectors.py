"""Write the log vectors of tests/vectors/tlog, which any implementation can run.

Deterministic: fixed keys, fixed times. Prints nothing; ``git diff`` shows what changed.
"""

import json
import shutil
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

from lydite.errors import LyditeError
from lydite.signing import notes
from lydite.signing.keys import Signer
from lydite.tlog import policy as policies
from lydite.tlog import proof as proofs
from lydite.tlog.checkpoint import encode_hash
from lydite.tlog.hashing import leaf_hash
from lydite.tlog.store import LogStore

TARGET = Path(__file__).parents[1] / "tests" / "vectors" / "tlog"
ORIGIN = "vectors.example/log"
SIZE = 300
INDICES = (0, 1, 127, 128, 255, 256, 257, 298, 299)
OLD_SIZES = (1, 2, 3, 127, 128, 129, 255, 256, 257, 299, 300)
LOG = Signer(sha256(b"lydite vectors: log").digest())
WITNESSES = {
    f"w{number}": Signer(sha256(b"lydite vectors: witness %d" % number).digest())
    for number in (1, 2, 3)
}
TIMES_S = {"w1": 1_790_000_000, "w2": 1_790_000_002, "w3": 1_790_000_001}


def entry(index: int) -> bytes:
    """Return the entry at ``index``: of growing length, the first one empty."""
    return b"entry %d " % index * (index % 7) if index else b""


def key_of(name: str) -> notes.VerifierKey:
    """Return the key of the witness that the policy calls ``name``."""
    return notes.verifier_key(f"{name}.example", WITNESSES[name], notes.Kind.COSIGNATURE)


def policy() -> bytes:
    """Return a policy that asks for two of the three witnesses."""
    lines = [f"log {notes.verifier_key(ORIGIN, LOG)}"]
    lines += [f"witness {name} {key_of(name)}" for name in WITNESSES]
    lines += ["group two 2 w1 w2 w3", "quorum two"]
    return ("\n".join(lines) + "\n").encode()


def write_log(log: LogStore, source: Path) -> None:
    """Write what the log serves, its policy, and proofs over all of it."""
    text = notes.parse(log.publish()).text
    cosignatures = [
        notes.cosign(text, f"{name}.example", signer, TIMES_S[name])
        for name, signer in WITNESSES.items()
    ]
    log.attach_cosignatures(log.checkpoint(), cosignatures)
    shutil.copytree(source / "tile", TARGET / "tile")
    (TARGET / "checkpoint").write_bytes(log.checkpoint())
    (TARGET / "policy").write_bytes(policy())
    (TARGET / "proofs").mkdir()
    for index in INDICES:
        (TARGET / "proofs" / f"{index}.tlog-proof").write_bytes(log.proof(index).encode())
        (TARGET / "proofs" / f"{index}.entry").write_bytes(log.entry(index))
    lines = [
        [
            str(size),
            encode_hash(log.root(size)),
            *map(encode_hash, log.consistency_proof(size, SIZE)),
        ]
        for size in OLD_SIZES
    ]
    (TARGET / "consistency").write_text("".join(" ".join(line) + "\n" for line in lines))


def mutations(good: bytes) -> dict[str, bytes]:
    """Return changed proof files, by what was changed."""
    head, _, note = good.partition(b"\n\n")
    lines, signatures = head.split(b"\n"), note.split(b"\n\n")[1].splitlines(keepends=True)
    body = note.split(b"\n\n")[0]
    other = encode_hash(bytes(32)).encode()
    return {
        "as it was": good,
        "another index": good.replace(lines[1], b"index 129"),
        "an index outside": good.replace(lines[1], b"index 300"),
        "a leading zero": good.replace(lines[1], b"index 0128"),
        "a hash changed": good.replace(lines[2], other),
        "a hash missing": good.replace(lines[2] + b"\n", b""),
        "a hash too many": good.replace(lines[2], lines[2] + b"\n" + other),
        "a short hash": good.replace(lines[2], b"AAAA"),
        "another root": good.replace(body.split(b"\n")[2], other),
        "another size": good.replace(b"\n300\n", b"\n301\n"),
        "another log": good.replace(ORIGIN.encode(), b"other.example/log"),
        "one witness": b"".join((head, b"\n\n", body, b"\n\n", *signatures[:2])),
        "two witnesses": b"".join((head, b"\n\n", body, b"\n\n", *signatures[:3])),
        "a witness twice": b"".join((head, b"\n\n", body, b"\n\n", *signatures, signatures[1])),
        "no signature of the log": b"".join((head, b"\n\n", body, b"\n\n", *signatures[1:])),
        "a time changed": good.replace(signatures[1], moved(signatures[1])),
        "unknown extra": good.replace(b"\nindex", b"\nextra AAAA\nindex"),
        "another version": good.replace(b"@v1", b"@v2"),
        "carriage returns": good.replace(b"\n", b"\r\n"),
        "cut off": good[:-1],
    }


def moved(line: bytes) -> bytes:
    """Return a cosignature line that says another time."""
    (signature,) = notes.parse_signatures(line)
    blob = (int.from_bytes(signature.blob[:8], "big") + 1).to_bytes(8, "big") + signature.blob[8:]
    return notes.Signature(signature.name, signature.key_id, blob).line()


def judge(proof: bytes, leaf: bytes) -> str:
    """Return ``accepted``, or the reason for which a proof file is refused."""
    try:
        proofs.verify(proofs.parse(proof), leaf, policies.parse(policy()))
    except LyditeError as error:
        return error.reason.value
    return "accepted"


def main() -> int:
    """Write everything again."""
    for name in ("tile", "proofs"):
        shutil.rmtree(TARGET / name, ignore_errors=True)
    TARGET.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "log"
        with LogStore.open(source, ORIGIN, LOG) as log:
            log.append_durable([entry(index) for index in range(SIZE)])
            write_log(log, source)
    good = (TARGET / "proofs" / "128.tlog-proof").read_bytes()
    leaf = leaf_hash(entry(128))
    cases = [
        {"name": name, "proof": proof.decode(), "outcome": judge(proof, leaf)}
        for name, proof in mutations(good).items()
    ]
    document = {"leaf": leaf.hex(), "policy": policy().decode(), "cases": cases}
    (TARGET / "proofs.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
