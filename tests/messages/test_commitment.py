"""Commitments hide and bind, and the seed follows from what is committed."""

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import FormatError, Reason, VerificationError
from lydite.messages import opening
from lydite.messages.canonical import encode
from lydite.messages.commitment import (
    Salt,
    commit_request,
    commit_response,
    request_hasher,
    sampling_seed,
)
from lydite.messages.receipt import Receipt
from lydite.messages.statement import subject
from tests.messages.test_canonical import honest_receipt

SALT = Salt(bytes(range(32)))


def test_a_request_commitment_is_the_published_formula() -> None:
    path, body = b"/v1/completions", b"{}"
    length = len(path).to_bytes(8, "big")
    text = b"lydite/request/v1\x00" + SALT + length + path + body
    assert commit_request(SALT, path, body) == hashlib.sha256(text).digest()


def test_a_seed_is_the_published_formula_and_fits_63_bits() -> None:
    commitment = commit_request(SALT, b"/", b"")
    digest = hashlib.sha256(b"lydite/seed/v1\x00" + SALT + commitment).digest()
    assert sampling_seed(SALT, commitment) == int.from_bytes(digest[:8], "big") % 2**63


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_path_and_body_cannot_trade_bytes(left: bytes, right: bytes) -> None:
    whole = commit_request(SALT, left, right)
    moved = commit_request(SALT, left + right[:1], right[1:])
    assert (whole == moved) == (right == b"")


@given(st.lists(st.binary(max_size=20)))
def test_hashing_in_pieces_is_hashing_at_once(pieces: list[bytes]) -> None:
    hasher = request_hasher(SALT, b"/v1")
    for piece in pieces:
        hasher.update(piece)
    assert hasher.digest() == commit_request(SALT, b"/v1", b"".join(pieces))


def test_request_and_answer_of_the_same_bytes_have_unlike_commitments() -> None:
    assert commit_request(SALT, b"", b"x") != commit_response(SALT, b"x")


def test_a_salt_of_another_length_is_refused() -> None:
    with pytest.raises(FormatError):
        commit_response(Salt(b"short"), b"")


def opened(request: bytes = b"q", response: bytes = b"a", status: int = 200) -> opening.Opening:
    return opening.make("0" * 32, SALT, b"/v1/completions", request, response, status)


def receipt_for(of: opening.Opening) -> Receipt:
    asked = commit_request(SALT, of.path.encode(), of.request_bytes()).hex()
    honest = honest_receipt()
    request = msgspec.structs.replace(honest.predicate.request, commitment=asked)
    answer = commit_response(SALT, of.response_bytes())
    return msgspec.structs.replace(
        honest,
        subject=subject("response", answer),
        predicate=msgspec.structs.replace(honest.predicate, request=request),
    )


def test_an_honest_opening_is_accepted() -> None:
    opening.check(opened(), receipt_for(opened()))


@pytest.mark.parametrize("other", [opened(request=b"Q"), opened(response=b"A"), opened(status=500)])
def test_another_opening_is_refused(other: opening.Opening) -> None:
    with pytest.raises(VerificationError) as refusal:
        opening.check(other, receipt_for(opened()))
    assert refusal.value.reason is Reason.BAD_COMMITMENT


def test_base64_in_another_spelling_is_refused() -> None:
    text = encode(opened()).replace(b'"request":"cQ=="', b'"request":"cR=="')
    with pytest.raises(FormatError):
        opening.parse(text).request_bytes()
