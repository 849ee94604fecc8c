"""One spelling: what we write is RFC 8785, and nothing else is read."""

import contextlib
import json

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import FormatError, Reason
from lydite.messages import audit, entry, receipt
from lydite.messages.canonical import Message, decode, encode
from lydite.messages.finding import Finding, Measure
from lydite.messages.statement import subject
from lydite.messages.tier import Tier

texts = st.text(st.characters(codec="utf-8"), max_size=20)


class Sample(Message, frozen=True, kw_only=True):
    """Every shape that a message may take."""

    zulu: str
    alpha_beta: int
    inner: tuple[str, ...] = ()
    nothing: str | None = None
    yes: bool = True


samples = st.builds(
    Sample,
    zulu=texts,
    alpha_beta=st.integers(-(2**53) + 1, 2**53 - 1),
    inner=st.lists(texts, max_size=3).map(tuple),
    nothing=st.none() | texts,
    yes=st.booleans(),
)


def honest_receipt() -> receipt.Receipt:
    return receipt.Receipt(
        subject=subject("response", bytes(32)),
        predicate=receipt.Predicate(
            receipt_id="0" * 32,
            request=receipt.RequestPart(commitment="1" * 64, length=3, method="POST"),
            response=receipt.ResponsePart(length=1, outcome="complete", status=200, streamed=False),
            declaration="2" * 64,
            sampler="lydite/v1",
            timing=receipt.Timing(
                received="2026-01-01T00:00:00.000Z", completed="2026-01-01T00:00:00.001Z"
            ),
            provider="p",
            gateway="g",
        ),
    )


@given(samples)
def test_what_we_write_is_the_json_canonicalization_scheme(sample: Sample) -> None:
    written = encode(sample)
    assert written == rfc8785.dumps(json.loads(written))


@given(samples)
def test_what_we_write_is_read_back(sample: Sample) -> None:
    assert decode(encode(sample), Sample) == sample


@pytest.mark.parametrize(
    "spelling",
    [
        b'{"alphaBeta":1,"inner":[],"nothing":null,"yes":true,"yes":true,"zulu":""}',
        b'{"alphaBeta":1, "inner":[],"nothing":null,"yes":true,"zulu":""}',
        b'{"inner":[],"alphaBeta":1,"nothing":null,"yes":true,"zulu":""}',
        b'{"alphaBeta":1.0,"inner":[],"nothing":null,"yes":true,"zulu":""}',
        b'{"alphaBeta":1,"inner":[],"nothing":null,"yes":true,"zulu":"\\u0061"}',
        b'{"alphaBeta":1,"inner":[],"yes":true,"zulu":""}',
        b'{"alphaBeta":1,"inner":[],"nothing":null,"yes":true,"zulu":""}\n',
    ],
    ids=["key-twice", "space", "order", "float", "escape", "default-left-out", "newline"],
)
def test_no_other_spelling_is_read(spelling: bytes) -> None:
    with pytest.raises(FormatError) as refusal:
        decode(spelling, Sample)
    assert refusal.value.reason in {Reason.NOT_CANONICAL, Reason.MALFORMED}


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"null", b'{"a":1}', b"\xff\xfe", b"[" * 100_000]
)
def test_what_is_not_a_message_is_a_format_error(text: bytes) -> None:
    with pytest.raises(FormatError):
        decode(text, Sample)


def test_an_unknown_field_is_refused() -> None:
    written = encode(honest_receipt()).replace(b'"_type"', b'"_tipe":1,"_type"')
    with pytest.raises(FormatError, match="_tipe"):
        receipt.parse(written)


def test_a_message_larger_than_its_bound_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(FormatError) as refusal:
        receipt.parse(b" " * (1 << 16) + b"{}")
    assert refusal.value.reason is Reason.TOO_LARGE


@given(st.data())
def test_no_flipped_byte_of_a_receipt_is_read_as_the_same_receipt(data: st.DataObject) -> None:
    written = bytearray(encode(honest_receipt()))
    place = data.draw(st.integers(0, len(written) - 1))
    written[place] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(FormatError):
        assert receipt.parse(bytes(written)) != honest_receipt()


def test_integers_beyond_two_to_the_53_are_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"name": "m", "unit": "u", "values": [2**53]}, Measure)


def test_a_tier_has_no_truth_value() -> None:
    with pytest.raises(TypeError):
        bool(Tier.AFFIRMING)


def test_tiers_end_commands_as_published() -> None:
    assert {tier.value: tier.exit_code for tier in Tier} == {
        "affirming": 0,
        "contraindicated": 1,
        "warning": 3,
        "none": 4,
    }


def test_a_leaf_is_what_its_envelope_says() -> None:
    leaf = entry.of_statement(b"statement", "receipt", "ed25519:00")
    assert entry.parse(leaf).kind == "receipt"
    assert len(leaf) < 200


def test_an_audit_record_reads_back_with_its_scores() -> None:
    finding = Finding(
        kind="tokens",
        tier=Tier.NONE,
        reason=Reason.RECORDED,
        reference="0" * 64,
        measures=(Measure(name="margin", unit="micro-logit", values=(0, -1, 500_000)),),
    )
    record = audit.Audit(
        subject=subject("receipt", bytes(32)),
        predicate=audit.AuditPredicate(
            epoch=1, entry=2, findings=(finding,), provider="p", auditor="a"
        ),
    )
    assert audit.parse_audit(encode(record)) == record
    assert finding.values("margin") == (0, -1, 500_000)
    assert finding.values("surprisal") == ()
