import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import FormatError, LyditeError, Reason, VerificationError
from lydite.signing import notes
from lydite.signing.keys import Signer

# c2sp.org/signed-note v1.0.0, "Example".
PUBLISHED_VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
PUBLISHED_NOTE = (
    "This is an example message.\n\n"
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKu"
    "wHjG1Yu72IneyaQM=\n"
).encode()

TEXT = b"log.example/one\n3\nAAAA\n"
LOG = Signer(b"1" * 32)
WITNESS = Signer(b"2" * 32)
LOG_KEY = notes.verifier_key("log.example/one", LOG)
WITNESS_KEY = notes.verifier_key("witness.example", WITNESS, notes.Kind.COSIGNATURE)
NOTE = notes.Note(
    TEXT,
    (
        notes.sign(TEXT, LOG_KEY.name, LOG),
        notes.cosign(TEXT, WITNESS_KEY.name, WITNESS, 1_700_000_000),
    ),
)
lines = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), max_size=20)


def test_the_published_note_verifies_and_is_spelt_as_we_would_spell_it() -> None:
    key = notes.parse_key(PUBLISHED_VKEY)
    note = notes.parse(PUBLISHED_NOTE)
    assert notes.verify(note, [key]).text == b"This is an example message.\n"
    assert (str(key), note.encode()) == (PUBLISHED_VKEY, PUBLISHED_NOTE)


def test_a_cosignature_is_over_time_and_text_as_the_specification_spells_them() -> None:
    raw = NOTE.signatures[1].blob
    assert raw[:8] == (1_700_000_000).to_bytes(8, "big")
    message = b"cosignature/v1\ntime 1700000000\n" + TEXT
    assert raw[8:] == WITNESS.sign(message)


def test_a_note_tells_who_signed_and_when() -> None:
    verified = notes.verify(notes.parse(NOTE.encode()), [LOG_KEY, WITNESS_KEY])
    assert [(each.key, each.time_s) for each in verified.signed] == [
        (LOG_KEY, None),
        (WITNESS_KEY, 1_700_000_000),
    ]
    assert verified.ignored == 0


def test_lines_by_unknown_keys_are_ignored_and_counted() -> None:
    assert notes.verify(NOTE, [LOG_KEY]).ignored == 1
    stranger = notes.sign(TEXT, "stranger.example", Signer(b"3" * 32))
    more = notes.Note(TEXT, (*NOTE.signatures, stranger, stranger))
    assert notes.verify(more, [LOG_KEY, WITNESS_KEY]).ignored == 2


def test_a_line_that_shares_only_the_name_or_only_the_id_is_unknown() -> None:
    namesake = notes.sign(TEXT, LOG_KEY.name, Signer(b"3" * 32))
    same_id = notes.Signature("other", LOG_KEY.key_id, bytes(64))
    note = notes.Note(TEXT, (namesake, same_id, NOTE.signatures[0]))
    assert notes.verify(note, [LOG_KEY]).ignored == 2


def test_a_note_that_no_known_key_signed_is_refused() -> None:
    with pytest.raises(VerificationError) as caught:
        notes.verify(NOTE, [notes.verifier_key("else", LOG)])
    assert caught.value.reason is Reason.UNKNOWN_KEY


def test_one_bad_line_by_a_known_key_spoils_the_note() -> None:
    bad = notes.Signature(WITNESS_KEY.name, WITNESS_KEY.key_id, NOTE.signatures[1].blob[:-1] + b"x")
    with pytest.raises(VerificationError) as caught:
        notes.verify(notes.Note(TEXT, (NOTE.signatures[0], bad)), [LOG_KEY, WITNESS_KEY])
    assert caught.value.reason is Reason.BAD_SIGNATURE


def test_a_key_cannot_count_twice() -> None:
    again = notes.cosign(TEXT, WITNESS_KEY.name, WITNESS, 1_700_000_001)
    with pytest.raises(FormatError) as caught:
        notes.verify(notes.Note(TEXT, (*NOTE.signatures, again)), [LOG_KEY, WITNESS_KEY])
    assert caught.value.reason is Reason.NOT_CANONICAL


