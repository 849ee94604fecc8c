"""A receipt's statement is spelt from a template as the encoder would, and found by its id."""

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from lydite.gateway.ledger import receipts
from lydite.gateway.ledger.index import NOISE_BYTES, ReceiptIndex, new_id
from lydite.gateway.ledger.receipts import Draft, Stamp
from lydite.messages.canonical import encode
from lydite.messages.commitment import RequestCommitment, ResponseCommitment, Salt
from lydite.signing.keys import Signer

words = st.text(min_size=1, max_size=40)
hashes = st.binary(min_size=32, max_size=32)
END_OF_9999_MS = 253402300799999


@settings(max_examples=300)
@given(
    words,
    hashes,
    hashes,
    st.lists(st.binary(max_size=50), max_size=4),
    st.integers(100, 599),
    st.sampled_from(["complete", "aborted", "refused"]),
    st.booleans(),
    st.integers(0, END_OF_9999_MS),
)
def test_the_template_writes_what_the_encoder_would(
    sampler: str,
    asked: bytes,
    answered: bytes,
    parts: list[bytes],
    status: int,
    outcome: str,
    streamed: bool,
    time_ms: int,
) -> None:
    stamp = Stamp(Signer(bytes(32)), Signer(bytes([1]) * 32), "ab" * 32, sampler)
    draft = Draft(
        receipt_id=new_id(time_ms, bytes(range(NOISE_BYTES))),
        salt=Salt(bytes(32)),
        path=b"/v1/completions",
        request=b"{}",
        asked=RequestCommitment(asked),
        response=parts,
        answered=ResponseCommitment(answered),
        status=status,
        outcome=outcome,  # type: ignore[arg-type]
        streamed=streamed,
        received_ms=time_ms,
        completed_ms=time_ms,
    )
    assert receipts.statement_of(draft, stamp) == encode(receipts.receipt_of(draft, stamp))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 5_000), min_size=1, max_size=900), st.integers(1, 3))
def test_a_receipt_is_always_among_the_candidates(times: list[int], stride: int) -> None:
    index = ReceiptIndex()
    index.RECENT = 8
    placed = {}
    for count, time_ms in enumerate(times):
        name = new_id(1_700_000_000_000 + count // 3 + time_ms, os.urandom(NOISE_BYTES))
        index.add(name, 1 + count * stride)
        placed[name] = 1 + count * stride
    for name, number in placed.items():
        assert any(number in numbers for numbers in index.candidates(name))
    assert not [*index.candidates(new_id(1_600_000_000_000, bytes(NOISE_BYTES)))]
