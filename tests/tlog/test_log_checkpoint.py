import pytest
from hypothesis import given
from hypothesis import strategies as st

from lydite.errors import FormatError, Reason, VerificationError
from lydite.signing import notes
from lydite.signing.keys import Signer
from lydite.tlog import checkpoint as checkpoints
from lydite.tlog.checkpoint import Checkpoint
from lydite.tlog.hashing import EMPTY_ROOT

HEAD = Checkpoint("log.example/one", 3, bytes(range(32)))
TEXT = b"log.example/one\n3\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"
# c2sp.org/tlog-checkpoint v1.0.0
PUBLISHED = b"example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"


def test_the_published_text_is_spelt_as_we_would_spell_it() -> None:
    head = checkpoints.parse(PUBLISHED)
    assert (head.origin, head.size) == ("example.com/behind-the-sofa", 20852163)
    assert head.text() == PUBLISHED
    assert HEAD.text() == TEXT


def test_extension_lines_are_carried_and_signed() -> None:
    head = checkpoints.parse(TEXT + b"more\nlines\n")
    assert head.extensions == ("more", "lines")
    assert head.text() == TEXT + b"more\nlines\n"
    assert head != HEAD


@pytest.mark.parametrize(
    "text",
    [
        b"",
        TEXT[:-1],
        TEXT.replace(b"3", b"03"),
        TEXT.replace(b"3", b"+3"),
        TEXT.replace(b"3", b"-3"),
        TEXT.replace(b"\n3", b"\n3 "),
        TEXT.replace(b"\n3", "\n٣".encode()),
        TEXT.replace(b"\n3", b"\n9223372036854775808"),
        TEXT.replace(b"\n3", b"\n" + b"9" * 5000),
        TEXT.replace(b"\n3\n", b"\n3\n\n"),
        TEXT.replace(b"log.example/one", b""),
        TEXT.replace(b"AAEC", b"AAE="),
        TEXT.replace(b"AAEC", b""),
        TEXT.replace(b"h8=", b"h9="),
        TEXT.replace(b"h8=", b"h8"),
        TEXT + b"\n",
        TEXT.replace(b"log", b"\xfflog"),
    ],
)
def test_other_spellings_are_refused(text: bytes) -> None:
    with pytest.raises(FormatError):
        checkpoints.parse(text)


@given(st.integers(0, (1 << 63) - 1), st.binary(min_size=32, max_size=32))
def test_checkpoints_survive_the_round_trip(size: int, root: bytes) -> None:
    head = Checkpoint("log.example/one", size, root)
    assert checkpoints.parse(head.text()) == head


def test_a_signed_checkpoint_opens_with_the_key_of_its_log() -> None:
    signer = Signer(b"1" * 32)
    note = notes.parse(checkpoints.sign(HEAD, signer).encode())
    key = notes.verifier_key(HEAD.origin, signer)
    assert checkpoints.open_note(note, [key]).checkpoint == HEAD


def test_a_checkpoint_of_another_log_is_refused_though_its_signature_is_good() -> None:
    signer = Signer(b"1" * 32)
    note = checkpoints.sign(HEAD, signer)
    with pytest.raises(VerificationError) as caught:
        checkpoints.open_note(note, [notes.verifier_key("log.example/two", signer)])
    assert caught.value.reason is Reason.WRONG_ORIGIN


def test_the_key_of_one_log_cannot_sign_for_another() -> None:
    one, two = Signer(b"1" * 32), Signer(b"2" * 32)
    keys = [notes.verifier_key("log.example/one", one), notes.verifier_key("log.example/two", two)]
    note = notes.Note(TEXT, (notes.sign(TEXT, "log.example/two", two),))
    with pytest.raises(VerificationError) as caught:
        checkpoints.open_note(note, keys)
    assert caught.value.reason is Reason.UNKNOWN_KEY


def test_a_witness_alone_does_not_make_a_checkpoint() -> None:
    witness = Signer(b"2" * 32)
    key = notes.verifier_key("w", witness, notes.Kind.COSIGNATURE)
    note = notes.Note(TEXT, (notes.cosign(TEXT, "w", witness, 7),))
    log = notes.verifier_key(HEAD.origin, Signer(b"1" * 32))
    with pytest.raises(VerificationError) as caught:
        checkpoints.open_note(note, [log], [key])
    assert caught.value.reason is Reason.UNKNOWN_KEY


def test_an_empty_log_has_one_root() -> None:
    signer = Signer(b"1" * 32)
    key = notes.verifier_key(HEAD.origin, signer)
    good = checkpoints.sign(Checkpoint(HEAD.origin, 0, EMPTY_ROOT), signer)
    assert checkpoints.open_note(good, [key]).checkpoint.size == 0
    with pytest.raises(VerificationError) as caught:
        checkpoints.open_note(
            checkpoints.sign(Checkpoint(HEAD.origin, 0, bytes(32)), signer), [key]
        )
    assert caught.value.reason is Reason.INCONSISTENT_LOG
