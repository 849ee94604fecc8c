import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import FormatError, LyditeError, Reason, VerificationError
from lydite.signing import notes
from lydite.signing.keys import Signer
from lydite.tlog import checkpoint as checkpoints
from lydite.tlog import policy
from lydite.tlog import proof as proofs
from lydite.tlog.hashing import leaf_hash
from lydite.tlog.merkle import Tree

LOG, WITNESS = Signer(b"log!" * 8), Signer(b"wit!" * 8)
SIZE = 21
TREE = Tree()
TREE.extend(b"%d" % number for number in range(SIZE))
HEAD = checkpoints.Checkpoint("log.example", SIZE, TREE.root())
NOTE = notes.attach(
    checkpoints.sign(HEAD, LOG), [notes.cosign(HEAD.text(), "w.example", WITNESS, 1_700_000_000)]
)
POLICY = policy.parse(
    f"log {notes.verifier_key('log.example', LOG)}\n"
    f"witness w {notes.verifier_key('w.example', WITNESS, notes.Kind.COSIGNATURE)}\n"
    "quorum w\n".encode()
)


def proof_of(index: int, extra: bytes | None = None) -> proofs.Proof:
    return proofs.Proof(index, tuple(TREE.inclusion_proof(index, SIZE)), NOTE, extra)


GOOD = proof_of(11).encode()


@given(st.integers(0, SIZE - 1), st.none() | st.binary(max_size=50))
def test_proofs_survive_the_round_trip_and_verify(index: int, extra: bytes | None) -> None:
    proof = proofs.parse(proof_of(index, extra).encode())
    assert proof == proof_of(index, extra)
    accepted = proofs.verify(proof, leaf_hash(b"%d" % index), POLICY)
    assert (accepted.checkpoint, accepted.time_s) == (HEAD, 1_700_000_000)


def test_a_file_reads_as_the_specification_writes_it() -> None:
    head, note = proof_of(0, b"extra!").encode().split(b"\n\n", 1)
    assert head.split(b"\n")[:3] == [b"c2sp.org/tlog-proof@v1", b"extra ZXh0cmEh", b"index 0"]
    assert len(head.split(b"\n")) == 3 + 5
    assert note == NOTE.encode()


def test_a_proof_of_another_entry_is_refused() -> None:
    for leaf in (b"12", b""):
        with pytest.raises(VerificationError) as caught:
            proofs.verify(proof_of(11), leaf_hash(leaf), POLICY)
        assert caught.value.reason is Reason.NOT_IN_LOG


def test_an_index_behind_the_checkpoint_is_refused() -> None:
    path = tuple(TREE.inclusion_proof(20, SIZE))
    with pytest.raises(FormatError):
        proofs.verify(proofs.Proof(21, path, NOTE), leaf_hash(b"20"), POLICY)


def test_an_unwitnessed_checkpoint_is_not_enough() -> None:
    bare = proofs.Proof(11, proof_of(11).path, checkpoints.sign(HEAD, LOG))
    with pytest.raises(VerificationError) as caught:
        proofs.verify(bare, leaf_hash(b"11"), POLICY)
    assert caught.value.reason is Reason.UNWITNESSED


def test_the_extra_line_is_authenticated_by_nobody() -> None:
    forged = proofs.parse(proof_of(11, b"anything at all").encode())
    assert proofs.verify(forged, leaf_hash(b"11"), POLICY).checkpoint == HEAD


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        GOOD.replace(b"@v1", b"@v2"),
        GOOD.replace(b"index 11", b"index 011"),
        GOOD.replace(b"index 11", b"index -1"),
        GOOD.replace(b"index 11", b"index 9223372036854775808"),
        GOOD.replace(b"index 11\n", b""),
        GOOD.replace(b"index 11\n", b"index 11\nextra AAAA\n"),
        GOOD.replace(b"index 11\n", b"extra AAA\nindex 11\n"),
        GOOD.replace(b"index 11\n", b"extra AAB=\nindex 11\n"),
        GOOD.replace(b"index 11\n", b"extra AAAA\nextra AAAA\nindex 11\n"),
        GOOD.replace(b"index 11\n", b"index 11\nAAAA\n"),
        GOOD.replace(
            b"index 11\n", b"index 11\n" + b"A" * 43 + b"=\n" * 1 + (b"A" * 43 + b"=\n") * 63
        ),
        GOOD.replace(b"\n", b"\r\n"),
        GOOD[:-1],
        b"\n" + GOOD,
        GOOD + b"\n",
        GOOD + b"x" * proofs.MAX_PROOF_BYTES,
    ],
)
def test_other_spellings_are_refused(wrong: bytes) -> None:
    with pytest.raises(FormatError):
        proofs.parse(wrong)


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_no_changed_byte_is_accepted(position: int, change: int) -> None:
    changed = bytearray(GOOD)
    changed[position] ^= change
    with pytest.raises(LyditeError):
        proofs.verify(proofs.parse(bytes(changed)), leaf_hash(b"11"), POLICY)