def test_keys_that_cannot_be_told_apart_are_refused() -> None:
    class Colliding(notes.VerifierKey, frozen=True):
        @property
        def key_id(self) -> bytes:
            return LOG_KEY.key_id

    twin = Colliding(LOG_KEY.name, notes.Kind.ED25519, bytes(WITNESS.public))
    with pytest.raises(FormatError):
        notes.verify(NOTE, [LOG_KEY, twin])


def test_attaching_puts_a_newer_cosignature_in_the_place_of_the_older() -> None:
    again = notes.cosign(TEXT, WITNESS_KEY.name, WITNESS, 1_700_000_001)
    note = notes.attach(NOTE, [again])
    assert note.signatures == (NOTE.signatures[0], again)


def test_a_key_for_notes_does_not_verify_cosignatures_nor_the_reverse() -> None:
    as_log = notes.VerifierKey(WITNESS_KEY.name, notes.Kind.ED25519, WITNESS_KEY.public)
    with pytest.raises(VerificationError):
        notes.verify(NOTE, [as_log])
    swapped = notes.Signature(WITNESS_KEY.name, WITNESS_KEY.key_id, WITNESS.sign(TEXT))
    with pytest.raises(FormatError):
        notes.verify(notes.Note(TEXT, (swapped,)), [WITNESS_KEY])


@pytest.mark.parametrize("time_s", [0, 1 << 63])
def test_a_cosignature_without_a_valid_time_is_neither_made_nor_accepted(time_s: int) -> None:
    with pytest.raises(FormatError):
        notes.cosign(TEXT, "w", WITNESS, time_s)
    message = b"cosignature/v1\ntime %d\n" % time_s + TEXT
    blob = time_s.to_bytes(8, "big") + WITNESS.sign(message)
    line = notes.Signature(WITNESS_KEY.name, WITNESS_KEY.key_id, blob)
    with pytest.raises(FormatError):
        notes.verify(notes.Note(TEXT, (line,)), [WITNESS_KEY])


def test_the_time_is_signed() -> None:
    blob = (1_600_000_000).to_bytes(8, "big") + NOTE.signatures[1].blob[8:]
    line = notes.Signature(WITNESS_KEY.name, WITNESS_KEY.key_id, blob)
    with pytest.raises(VerificationError):
        notes.verify(notes.Note(TEXT, (line,)), [WITNESS_KEY])


GOOD = NOTE.encode()
LINE = NOTE.signatures[0].line()
RAW = base64.b64encode(LOG_KEY.key_id + NOTE.signatures[0].blob)


@pytest.mark.parametrize(
    "note",
    [
        b"",
        TEXT,
        TEXT + b"\n",
        GOOD[:-1],
        GOOD + b"\n",
        GOOD + b"x",
        TEXT + LINE,
        TEXT + b"\n" + LINE.replace("—".encode(), b"-"),
        TEXT + b"\n" + LINE.replace("— ".encode(), "—".encode()),
        TEXT + b"\n" + LINE.replace(b" log", b"  log"),
        TEXT + b"\n" + LINE[:-1] + b" \n",
        TEXT + b"\n" + LINE[:-1] + b"\r\n",
        TEXT + b"\n" + LINE.replace(b"log.example", b"log+example"),
        TEXT + b"\n" + LINE.replace(b"log.example", "log\u2003example".encode()),
        TEXT + b"\n" + LINE.replace(b"log.example/one ", b" "),
        TEXT + b"\n" + LINE.replace(RAW, RAW[:4]),
        TEXT + b"\n" + LINE.replace(RAW, RAW + b"===="),
        TEXT + b"\n" + LINE.replace(RAW, RAW.rstrip(b"=")),
        TEXT.replace(b"3", b"3\0") + b"\n" + LINE,
        TEXT.replace(b"3", b"3\t") + b"\n" + LINE,
        TEXT.replace(b"3", b"\xff") + b"\n" + LINE,
    ],
)
def test_what_is_not_spelt_as_we_would_spell_it_is_refused(note: bytes) -> None:
    with pytest.raises(FormatError):
        notes.parse(note)


