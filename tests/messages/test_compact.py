"""The compact receipt has one spelling, whichever way it is written."""

import base64
from typing import get_args

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from lydite.messages import compact, entry
from lydite.messages.canonical import decode, encode
from lydite.messages.compact import Compact, Parts
from lydite.messages.receipt import Outcome

digests = st.binary(min_size=32, max_size=32).map(bytes.hex)


@given(
    st.integers(1, 2**53 - 1),
    st.binary(min_size=16, max_size=16).map(bytes.hex),
    st.tuples(digests, digests, digests, digests),
    st.none() | st.binary(min_size=64, max_size=64),
    st.integers(0, 999),
    st.sampled_from(get_args(Outcome)),
)
def test_the_template_writes_what_the_encoder_would(
    number: int,
    name: str,
    words: tuple[str, str, str, str],
    signature: bytes | None,
    status: int,
    outcome: Outcome,
) -> None:
    request, response, salt, statement = words
    parts = Parts(number, *(w.encode() for w in (name, *words)), status, outcome.encode())
    spelt = compact.spell(parts)
    if signature is not None:
        spelt = compact.with_signature(spelt, signature)
    told = Compact(
        entry=number,
        id=name,
        outcome=outcome,
        request=request,
        response=response,
        salt=salt,
        signature=None if signature is None else base64.b64encode(signature).decode(),
        statement=statement,
        status=status,
    )
    assert spelt == encode(told)
    assert decode(spelt, Compact) == told
    bare = encode(msgspec.structs.replace(told, signature=None))
    assert compact.signed_bytes(told) == b"lydite/compact/v1\0" + bare


@given(st.binary(min_size=32, max_size=32))
def test_a_leaf_is_written_as_it_is_read(digest: bytes) -> None:
    leaf = entry.leaf(digest, "receipt", "ed25519:00")
    assert leaf == encode(entry.parse(leaf))
    assert entry.parse(leaf).sha256 == digest.hex()
