"""What libsodium enciphers is AES-256-GCM as anybody's; ``cryptography`` is the obvious twin."""

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import Reason, StorageError
from lydite.gateway.ledger import aead

KEY = bytes(range(32))
NONCE = bytes(12)


@given(st.binary(max_size=300), st.binary(max_size=100))
def test_it_enciphers_as_the_twin_does(message: bytes, associated: bytes) -> None:
    made = bytes(aead.encipher(KEY, message, associated))
    assert made == AESGCM(KEY).encrypt(NONCE, message, associated)
    assert aead.decipher(KEY, made, associated) == message


@given(st.binary(max_size=300), st.binary(max_size=100))
def test_a_processor_without_aes_gets_the_same(message: bytes, associated: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aead, "_HAS_AES", False)
        slow = aead.encipher(KEY, message, associated)
        assert aead.decipher(KEY, slow, associated) == message
    assert slow == bytes(aead.encipher(KEY, message, associated))


@pytest.mark.parametrize("has_aes", [aead._HAS_AES, False])
@given(st.binary(max_size=60), st.data())
def test_one_changed_bit_or_a_cut_is_refused(
    has_aes: bool, message: bytes, data: st.DataObject
) -> None:
    made = bytearray(aead.encipher(KEY, message, b"head"))
    bit = data.draw(st.integers(0, 8 * len(made) - 1))
    made[bit // 8] ^= 1 << bit % 8
    cut = bytes(aead.encipher(KEY, message, b"head"))[: data.draw(st.integers(0, len(made) - 1))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aead, "_HAS_AES", has_aes)
        for bad, associated in ((bytes(made), b"head"), (cut, b"head")):
            with pytest.raises(StorageError) as refused:
                aead.decipher(KEY, bad, associated)
            assert refused.value.reason is Reason.DAMAGED
        with pytest.raises(StorageError):
            aead.decipher(KEY, bytes(aead.encipher(KEY, message, b"head")), b"heat")


def test_a_key_of_another_length_is_never_read() -> None:
    with pytest.raises(ValueError, match="32"):
        aead.encipher(KEY[:16], b"", b"")
    with pytest.raises(ValueError, match="32"):
        aead.decipher(KEY[:16], bytes(16), b"")