def test_base64_with_bits_that_no_encoder_writes_is_refused() -> None:
    raw = base64.b64encode(LOG_KEY.key_id + bytes(64))  # ends in one padding sign
    twisted = raw[:-2] + bytes([raw[-2] + 1]) + b"="
    assert base64.b64decode(raw) == base64.b64decode(twisted)
    with pytest.raises(FormatError) as caught:
        notes.parse(TEXT + b"\n" + "— n ".encode() + twisted + b"\n")
    assert caught.value.reason is Reason.NOT_CANONICAL


def test_sizes_are_bounded() -> None:
    for note in (
        b"x" * notes.MAX_NOTE_BYTES + GOOD,
        TEXT + b"\n" + LINE * (notes.MAX_SIGNATURES + 1),
    ):
        with pytest.raises(FormatError) as caught:
            notes.parse(note)
        assert caught.value.reason is Reason.TOO_LARGE


def test_sixteen_long_signatures_by_strangers_are_room_enough() -> None:
    strangers = [notes.Signature(f"pq.example/{i}", b"abcd", bytes(5000)) for i in range(16)]
    note = notes.parse(notes.attach(NOTE, strangers).encode())
    assert notes.verify(note, [LOG_KEY, WITNESS_KEY]).ignored == 16


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "a+b",
        PUBLISHED_VKEY.replace("530d903a", "530d903b"),
        PUBLISHED_VKEY.replace("530d903a", "530D903A"),
        PUBLISHED_VKEY.replace("example.com/foo", "example.com/fool"),
        PUBLISHED_VKEY.replace("example.com/foo", ""),
        PUBLISHED_VKEY.replace("example.com/foo", "example com"),
        PUBLISHED_VKEY[:-4],
        PUBLISHED_VKEY + "=",
        PUBLISHED_VKEY + "\n",
        "a+00000000+" + base64.b64encode(b"\x06" + bytes(1312)).decode(),
        "a+00000000+",
    ],
)
def test_a_vkey_in_another_spelling_is_refused(vkey: str) -> None:
    with pytest.raises(FormatError):
        notes.parse_key(vkey)


@given(st.sampled_from(notes.Kind), lines.filter(bool))
def test_vkeys_survive_the_round_trip(kind: notes.Kind, name: str) -> None:
    try:
        key = notes.verifier_key(name, LOG, kind)
    except FormatError:
        assert "+" in name or any(letter.isspace() for letter in name)
        return
    assert notes.parse_key(str(key)) == key


@given(st.lists(lines, min_size=1))
def test_any_text_can_be_signed_and_read_back(text: list[str]) -> None:
    raw = "".join(f"{line}\n" for line in text).encode()
    note = notes.Note(raw, (notes.sign(raw, LOG_KEY.name, LOG),))
    again = notes.parse(note.encode())
    assert again == note
    assert notes.verify(again, [LOG_KEY]).text == raw


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_no_changed_byte_is_accepted_as_the_same(position: int, change: int) -> None:
    changed = bytearray(GOOD)
    changed[position] ^= change
    try:
        verified = notes.verify(notes.parse(bytes(changed)), [LOG_KEY, WITNESS_KEY])
    except LyditeError:
        return
    # What survives is a line turned into a stranger's: fewer signers of the same text.
    assert verified.text == TEXT
    assert len(verified.signed) == 1
    assert verified.ignored == 1


@given(st.binary(max_size=300))
def test_noise_is_refused_in_our_own_words(noise: bytes) -> None:
    with pytest.raises(FormatError):
        notes.parse(noise)
