"""Envelopes: every signature counts, over the bytes as received."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement
from securesystemslib.dsse import Envelope as ForeignEnvelope
from securesystemslib.signer import SSlibKey

from lydite.errors import ConfigurationError, FormatError, Reason, VerificationError
from lydite.messages.canonical import decode, encode
from lydite.signing import keys
from lydite.signing.dsse import Envelope, key_id, open_envelope, pae
from lydite.signing.keys import Signer, sign_envelope
from tests.messages.test_canonical import honest_receipt

PROVIDER, GATEWAY, STRANGER = (Signer(bytes([n]) * 32) for n in (1, 2, 3))
KEYS = {s.keyid: s.public for s in (PROVIDER, GATEWAY)}
PAYLOAD = encode(honest_receipt())


def sealed() -> bytes:
    return sign_envelope(PAYLOAD, PROVIDER, GATEWAY)


def test_an_envelope_opens_to_what_was_sealed() -> None:
    assert open_envelope(sealed(), KEYS, list(KEYS)) == PAYLOAD


def test_the_pre_authentication_encoding_is_that_of_the_standard() -> None:
    assert pae(b"hello") == b"DSSEv1 28 application/vnd.in-toto+json 5 hello"


def test_another_library_verifies_both_signatures() -> None:
    foreign = ForeignEnvelope.from_dict(json.loads(sealed()))
    public = [
        SSlibKey(s.keyid, "ed25519", "ed25519", {"public": s.public.hex()})
        for s in (PROVIDER, GATEWAY)
    ]
    assert set(foreign.verify(public, 2)) == set(KEYS)


def test_another_library_takes_a_receipt_for_an_in_toto_statement() -> None:
    fields = json.loads(PAYLOAD)
    Statement(
        [ResourceDescriptor(name=s["name"], digest=s["digest"]).pb for s in fields["subject"]],
        fields["predicateType"],
        fields["predicate"],
    ).validate()


@given(st.data())
def test_no_flipped_bit_of_an_envelope_opens(data: st.DataObject) -> None:
    raw = bytearray(sealed())
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises((FormatError, VerificationError)):
        open_envelope(bytes(raw), KEYS, list(KEYS))


def refuse(envelope: bytes, reason: Reason) -> None:
    with pytest.raises((FormatError, VerificationError)) as refusal:
        open_envelope(envelope, KEYS, list(KEYS))
    assert refusal.value.reason is reason


def test_a_stranger_cannot_join_in() -> None:
    refuse(sign_envelope(PAYLOAD, PROVIDER, GATEWAY, STRANGER), Reason.UNKNOWN_KEY)


def test_one_signature_is_not_two() -> None:
    refuse(sign_envelope(PAYLOAD, PROVIDER), Reason.BAD_SIGNATURE)


def test_one_key_cannot_sign_for_two() -> None:
    refuse(sign_envelope(PAYLOAD, PROVIDER, PROVIDER), Reason.MALFORMED)


def test_swapped_signatures_are_refused() -> None:
    fields = json.loads(sealed())
    first, second = fields["signatures"]
    first["sig"], second["sig"] = second["sig"], first["sig"]
    refuse(json.dumps(fields, separators=(",", ":"), sort_keys=True).encode(), Reason.BAD_SIGNATURE)


def test_another_payload_under_the_same_signatures_is_refused() -> None:
    fields = json.loads(sealed())
    fields["payload"] = base64.b64encode(PAYLOAD.replace(b"200", b"500")).decode()
    refuse(json.dumps(fields, separators=(",", ":"), sort_keys=True).encode(), Reason.BAD_SIGNATURE)


def test_nine_signatures_are_refused_before_any_is_checked() -> None:
    fields = json.loads(sealed())
    fields["signatures"] *= 5
    refuse(json.dumps(fields, separators=(",", ":"), sort_keys=True).encode(), Reason.MALFORMED)


def test_a_key_never_shows_its_secret() -> None:
    assert PROVIDER.seed().hex() not in repr(PROVIDER)


def test_a_key_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "k"
    made = keys.create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert keys.load(path).public == made.public
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        keys.load(path)


def test_a_key_is_never_replaced(tmp_path: Path) -> None:
    keys.create(tmp_path / "k")
    with pytest.raises(ConfigurationError):
        keys.create(tmp_path / "k")


def test_the_envelope_struct_is_the_envelope() -> None:
    assert encode(decode(sealed(), Envelope)) == sealed()
    assert key_id(PROVIDER.public) == PROVIDER.keyid
