"""Nonces bind what they are made of; challenges are answered once, and none waits for ever."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import ConfigurationError, Reason, Refusal
from lydite.messages.nonce import Binding, Challenges, Issued, check, nonce

NOW = 1_800_000_000
parts = st.binary(max_size=40).map(bytes.hex)
bindings = st.builds(
    Binding,
    challenge=st.binary(min_size=32, max_size=32).map(bytes.hex),
    key=parts,
    model=parts,
    session=parts,
)


def issued(number: int, at_s: int = NOW) -> Issued:
    challenge = hashlib.sha256(b"%d" % number).hexdigest()
    return Issued(binding=Binding(challenge=challenge), issued_s=at_s, lifetime_s=60)


@given(bindings, bindings, st.text(max_size=20), st.text(max_size=20))
def test_a_nonce_names_its_binding_and_its_kind(
    one: Binding, other: Binding, kind: str, another: str
) -> None:
    same = (one, kind) == (other, another)
    assert (nonce(kind, one) == nonce(another, other)) is same


@given(bindings)
def test_an_answer_is_taken_in_its_time_and_for_its_purpose(binding: Binding) -> None:
    asked = Issued(binding=binding, issued_s=NOW, lifetime_s=60)
    signed = nonce("a", binding)
    check("a", signed, binding, asked, NOW + 60)
    for now_s in (NOW - 1, NOW + 61):
        with pytest.raises(Refusal) as caught:
            check("a", signed, binding, asked, now_s)
        assert caught.value.reason is Reason.FRESH_EXPIRED
    with pytest.raises(Refusal):
        check("b", signed, binding, asked, NOW)


def test_a_challenge_is_answered_once_and_forgotten_when_it_is_over() -> None:
    waiting = Challenges(most=2)
    for number in range(2):
        waiting.issue(issued(number))
    with pytest.raises(ConfigurationError) as full:
        waiting.issue(issued(2))
    assert full.value.reason is Reason.OVERLOADED
    assert waiting.consume(issued(0).binding, NOW) == issued(0)
    waiting.issue(issued(2))
    with pytest.raises(ConfigurationError):
        waiting.issue(issued(0))
    waiting.issue(issued(3, NOW + 1000))  # the others are over by now
    waiting.issue(issued(4, NOW + 1000))
    with pytest.raises(Refusal) as caught:
        waiting.consume(issued(1).binding, NOW + 1000)
    assert caught.value.reason is Reason.FRESH_REPLAYED
