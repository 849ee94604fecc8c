"""Bytes of an answer that are not its text: explained, learnt, or charged."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from lydite.errors import FormatError, Reason
from lydite.evidence.egress import frame
from lydite.evidence.egress.attester import Heads, session_of
from lydite.evidence.egress.claims import Claims
from lydite.evidence.egress.reference import Ledger, Reference, coarse, parse, rest
from lydite.messages.finding import Finding
from lydite.messages.tier import Tier

RECEIPT = "ab" * 16
ROOT = Path(__file__).parents[2]


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
    return frame.Known(RECEIPT, "m", 1000, (7, 8), (0, 1, 2), streamed, ("stop",))


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


def choices(**changes: object) -> dict[str, object]:
    choice = {"index": 0, "text": "abc", "token_ids": [0, 1, 2], "finish_reason": "stop"}
    return {"choices": [{**choice, **changes}]}


def usage(**changes: object) -> dict[str, object]:
    counts = {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
    return {"usage": {**counts, **changes}}


FREE = [
    {"prompt_token_ids": [7, 8.0]},
    {"prompt_token_ids": [7, 8], "model": "\0"},
    {"prompt_token_ids": "\0"},
    {"id": "cmpl-\0"},
    {"id": "\0"},
    {"created": "\0"},
    {"created": 1000.0},
    {"model": "\0"},
    {"usage": "\0"},
    usage(prompt_tokens=2.0),
    usage(completion_tokens="\0"),
    usage(total_tokens=True),
    choices(finish_reason=None),
    choices(finish_reason="length"),
    choices(finish_reason="\0"),
    choices(text="\0"),
    choices(text="abc\ufffd"),
    choices(text="abc\ufffd\ufffd"),
    choices(token_ids=[0, 1.0, 2]),
    choices(token_ids="\0"),
    choices(token_ids=[False, 1, 2]),
    choices(delta={"content": ""}),
    {"choices": [*choices()["choices"], {}]},  # type: ignore[misc]
]
"""What once said something for nothing: other spellings of what is known, and placeholders."""


@pytest.mark.parametrize("change", FREE, ids=lambda change: json.dumps(change)[:60])
def test_what_is_known_in_another_spelling_is_charged(
    reference: Reference, change: dict[str, object]
) -> None:
    ledger = Ledger(reference)
    for _ in range(20):
        usual = bits(ledger, plain(body()))
    assert bits(ledger, plain(body(**change))) > usual + 8 * 20


def test_answers_that_leave_the_same_frame_are_the_same_bytes() -> None:
    """The obvious account: every mixture of confusable values, told apart by what is recorded."""
    values: list[list[dict[str, object]]] = [
        [{}, {"id": "\0"}, {"id": f"\0{RECEIPT}"}, {"id": "cmpl-\0"}],
        [{}, {"model": "\0"}, {"model": None}],
        [{}, {"created": 1001}, {"created": 1000.0}, {"created": "\0"}, {"created": True}],
        [{}, {"prompt_token_ids": [7, 8]}, {"prompt_token_ids": [7.0, 8]}],
        [{}, usage(prompt_tokens=2.0), usage(total_tokens="\0"), {"usage": "\0"}],
        [
            {},
            choices(finish_reason=None),
            choices(finish_reason="\0"),
            choices(text="ab"),
            choices(text="abc\ufffd"),
            choices(text="\0"),
            choices(token_ids="\0", text=""),
            choices(token_ids=[], text="\0"),
        ],
    ]
    seen: dict[frame.Frame, bytes] = {}
    for changes in itertools.product(*values):
        raw = plain(body(**{name: value for each in changes for name, value in each.items()}))
        left = frame.read(raw, known(), spell)
        if left.loose_micro < 100 * 1_000_000:  # else it was charged by its size
            assert seen.setdefault(left, raw) == raw


def said(pieces: Sequence[dict[str, object]], *, done: bool = True) -> bytes:
    parts = []
    for piece in pieces:
        choice = {"index": 0, "finish_reason": None, **piece}
        parts.append(b"data: " + plain({"id": f"cmpl-{RECEIPT}", "choices": [choice]}) + b"\n\n")
    return b"".join(parts) + (b"data: [DONE]\n\n" if done else b"")


PIECES: list[dict[str, object]] = [
    {"text": "", "token_ids": []},
    {"text": "a", "token_ids": [0]},
    {"text": "b", "token_ids": [1]},
    {"text": "c", "token_ids": [2], "finish_reason": "stop"},
]


@pytest.mark.parametrize("where", range(3))
@pytest.mark.parametrize("reason", ["stop", "length", "\0"])
def test_an_end_before_the_end_is_charged(reference: Reference, where: int, reason: str) -> None:
    ledger = Ledger(reference)
    for _ in range(50):
        usual = bits(ledger, said(PIECES), streamed=True)
    assert usual < 3
    odd = [dict(piece) for piece in PIECES]
    odd[where]["finish_reason"] = reason
    assert bits(ledger, said(odd), streamed=True) > usual + 8 * 20


@pytest.mark.parametrize("more", [1, 2, 5])
def test_how_many_empty_events_there_are_is_charged(reference: Reference, more: int) -> None:
    ledger = Ledger(reference)
    usual = bits(ledger, said(PIECES), streamed=True)
    for _ in range(50):
        usual = bits(ledger, said(PIECES), streamed=True)
        empty = [PIECES[0]] * more
        charged = bits(ledger, said([*PIECES[:2], *empty, *PIECES[2:]]), streamed=True)
    assert charged > usual + 12


def test_whether_a_stream_says_that_it_is_done_is_charged(reference: Reference) -> None:
    ledger = Ledger(reference)
    for _ in range(50):
        usual = bits(ledger, said(PIECES), streamed=True)
    assert bits(ledger, said(PIECES, done=False), streamed=True) > usual + 12


def test_text_that_comes_before_or_after_its_tokens_costs_what_it_takes_to_say_so(
    reference: Reference,
) -> None:
    ledger = Ledger(reference)
    for _ in range(50):
        usual = bits(ledger, said(PIECES), streamed=True)
    late = [{**PIECES[0]}, {**PIECES[1], "text": ""}, {**PIECES[2], "text": "ab"}, PIECES[3]]
    assert usual + 12 < bits(ledger, said(late), streamed=True) < usual + 30


def test_a_clock_days_off_is_spelt_out_and_breaks_no_ledger(reference: Reference) -> None:
    ledger = Ledger(reference)
    for seconds in (-(1 << 20), -(1 << 18), 1 << 18, (1 << 20) - 1, 10**300):
        assert bits(ledger, plain(body(created=1000 + seconds))) > 8 * 20


def test_more_events_than_anybody_needs_are_refused() -> None:
    with pytest.raises(FormatError):
        frame.read(b"data: {}\n\n" * (frame.BODIES + 1), known(streamed=True), spell)


@pytest.mark.parametrize("depth", range(880, 1001, 8))
def test_any_depth_is_read_or_refused(depth: int) -> None:
    raw = plain(body())[:-1] + b',"x":' + b"[" * depth + b"]" * depth + b"}"
    try:
        frame.read(raw, known(), spell)
    except FormatError:
        assert depth > 900


@pytest.mark.parametrize("name", ["chat", "drawn-chat"])
def test_the_shapes_of_vllm_are_known_from_the_start(name: str) -> None:
    path = ROOT / "data" / "reference" / "egress" / "lydite-small.json"
    words = iter(parse(path.read_bytes()).shapes)
    recorded = json.loads((ROOT / "tests" / "vectors" / "vllm" / f"{name}.json").read_text("utf-8"))
    answer, asked = json.loads(recorded["response"]), json.loads(recorded["request"])
    choice = answer["choices"][0]
    facts = frame.Known(
        answer["id"].partition("-")[2],
        asked["model"],
        answer["created"],
        answer["prompt_token_ids"],
        choice["token_ids"],
        False,
        (choice["finish_reason"],),
    )
    text = choice["message"]["content"]
    left = frame.read(recorded["response"].encode(), facts, lambda _: text)
    assert left.shapes in set(zip(words, words, strict=True))
    assert left.loose_micro < 1000
