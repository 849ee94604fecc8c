"""What a witness decides, case by case, as c2sp.org/tlog-witness v1.0.0 lists them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import FormatError, Reason, VerificationError
from lydite.signing import notes
from lydite.signing.keys import Signer
from lydite.tlog import checkpoint as checkpoints
from lydite.tlog import witness
from lydite.tlog.checkpoint import Checkpoint
from lydite.tlog.merkle import Tree

ORIGIN = "log.example/one"
LOG = Signer(b"log!" * 8)
W = witness.Witness("w.example", Signer(b"wit!" * 8), (notes.verifier_key(ORIGIN, LOG),))
TREE = Tree()
TREE.extend(b"%d" % number for number in range(40))
NOW = 1_800_000_000


def head(size: int, root: bytes | None = None) -> Checkpoint:
    return Checkpoint(ORIGIN, size, TREE.root(size) if root is None else root)


def ask(
    old: int, new: Checkpoint, path: list[bytes] | None = None, note: notes.Note | None = None
) -> witness.Request:
    proof = TREE.consistency_proof(old, new.size) if path is None else path
    return witness.Request(old, tuple(proof), note or checkpoints.sign(new, LOG), new)


def stored(size: int, time_s: int = NOW) -> notes.Note:
    kept = witness.add_checkpoint(ask(0, head(size), []), W, None, time_s).keep
    assert kept is not None
    return kept


def status(request: witness.Request, state: notes.Note | None) -> int:
    answer = witness.add_checkpoint(request, W, state, NOW)
    assert (answer.keep is None) == (answer.status != 200)
    return answer.status


def test_a_first_checkpoint_of_any_size_is_cosigned() -> None:
    for size in (0, 1, 40):
        answer = witness.add_checkpoint(ask(0, head(size), []), W, None, NOW)
        (line,) = notes.parse_signatures(answer.body)
        signed = notes.verify_signature(head(size).text(), line, W.key)
        assert (answer.status, signed.time_s) == (200, NOW)


@given(st.integers(1, 40), st.integers(1, 40))
def test_a_tree_that_begins_with_the_stored_one_is_cosigned(one: int, other: int) -> None:
    old, new = sorted((one, other))
    assert status(ask(old, head(new)), stored(old)) == 200


def test_the_same_checkpoint_may_be_cosigned_again() -> None:
    assert status(ask(7, head(7)), stored(7)) == 200


def test_what_is_kept_bears_the_signatures_of_log_and_witness_only() -> None:
    stranger = notes.sign(head(9).text(), "stranger", Signer(b"x" * 32))
    note = notes.attach(checkpoints.sign(head(9), LOG), [stranger])
    kept = witness.add_checkpoint(ask(0, head(9), [], note), W, None, NOW).keep
    assert kept is not None
    assert {each.name for each in kept.signatures} == {ORIGIN, "w.example"}


def test_an_unknown_origin_is_404() -> None:
    other = Checkpoint("log.example/two", 5, TREE.root(5))
    assert status(ask(0, other, []), None) == 404


def test_no_good_signature_by_the_log_is_403() -> None:
    text = head(5).text()
    stranger = notes.Note(text, (notes.sign(text, ORIGIN, Signer(b"x" * 32)),))
    assert status(ask(0, head(5), [], stranger), None) == 403
    good = checkpoints.sign(head(5), LOG).signatures[0]
    bad = notes.Note(text, (notes.Signature(good.name, good.key_id, bytes(64)),))
    assert status(ask(0, head(5), [], bad), None) == 403


def test_an_old_size_above_the_new_one_is_400() -> None:
    assert status(ask(9, head(5), []), stored(9)) == 400


@pytest.mark.parametrize("old", [0, 5, 12])
def test_an_old_size_that_is_not_the_stored_one_is_409_and_says_which_is(old: int) -> None:
    answer = witness.add_checkpoint(ask(old, head(20)), W, stored(9), NOW)
    assert (answer.status, answer.body, answer.content_type) == (409, b"9\n", "text/x.tlog.size")
    assert answer.keep is None


def test_a_proof_that_fails_or_is_not_wanted_is_422() -> None:
    good = TREE.consistency_proof(9, 20)
    assert status(ask(9, head(20), good[:-1]), stored(9)) == 422
    assert status(ask(9, head(20), [*good, bytes(32)]), stored(9)) == 422
    assert status(ask(9, head(20, bytes(32)), good), stored(9)) == 422
    assert status(ask(0, head(20), [bytes(32)]), None) == 422
    assert status(ask(9, head(9), [bytes(32)]), stored(9)) == 422
    assert status(ask(0, head(0, bytes(32)), []), None) == 422


def test_two_roots_of_one_size_are_refused_and_kept_as_evidence() -> None:
    forked = ask(9, head(9, bytes(32)), [])
    answer = witness.add_checkpoint(forked, W, stored(9), NOW)
    assert (answer.status, answer.keep, answer.evidence) == (422, None, forked.note)


def test_what_the_log_did_not_sign_is_no_evidence() -> None:
    text = head(9, bytes(32)).text()
    forged = notes.Note(text, (notes.sign(text, ORIGIN, Signer(b"x" * 32)),))
    for request in (ask(9, head(9, bytes(32)), [], forged), ask(9, head(20), [])):
        assert witness.add_checkpoint(request, W, stored(9), NOW).evidence is None


def test_a_witness_whose_clock_went_back_says_nothing() -> None:
    answer = witness.add_checkpoint(ask(9, head(20)), W, stored(9), NOW - 1)
    assert (answer.status, answer.keep) == (503, None)


def test_a_state_that_this_witness_did_not_cosign_is_not_built_upon() -> None:
    with pytest.raises(VerificationError) as caught:
        witness.add_checkpoint(ask(9, head(20)), W, checkpoints.sign(head(9), LOG), NOW)
    assert caught.value.reason is Reason.UNKNOWN_KEY


def test_a_key_that_signs_twice_is_400() -> None:
    note = checkpoints.sign(head(5), LOG)
    twice = notes.Note(note.text, note.signatures * 2)
    assert status(ask(0, head(5), [], twice), None) == 400


@given(st.integers(0, 40), st.integers(0, 40))
def test_requests_survive_the_round_trip(one: int, other: int) -> None:
    old, new = sorted((one, other))
    request = ask(old, head(new))
    assert witness.parse_request(request.encode()) == request


GOOD = ask(9, head(20)).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        GOOD.replace(b"old 9", b"old 09"),
        GOOD.replace(b"old 9", b"old -9"),
        GOOD.replace(b"old 9", b"old  9"),
        GOOD.replace(b"old 9", b"new 9"),
        GOOD.replace(b"old 9\n", b""),
        GOOD.replace(b"old 9\n", b"old 9\r\n"),
        GOOD.replace(b"old 9\n", b"old 9\nAAAA\n"),
        GOOD.replace(b"old 9\n", b"old 9\n" + (b"A" * 43 + b"=\n") * 64),
        GOOD[:-1],
        GOOD.replace(b"\n\n", b"\n"),
        GOOD + b"x" * witness.MAX_REQUEST_BYTES,
    ],
)
def test_other_spellings_are_malformed(body: bytes) -> None:
    with pytest.raises(FormatError):
        witness.parse_request(body)


def test_extension_lines_are_cosigned_with_the_rest() -> None:
    new = Checkpoint(ORIGIN, 5, TREE.root(5), ("extension",))
    answer = witness.add_checkpoint(ask(0, new, []), W, None, NOW)
    (line,) = notes.parse_signatures(answer.body)
    notes.verify_signature(new.text(), line, W.key)
