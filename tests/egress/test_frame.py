"""Bytes of an answer that are not its text: explained, learnt, or charged."""

import itertools
import json
from collections.abc import Sequence

import pytest

from lydite.errors import FormatError, Reason
from lydite.evidence.egress import frame
from lydite.evidence.egress.attester import Heads, session_of
from lydite.evidence.egress.claims import Claims
from lydite.evidence.egress.reference import Ledger, Reference, coarse, rest
from lydite.messages.finding import Finding
from lydite.messages.tier import Tier

RECEIPT = "ab" * 16


def spell(ids: Sequence[int]) -> str:
    return "".join(chr(97 + token) for token in ids)


def body(**changes: object) -> dict[str, object]:
    fields: dict[str, object] = {
        "id": f"cmpl-{RECEIPT}",
        "object": "text_completion",
        "created": 1000,
        "model": "m",
        "choices": [{"index": 0, "text": "abc", "token_ids": [0, 1, 2], "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5},
    }
    return {**fields, **changes}


def known(*, streamed: bool = False) -> frame.Known:
    return frame.Known(RECEIPT, "m", 1000, (7, 8), (0, 1, 2), streamed)


def bits(ledger: Ledger, raw: bytes, *, streamed: bool = False) -> float:
    left = frame.read(raw, known(streamed=streamed), spell)
    claims = Claims(output_ids=(), ending="whole", frame=left)
    rows = Finding(kind="egress", tier=Tier.NONE, reason=Reason.RECORDED, measures=rest(claims))
    return ledger.charge(rows).micro_bits / 1e6


def plain(fields: dict[str, object]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def test_a_shape_costs_its_bytes_once_and_nothing_later(reference: Reference) -> None:
    ledger = Ledger(reference)
    first = bits(ledger, plain(body()))
    assert first > 8 * 100
    for _ in range(50):
        last = bits(ledger, plain(body()))
    assert last < 0.2


@pytest.mark.parametrize(
    "change",
    [
        {"id": "cmpl-chosen"},
        {"system_fingerprint": "a secret of some length"},
        {"usage": {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}},
        {"created": 1 << 40},
        {"model": "n"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_is_not_explained_is_spelt_out(
    reference: Reference, change: dict[str, object]
) -> None:
    ledger = Ledger(reference)
    for _ in range(20):
        usual = bits(ledger, plain(body()))
    assert bits(ledger, plain(body(**change))) > usual + 8 * 20


def test_order_of_keys_and_spaces_are_charged(reference: Reference) -> None:
    ledger = Ledger(reference)
    for _ in range(20):
        usual = bits(ledger, plain(body()))
    turned = dict(reversed(body().items()))
    assert bits(ledger, plain(turned)) > usual + 100
    spaced = plain(body()).replace(b'"usage":', b'"usage": ')
    assert bits(ledger, spaced) > usual + 100
    escaped = plain(body()).replace(b'"abc"', b'"\\u0061bc"')
    assert bits(ledger, escaped) > usual + 100


def test_a_clock_that_lies_is_charged(reference: Reference) -> None:
    ledger = Ledger(reference)
    for _ in range(50):
        usual = bits(ledger, plain(body()))
    assert bits(ledger, plain(body(created=1900))) > usual + 10


def events(cuts: Sequence[int], text: str = "abc") -> bytes:
    parts, ids = [], [0, 1, 2]
    places = [0, *cuts, 3]
    for start, end in itertools.pairwise(places):
        choice = {"index": 0, "text": text[start:end], "token_ids": ids[start:end]}
        parts.append(b"data: " + plain({"id": f"cmpl-{RECEIPT}", "choices": [choice]}) + b"\n\n")
    return b"".join(parts) + b"data: [DONE]\n\n"


def test_how_a_stream_is_cut_is_charged(reference: Reference) -> None:
    ledger = Ledger(reference)
    for _ in range(50):
        usual = bits(ledger, events([1, 2]), streamed=True)
    assert usual < 3
    assert bits(ledger, events([2]), streamed=True) > usual + 1


def test_comments_between_events_are_charged(reference: Reference) -> None:
    ledger = Ledger(reference)
    bits(ledger, events([1, 2]), streamed=True)
    odd = events([1, 2]).replace(b"data: [DONE]", b": secret\n\ndata: [DONE]")
    assert bits(ledger, odd, streamed=True) > 8 * 50


def test_text_that_its_tokens_do_not_spell_is_charged(reference: Reference) -> None:
    left = frame.read(events([1, 2], "abx"), known(streamed=True), spell)
    assert left.loose_micro > 0


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"[" * 100_000])
def test_bodies_that_are_none_are_refused(raw: bytes) -> None:
    with pytest.raises(FormatError):
        frame.read(raw, known(), spell)


def test_answers_that_cannot_be_read_are_charged_by_their_size(reference: Reference) -> None:
    noise = bytes(range(256)) * 4
    finding = coarse(frame.coarse_micro(noise), Reason.UNSUPPORTED)
    charged = Ledger(reference).charge(finding)
    assert charged.coarse == charged.micro_bits == frame.coarse_micro(noise)
    assert finding.reason is Reason.UNSUPPORTED


def test_fields_of_heads_are_charged_once() -> None:
    heads = Heads()
    usual = [(b":status", b"HTTP/1.1 200 OK"), (b"server", b"x"), (b"date", b"today")]
    assert heads.micro_bits(usual) > 100_000_000
    again = heads.micro_bits([*usual[:2], (b"date", b"tomorrow")])
    assert again <= 2_000_000
    assert heads.micro_bits([*usual, (b"x-secret", b"0123456789")]) > 80_000_000


def test_sessions_have_pseudonyms() -> None:
    assert session_of(b"", b"salt") == "anonymous"
    assert session_of(b"Bearer a", b"salt") == session_of(b"Bearer a", b"salt")
    assert session_of(b"Bearer a", b"salt") != session_of(b"Bearer a", b"pepper")
