"""Text never breaks a character, never says a stop string, and loses no token."""

from hypothesis import given
from hypothesis import strategies as st

from lydite.engines.codec import DirectoryCodec
from lydite.engines.detokenizer import Detokenizer

SMALL_TEXTS = st.text(alphabet="aé😀漢\n <|", max_size=12)


def fed(codec: DirectoryCodec, ids: list[int], stops: list[str]) -> tuple[list[str], int, bool]:
    """Push ``ids`` as an engine would; return the texts, the tokens released, and whether it
    stopped."""
    detokenizer, texts, released = Detokenizer(codec, stops), [], 0
    for token in ids:
        ready = detokenizer.push(token)
        texts.append(ready.text)
        released += ready.tokens
        if detokenizer.stopped:
            return texts, released, True
    ready = detokenizer.finish()
    return [*texts, ready.text], released + ready.tokens, False


@given(ids=st.lists(st.integers(min_value=0, max_value=2047), max_size=24))
def test_what_is_released_is_the_decoding_of_any_tokens(
    codec: DirectoryCodec, ids: list[int]
) -> None:
    texts, released, _ = fed(codec, ids, [])
    assert "".join(texts) == codec.decode(ids)
    assert released == len(ids)


@given(text=st.text(max_size=20).filter(lambda s: "\N{REPLACEMENT CHARACTER}" not in s))
def test_whole_characters_are_never_broken(codec: DirectoryCodec, text: str) -> None:
    ids = codec.encode(text)[1:]
    texts, released, _ = fed(codec, ids, [])
    assert "".join(texts) == codec.decode(ids)
    assert not any("\N{REPLACEMENT CHARACTER}" in part for part in texts)
    assert released == len(ids)


@given(text=SMALL_TEXTS, stops=st.lists(SMALL_TEXTS.filter(bool), max_size=3))
def test_nothing_from_the_first_stop_string_on_is_released(
    codec: DirectoryCodec, text: str, stops: list[str]
) -> None:
    ids = codec.encode(text)[1:]
    whole = codec.decode(ids)
    texts, released, stopped = fed(codec, ids, stops)
    if not any(stop in whole for stop in stops):
        assert "".join(texts) == whole
        assert not stopped
        return
    # Token by token, the stop string that ends first wins; nothing before it is lost.
    said = "".join(texts)
    assert stopped
    assert not any(stop in said for stop in stops)
    assert any(whole.startswith(said + stop) for stop in stops)
    assert released <= len(ids)


def test_text_that_may_become_a_stop_string_waits(codec: DirectoryCodec) -> None:
    detokenizer = Detokenizer(codec, ["abcdef"])
    ids = codec.encode("xabc")[1:]
    assert "".join(detokenizer.push(token).text for token in ids) == "x"
    assert detokenizer.finish().text == "abc"


def test_a_tokens_id_goes_with_the_last_of_its_text(codec: DirectoryCodec) -> None:
    ids = codec.encode("😀")[1:]
    assert len(ids) > 1
    detokenizer = Detokenizer(codec, [])
    parts = [detokenizer.push(token) for token in ids]
    assert [part.tokens for part in parts] == [0] * (len(ids) - 1) + [len(ids)]
    assert parts[-1].text == "😀"
