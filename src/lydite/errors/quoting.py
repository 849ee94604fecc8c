"""What an error's message may repeat of a stranger's words, and of a URL.

A server may say back whatever it was sent: the key, the prompt. So its words are quoted only if
they are plain, and nothing that was sent occurs in them; else a length stands for them. Knows
nothing of connections.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

QUOTED: Final = 120
"""Characters of a stranger that an error repeats at most."""
KINDS: Final = frozenset(
    {
        "application/json",
        "application/octet-stream",
        "application/problem+json",
        "text/event-stream",
        "text/html",
        "text/plain",
    }
)
"""Content types that are named; of others it is only said that they are none of these."""
_LOOKED_AT: Final = 4096
_BODY_PIECE, _HEADER_PIECE, _WHOLE = 16, 8, 6
_LONGEST_WORD: Final = 24
_LONG_SECRET: Final = 16
_PLAIN = re.compile(r"[A-Za-z0-9 \n.,:;'\"!?()\[\]{}_<>=/-]*\Z")
_NEITHER = re.compile(r"[^a-z0-9]+")


def quoted(content: bytes, headers: Mapping[str, str], sent: bytes | None) -> str:
    """Return what an error says of ``content``, the answer to ``headers`` and the body ``sent``.

    Its beginning, if all of these hold; else how long it is.

    1. It is plain ASCII: no control characters, escapes or other spellings of what was sent.
    2. No word is so long that it could be a key, or something encoded.
    3. No 8 letters and digits of a header's value, 16 of the body, or whole text of the body occur
       in it, however they are spaced or capitalised. Only the model's name may.
    """
    said = content[:_LOOKED_AT].decode("latin-1")
    longest = max(map(len, re.findall(r"[A-Za-z0-9_=/-]+", said)), default=0)
    if (
        not said
        or not _PLAIN.match(said)
        or longest > _LONGEST_WORD
        or _echoes(said, headers, sent)
    ):
        return f"{len(content)} bytes that are not repeated here"
    return repr(said[:QUOTED])


def kind(said: str) -> str:
    """Return a content type in words, if it is a common one."""
    return said if said in KINDS else "an uncommon type"


def repeats(content: bytes, headers: Mapping[str, str]) -> bool:
    """Say whether ``content`` holds a long secret among ``headers``, such as a key."""
    secrets = (value.rpartition(" ")[2].encode() for value in headers.values())
    return any(len(secret) >= _LONG_SECRET and secret in content for secret in secrets)


def shown(url: str) -> str:
    """Return a URL as it may be printed: without user, password, query and fragment."""
    scheme, slashes, _ = url.partition("://")
    start = len(scheme + slashes) if slashes else 0
    rest = url[max(start, url.rfind("@") + 1) :]
    return url[:start] * ("@" not in url[:start]) + re.split("[?#]", rest)[0]


def why(url: str, error: ValueError) -> str:
    """Return why ``url`` is none, unless the words may hold a part of a password."""
    return "it cannot be read" if "@" in url else str(error)


def _echoes(said: str, headers: Mapping[str, str], sent: bytes | None) -> bool:
    heard = _squeezed(said)
    for value in headers.values():
        if value and value in said:
            return True
        if any(piece in heard for piece in _pieces(_squeezed(value), _HEADER_PIECE)):
            return True
    known = set(_pieces(heard, _BODY_PIECE))
    for text in map(_squeezed, _texts(sent)):
        if _WHOLE <= len(text) < _BODY_PIECE and text in heard:
            return True
        if not known.isdisjoint(_pieces(text, _BODY_PIECE)):
            return True
    return False


def _pieces(text: str, size: int) -> Iterator[str]:
    """Yield every run of ``size`` characters, or a shorter text as a whole."""
    for at in range(max(1, len(text) - size + 1)):
        if piece := text[at : at + size]:
            yield piece


def _squeezed(text: str) -> str:
    return _NEITHER.sub("", text.casefold())


def _texts(sent: bytes | None) -> Iterator[str]:
    """Yield the body without the model's name, and every text in it as it reads."""
    if sent is None:
        return
    try:
        fields = json.loads(sent)
    except (ValueError, RecursionError):
        yield sent.decode("latin-1")
        return
    if isinstance(fields, dict):
        fields.pop("model", None)
    yield json.dumps(fields)
    yield from _leaves(fields)


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _leaves(one)
