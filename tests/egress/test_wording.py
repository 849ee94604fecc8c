"""Pieces of text follow from the tokens: predicted as our own server sends them."""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from lydite.engines.codec import DirectoryCodec
from lydite.engines.detokenizer import Detokenizer
from lydite.evidence.egress.wording import Wording

CODEC = DirectoryCodec(Path(__file__).parents[2] / "models" / "lydite-small")
SIZE = 1024


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=40))
def test_the_pieces_of_our_own_server_are_expected(ids: list[int]) -> None:
    """The server's own way of cutting text into pieces is the twin."""
    server, wording = Detokenizer(CODEC, ()), Wording(ids, (), CODEC.decode)
    said = ""
    for number, token in enumerate(ids, 1):
        ready = server.push(token)
        text, count = ready.text, ready.tokens
        if number == len(ids):
            rest = server.finish()
            text, count = text + rest.text, count + rest.tokens
        if count or text:
            assert wording.expect(count) == text
            assert wording.hear(text) == len(text)
            said += text
    assert said == CODEC.decode(ids)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, SIZE - 1), min_size=4, max_size=40), st.data())
def test_a_stop_string_ends_the_text(ids: list[int], data: st.DataObject) -> None:
    whole = CODEC.decode(ids)
    start = data.draw(st.integers(0, max(len(whole) - 2, 0)))
    stop = whole[start : start + 2] or "never"
    ended = whole[: whole.find(stop)] if stop in whole else whole
    assert Wording(ids, (stop,), CODEC.decode).expect(len(ids)) == ended


def test_text_that_the_tokens_do_not_spell_is_not_expected() -> None:
    wording = Wording([5, 6, 7], (), CODEC.decode)
    assert wording.hear("not this") is None
    assert wording.expect(3) == ""
